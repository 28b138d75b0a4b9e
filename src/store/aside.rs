//! A first load of an empty store is written once: into a table of its own, in the shape of `users`, whose place it takes when the
//! plan is applied. Written like any other plan, everybody would be written twice, and by one thread of the database alone while
//! the directory waits.
//!
//! ```text
//! lay_aside ─▶ stage_aside … ─▶ index_aside ─▶ take_place │ fill (somebody is in `users` by now)
//!                   │
//!                   ├─▶ put_in_line: the plan is held, and lies in `staged_users` like any other
//!                   └─▶ swept: it came to nothing, or a crash ended it
//! ```
//!
//! To take the place is a transaction's work like everything in `apply`: all of it, or nothing.

use std::sync::{Mutex, PoisonError};

use sqlx::AssertSqlSafe;

use super::answer::answered;
use super::db::{Db, EngineConnection, Tx, on};
use super::rows::{places, user_columns};
use super::staged::{by_origin, read_staged};
use super::staged_user::StagedUser;
use super::{Store, StoreError, copy, insert, swap};
use crate::model::{Origin, RealmId, RunId};

const PREFIX: &str = "first_load_";

/// The table of a run: nothing in it needs quoting.
pub(super) fn table(run: RunId) -> String {
    format!("{PREFIX}{}", run.0.simple())
}

/// Runs a statement that names a run's table, so that it is no use to any other run.
pub(super) async fn execute(
    tx: &mut Tx,
    sql: String,
    what: &'static str,
) -> Result<u64, StoreError> {
    on!(tx, c => sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx(what))
}

/// Whether nobody is in the store.
pub(super) async fn nobody_there(tx: &mut Tx) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT NOT EXISTS (SELECT 1 FROM users)";
    on!(tx, c => sqlx::query_scalar::<_, bool>(SQL).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("look whether the store is empty"))
}

/// Adds everybody to `users` who lies aside; gives how many. Their table stays for [`Store::forget_aside`]: whoever makes a copy of
/// the database may be reading it, and nothing that has locks should wait for that.
pub(super) async fn fill(tx: &mut Tx, run: RunId) -> Result<u64, StoreError> {
    let table = table(run);
    let sql = format!(
        "INSERT INTO users ({0}, made_by, made_seq) SELECT {0}, made_by, made_seq FROM {table}",
        user_columns!()
    );
    on!(tx, c => sqlx::query(AssertSqlSafe(sql)).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::taken("add users"))
}

impl Store {
    /// Makes the table of a first load, if the store is empty and nobody has added anything to `users` that would not come along.
    pub async fn lay_aside(&self, run: RunId) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        if !nobody_there(&mut tx).await? {
            return Ok(false);
        }
        let made = swap::twin(&mut tx, &table(run)).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Adds new users, of whom nothing is said, to a first load.
    pub async fn stage_aside(&self, run: RunId, users: Vec<StagedUser>) -> Result<(), StoreError> {
        let table = table(run);
        self.relaxed(async |side| match side {
            EngineConnection::Sqlite(c) => insert::aside(c, run, &table, &users).await,
            EngineConnection::Postgres(c) => copy::aside(c, run, &table, &users).await,
        })
        .await
    }

