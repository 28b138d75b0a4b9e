//! Runs: begun, ended, and what they add up to.

use sqlx::FromRow;

use super::db::{Tx, on};
use super::rows::{bytes, readable, run_id, word};
use super::{Store, StoreError, typed_id};
use crate::clock::Timestamp;
use crate::model::ids::SHORT;
use crate::model::{Limit, Mode, Outcome, RealmId, Run, RunId};

/// What a run is known by beyond what its JSON shows.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RunFacts {
    /// Hash over the changes; the same plan has the same.
    pub plan_hash: Option<String>,
    /// Hash of the mapping that the plan was made with.
    pub mapping_hash: Option<String>,
    /// Made before any pass was applied to the realm.
    pub first_pass: bool,
    /// Passes that came to the same held plan.
    pub confirmed: i64,
    /// When a held plan expires.
    pub expires_at: Option<Timestamp>,
    /// The plan that took its place.
    pub replaced_by: Option<RunId>,
    /// The run that this one puts back.
    pub undoes: Option<RunId>,
    /// Server state (JSON) as the pass saw it, for `approve`.
    pub facts: Option<String>,
}

#[derive(FromRow)]
pub(super) struct RunRow {
    id: Vec<u8>,
    realm: String,
    mode: String,
    trigger_by: String,
    by_whom: Option<String>,
    outcome: String,
    complete: bool,
    seen: i64,
    created: i64,
    updated: i64,
    renamed: i64,
    phone_changed: i64,
    phone_lost: i64,
    suspended: i64,
    restored: i64,
    removed: i64,
    moved: i64,
    refused_entries: i64,
    refused_phones: i64,
    jobs: i64,
    held_by: String,
    server: Option<String>,
    started_at: i64,
    decided_at: Option<i64>,
    elapsed_ms: i64,
    error_code: Option<String>,
    error: Option<String>,
    note: Option<String>,
    drift: Option<i64>,
    computed: Option<i64>,
    left_out: i64,
    left_out_until: Option<i64>,
}

macro_rules! run_columns {
    () => {
        "id, realm, mode, trigger_by, by_whom, outcome, complete, seen, created, updated, renamed, phone_changed, phone_lost, suspended, \
         restored, removed, moved, refused_entries, refused_phones, jobs, held_by, server, started_at, decided_at, elapsed_ms, error_code, error, note, drift, computed, left_out, left_out_until"
    };
}

pub(super) use run_columns;

impl TryFrom<RunRow> for Run {
    type Error = StoreError;

    fn try_from(row: RunRow) -> Result<Self, StoreError> {
        Ok(Self {
            run: run_id(&row.id)?,
            realm: RealmId::from(row.realm),
            mode: word(&row.mode)?,
            trigger: word(&row.trigger_by)?,
            by: row.by_whom,
            outcome: word(&row.outcome)?,
            complete: row.complete,
            seen: row.seen,
            created: row.created,
            updated: row.updated,
            renamed: row.renamed,
            phone_changed: row.phone_changed,
            phone_lost: row.phone_lost,
            suspended: row.suspended,
            restored: row.restored,
            removed: row.removed,
            moved: row.moved,
            refused_entries: row.refused_entries,
            refused_phones: row.refused_phones,
            jobs: row.jobs,
            held_by: serde_json::from_str(&row.held_by)
                .map_err(|e| StoreError::Nonsense(format!("held_by of a run: {e}")))?,
            server: row.server,
            started_at: Timestamp(row.started_at),
            decided_at: row.decided_at.map(Timestamp),
            elapsed_ms: row.elapsed_ms,
            error_code: row.error_code.as_deref().map(word).transpose()?,
            error: row.error,
            note: row.note,
            drift: row.drift,
            computed: row.computed,
            left_out: row.left_out,
            left_out_until: row.left_out_until.map(Timestamp),
        })
    }
}

/// A tick that was done later than this from now was done by a clock that was wrong; ticks may be done again.
pub const CLOCKS_DIFFER_MS: i64 = 60_000;

