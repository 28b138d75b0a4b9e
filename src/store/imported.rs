//! Who of a realm's users a file is about.

use sqlx::AssertSqlSafe;

use super::db::on;
use super::rows::{UserRow, places, user_columns, users, uuid};
use super::{Store, StoreError};
use crate::model::{RealmId, User, UserId};

/// Names in one statement.
const LIST: usize = 500;

impl Store {
    /// The realm's present users with these folded names, in no order.
    pub async fn users_by_name(
        &self,
        realm: &RealmId,
        keys: &[String],
    ) -> Result<Vec<User>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for keys in keys.chunks(LIST) {
            let sql = format!(
                "SELECT {} FROM users WHERE realm = $1 AND (state = 'active' OR state_reason = 'disabled') AND username_key IN ({})",
                user_columns!(),
                places(2, keys.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, UserRow>(AssertSqlSafe(sql)).bind(realm.as_str());
                for key in keys { query = query.bind(key.clone()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read users"))?;
            found.extend(users(rows)?);
        }
        Ok(found)
    }

    /// Users of no directory who are suspended as gone, or by an undo, with their folded names: who may come back by a file. The
    /// newest last.
    pub async fn suspended_by_hand(
        &self,
        realm: &RealmId,
    ) -> Result<Vec<(String, UserId)>, StoreError> {
        const SQL: &str = "
            SELECT username_key, id FROM users
            WHERE realm = $1 AND state = 'suspended' AND state_reason <> 'disabled' AND directory_id IS NULL AND username_key IS NOT NULL
            ORDER BY suspended_at, id";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (String, Vec<u8>)>(SQL).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users"))?;
        rows.into_iter()
            .map(|(key, id)| Ok((key, UserId(uuid(&id)?))))
            .collect()
    }

    /// The realm's present users who came by a file, by their ids after `after`.
    pub async fn present_imported(
        &self,
        realm: &RealmId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE realm = $1 AND id > $2 AND origin = 'import' AND (state = 'active' OR state_reason = 'disabled') ORDER BY id LIMIT $3"
        );
        let after = after.map_or_else(|| vec![0; 16], |id| id.0.as_bytes().to_vec());
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL).bind(realm.as_str()).bind(after).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users"))?;
        users(rows)
    }
}
