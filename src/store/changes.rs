//! The lines of plans, which are the audit trail afterwards.

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, FromRow};

use super::answer::answered;
use super::db::{EngineConnection, Tx, on};
use super::rows::{places, readable, run_id, side_text, uuid, word};
use super::staged_user::StagedUser;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::person::fold_name;
use crate::model::{Change, ChangeKind, IdForm, Outcome, RealmId, Run, RunId, UserId};

#[derive(FromRow)]
struct ChangeRow {
    run: Vec<u8>,
    seq: i64,
    realm: String,
    user_id: Vec<u8>,
    username: Option<String>,
    by_whom: Option<String>,
    kind: String,
    before: Option<String>,
    after: Option<String>,
    at: i64,
}

/// The run of changes that no run made.
pub(super) const NO_RUN: [u8; 16] = [0; 16];

impl TryFrom<ChangeRow> for Change {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        Ok(Self {
            run: if row.run == NO_RUN {
                None
            } else {
                Some(run_id(&row.run)?)
            },
            seq: row.seq,
            realm: RealmId::from(row.realm),
            user: UserId(uuid(&row.user_id)?),
            username: row.username,
            by: row.by_whom,
            kind: word(&row.kind)?,
            before: map(row.before.as_deref())?,
            after: map(row.after.as_deref())?,
            at: Timestamp(row.at),
        })
    }
}

fn map(text: Option<&str>) -> Result<Map<String, Value>, StoreError> {
    text.map_or(Ok(Map::new()), |t| {
        serde_json::from_str(t).map_err(|e| StoreError::Nonsense(format!("a change: {e}")))
    })
}

/// A page of both kinds of lines.
fn in_order(mut lines: Vec<Change>, others: Vec<Change>, limit: i64) -> Vec<Change> {
    lines.extend(others);
    lines.sort_by_key(|c| c.seq);
    lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    lines
}

/// Adds changes that no run made.
pub(super) async fn add_own(tx: &mut Tx, changes: &[Change]) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO changes (run, seq, realm, user_id, username, by_whom, kind, before, after, at)
        SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9 FROM changes WHERE run = $1";
    // The next place of a run that all share: one after the other, each seeing what the one before has committed. SQLite has one
    // writer anyway. Nobody who waits here has a row that whoever is ahead still wants.
    const ALONE: &str =
        "SELECT pg_advisory_xact_lock(hashtextextended('realmsync own changes', 0))";
    if changes.is_empty() {
        return Ok(());
    }
    if let EngineConnection::Postgres(c) = tx.side() {
        answered(sqlx::query(ALONE).execute(c))
            .await
            .map_err(StoreError::from_sqlx("write a change"))?;
    }
    for change in changes {
        on!(tx, c => sqlx::query(SQL).bind(NO_RUN.to_vec()).bind(change.realm.as_str()).bind(change.user.0.as_bytes().to_vec())
            .bind(change.username.clone()).bind(change.by.clone()).bind(change.kind.as_str()).bind(side_text(&change.before)).bind(side_text(&change.after))
            .bind(change.at.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("write a change"))?;
    }
    Ok(())
}

