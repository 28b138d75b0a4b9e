//! The rows of a plan under construction, written in small transactions and swept after a crash.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, FromRow, SqliteConnection};

use super::changes::side;
use super::copy;
use super::db::{Side, Tx, on};
use super::rows::{USER_COLUMNS, UserRow, bind_user, places, user_columns};
use super::{Store, StoreError};
use crate::model::{
    Change, ChangeKind, DirectoryId, Intent, Run, RunId, StateReason, User, UserId,
};

/// Rows of one INSERT: the cost of each falls until some 50, and SQLite takes 32,766 values at most.
const ROWS: usize = 50;
/// Rows swept in one transaction.
const SWEEP: i64 = 5000;

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

#[derive(FromRow)]
struct Row {
    seq: i64,
    base_version: i64,
    container: Option<String>,
    intents: Option<String>,
    #[sqlx(flatten)]
    user: UserRow,
}

impl TryFrom<Row> for StagedUser {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let intents = row
            .intents
            .map_or(Ok(vec![]), |t| serde_json::from_str(&t))
            .map_err(|e| StoreError::Nonsense(format!("intents: {e}")))?;
        Ok(Self {
            seq: row.seq,
            base_version: row.base_version,
            user: row.user.try_into()?,
            container: row.container,
            intents,
        })
    }
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

async fn insert_users(
    connection: &mut SqliteConnection,
    run: RunId,
    users: &[StagedUser],
) -> Result<(), StoreError> {
    for users in users.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO staged_users (run, seq, base_version, intents, {}) VALUES {}",
            user_columns!(),
            values(users.len(), USER_COLUMNS + 4)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for staged in users {
            let text = intents_text(&staged.intents)?;
            query = query
                .bind(run.0.as_bytes().to_vec())
                .bind(staged.seq)
                .bind(staged.base_version)
                .bind(text);
            query = bind_user!(query, &staged.user, staged.container.clone());
        }
        query
            .execute(&mut *connection)
            .await
            .map_err(StoreError::from_sqlx("stage users"))?;
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
    let staged = run.created
        + run.updated
        + run.renamed
        + run.phone_changed
        + run.phone_lost
        + run.suspended
        + run.restored
        + run.removed
        + run.moved;
    if let (Side::Postgres(c), true) = (tx.side(), staged >= MANY) {
        sqlx::query("ANALYZE staged_users, changes")
            .execute(c)
            .await
            .map_err(StoreError::from_sqlx("analyze a plan"))?;
    }
    Ok(())
}

/// Removes a decided run's staged users; its changes stay or go with the caller.
pub(super) async fn forget_staged(tx: &mut Tx, run: RunId) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query("DELETE FROM staged_users WHERE run = $1").bind(run.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("sweep a plan"))
}

