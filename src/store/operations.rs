//! What is done to many users: the frozen list, how far it is worked off, and to whom it was not done.
//!
//! The list is made in one transaction, by one statement over `users`. Each batch is one transaction too: it moves `done` first, on the
//! condition that it still is where the batch was read, so that two who work on the same batch never both write it.

mod batch;
mod links;

use sqlx::{AssertSqlSafe, FromRow};

pub use batch::{BatchRefusal, BatchWrite};
pub use links::BatchLinks;

use super::audit::{AuditKey, append};
use super::db::{ReadConnection, Tx, on};
use super::outbox::fresh_id;
use super::rows::{bytes, run_id, uuid, word};
use super::search::SqlSelection;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{
    AuditEntry, Operation, OperationBatch, OperationId, OperationRefusal, OperationState,
    OperationWork, RealmId, RunId, UserFilter, UserId,
};

/// Users of one batch.
pub const BATCH: i64 = 1000;

/// Whom an operation is about.
#[derive(Clone, Debug)]
pub enum OperationUsers<'a> {
    /// Whoever fits a filter.
    Filter(&'a UserFilter),
    /// These, as far as they are there.
    Named(&'a [UserId]),
    /// Whom a run changed.
    Changed(RunId),
}

/// An operation that is to be made.
#[derive(Debug)]
pub struct NewOperation<'a> {
    /// Its own id.
    pub id: OperationId,
    /// What is done to each.
    pub work: &'a OperationWork,
    /// To whom.
    pub users: OperationUsers<'a>,
    /// How many whoever asks has been told of; `None`: any number.
    pub expect: Option<i64>,
    /// Its line of the audit, which says from where and when too; `total` is added to what is after.
    pub audit: (&'a AuditEntry, &'a AuditKey),
}

#[derive(FromRow)]
struct OperationRow {
    id: Vec<u8>,
    kind: String,
    state: String,
    total: i64,
    done: i64,
    changed: i64,
    skipped: i64,
    refused: i64,
    by_whom: Option<String>,
    started_at: i64,
    ended_at: Option<i64>,
    error: Option<String>,
}

const COLUMNS: &str =
    "id, kind, state, total, done, changed, skipped, refused, by_whom, started_at, ended_at, error";

