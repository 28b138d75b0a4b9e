//! The rows of a plan under construction, written in small transactions and swept after a crash.

use std::sync::atomic::Ordering;

use sqlx::Connection as _;

use super::answer::answered;
use super::db::{Db, EngineConnection, IMMEDIATE, LASTING, RELAXED, Tx, fold_beside, on, pragma};
use super::fence::FencedTransaction;
use super::staged_user::StagedUser;
use super::{Store, StoreError, copy, insert};
use crate::model::{Change, Origin, Run, RunId};

/// How a plan lies in the store, counted while it was made. What is staged does not wait for the disk, so that a PostgreSQL which was
/// started anew meanwhile may have lost some of it without a word.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Staged {
    /// New users of whom nothing is said lie in a table of the run's own.
    pub aside: bool,
    /// Rows for users who are there already; `None`: counted before, when the plan was held.
    pub changed: Option<i64>,
    /// Rows for new users, wherever they lie.
    pub made: i64,
}

/// So many rows change what PostgreSQL's planner should expect of a table.
pub(super) const MANY: i64 = 500;

/// Lets PostgreSQL know what was copied: without statistics it sorts the whole plan for each page of it, and looks up user by
/// user where it should join.
pub(super) async fn analyze(tx: &mut Tx, run: &Run) -> Result<(), StoreError> {
    // Who is made is read from one end to the other, statistics or not.
    let staged = run.updated
        + run.renamed
        + run.phone_changed
        + run.phone_lost
        + run.suspended
        + run.restored
        + run.removed
        + run.moved;
    if let (EngineConnection::Postgres(c), true) = (tx.side(), staged >= MANY) {
        let analyzing = sqlx::query("ANALYZE staged_users, changes").execute(c);
        answered(analyzing)
            .await
            .map_err(StoreError::from_sqlx("analyze a plan"))?;
    }
    Ok(())
}

impl Store {
    /// Adds to a plan, in one transaction. What a first pass makes has no lines here: the staged users are them.
    pub async fn stage(
        &self,
        run: RunId,
        users: Vec<StagedUser>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        self.relaxed(async |side| match side {
            EngineConnection::Sqlite(c) => {
                insert::users(c, run, &users).await?;
                insert::changes(c, run, changes).await
            }
            EngineConnection::Postgres(c) => {
                copy::users(c, run, &users).await?;
                copy::changes(c, run, changes).await
            }
        })
        .await
    }

    /// A transaction that does not wait for the disk: a power cut may take what is staged, as a crash does. It is swept either way,
    /// and the plan's own commit, or that of its hold, makes all before it last too.
    pub(super) async fn relaxed(
        &self,
        work: impl AsyncFnOnce(EngineConnection<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = StoreError::from_sqlx("stage a plan");
        match &self.db {
            Db::Postgres { pool, fence } => {
                let mut tx = FencedTransaction::begin(pool, *fence, true)
                    .await
                    .map_err(&failed)?;
                work(EngineConnection::Postgres(&mut tx)).await?;
                tx.commit().await.map_err(failed)
            }
            Db::Sqlite {
                write,
                read,
                relaxed,
                folding,
                generation,
            } => {
                let mut writer = write.acquire().await.map_err(&failed)?;
                relaxed.store(true, Ordering::SeqCst);
                pragma(&mut writer, RELAXED).await.map_err(&failed)?;
                let mut tx = writer.begin_with(IMMEDIATE).await.map_err(&failed)?;
                work(EngineConnection::Sqlite(&mut tx)).await?;
                tx.commit().await.map_err(&failed)?;
                pragma(&mut writer, LASTING).await.map_err(&failed)?;
                relaxed.store(false, Ordering::SeqCst);
                // A temporary store has no log.
                if generation.is_some() {
                    fold_beside(read, folding);
                }
                Ok(())
            }
        }
    }

    /// Takes back what is staged about these people; gives it, and its lines.
    pub async fn unstage(
        &self,
        run: RunId,
        whom: &[Origin],
    ) -> Result<(Vec<StagedUser>, Vec<Change>), StoreError> {
        const USER: &str = "DELETE FROM staged_users WHERE run = $1 AND seq = $2";
        const LINES: &str = "DELETE FROM changes WHERE run = $1 AND user_id = $2";
        let users = self.staged_of(run, whom).await?;
        let mut changes = vec![];
        let mut tx = self.db.begin().await?;
        for staged in &users {
            changes.extend(self.changes_of(&mut tx, run, staged.user.id).await?);
            on!(tx, c => sqlx::query(USER).bind(run.0.as_bytes().to_vec()).bind(staged.seq).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("take back a decision"))?;
            on!(tx, c => sqlx::query(LINES).bind(run.0.as_bytes().to_vec()).bind(staged.user.id.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("take back a decision"))?;
        }
        tx.commit().await?;
        Ok((users, changes))
    }
}
