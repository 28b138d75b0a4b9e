//! Held plans: kept, confirmed, replaced, decided.
//!
//! ```text
//!   running ──hold──▶ held ──apply──▶ applied
//!                      │ └──another plan──▶ replaced
//!                      └──decide_held──▶ rejected │ expired
//! ```

use super::db::{Tx, on};
use super::outbox::{keep_on_hold, locks, release_brake, set_waiting_on_hold, text};
use super::refused::RefusedDiff;
use super::rows::{bytes, readable};
use super::runs::{RunFacts, RunRow, run_columns, write_run};
use super::stage::Staged;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{JobType, Mode, Outcome, RealmId, Run, RunId};

const DAY_MS: i64 = 86_400_000;

/// How long a held plan waits for a decision.
const HELD_FOR_MS: i64 = 7 * DAY_MS;

/// Locks what is open in the realm, and what is held for an undo: what an end of a pause, or the holding of a plan, comes to.
async fn lock_open(tx: &mut Tx, realm: &RealmId) -> Result<(), StoreError> {
    const OPEN: &str = "realm = $1 AND state NOT IN ('delivered', 'dropped') OR state IN ('waiting', 'sending', 'held') AND held_by = 'undo'";
    locks::jobs(tx, OPEN, Some(realm), None, &[]).await
}

/// Another plan takes the place of a held one, whose rows are swept; if it passes, the messages that the brake kept go on. Expects
/// the realm, both runs and the messages to be locked.
pub(super) async fn replace_held(
    tx: &mut Tx,
    old: RunId,
    by: RunId,
    realm: &RealmId,
    passes: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str =
        "UPDATE runs SET outcome = 'replaced', replaced_by = $2 WHERE id = $1 AND outcome = 'held'";
    let rows = on!(tx, c => sqlx::query(SQL).bind(bytes(old)).bind(bytes(by)).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("replace a plan"))?;
    // Whatever became of it, the lines of a plan that was applied stay.
    if rows == 0 {
        return Ok(());
    }
    if passes {
        release_brake(tx, realm, now).await?;
    }
    super::undone::release(tx, now).await?;
    super::sweep::sweep_in(tx, old).await
}

