//! What an open plan holds: read by person, by kind, by what is to be said, and filled in before it is approved.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use super::db::{ReadConnection, Tx, on};
use super::rows::{directory_id, places, side_text, user_columns, uuid, word};
use super::staged_user::{StagedRow, StagedUser, intents_text};
use super::{Store, StoreError};
use crate::model::{Change, ChangeKind, Origin, RealmId, RunId, StateReason, UserId};

/// A name that somebody has once a plan is applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagedName {
    /// The place in the plan.
    pub seq: i64,
    /// Whose.
    pub user: UserId,
    /// The same for the plan.
    pub who: Origin,
    /// The name, folded.
    pub key: String,
}

/// People by who they are, at most 500 together: the condition that finds them, and the ids that follow it.
pub(super) fn by_origin(whom: &[Origin]) -> Vec<(&'static str, Vec<[u8; 16]>)> {
    let (directory, own): (Vec<Origin>, Vec<Origin>) = whom
        .iter()
        .partition(|who| matches!(who, Origin::Directory(_)));
    let mut groups = vec![];
    for (condition, whom) in [
        ("directory_id", directory),
        ("directory_id IS NULL AND id", own),
    ] {
        for whom in whom.chunks(500) {
            groups.push((condition, whom.iter().map(Origin::bytes).collect()));
        }
    }
    groups
}

/// Staged users by a statement whose values are a run, where it is one of them, and ids.
pub(super) async fn read_staged(
    link: &mut ReadConnection,
    sql: String,
    run: Option<RunId>,
    ids: &[[u8; 16]],
) -> Result<Vec<StagedUser>, StoreError> {
    let rows = on!(link, c => {
        let mut query = sqlx::query_as::<_, StagedRow>(AssertSqlSafe(sql)).persistent(run.is_some());
        if let Some(run) = run { query = query.bind(run.0.as_bytes().to_vec()); }
        for id in ids { query = query.bind(id.to_vec()); }
        query.fetch_all(&mut *c).await
    })
    .map_err(StoreError::from_sqlx("read a plan"))?;
    rows.into_iter().map(StagedUser::try_from).collect()
}

