//! Users as the store holds them.

use sqlx::AssertSqlSafe;

use super::db::on;
use super::rows::{
    UserRow, directory_id, note_unreadable, places, readable, user_columns, users, uuid, word,
};
use super::{Store, StoreError, typed_id};
use crate::clock::Timestamp;
use crate::model::{DirectoryId, Origin, RealmId, State, User, UserId};

/// Ids in one statement: both engines take more, but the text stays short.
const LIST: usize = 500;

/// Somebody present who holds a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The folded name.
    pub key: String,
    /// Who.
    pub user: UserId,
    /// `None`: made by hand.
    pub directory_id: Option<DirectoryId>,
    /// `None`: made by hand.
    pub dn: Option<String>,
}

impl Holder {
    /// Who it is to a plan.
    pub fn origin(&self) -> Origin {
        Origin::of(self.directory_id, self.user)
    }
}

impl Store {
    /// Users of the realm with these directory ids, in no order.
    pub async fn users_by_directory_id(
        &self,
        realm: &RealmId,
        ids: &[DirectoryId],
    ) -> Result<Vec<User>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(LIST) {
            let sql = format!(
                "SELECT {} FROM users WHERE realm = $1 AND directory_id IN ({})",
                user_columns!(),
                places(2, ids.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, UserRow>(AssertSqlSafe(sql)).bind(realm.as_str());
                for id in ids { query = query.bind(id.0.to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read users"))?;
            found.extend(users(rows)?);
        }
        Ok(found)
    }

    /// Users with these ids, in no order.
    pub async fn users_by_id(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        users(self.user_rows(ids).await?)
    }

    /// The same, without those who cannot be read.
    pub async fn readable_users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        Ok(readable(self.user_rows(ids).await?))
    }

    async fn user_rows(&self, ids: &[UserId]) -> Result<Vec<UserRow>, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(LIST) {
            let sql = format!(
                "SELECT {} FROM users WHERE id IN ({})",
                user_columns!(),
                places(1, ids.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, UserRow>(AssertSqlSafe(sql));
                for id in ids { query = query.bind(id.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read users"))?;
            found.extend(rows);
        }
        Ok(found)
    }

    /// Who of the realm's present users holds these folded names.
    pub async fn name_holders(
        &self,
        realm: &RealmId,
        keys: &[String],
    ) -> Result<Vec<Holder>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for keys in keys.chunks(LIST) {
            let sql = format!(
                "SELECT username_key, id, directory_id, dn FROM users
                 WHERE realm = $1 AND (state = 'active' OR state_reason = 'disabled') AND username_key IN ({})",
                places(2, keys.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, (String, Vec<u8>, Option<Vec<u8>>, Option<String>)>(AssertSqlSafe(sql)).bind(realm.as_str());
                for key in keys { query = query.bind(key.clone()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read names"))?;
            for (key, user, id, dn) in rows {
                found.push(Holder {
                    key,
                    user: UserId(uuid(&user)?),
                    directory_id: id.as_deref().map(directory_id).transpose()?,
                    dn,
                });
            }
        }
        Ok(found)
    }

    /// Users of other realms with these directory ids that are not removed.
    pub async fn same_id_elsewhere(
        &self,
        realm: &RealmId,
        ids: &[DirectoryId],
    ) -> Result<Vec<User>, StoreError> {
        let mut found = vec![];
        for other in self.realms().await? {
            if other.id != *realm {
                found.extend(
                    self.users_by_directory_id(&other.id, ids)
                        .await?
                        .into_iter()
                        .filter(|u| u.state != State::Removed),
                );
            }
        }
        Ok(found)
    }

    /// Some of the present users whose entry is directly in this (folded) container, among the newest of the realm: a small
    /// container in a realm of a million must not cost a walk through all of it.
    pub async fn some_in_container(
        &self,
        realm: &RealmId,
        container: &str,
        some: usize,
    ) -> Result<Vec<DirectoryId>, StoreError> {
        const SQL: &str = "
            SELECT directory_id FROM (SELECT directory_id, container, state, state_reason FROM users WHERE realm = $1 ORDER BY pk DESC LIMIT 50000) AS newest
            WHERE container = $2 AND (state = 'active' OR state_reason = 'disabled') AND directory_id IS NOT NULL LIMIT $3";
        let some = i64::try_from(some).unwrap_or(i64::MAX);
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(SQL).bind(realm.as_str()).bind(container).bind(some).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a container"))?;
        rows.iter().map(|id| directory_id(id)).collect()
    }

    /// Users of the realm that are not removed.
    pub async fn not_removed(&self, realm: &RealmId) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM users WHERE realm = $1 AND state <> 'removed'";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(realm.as_str()).fetch_one(&mut *c).await).map_err(StoreError::from_sqlx("count users"))
    }

    /// Users of the realm that are not removed, or so many if there are more.
    pub async fn not_removed_up_to(&self, realm: &RealmId, enough: i64) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM users WHERE realm = $1 AND state <> 'removed' LIMIT $2) AS some_users";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(realm.as_str()).bind(enough).fetch_one(&mut *c).await).map_err(StoreError::from_sqlx("count users"))
    }

    /// Users of the realm by state; a state that nobody is in is left out.
    pub async fn count_by_state(&self, realm: &RealmId) -> Result<Vec<(State, i64)>, StoreError> {
        const SQL: &str =
            "SELECT state, COUNT(*) FROM users WHERE realm = $1 GROUP BY state ORDER BY state";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (String, i64)>(SQL).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("count users"))?;
        Ok(rows
            .into_iter()
            .filter_map(|(state, n)| {
                word(&state)
                    .inspect_err(note_unreadable)
                    .ok()
                    .map(|state| (state, n))
            })
            .collect())
    }

    /// Users who have been away for the grace period by the realm's own clock, by id after `after`.
    pub async fn grace_over(
        &self,
        realm: &RealmId,
        clock_ms: i64,
        grace_ms: i64,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE realm = $1 AND state = 'suspended' AND state_reason IN ('deleted', 'out_of_scope')
               AND suspended_clock <= $2 AND directory_id IS NOT NULL AND id > $3 ORDER BY id LIMIT $4"
        );
        let after = after.map_or_else(|| vec![0; 16], |id| id.0.as_bytes().to_vec());
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL).bind(realm.as_str()).bind(clock_ms.saturating_sub(grace_ms)).bind(after).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users whose grace is over"))?;
        Ok(readable(rows))
    }

    /// Users whose waiting number takes effect by `now`, of realms that do not stand still, at most `limit` of each realm: one realm
    /// must not take everybody else's turn.
    pub async fn holds_over(&self, now: Timestamp, limit: i64) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE id IN (
                SELECT id FROM (
                    SELECT id, ROW_NUMBER() OVER (PARTITION BY realm ORDER BY phone_pending_until, id) AS place
                    FROM users WHERE phone_pending_until <= $1
                    AND realm NOT IN (SELECT r.id FROM realms r WHERE r.orphaned OR r.paused AND (r.paused_until IS NULL OR r.paused_until > $1))
                ) over WHERE place <= $2)
              ORDER BY realm, phone_pending_until, id"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL).bind(now.0).bind(limit).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read waiting numbers"))?;
        Ok(readable(rows))
    }

    /// Users by name, else by id, or by its beginning or end; present ones first.
    pub async fn find_users(
        &self,
        needle: &str,
        realm: Option<&RealmId>,
    ) -> Result<Vec<User>, StoreError> {
        const BY_NAME: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE username_key = $1 AND ($2 IS NULL OR realm = $2)
              ORDER BY CASE WHEN state = 'active' THEN 0 WHEN state_reason = 'disabled' THEN 1 ELSE 2 END, realm, id LIMIT 100"
        );
        let key = crate::model::person::fold_name(needle.trim());
        let mut link = self.db.read().await?;
        let of = realm;
        let realm = realm.map(|r| r.as_str().to_owned());
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(BY_NAME).bind(key).bind(realm).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("find a user"))?;
        if !rows.is_empty() {
            return Ok(readable(rows));
        }
        let Some(digits) = typed_id::digits(needle) else {
            return Ok(vec![]);
        };
        let mut ids = typed_id::ids_like(&mut link, "users", "", &digits, of).await?;
        ids.truncate(100);
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let sql = format!(
            "SELECT {} FROM users WHERE id IN ({}) ORDER BY id",
            user_columns!(),
            places(1, ids.len())
        );
        let rows = on!(link, c => {
            let mut query = sqlx::query_as::<_, UserRow>(AssertSqlSafe(sql));
            for id in ids { query = query.bind(id.as_bytes().to_vec()); }
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("find a user"))?;
        Ok(readable(rows))
    }

    /// How many digits of its end tell a user's id from those of all others.
    pub async fn digits_of_user(&self, user: UserId) -> Result<usize, StoreError> {
        let mut link = self.db.read().await?;
        typed_id::telling_in(&mut link, "users", user.0).await
    }
}