/// Removes all rows of a plan within the caller's transaction.
pub(super) async fn sweep_in(tx: &mut Tx, run: RunId) -> Result<(), StoreError> {
    forget_staged(tx, run).await?;
    on!(tx, c => sqlx::query("DELETE FROM changes WHERE run = $1").bind(run.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("sweep a plan"))
}

impl Store {
    /// Adds to a plan, in one transaction. What a first pass makes has no lines here: the staged users are them.
    pub async fn stage(
        &self,
        run: RunId,
        users: &[StagedUser],
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        match tx.side() {
            Side::Postgres(c) => {
                copy::users(c, run, users).await?;
                copy::changes(c, run, changes).await?;
            }
            Side::Sqlite(c) => {
                insert_users(c, run, users).await?;
                insert_changes(c, run, changes).await?;
            }
        }
        tx.commit().await
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

    async fn changes_of(
        &self,
        tx: &mut Tx,
        run: RunId,
        user: UserId,
    ) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "SELECT seq, realm, username, by_whom, kind, before, after, at FROM changes WHERE run = $1 AND user_id = $2";
        type Row = (
            i64,
            String,
            Option<String>,
            Option<String>,
            String,
            Option<String>,
            Option<String>,
            i64,
        );
        let rows = on!(tx, c => sqlx::query_as::<_, Row>(SQL).bind(run.0.as_bytes().to_vec()).bind(user.0.as_bytes().to_vec()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read changes"))?;
        let json = |t: Option<String>| {
            t.map_or(Ok(serde_json::Map::new()), |t| serde_json::from_str(&t))
                .map_err(|e| StoreError::Nonsense(format!("a change: {e}")))
        };
        rows.into_iter()
            .map(|(seq, realm, username, by, kind, before, after, at)| {
                Ok(Change {
                    run: Some(run),
                    seq,
                    realm: realm.into(),
                    user,
                    username,
                    by,
                    kind: super::rows::word(&kind)?,
                    before: json(before)?,
                    after: json(after)?,
                    at: crate::clock::Timestamp(at),
                })
            })
            .collect()
    }

    /// What is staged about these people.
    pub async fn staged_by_directory_id(
        &self,
        run: RunId,
        ids: &[DirectoryId],
    ) -> Result<Vec<StagedUser>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(500) {
            let sql = format!(
                "SELECT seq, base_version, intents, {} FROM staged_users WHERE run = $1 AND directory_id IN ({})",
                user_columns!(),
                places(2, ids.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(run.0.as_bytes().to_vec());
                for id in ids { query = query.bind(id.0.to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read a plan"))?;
            found.extend(
                rows.into_iter()
                    .map(StagedUser::try_from)
                    .collect::<Result<Vec<_>, _>>()?,
            );
        }
        Ok(found)
    }

    /// Staged users that are new, by their place after `after`.
    pub(super) async fn staged_new(
        &self,
        run: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StagedUser>, StoreError> {
        const SQL: &str = concat!(
            "SELECT seq, base_version, intents, ",
            user_columns!(),
            " FROM staged_users WHERE run = $1 AND seq > $2 AND base_version = 0 ORDER BY seq LIMIT $3"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, Row>(SQL).bind(run.0.as_bytes().to_vec()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read a plan"))?;
        rows.into_iter().map(StagedUser::try_from).collect()
    }

    /// Staged users with a change of one of these kinds, by their place after `after`; nobody: there are no more.
    ///
    /// Page by page, and each page's lines by user: joined in one statement, a PostgreSQL without statistics of rows that were
    /// just copied compares every user with every line (7 min for 100,000).
    pub async fn staged_by_kind(
        &self,
        run: RunId,
        kinds: &[ChangeKind],
        mut after: i64,
        limit: i64,
    ) -> Result<Vec<StagedUser>, StoreError> {
        const PAGE: &str = concat!(
            "SELECT seq, base_version, intents, ",
            user_columns!(),
            " FROM staged_users WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3"
        );
        let failed = StoreError::from_sqlx("read a plan");
        let mut link = self.db.read().await?;
        loop {
            let page = on!(link, c => sqlx::query_as::<_, Row>(PAGE).bind(run.0.as_bytes().to_vec()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(&failed)?;
            let Some(last) = page.last() else {
                return Ok(vec![]);
            };
            after = last.seq;
            let mut found = HashSet::new();
            for users in page.chunks(500) {
                let sql = format!(
                    "SELECT user_id, kind FROM changes WHERE run = $1 AND user_id IN ({})",
                    places(2, users.len())
                );
                let lines = on!(link, c => {
                    let mut query = sqlx::query_as::<_, (Vec<u8>, String)>(AssertSqlSafe(sql)).bind(run.0.as_bytes().to_vec());
                    for row in users { query = query.bind(row.user.id.clone()); }
                    query.fetch_all(&mut *c).await
                })
                .map_err(&failed)?;
                let wanted = |kind: &str| kinds.iter().any(|k| k.as_str() == kind);
                found.extend(lines.into_iter().filter(|l| wanted(&l.1)).map(|l| l.0));
            }
            if !found.is_empty() {
                let users = page.into_iter().filter(|r| found.contains(&r.user.id));
                return users.map(StagedUser::try_from).collect();
            }
        }
    }

    /// Fills in why somebody is gone, in the staged user and in the lines of the plan.
    pub async fn patch_staged(&self, run: RunId, users: &[StagedUser]) -> Result<(), StoreError> {
        const USER: &str =
            "UPDATE staged_users SET state_reason = $3, intents = $4 WHERE run = $1 AND seq = $2";
        let id = run.0.as_bytes().to_vec();
        let mut tx = self.db.begin().await?;
        for staged in users {
            let text = intents_text(&staged.intents)?;
            let reason = staged.user.state_reason.map(StateReason::as_str);
            let rows = on!(tx, c => sqlx::query(USER).bind(id.clone()).bind(staged.seq).bind(reason).bind(text).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("fill in a plan"))?;
            if rows != 1 {
                return Err(StoreError::Refused(format!(
                    "plan {run} was decided already: `runs show {run}`"
                )));
            }
            for mut change in self.changes_of(&mut tx, run, staged.user.id).await? {
                if change.after.contains_key("state_reason") || change.kind == ChangeKind::Suspended
                {
                    change.after.insert(
                        "state_reason".into(),
                        serde_json::json!(staged.user.state_reason),
                    );
                    on!(tx, c => sqlx::query("UPDATE changes SET after = $3 WHERE run = $1 AND seq = $2").bind(id.clone()).bind(change.seq).bind(side(&change.after)).execute(&mut *c).await.map(|_| ()))
                        .map_err(StoreError::from_sqlx("fill in a plan"))?;
                }
            }
        }
        tx.commit().await
    }

    /// Removes all rows of a plan that came to nothing, in small transactions. The lines go first: as long as there are staged
    /// users, [`Store::sweep_abandoned`] knows that a sweep was interrupted.
    pub async fn sweep(&self, run: RunId) -> Result<(), StoreError> {
        const LINES: &str = "DELETE FROM changes WHERE run = $1 AND seq IN (SELECT seq FROM changes WHERE run = $1 LIMIT $2)";
        self.little_by_little(LINES, run).await?;
        self.forget_staged_slowly(run).await
    }

    /// Removes what is staged of a run, in small transactions.
    pub(super) async fn forget_staged_slowly(&self, run: RunId) -> Result<(), StoreError> {
        const USERS: &str = "DELETE FROM staged_users WHERE run = $1 AND seq IN (SELECT seq FROM staged_users WHERE run = $1 LIMIT $2)";
        self.little_by_little(USERS, run).await
    }

    async fn little_by_little(&self, sql: &'static str, run: RunId) -> Result<(), StoreError> {
        loop {
            let mut tx = self.db.begin().await?;
            let rows = on!(tx, c => sqlx::query(sql).bind(run.0.as_bytes().to_vec()).bind(SWEEP).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("sweep a plan"))?;
            tx.commit().await?;
            if rows == 0 {
                return Ok(());
            }
        }
    }

    /// What a staged user has to say, in the order of the plan, within the caller's transaction.
    pub(super) async fn staged_with_intents(
        tx: &mut Tx,
        run: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StagedUser>, StoreError> {
        const SQL: &str = concat!(
            "SELECT seq, base_version, intents, ",
            user_columns!(),
            " FROM staged_users WHERE run = $1 AND seq > $2 AND intents IS NOT NULL ORDER BY seq LIMIT $3"
        );
        let rows = on!(tx, c => sqlx::query_as::<_, Row>(SQL).bind(run.0.as_bytes().to_vec()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read a plan"))?;
        rows.into_iter().map(StagedUser::try_from).collect()
    }
}