/// Writes everything of a run that may have changed since it began. What is decided stays as it was decided.
pub(super) async fn write_run(tx: &mut Tx, run: &Run, facts: &RunFacts) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE runs SET mode = $2, by_whom = $3, outcome = $4, complete = $5, seen = $6, created = $7, updated = $8, renamed = $9,
            phone_changed = $10, phone_lost = $11, suspended = $12, restored = $13, removed = $14, moved = $15, refused_entries = $16,
            refused_phones = $17, jobs = $18, held_by = $19, server = $20, decided_at = $21, elapsed_ms = $22, error_code = $23, error = $24,
            plan_hash = $25, mapping_hash = $26, expires_at = $27, undoes = $28, facts = $29, note = $30, drift = $31, left_out = $32, left_out_until = $33, computed = $34
        WHERE id = $1 AND outcome IN ('running', 'held')";
    let held_by =
        serde_json::to_string(&run.held_by).map_err(|e| StoreError::Nonsense(e.to_string()))?;
    let rows = on!(tx, c => sqlx::query(SQL)
        .bind(bytes(run.run)).bind(run.mode.as_str()).bind(run.by.clone()).bind(run.outcome.as_str()).bind(run.complete).bind(run.seen)
        .bind(run.created).bind(run.updated).bind(run.renamed).bind(run.phone_changed).bind(run.phone_lost).bind(run.suspended)
        .bind(run.restored).bind(run.removed).bind(run.moved).bind(run.refused_entries).bind(run.refused_phones).bind(run.jobs)
        .bind(held_by).bind(run.server.clone()).bind(run.decided_at.map(|t| t.0)).bind(run.elapsed_ms)
        .bind(run.error_code.map(super::super::model::run::ErrorCode::as_str)).bind(run.error.clone()).bind(facts.plan_hash.clone()).bind(facts.mapping_hash.clone())
        .bind(facts.expires_at.map(|t| t.0)).bind(facts.undoes.map(bytes)).bind(facts.facts.clone())
        .bind(run.note.clone()).bind(run.drift).bind(run.left_out).bind(run.left_out_until.map(|t| t.0)).bind(run.computed)
        .execute(&mut *c).await.map(|r| r.rows_affected()))
    .map_err(StoreError::from_sqlx("write a run"))?;
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Refused(format!(
            "run {:#} was decided already, by another process: `runs show {:#}`",
            run.run, run.run
        )))
    }
}