fn key(id: OperationId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

impl Store {
    /// Makes an operation and freezes its list.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when another number of users fits than was expected, or nobody; then nothing is made.
    pub async fn begin_operation(&self, new: NewOperation<'_>) -> Result<Operation, StoreError> {
        const ADD: &str = "
            INSERT INTO operations (id, kind, state, request, total, by_whom, door, started_at) VALUES ($1, $2, 'running', $3, $4, $5, $6, $7)";
        const REALMS: &str =
            "SELECT DISTINCT realm FROM operation_users WHERE operation = $1 ORDER BY realm";
        const RUN: &str = "INSERT INTO operation_runs (operation, realm, run) VALUES ($1, $2, $3)";
        let failed = StoreError::from_sqlx("freeze a selection");
        let (entry, audit_key) = new.audit;
        let work =
            serde_json::to_string(new.work).map_err(|e| StoreError::Nonsense(e.to_string()))?;
        // What no engine can compare is looked for page by page, before the transaction.
        let found = match &new.users {
            OperationUsers::Filter(filter) if !SqlSelection::says_all(filter) => {
                Some(self.ids_of(filter, entry.at).await?)
            }
            _ => None,
        };
        let mut tx = self.db.begin().await?;
        let total = match (&new.users, &found) {
            (_, Some(ids)) => freeze_named(&mut tx, new.id, ids).await?,
            (OperationUsers::Named(ids), None) => freeze_named(&mut tx, new.id, ids).await?,
            (OperationUsers::Filter(filter), None) => {
                freeze_filter(&mut tx, new.id, filter, entry.at).await?
            }
            (OperationUsers::Changed(run), None) => freeze_changed(&mut tx, new.id, *run).await?,
        };
        if total == 0 {
            return Err(StoreError::Refused(
                "nobody fits: nothing is done".to_owned(),
            ));
        }
        if let Some(expected) = new.expect.filter(|n| *n != total) {
            return Err(StoreError::Refused(format!(
                "{total} users fit, and not {expected}: nothing is done; look at whom it is about, and confirm that number"
            )));
        }
        on!(tx, c => sqlx::query(ADD).bind(key(new.id)).bind(new.work.kind().as_str()).bind(work).bind(total).bind(entry.by.clone())
            .bind(&entry.from).bind(entry.at.0).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
        let realms = on!(tx, c => sqlx::query_scalar::<_, String>(REALMS).bind(key(new.id)).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        for realm in &realms {
            let run = fresh_id(entry.at).as_bytes().to_vec();
            on!(tx, c => sqlx::query(RUN).bind(key(new.id)).bind(realm).bind(run).execute(&mut *c).await.map(|_| ()))
                .map_err(&failed)?;
        }
        let mut entry = entry.clone();
        entry.after.insert("total".to_owned(), total.into());
        if let [realm] = realms.as_slice() {
            entry.realm = Some(RealmId::from(realm.clone()));
        }
        append(&mut tx, audit_key, &entry).await?;
        crate::failpoint::hit("operation.frozen");
        tx.commit().await?;
        self.operation(new.id).await
    }

    /// How many users fit a filter, as a list of them would be frozen now.
    pub async fn count_users(
        &self,
        filter: &UserFilter,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        if !SqlSelection::says_all(filter) {
            return Ok(i64::try_from(self.ids_of(filter, now).await?.len()).unwrap_or(i64::MAX));
        }
        let (condition, values) = SqlSelection::whole(filter, now).into_parts();
        let sql = format!("SELECT COUNT(*) FROM users WHERE {condition}");
        let mut link = self.db.read().await?;
        on!(link, c => super::search::bind_all!(sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)), values).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("count users"))
    }

    /// Whoever fits a filter that no engine can decide about.
    async fn ids_of(&self, filter: &UserFilter, now: Timestamp) -> Result<Vec<UserId>, StoreError> {
        const PAGE: i64 = 5000;
        let (mut ids, mut after) = (vec![], None);
        loop {
            let page = super::UserPage {
                after: after.as_ref(),
                ..super::UserPage::first(PAGE, now)
            };
            let users = self.list_users(filter, &page).await?;
            let Some(last) = users.last() else {
                return Ok(ids);
            };
            after = Some(crate::model::UserPlace::of(last));
            ids.extend(users.iter().map(|u| u.id));
        }
    }

    /// An operation.
    pub async fn operation(&self, id: OperationId) -> Result<Operation, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM operations WHERE id = $1");
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, OperationRow>(AssertSqlSafe(sql)).bind(key(id)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read an operation"))?;
        let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no operation {id}")))?;
        whole(&mut link, row).await
    }

    /// Operations under way, the oldest first.
    pub async fn open_operations(&self) -> Result<Vec<OperationId>, StoreError> {
        const SQL: &str = "SELECT id FROM operations WHERE state = 'running' ORDER BY id";
        let mut link = self.db.read().await?;
        let ids = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(SQL).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for operations"))?;
        ids.iter().map(|id| Ok(OperationId(uuid(id)?))).collect()
    }

    /// What an operation does, and from where it was asked for.
    pub async fn operation_work(
        &self,
        id: OperationId,
    ) -> Result<(OperationWork, String), StoreError> {
        const SQL: &str = "SELECT request, door FROM operations WHERE id = $1";
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, (String, String)>(SQL).bind(key(id)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read an operation"))?;
        let (work, door) =
            row.ok_or_else(|| StoreError::NotFound(format!("there is no operation {id}")))?;
        let work = serde_json::from_str(&work)
            .map_err(|e| StoreError::Nonsense(format!("what operation {id} does: {e}")))?;
        Ok((work, door))
    }

    /// The next users of an operation; `None`: it is behind its last one, over, or somebody wants it to end.
    pub async fn next_batch(&self, id: OperationId) -> Result<Option<OperationBatch>, StoreError> {
        const AT: &str = "SELECT done FROM operations WHERE id = $1 AND state = 'running' AND cancelled_by IS NULL";
        const NEXT: &str = "
            SELECT user_id, realm FROM operation_users WHERE operation = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        const RUN: &str = "SELECT run FROM operation_runs WHERE operation = $1 AND realm = $2";
        let failed = StoreError::from_sqlx("read an operation");
        let mut link = self.db.read().await?;
        let done = on!(link, c => sqlx::query_scalar::<_, i64>(AT).bind(key(id)).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let Some(done) = done else { return Ok(None) };
        let rows = on!(link, c => sqlx::query_as::<_, (Vec<u8>, String)>(NEXT).bind(key(id)).bind(done).bind(BATCH).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        let Some((_, realm)) = rows.first().cloned() else {
            return Ok(None);
        };
        let run = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(RUN).bind(key(id)).bind(&realm).fetch_one(&mut *c).await)
            .map_err(&failed)?;
        let users: Result<Vec<UserId>, StoreError> = rows
            .iter()
            .take_while(|row| row.1 == realm)
            .map(|row| Ok(UserId(uuid(&row.0)?)))
            .collect();
        Ok(Some(OperationBatch {
            operation: id,
            done,
            realm: RealmId::from(realm),
            run: run_id(&run)?,
            users: users?,
        }))
    }

    /// Asks an operation to end after the batch under way. `false`: it is over already.
    pub async fn cancel_operation(
        &self,
        id: OperationId,
        by: Option<&str>,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<bool, StoreError> {
        const SQL: &str = "
            UPDATE operations SET cancelled_by = COALESCE(cancelled_by, $2) WHERE id = $1 AND state = 'running'";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(key(id)).bind(by.unwrap_or_default()).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("cancel an operation"))?;
        if rows == 0 {
            return Ok(false);
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends an operation: it is done, or, if somebody wanted that, cancelled; or failed with an error. Its list goes.
    pub async fn end_operation(
        &self,
        id: OperationId,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<Operation, StoreError> {
        const END: &str = "
            UPDATE operations SET ended_at = $2, error = $3, state = CASE
                WHEN done = total THEN 'done' WHEN cancelled_by IS NOT NULL THEN 'cancelled' ELSE 'failed' END
            WHERE id = $1 AND state = 'running'";
        const FORGET: &str = "DELETE FROM operation_users WHERE operation = $1";
        let failed = StoreError::from_sqlx("end an operation");
        let mut tx = self.db.begin().await?;
        for (sql, bound) in [(END, true), (FORGET, false)] {
            on!(tx, c => {
                let mut query = sqlx::query(sql).bind(key(id));
                if bound { query = query.bind(now.0).bind(error.map(str::to_owned)); }
                query.execute(&mut *c).await.map(|_| ())
            })
            .map_err(&failed)?;
        }
        tx.commit().await?;
        self.operation(id).await
    }

    /// Forgets operations that ended before a time, with those to whom they were not done and the links that they made.
    pub(super) async fn forget_operations(&self, before: Timestamp) -> Result<(), StoreError> {
        const LIST: i64 = 2000;
        macro_rules! rows_of {
            ($table:literal, $key:literal) => {
                concat!(
                    "DELETE FROM ", $table, " WHERE (operation, ", $key, ") IN (SELECT r.operation, r.", $key, " FROM ", $table,
                    " r JOIN operations o ON o.id = r.operation WHERE o.state <> 'running' AND o.ended_at < $1 LIMIT $2)"
                )
            };
        }
        const ALL: [&str; 4] = [
            rows_of!("operation_refused", "seq"),
            rows_of!("operation_enrolments", "enrolment"),
            rows_of!("operation_runs", "realm"),
            "DELETE FROM operations WHERE id IN (SELECT id FROM operations WHERE state <> 'running' AND ended_at < $1 LIMIT $2)",
        ];
        for sql in ALL {
            loop {
                let mut tx = self.db.begin().await?;
                let rows = on!(tx, c => sqlx::query(sql).bind(before.0).bind(LIST).execute(&mut *c).await.map(|r| r.rows_affected()))
                    .map_err(StoreError::from_sqlx("forget operations"))?;
                tx.commit().await?;
                if rows == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// To whom an operation was not done, in its order.
    pub async fn operation_refusals(
        &self,
        id: OperationId,
        limit: i64,
    ) -> Result<Vec<OperationRefusal>, StoreError> {
        const SQL: &str = "SELECT user_id, reason FROM operation_refused WHERE operation = $1 ORDER BY seq LIMIT $2";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (Vec<u8>, String)>(SQL).bind(key(id)).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read an operation"))?;
        rows.into_iter()
            .map(|(user, reason)| {
                Ok(OperationRefusal {
                    user: UserId(uuid(&user)?),
                    reason,
                })
            })
            .collect()
    }

    /// What made a run; `None`: no operation did, or it is forgotten.
    pub async fn work_of_run(&self, run: RunId) -> Result<Option<OperationWork>, StoreError> {
        const SQL: &str = "
            SELECT o.request FROM operation_runs r JOIN operations o ON o.id = r.operation WHERE r.run = $1";
        let mut link = self.db.read().await?;
        let work = on!(link, c => sqlx::query_scalar::<_, String>(SQL).bind(bytes(run)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for operations"))?;
        // What a newer program wrote is not known here.
        Ok(work.and_then(|work| serde_json::from_str(&work).ok()))
    }

    /// The operation under way that a run is of, if one is.
    pub async fn operation_of_run(&self, run: RunId) -> Result<Option<OperationId>, StoreError> {
        const SQL: &str = "
            SELECT o.id FROM operation_runs r JOIN operations o ON o.id = r.operation WHERE r.run = $1 AND o.state = 'running'";
        let mut link = self.db.read().await?;
        let id = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(SQL).bind(bytes(run)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for operations"))?;
        id.map(|id| Ok(OperationId(uuid(&id)?))).transpose()
    }
}

/// With the runs that it made.
async fn whole(link: &mut ReadConnection, row: OperationRow) -> Result<Operation, StoreError> {
    const RUNS: &str = "
        SELECT r.run FROM operation_runs r JOIN runs ON runs.id = r.run WHERE r.operation = $1 ORDER BY r.realm";
    const REALMS: &str = "SELECT COUNT(*) FROM operation_runs WHERE operation = $1";
    let failed = StoreError::from_sqlx("read an operation");
    let runs = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(RUNS).bind(row.id.clone()).fetch_all(&mut *c).await)
        .map_err(&failed)?;
    let realms = on!(link, c => sqlx::query_scalar::<_, i64>(REALMS).bind(row.id.clone()).fetch_one(&mut *c).await)
        .map_err(&failed)?;
    let runs: Result<Vec<RunId>, StoreError> = runs.iter().map(|id| run_id(id)).collect();
    let runs = runs?;
    let state: OperationState = word(&row.state)?;
    Ok(Operation {
        id: OperationId(uuid(&row.id)?),
        kind: word(&row.kind)?,
        state,
        total: row.total,
        done: row.done,
        changed: row.changed,
        skipped: row.skipped,
        refused: row.refused,
        run: runs.first().copied().filter(|_| realms == 1),
        by: row.by_whom,
        started_at: Timestamp(row.started_at),
        ended_at: row.ended_at.map(Timestamp),
        runs: if realms > 1 { runs } else { vec![] },
        error: row.error,
    })
}

/// Whoever fits, by one statement.
async fn freeze_filter(
    tx: &mut Tx,
    id: OperationId,
    filter: &UserFilter,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut selection = SqlSelection::whole(filter, now);
    let operation = selection.bytes(key(id));
    let (condition, values) = selection.into_parts();
    let sql = format!(
        "INSERT INTO operation_users (operation, seq, user_id, realm)
         SELECT {operation}, ROW_NUMBER() OVER (ORDER BY realm, id), id, realm FROM users WHERE {condition}"
    );
    let rows = on!(tx, c => super::search::bind_all!(sqlx::query(AssertSqlSafe(sql)), values).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("freeze a selection"))?;
    Ok(rows.cast_signed())
}

/// Whom a run changed, or sent a link to.
async fn freeze_changed(tx: &mut Tx, id: OperationId, run: RunId) -> Result<i64, StoreError> {
    const SQL: &str = "
        INSERT INTO operation_users (operation, seq, user_id, realm)
        SELECT $1, ROW_NUMBER() OVER (ORDER BY realm, id), id, realm FROM users
        WHERE id IN (
            SELECT user_id FROM changes WHERE run = $2
            UNION SELECT l.user_id FROM operation_runs r JOIN operation_enrolments e ON e.operation = r.operation
            JOIN enrolments l ON l.id = e.enrolment JOIN users u ON u.id = l.user_id WHERE r.run = $2 AND u.realm = r.realm)";
    let rows = on!(tx, c => sqlx::query(SQL).bind(key(id)).bind(bytes(run)).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("freeze a selection"))?;
    Ok(rows.cast_signed())
}

/// Those of these who are there, each once.
async fn freeze_named(tx: &mut Tx, id: OperationId, ids: &[UserId]) -> Result<i64, StoreError> {
    const LIST: usize = 500;
    let failed = StoreError::from_sqlx("freeze a selection");
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut found: Vec<(String, Vec<u8>)> = vec![];
    for ids in ids.chunks(LIST) {
        let sql = format!(
            "SELECT realm, id FROM users WHERE id IN ({})",
            super::rows::places(1, ids.len())
        );
        found.extend(
            on!(tx, c => {
                let mut query = sqlx::query_as::<_, (String, Vec<u8>)>(AssertSqlSafe(sql));
                for id in ids { query = query.bind(id.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(&failed)?,
        );
    }
    found.sort_unstable();
    for (n, rows) in found.chunks(LIST).enumerate() {
        let values: Vec<String> = (0..rows.len())
            .map(|i| format!("($1, ${}, ${}, ${})", 3 * i + 2, 3 * i + 3, 3 * i + 4))
            .collect();
        let sql = format!(
            "INSERT INTO operation_users (operation, seq, user_id, realm) VALUES {}",
            values.join(", ")
        );
        on!(tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(key(id));
            for (i, (realm, user)) in rows.iter().enumerate() {
                let seq = i64::try_from(n * LIST + i + 1).unwrap_or(i64::MAX);
                query = query.bind(seq).bind(user.clone()).bind(realm.clone());
            }
            query.execute(&mut *c).await.map(|_| ())
        })
        .map_err(&failed)?;
    }
    Ok(i64::try_from(found.len()).unwrap_or(i64::MAX))
}