impl Store {
    pub(super) async fn changes_of(
        &self,
        tx: &mut Tx,
        run: RunId,
        user: UserId,
    ) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "SELECT seq, realm, username, by_whom, kind, before, after, at FROM changes WHERE run = $1 AND user_id = $2";
        type ChangeColumns = (
            i64,
            String,
            Option<String>,
            Option<String>,
            String,
            Option<String>,
            Option<String>,
            i64,
        );
        let rows = on!(tx, c => sqlx::query_as::<_, ChangeColumns>(SQL).bind(run.0.as_bytes().to_vec()).bind(user.0.as_bytes().to_vec()).fetch_all(&mut *c).await)
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
    pub async fn staged_of(
        &self,
        run: RunId,
        whom: &[Origin],
    ) -> Result<Vec<StagedUser>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for (condition, ids) in by_origin(whom) {
            let sql = format!(
                "SELECT seq, base_version, intents, {} FROM staged_users WHERE run = $1 AND {condition} IN ({})",
                user_columns!(),
                places(2, ids.len())
            );
            found.extend(read_staged(&mut link, sql, Some(run), &ids).await?);
        }
        Ok(found)
    }

    /// The same of users who are there already, whatever the directory's id of them becomes.
    pub async fn staged_by_user(
        &self,
        run: RunId,
        users: &[UserId],
    ) -> Result<Vec<StagedUser>, StoreError> {
        let ids: Vec<[u8; 16]> = users.iter().map(|user| *user.0.as_bytes()).collect();
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(500) {
            let sql = format!(
                "SELECT seq, base_version, intents, {} FROM staged_users WHERE run = $1 AND id IN ({})",
                user_columns!(),
                places(2, ids.len())
            );
            found.extend(read_staged(&mut link, sql, Some(run), ids).await?);
        }
        Ok(found)
    }

    /// The names that present users of a realm have once the plan is applied, by their place after `after`.
    pub async fn staged_names(
        &self,
        run: RunId,
        realm: &RealmId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StagedName>, StoreError> {
        const SQL: &str = "
            SELECT seq, id, directory_id, username_key FROM staged_users
            WHERE run = $1 AND seq > $2 AND realm = $3 AND username_key IS NOT NULL AND (state = 'active' OR state_reason = 'disabled')
            ORDER BY seq LIMIT $4";
        type Row = (i64, Vec<u8>, Option<Vec<u8>>, String);
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, Row>(SQL).bind(run.0.as_bytes().to_vec()).bind(after).bind(realm.as_str()).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a plan"))?;
        let name = |(seq, user, id, key): Row| {
            let user = UserId(uuid(&user)?);
            let id = id.as_deref().map(directory_id).transpose()?;
            Ok(StagedName {
                seq,
                user,
                who: Origin::of(id, user),
                key,
            })
        };
        rows.into_iter().map(name).collect()
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
        let rows = on!(link, c => sqlx::query_as::<_, StagedRow>(SQL).bind(run.0.as_bytes().to_vec()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read a plan"))?;
        rows.into_iter().map(StagedUser::try_from).collect()
    }

    /// The kinds of changes that a plan has for these users, one line each.
    pub async fn kinds_of(
        &self,
        run: RunId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, ChangeKind)>, StoreError> {
        let failed = StoreError::from_sqlx("read a plan");
        let mut link = self.db.read().await?;
        let mut kinds = vec![];
        for users in users.chunks(500) {
            let sql = format!(
                "SELECT user_id, kind FROM changes WHERE run = $1 AND user_id IN ({})",
                places(2, users.len())
            );
            let lines = on!(link, c => {
                let mut query = sqlx::query_as::<_, (Vec<u8>, String)>(AssertSqlSafe(sql)).bind(run.0.as_bytes().to_vec());
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(&failed)?;
            for (id, kind) in lines {
                kinds.push((UserId(uuid(&id)?), word(&kind)?));
            }
        }
        Ok(kinds)
    }

    /// Staged users with a change of one of these kinds, by their place after `after`; nobody: there are no more.
    ///
    /// Page by page, and each page's lines by user: joined in one statement, a PostgreSQL without statistics of rows that were
    /// just copied compares every user with every line (7 min for 100,000).
    pub async fn staged_by_kind(
        &self,
        run: RunId,
        kinds: &[ChangeKind],
        after: i64,
        limit: i64,
    ) -> Result<Vec<StagedUser>, StoreError> {
        self.staged_with(run, Some(kinds), after, limit).await
    }

    /// The same of everybody whom the plan makes, changes or tells something: all but those of whom only a raw value or a
    /// fingerprint differs.
    pub async fn staged_to_show(
        &self,
        run: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StagedUser>, StoreError> {
        self.staged_with(run, None, after, limit).await
    }

    async fn staged_with(
        &self,
        run: RunId,
        kinds: Option<&[ChangeKind]>,
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
            let page = on!(link, c => sqlx::query_as::<_, StagedRow>(PAGE).bind(run.0.as_bytes().to_vec()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(&failed)?;
            let Some(last) = page.last() else {
                return Ok(vec![]);
            };
            after = last.seq;
            let told = |r: &&StagedRow| r.base_version == 0 || r.intents.is_some();
            let mut found: HashSet<Vec<u8>> = match kinds {
                Some(_) => HashSet::new(),
                None => page
                    .iter()
                    .filter(told)
                    .map(|r| r.user.id.clone())
                    .collect(),
            };
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
                let wanted =
                    |kind: &str| kinds.is_none_or(|kinds| kinds.iter().any(|k| k.as_str() == kind));
                found.extend(lines.into_iter().filter(|l| wanted(&l.1)).map(|l| l.0));
            }
            if !found.is_empty() {
                let users = page.into_iter().filter(|r| found.contains(&r.user.id));
                return users.map(StagedUser::try_from).collect();
            }
        }
    }

    /// Fills in why somebody is gone and when a hold ends, in the staged user and in the lines of the plan.
    pub async fn patch_staged(&self, run: RunId, users: &[StagedUser]) -> Result<(), StoreError> {
        const USER: &str = "UPDATE staged_users SET state_reason = $3, intents = $4, phone_pending_until = $5 WHERE run = $1 AND seq = $2";
        let id = run.0.as_bytes().to_vec();
        let mut tx = self.db.begin().await?;
        for staged in users {
            let text = intents_text(&staged.intents)?;
            let reason = staged.user.state_reason.map(StateReason::as_str);
            let rows = on!(tx, c => sqlx::query(USER).bind(id.clone()).bind(staged.seq).bind(reason).bind(text).bind(staged.user.phone_pending_until.map(|t| t.0)).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("fill in a plan"))?;
            if rows != 1 {
                return Err(StoreError::Refused(format!(
                    "plan {run:#} was decided already: `runs show {run:#}`"
                )));
            }
            for mut change in self.changes_of(&mut tx, run, staged.user.id).await? {
                let suspends = change.kind == ChangeKind::Suspended;
                let reason = suspends || change.after.contains_key("state_reason");
                let until = change.after.contains_key("phone_pending_until");
                if reason {
                    let value = serde_json::json!(staged.user.state_reason);
                    change.after.insert("state_reason".into(), value);
                }
                if until {
                    let value = serde_json::json!(staged.user.phone_waits_until());
                    change.after.insert("phone_pending_until".into(), value);
                }
                if reason || until {
                    on!(tx, c => sqlx::query("UPDATE changes SET after = $3 WHERE run = $1 AND seq = $2").bind(id.clone()).bind(change.seq).bind(side_text(&change.after)).execute(&mut *c).await.map(|_| ()))
                        .map_err(StoreError::from_sqlx("fill in a plan"))?;
                }
            }
        }
        tx.commit().await
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
        let rows = on!(tx, c => sqlx::query_as::<_, StagedRow>(SQL).bind(run.0.as_bytes().to_vec()).bind(after).bind(limit).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read a plan"))?;
        rows.into_iter().map(StagedUser::try_from).collect()
    }
}