impl Store {
    /// The changes of a run, by their place after `after`.
    pub async fn changes(
        &self,
        run: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Change>, StoreError> {
        let facts = self.run_facts(run).await?;
        if !facts.first_pass {
            return self.written(run, after, limit).await;
        }
        let row = self.run(&run.to_string()).await?;
        if matches!(row.outcome, Outcome::Held | Outcome::Running) {
            let form = self
                .realm(&row.realm)
                .await?
                .and_then(|r| r.id_form)
                .unwrap_or(IdForm::Uuid);
            return self.first_plan(&row, form, after, limit).await;
        }
        let written = self.written(run, after, limit).await?;
        let made = self.made(&row, after, limit).await?;
        Ok(in_order(written, made, limit))
    }

    /// The changes of an open first pass, by their place after `after`; `form` is how the directory prints its ids.
    pub async fn first_plan(
        &self,
        run: &Run,
        form: IdForm,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Change>, StoreError> {
        let written = self.written(run.run, after, limit).await?;
        let made = self.to_be_made(run, form, after, limit).await?;
        Ok(in_order(written, made, limit))
    }

    /// The changes of a run that have lines of their own, by their place after `after`.
    pub async fn written(
        &self,
        run: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "SELECT run, seq, realm, user_id, username, by_whom, kind, before, after, at FROM changes WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let mut link = self.db.read().await?;
        let id = run.0.as_bytes().to_vec();
        let rows = on!(link, c => sqlx::query_as::<_, ChangeRow>(SQL).bind(id.clone()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read changes"))?;
        rows.into_iter().map(Change::try_from).collect()
    }

    /// A plan's changes of these users.
    pub async fn lines_of(&self, run: RunId, users: &[UserId]) -> Result<Vec<Change>, StoreError> {
        let failed = StoreError::from_sqlx("read changes");
        let mut link = self.db.read().await?;
        let mut lines = vec![];
        for users in users.chunks(500) {
            let sql = format!(
                "SELECT run, seq, realm, user_id, username, by_whom, kind, before, after, at FROM changes WHERE run = $1 AND user_id IN ({})",
                places(2, users.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, ChangeRow>(AssertSqlSafe(sql)).bind(run.0.as_bytes().to_vec());
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(&failed)?;
            for row in rows {
                lines.push(Change::try_from(row)?);
            }
        }
        Ok(lines)
    }

    /// The lines of those whom a first pass made and who have not changed since: a page of them by its index, where the view would
    /// have all of them sorted for each page.
    async fn made(&self, run: &Run, after: i64, limit: i64) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "
            SELECT made_by AS run, made_seq AS seq, realm, id AS user_id, username, $4 AS by_whom, 'created' AS kind,
                   NULL AS before, NULL AS after, $5 AS at
            FROM users WHERE made_by = $1 AND made_seq > $2 ORDER BY made_seq LIMIT $3";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, ChangeRow>(SQL).bind(run.run.0.as_bytes().to_vec()).bind(after).bind(limit).bind(run.by.clone()).bind(run.started_at.0).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read changes"))?;
        Ok(readable(rows))
    }

    /// The lines of what an open first pass would make: its staged users are them.
    async fn to_be_made(
        &self,
        run: &Run,
        form: IdForm,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Change>, StoreError> {
        let line = |staged: StagedUser| Change {
            run: Some(run.run),
            seq: staged.seq,
            realm: run.realm.clone(),
            user: staged.user.id,
            username: Some(staged.user.username.clone()),
            by: run.by.clone(),
            kind: ChangeKind::Created,
            before: Map::new(),
            after: crate::model::change::created_fields(&staged.user, form),
            at: run.started_at,
        };
        Ok(self
            .staged_new(run.run, after, limit)
            .await?
            .into_iter()
            .map(line)
            .collect())
    }

    /// The newest changes of a user first; plans that were not applied are left out.
    pub async fn changes_of_user(
        &self,
        user: UserId,
        limit: i64,
    ) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "
            SELECT c.run, c.seq, c.realm, c.user_id, c.username, c.by_whom, c.kind, c.before, c.after, c.at
            FROM lines c LEFT JOIN runs r ON r.id = c.run
            WHERE c.user_id = $1 AND (r.outcome = 'applied' OR c.run = $2) ORDER BY c.at DESC, c.seq DESC LIMIT $3";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, ChangeRow>(SQL).bind(user.0.as_bytes().to_vec()).bind(NO_RUN.to_vec()).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read changes"))?;
        rows.into_iter().map(Change::try_from).collect()
    }

    /// Who had another name once, newest first: the applied renames of those whose name was `name`, whatever its case. The removed
    /// are not found, since their names are erased.
    pub async fn renamed_from(
        &self,
        name: &str,
        realm: Option<&RealmId>,
    ) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "
            SELECT c.run, c.seq, c.realm, c.user_id, c.username, c.by_whom, c.kind, c.before, c.after, c.at
            FROM changes c LEFT JOIN runs r ON r.id = c.run
            WHERE c.kind = 'renamed' AND ($1 IS NULL OR c.realm = $1) AND (r.outcome = 'applied' OR c.run = $2)
            ORDER BY c.at DESC, c.seq DESC";
        let realm = realm.map(|r| r.as_str().to_owned());
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, ChangeRow>(SQL).bind(realm).bind(NO_RUN.to_vec()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read changes"))?;
        let key = fold_name(name.trim());
        let was = |change: &Change| {
            let before = change.before.get("username").and_then(Value::as_str);
            before.is_some_and(|name| fold_name(name) == key)
        };
        let changes = rows.into_iter().map(Change::try_from);
        changes.filter(|c| c.as_ref().map_or(true, was)).collect()
    }
}