    /// What is staged about these people in a first load.
    pub async fn aside_of(
        &self,
        run: RunId,
        whom: &[Origin],
    ) -> Result<Vec<StagedUser>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for (condition, ids) in by_origin(whom) {
            let sql = format!(
                "SELECT made_seq AS seq, CAST(0 AS BIGINT) AS base_version, CAST(NULL AS TEXT) AS intents, {} FROM {} WHERE {condition} IN ({})",
                user_columns!(),
                table(run),
                places(1, ids.len())
            );
            found.extend(read_staged(&mut link, sql, None, &ids).await?);
        }
        Ok(found)
    }

    /// Takes back what is staged about these people in a first load.
    pub async fn unstage_aside(
        &self,
        run: RunId,
        whom: &[Origin],
    ) -> Result<Vec<StagedUser>, StoreError> {
        let users = self.aside_of(run, whom).await?;
        let mut tx = self.db.begin().await?;
        // All at once: a table without an index is read from one end to the other.
        for users in users.chunks(500) {
            let sql = format!(
                "DELETE FROM {} WHERE made_seq IN ({})",
                table(run),
                places(1, users.len())
            );
            on!(tx, c => {
                let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
                for staged in users { query = query.bind(staged.seq); }
                query.execute(&mut *c).await.map(|_| ())
            })
            .map_err(StoreError::from_sqlx("take back a decision"))?;
        }
        tx.commit().await?;
        Ok(users)
    }

    /// Puts a first load among the other plans: it is held, and will be shown, approved or rejected like any of them.
    pub async fn put_in_line(&self, run: RunId) -> Result<(), StoreError> {
        let table = table(run);
        let mut tx = self.db.begin().await?;
        let sql = format!(
            "INSERT INTO staged_users (run, seq, {0}) SELECT made_by, made_seq, {0} FROM {table}",
            user_columns!()
        );
        execute(&mut tx, sql, "stage a plan").await?;
        tx.commit().await?;
        self.forget_aside(run).await
    }

    /// Lets a run's table go, if it has one. What somebody reads just now goes with the next sweep.
    pub(super) async fn forget_aside(&self, run: RunId) -> Result<(), StoreError> {
        let what = "sweep a first load";
        let mut tx = self.db.begin().await?;
        if let EngineConnection::Postgres(c) = tx.side() {
            let soon = sqlx::raw_sql("SET LOCAL lock_timeout = '2s'");
            answered(soon.execute(c))
                .await
                .map_err(StoreError::from_sqlx(what))?;
        }
        let sql = format!("DROP TABLE IF EXISTS {}", table(run));
        match execute(&mut tx, sql, what).await {
            Ok(_) => tx.commit().await,
            Err(StoreError::Busy { holder, .. }) => {
                tracing::debug!(holder, "a first load's table is left to the next sweep");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Runs with a table of their own.
    pub(super) async fn lying_aside(&self) -> Result<Vec<RunId>, StoreError> {
        const SQLITE: &str =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE $1 || '%'";
        const POSTGRES: &str = "
            SELECT relname::TEXT FROM pg_class
            WHERE relkind = 'r' AND relname LIKE $1 || '%'
              AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";
        let sql = match &self.db {
            Db::Sqlite { .. } => SQLITE,
            Db::Postgres { .. } => POSTGRES,
        };
        let mut link = self.db.read().await?;
        let names = on!(link, c => sqlx::query_scalar::<_, String>(sql).bind(PREFIX).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for first loads"))?;
        let run = |name: &String| uuid::Uuid::try_parse(name.strip_prefix(PREFIX)?).ok();
        Ok(names.iter().filter_map(run).map(RunId).collect())
    }

    /// Builds the indexes that `users` has, where that keeps nobody waiting. If one cannot be built, the first load is added to
    /// `users` row by row, which then says what is wrong.
    pub(super) async fn index_aside(&self, run: RunId) -> Result<(), StoreError> {
        const DOING: &str = "index a first load";
        if self.single_daemon() {
            // The only writer builds them in the transaction itself.
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let EngineConnection::Postgres(c) = tx.side() else {
            return Ok(());
        };
        let indexes = swap::postgres::indexes(c, &table(run))
            .await
            .map_err(StoreError::from_sqlx(DOING))?;
        tx.commit().await?;
        // Two build what is left to build: some indexes take much longer than others.
        let left = Mutex::new(indexes.into_iter());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let build = || {
            self.relaxed(async |side| {
                let EngineConnection::Postgres(c) = side else {
                    return Ok(());
                };
                // Processes that help each of the two cost more than they give (0.43 s instead of 0.48).
                let alone = "SET LOCAL max_parallel_maintenance_workers = 0".to_owned();
                let mut sql = Some(alone);
                while let Some(text) = sql {
                    answered(sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *c))
                        .await
                        .map_err(StoreError::from_sqlx(DOING))?;
                    sql = next();
                }
                Ok(())
            })
        };
        let (one, other) = tokio::join!(build(), build());
        match one.and(other) {
            Err(error @ StoreError::Database { .. }) => {
                tracing::info!("a first load is added to the users row by row: {error}");
                Ok(())
            }
            built => built,
        }
    }
}

/// Takes the place of the empty `users`; gives how many there are. `None`: somebody is there by now, or `users` is not to be had.
pub(super) async fn take_place(
    tx: &mut Tx,
    run: RunId,
    realm: &RealmId,
) -> Result<Option<u64>, StoreError> {
    let table = table(run);
    if !nobody_there(tx).await? {
        return Ok(None);
    }
    let count = format!("SELECT COUNT(*) FROM {table}");
    let rows = on!(tx, c => sqlx::query_scalar::<_, i64>(AssertSqlSafe(count)).persistent(false).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("count a first load"))?;
    let taken = swap::take_place(tx, &table, realm).await?;
    Ok(taken.then_some(rows.unsigned_abs()))
}