/// Ends a held plan within the caller's transaction; its rows are swept afterwards.
pub(super) async fn decide_in(
    tx: &mut Tx,
    run: RunId,
    outcome: Outcome,
    by: Option<String>,
    replaced_by: Option<RunId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const REALM: &str = "SELECT realm FROM runs WHERE id = $1";
    const SQL: &str = "UPDATE runs SET outcome = $2, by_whom = COALESCE($3, by_whom), replaced_by = $4, decided_at = $5 WHERE id = $1 AND outcome = 'held'";
    // The next pass decides anew: what a full pass found would not be told to a delta once more.
    const FREE: &str = "
        UPDATE realms SET held = NULL,
            cursor = CASE WHEN (SELECT mode FROM runs WHERE id = $1) IN ('full', 'adopt') THEN NULL ELSE cursor END
        WHERE id = $2 AND held = $1";
    let failed = StoreError::from_sqlx("decide a plan");
    let decided = || {
        StoreError::Refused(format!(
            "plan {run:#} was decided already: `runs show {run:#}`"
        ))
    };
    // Whoever applies this plan just now has the realm, and decides it.
    let realm = on!(tx, c => sqlx::query_scalar::<_, String>(REALM).bind(bytes(run)).fetch_optional(&mut *c).await)
        .map_err(&failed)?;
    let realm = realm.map(RealmId::from).ok_or_else(decided)?;
    locks::realm(tx, &realm).await?;
    let rows = on!(tx, c => sqlx::query(SQL).bind(bytes(run)).bind(outcome.as_str()).bind(by).bind(replaced_by.map(bytes)).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(&failed)?;
    if rows != 1 {
        return Err(decided());
    }
    let freed = on!(tx, c => sqlx::query(FREE).bind(bytes(run)).bind(realm.as_str()).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(&failed)?;
    lock_open(tx, &realm).await?;
    if freed > 0 {
        keep_on_hold(tx, &realm).await?;
        // It may have left the file meanwhile.
        let again = super::realm_by_hand::be_by_hand_again(tx, Some(&realm)).await?;
        if !again.is_empty() {
            super::outbox::reckon_standing(tx, Some(&realm), now).await?;
        }
    }
    super::undone::release(tx, now).await?;
    if matches!(outcome, Outcome::Rejected | Outcome::Expired) {
        super::pause::end_pause_of_undo(tx, &realm, run, now).await?;
    }
    Ok(())
}

impl Store {
    /// Counts a pass that came to the same held plan.
    pub async fn confirm_held(&self, run: RunId) -> Result<(), StoreError> {
        const SQL: &str =
            "UPDATE runs SET confirmed = confirmed + 1 WHERE id = $1 AND outcome = 'held'";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(bytes(run)).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("confirm a plan"))?;
        tx.commit().await
    }

    /// Whether every user whom a plan changes is still the one that was decided upon.
    pub async fn plan_fits(&self, run: RunId) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM staged_users s JOIN users u ON u.id = s.id WHERE s.run = $1 AND s.base_version > 0 AND s.base_version <> u.version";
        let mut link = self.db.read().await?;
        let moved_on = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(bytes(run)).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("compare a plan"))?;
        Ok(moved_on == 0)
    }

    /// Keeps a plan for an administrator. Waiting messages of these types are put on hold.
    pub async fn hold(
        &self,
        run: &Run,
        staged: Staged,
        mut facts: RunFacts,
        refused: Option<RefusedDiff>,
        replaces: Option<RunId>,
        types: &[JobType],
    ) -> Result<(), StoreError> {
        const STAGED: &str = "SELECT COUNT(*) FROM staged_users WHERE run = $1";
        // A file's plan waits beside the passes: neither waits for the other, nor takes its place.
        const SQL: &str = "UPDATE realms SET held = $2 WHERE id = $1";
        let now = run.decided_at.unwrap_or(run.started_at);
        facts.expires_at = Some(now.plus_ms(HELD_FOR_MS));
        let mut tx = self.db.begin().await?;
        locks::realm(&mut tx, &run.realm).await?;
        let decided: Vec<RunId> = replaces.into_iter().chain([run.run]).collect();
        locks::runs(&mut tx, &decided).await?;
        if let Some(changed) = staged.changed {
            let there = on!(tx, c => sqlx::query_scalar::<_, i64>(STAGED).bind(bytes(run.run)).fetch_one(&mut *c).await).map_err(StoreError::from_sqlx("count a plan"))?;
            if there != changed + staged.made {
                return Err(StoreError::Forgotten {
                    there,
                    given: changed + staged.made,
                });
            }
        }
        lock_open(&mut tx, &run.realm).await?;
        if let Some(old) = replaces {
            replace_held(&mut tx, old, run.run, &run.realm, false, now).await?;
        }
        if let Some(diff) = refused {
            super::refused::write(&mut tx, &run.realm, diff, now).await?;
        }
        set_waiting_on_hold(&mut tx, &run.realm, types, now).await?;
        write_run(&mut tx, run, &facts).await?;
        let beside =
            run.mode == Mode::Import || super::pause::undoes_import(&mut tx, run.run).await?;
        if !beside {
            on!(tx, c => sqlx::query(SQL).bind(run.realm.as_str()).bind(bytes(run.run)).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("hold a plan"))?;
        }
        if facts.undoes.is_some() && !beside {
            super::pause::pause_for_undo(&mut tx, &run.realm, run.run, replaces, now).await?;
        }
        super::stage::analyze(&mut tx, run).await?;
        tx.commit().await
    }

    /// Held plans of files, and of what puts files back, the newest first: they wait beside the passes of their realms.
    pub async fn held_beside(&self) -> Result<Vec<(RealmId, RunId)>, StoreError> {
        const SQL: &str = "
            SELECT u.realm, u.id FROM runs u LEFT JOIN runs r ON r.id = u.undoes
            WHERE u.outcome = 'held' AND (u.mode = 'import' OR r.mode IN ('import', 'action')) ORDER BY u.started_at DESC, u.id DESC";
        let mut link = self.db.read().await?;
        let rows =
            on!(link, c => sqlx::query_as::<_, (String, Vec<u8>)>(SQL).fetch_all(&mut *c).await)
                .map_err(StoreError::from_sqlx("read held plans"))?;
        rows.into_iter()
            .map(|(realm, run)| Ok((RealmId::from(realm), super::rows::run_id(&run)?)))
            .collect()
    }

    /// Ends a held plan without applying it. Messages that the brake holds stay for `outbox release` or `drop`.
    /// Notes who asked.
    pub async fn decide_held(
        &self,
        run: RunId,
        outcome: Outcome,
        by: Option<String>,
        replaced_by: Option<RunId>,
        now: Timestamp,
    ) -> Result<Run, StoreError> {
        let mut tx = self.db.begin().await?;
        decide_in(&mut tx, run, outcome, by, replaced_by, now).await?;
        self.note(&mut tx).await?;
        tx.commit().await?;
        self.sweep(run).await?;
        self.run(&run.to_string()).await
    }

    /// Held plans that nobody decided in time: those that could be decided for seven days. Of the time since the last call at most a
    /// day counts, so that neither a clock that jumps nor a service that is down decides in an administrator's place.
    pub async fn expired_held(&self, now: Timestamp) -> Result<Vec<Run>, StoreError> {
        const OPEN: &str = "SELECT COUNT(*) FROM runs WHERE outcome = 'held'";
        macro_rules! wait {
            ($which:expr) => {
                concat!("
            UPDATE runs SET waited_at = $1, waited_ms = waited_ms + CASE
                WHEN $1 - COALESCE(waited_at, decided_at, started_at) > $2 THEN $2
                WHEN $1 > COALESCE(waited_at, decided_at, started_at) THEN $1 - COALESCE(waited_at, decided_at, started_at)
                ELSE 0 END
            WHERE ", $which)
            };
        }
        // One that is being decided just now waits for nobody, and nobody for it.
        const WAIT: (&str, &str) = (
            wait!("outcome = 'held'"),
            wait!(
                "id IN (SELECT id FROM runs WHERE outcome = 'held' FOR NO KEY UPDATE SKIP LOCKED)"
            ),
        );
        const SQL: &str = concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE outcome = 'held' AND waited_ms >= $1 ORDER BY id"
        );
        let failed = StoreError::from_sqlx("read held plans");
        let mut link = self.db.read().await?;
        let open = on!(link, c => sqlx::query_scalar::<_, i64>(OPEN).fetch_one(&mut *c).await)
            .map_err(&failed)?;
        drop(link);
        if open == 0 {
            return Ok(vec![]);
        }
        let mut tx = self.db.begin().await?;
        let wait = text(&tx, WAIT.0, WAIT.1);
        on!(tx, c => sqlx::query(wait).bind(now.0).bind(DAY_MS).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        tx.commit().await?;
        let mut link = self.db.read().await?;
        let rows =
            on!(link, c => sqlx::query_as::<_, RunRow>(SQL).bind(HELD_FOR_MS).fetch_all(&mut *c).await)
                .map_err(&failed)?;
        Ok(readable(rows))
    }
}
