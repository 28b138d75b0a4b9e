//! The rows of a plan under construction, written in small transactions and swept after a crash.

use std::sync::atomic::Ordering;

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::answer::answered;
use super::changes::side;
use super::copy;
use super::db::{Db, IMMEDIATE, Side, Tx, on, pragma};
use super::rows::{
    MADE_COLUMNS, USER_COLUMNS, bind_made, bind_user, is_made, made_columns, user_columns,
};
use super::{Store, StoreError};
use crate::model::{Change, DirectoryId, Intent, Run, RunId, User};

/// Rows of one INSERT: the cost of each falls until some 50, and SQLite takes 32,766 values at most.
const ROWS: usize = 50;

/// A user as a plan would leave them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagedUser {
    /// Place in the plan, from 1.
    pub seq: i64,
    /// The version that was decided upon; 0: a new user.
    pub base_version: i64,
    /// The post-image.
    pub user: User,
    /// The folded DN of the entry's parent.
    pub container: Option<String>,
    /// What is to be said.
    pub intents: Vec<Intent>,
}

pub(super) fn intents_text(intents: &[Intent]) -> Result<Option<String>, StoreError> {
    if intents.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(intents)
        .map(Some)
        .map_err(|e| StoreError::Nonsense(e.to_string()))
}

/// `(?, …), (?, …)`: `rows` of `columns` each. SQLite keeps the names of placeholders in a list that it searches from its
/// beginning for each, which for 1,850 of them took 60 % of a first load; nameless ones it only counts.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

/// Stages the users that are made, of whom half of the columns say all, and then the others.
async fn insert_users(
    connection: &mut SqliteConnection,
    run: RunId,
    users: &mut [StagedUser],
) -> Result<(), StoreError> {
    let (mut made, others): (Vec<_>, Vec<_>) = users
        .iter_mut()
        .partition(|s| s.base_version == 0 && s.intents.is_empty() && is_made(&s.user));
    let failed = StoreError::from_sqlx("stage users");
    for made in made.chunks_mut(ROWS) {
        let sql = format!(
            "INSERT INTO staged_users (run, seq, {}) VALUES {}",
            made_columns!(),
            values(made.len(), MADE_COLUMNS + 2)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for staged in made {
            query = query.bind(run.0.as_bytes().to_vec()).bind(staged.seq);
            query = bind_made!(query, &mut staged.user, staged.container.take());
        }
        query.execute(&mut *connection).await.map_err(&failed)?;
    }
    for others in others.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO staged_users (run, seq, base_version, intents, {}) VALUES {}",
            user_columns!(),
            values(others.len(), USER_COLUMNS + 4)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for staged in others {
            let text = intents_text(&staged.intents)?;
            query = query
                .bind(run.0.as_bytes().to_vec())
                .bind(staged.seq)
                .bind(staged.base_version)
                .bind(text);
            query = bind_user!(query, &staged.user, staged.container.clone());
        }
        query.execute(&mut *connection).await.map_err(&failed)?;
    }
    Ok(())
}

async fn insert_changes(
    connection: &mut SqliteConnection,
    run: RunId,
    changes: &[Change],
) -> Result<(), StoreError> {
    for changes in changes.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO changes (run, seq, realm, user_id, username, by_whom, kind, before, after, at) VALUES {}",
            values(changes.len(), 10)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for change in changes {
            query = query
                .bind(run.0.as_bytes().to_vec())
                .bind(change.seq)
                .bind(change.realm.as_str().to_owned())
                .bind(change.user.0.as_bytes().to_vec())
                .bind(change.username.clone())
                .bind(change.by.clone())
                .bind(change.kind.as_str())
                .bind(side(&change.before))
                .bind(side(&change.after))
                .bind(change.at.0);
        }
        query
            .execute(&mut *connection)
            .await
            .map_err(StoreError::from_sqlx("stage changes"))?;
    }
    Ok(())
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
    if let (Side::Postgres(c), true) = (tx.side(), staged >= MANY) {
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
        mut users: Vec<StagedUser>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let Db::Sqlite { write, relaxed, .. } = &self.db else {
            let mut tx = self.db.begin().await?;
            if let Side::Postgres(c) = tx.side() {
                copy::users(c, run, &users).await?;
                copy::changes(c, run, changes).await?;
            }
            return tx.commit().await;
        };
        let failed = StoreError::from_sqlx("stage a plan");
        let mut writer = write.acquire().await.map_err(&failed)?;
        // A power cut may take what is staged, as a crash does: it is swept either way, and the plan's own commit makes the
        // file last before anything is applied.
        relaxed.store(true, Ordering::SeqCst);
        pragma(&mut writer, "PRAGMA synchronous = NORMAL")
            .await
            .map_err(&failed)?;
        let mut tx = writer.begin_with(IMMEDIATE).await.map_err(&failed)?;
        insert_users(&mut tx, run, &mut users).await?;
        insert_changes(&mut tx, run, changes).await?;
        tx.commit().await.map_err(&failed)?;
        pragma(&mut writer, "PRAGMA synchronous = FULL")
            .await
            .map_err(&failed)?;
        relaxed.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Takes back what is staged about these people.
    pub async fn unstage(
        &self,
        run: RunId,
        ids: &[DirectoryId],
    ) -> Result<(Vec<StagedUser>, Vec<Change>), StoreError> {
        const USER: &str = "DELETE FROM staged_users WHERE run = $1 AND seq = $2";
        const LINES: &str = "DELETE FROM changes WHERE run = $1 AND user_id = $2";
        let users = self.staged_by_directory_id(run, ids).await?;
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