impl Store {
    /// The first row of a run, and, where there is a `tick`, of one that makes up for the schedule's ticks up to it; `false`: another
    /// daemon did so, and there is no run. From here on the tick counts as done: what kills the process must not do so again at once, at every start. Notes who asked.
    pub async fn begin_run(
        &self,
        run: &Run,
        first_pass: bool,
        tick: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        const TICK: &str = "UPDATE realms SET last_tick_at = $2 WHERE id = $1 AND (last_tick_at IS NULL OR last_tick_at < $2 OR last_tick_at > $3)";
        const SQL: &str = "INSERT INTO runs (id, realm, mode, trigger_by, by_whom, outcome, started_at, first_pass) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let mut tx = self.db.begin().await?;
        if let Some(tick) = tick {
            let latest = run.started_at.plus_ms(CLOCKS_DIFFER_MS);
            let rows = on!(tx, c => sqlx::query(TICK).bind(run.realm.as_str()).bind(tick.0).bind(latest.0).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("remember a tick"))?;
            if rows == 0 {
                return Ok(false);
            }
        }
        on!(tx, c => sqlx::query(SQL).bind(bytes(run.run)).bind(run.realm.as_str()).bind(run.mode.as_str()).bind(run.trigger.as_str())
            .bind(run.by.clone()).bind(run.outcome.as_str()).bind(run.started_at.0).bind(first_pass).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("begin a run"))?;
        self.note(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The last row of a run that came to nothing; its staging is swept. A run that was applied although the answer was lost
    /// on its way stays applied.
    pub async fn fail_run(&self, run: &Run) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        match write_run(&mut tx, run, &RunFacts::default()).await {
            Ok(()) => {
                if run.mode == Mode::Undo {
                    let now = run.decided_at.unwrap_or(run.started_at);
                    super::undone::release(&mut tx, now).await?;
                }
                tx.commit().await?;
            }
            Err(StoreError::Refused(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.sweep(run.run).await
    }

    /// Forgets a run that only confirmed a held plan.
    pub async fn drop_run(&self, run: RunId) -> Result<(), StoreError> {
        self.sweep(run).await?;
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query("DELETE FROM runs WHERE id = $1").bind(bytes(run)).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("drop a run"))?;
        tx.commit().await
    }

    /// A run by its id, or by a beginning or an end of it that no other has.
    pub async fn run(&self, typed: &str) -> Result<Run, StoreError> {
        const SQL: &str = concat!("SELECT ", run_columns!(), " FROM runs WHERE id = $1");
        let none = || StoreError::NotFound(format!("there is no run `{typed}`: `runs` lists them"));
        let Some(digits) = typed_id::digits(typed) else {
            return Err(StoreError::NotFound(format!(
                "`{typed}` is no run: give its id, or four digits of its beginning, or six of its end; `runs` lists them"
            )));
        };
        let mut link = self.db.read().await?;
        let ids = typed_id::ids_like(&mut link, "runs", "", &digits, None).await?;
        let id = match ids.as_slice() {
            [] => return Err(none()),
            [id] => id.as_bytes().to_vec(),
            several => return Err(typed_id::ambiguous("runs", typed, several)),
        };
        let row =
            on!(link, c => sqlx::query_as::<_, RunRow>(SQL).bind(id).fetch_optional(&mut *c).await)
                .map_err(StoreError::from_sqlx("read a run"))?;
        Run::try_from(row.ok_or_else(none)?)
    }

    /// How many digits of their ends tell these runs' ids from those of all others.
    pub async fn digits_of_runs(&self, runs: &[RunId]) -> Result<usize, StoreError> {
        let mut digits = SHORT;
        let mut link = self.db.read().await?;
        for run in runs {
            digits = digits.max(typed_id::telling_in(&mut link, "runs", run.0).await?);
        }
        Ok(digits)
    }

    /// See [`RunFacts`].
    pub async fn run_facts(&self, run: RunId) -> Result<RunFacts, StoreError> {
        const SQL: &str = "SELECT plan_hash, mapping_hash, first_pass, confirmed, expires_at, replaced_by, undoes, facts FROM runs WHERE id = $1";
        type Facts = (
            Option<String>,
            Option<String>,
            bool,
            i64,
            Option<i64>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<String>,
        );
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, Facts>(SQL).bind(bytes(run)).fetch_optional(&mut *c).await).map_err(StoreError::from_sqlx("read a run"))?;
        let Some((
            plan_hash,
            mapping_hash,
            first_pass,
            confirmed,
            expires_at,
            replaced_by,
            undoes,
            facts,
        )) = row
        else {
            return Err(StoreError::NotFound(format!(
                "there is no run {run:#}: `runs` lists them"
            )));
        };
        Ok(RunFacts {
            plan_hash,
            mapping_hash,
            first_pass,
            confirmed,
            expires_at: expires_at.map(Timestamp),
            replaced_by: replaced_by.as_deref().map(run_id).transpose()?,
            undoes: undoes.as_deref().map(run_id).transpose()?,
            facts,
        })
    }

    /// The newest runs first.
    pub async fn runs(&self, realm: Option<&RealmId>, limit: i64) -> Result<Vec<Run>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE ($1 IS NULL OR realm = $1) ORDER BY started_at DESC, id DESC LIMIT $2"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, RunRow>(SQL).bind(realm.map(|r| r.as_str().to_owned())).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read runs"))?;
        Ok(readable(rows))
    }

    /// The newest run of a realm that is not under way.
    pub async fn last_run(&self, realm: &RealmId) -> Result<Option<Run>, StoreError> {
        Ok(self
            .runs(Some(realm), 5)
            .await?
            .into_iter()
            .find(|r| r.outcome != Outcome::Running))
    }

    /// When the newest run of a realm that was applied or found nothing was decided.
    pub async fn last_success(&self, realm: &RealmId) -> Result<Option<Timestamp>, StoreError> {
        const SQL: &str = "SELECT MAX(decided_at) FROM runs WHERE realm = $1 AND outcome IN ('applied', 'unchanged') AND mode IN ('full', 'delta', 'adopt')";
        let mut link = self.db.read().await?;
        let at = on!(link, c => sqlx::query_scalar::<_, Option<i64>>(SQL).bind(realm.as_str()).fetch_one(&mut *c).await).map_err(StoreError::from_sqlx("read runs"))?;
        Ok(at.map(Timestamp))
    }

    /// What the applied runs of a realm did since each limit's instant.
    pub async fn window(
        &self,
        realm: &RealmId,
        since: &[(Limit, Timestamp)],
        until: Timestamp,
    ) -> Result<Vec<(Limit, i64)>, StoreError> {
        const SQL: &str = "SELECT decided_at, suspended, restored, phone_changed, phone_lost, renamed, created, removed FROM runs
            WHERE realm = $1 AND outcome = 'applied' AND mode <> 'action' AND decided_at > $2 AND started_at > $3 AND decided_at <= $4";
        // A plan waits seven days for its decision; by `started_at` the index leads past what is older than that.
        const OLDEST_MS: i64 = 8 * 86_400_000;
        let Some(earliest) = since.iter().map(|(_, at)| *at).min() else {
            return Ok(vec![]);
        };
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64, i64)>(SQL).bind(realm.as_str()).bind(earliest.0).bind(earliest.plus_ms(-OLDEST_MS).0).bind(until.0).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read the window"))?;
        let sum = |limit: Limit, from: Timestamp| {
            rows.iter()
                .filter(|r| r.0 > from.0)
                .map(|r| match limit {
                    Limit::Suspended => r.1,
                    Limit::Restored => r.2,
                    Limit::PhoneChanged => r.3,
                    Limit::PhoneLost => r.4,
                    Limit::Renamed => r.5,
                    Limit::Created => r.6,
                    Limit::Removed => r.7,
                })
                .sum()
        };
        Ok(since
            .iter()
            .map(|(limit, from)| (*limit, sum(*limit, *from)))
            .collect())
    }
}
