//! Who of a realm's users a file is about.

use std::collections::HashMap;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::db::{EngineConnection, on};
use super::rows::{UserRow, two_factor, user_columns, users, uuid};
use super::{Store, StoreError};
use crate::model::{RealmId, SettledUser, User, UserId};

/// A list of names, as a JSON array: as placeholders of their own SQLite would look each up in a list.
const AMONG: (&str, &str) = (
    "(SELECT value FROM json_each($2))",
    "(SELECT json_array_elements_text(CAST($2 AS JSON)))",
);

/// `$3`: whoever was not told yet is new to the receiver. Nothing else than what a file says can be due of them then.
const SETTLED: &str = "
    state = 'active' AND NOT blocked AND directory_id IS NULL AND phone_pending IS NULL AND (phone_source IS NULL OR phone_source = 'manual')
    AND phone_provisioned IS NOT DISTINCT FROM phone AND (told OR provisioned OR NOT $3)
    AND id NOT IN (SELECT user_id FROM freezes) AND id NOT IN (SELECT user_id FROM refused_numbers)";

/// Folded name, display name, address, number, methods, note: in the order of the query.
type SettledRow = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
);

impl Store {
    /// The realm's present users with these folded names, in no order.
    pub async fn users_by_name(
        &self,
        realm: &RealmId,
        keys: &[&str],
    ) -> Result<Vec<User>, StoreError> {
        if keys.is_empty() {
            return Ok(vec![]);
        }
        let mut link = self.db.read().await?;
        let among = match link.side() {
            EngineConnection::Sqlite(_) => AMONG.0,
            EngineConnection::Postgres(_) => AMONG.1,
        };
        let sql = format!(
            "SELECT {} FROM users WHERE realm = $1 AND (state = 'active' OR state_reason = 'disabled') AND username_key IN {among}",
            user_columns!(),
        );
        let list = json!(keys).to_string();
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(AssertSqlSafe(sql)).bind(realm.as_str()).bind(list).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users"))?;
        users(rows)
    }

    /// Those of the realm's users with these folded names about whom nothing is open but what a file may say, by their names.
    /// `sends_to_new`: whoever was not told yet is to be. They come as one text: a row of its own for each costs ten times as much.
    pub async fn settled_users(
        &self,
        realm: &RealmId,
        keys: &[&str],
        sends_to_new: bool,
    ) -> Result<HashMap<String, SettledUser>, StoreError> {
        const COLUMNS: &str = "username_key, display_name, email, phone, two_factor, note";
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut link = self.db.read().await?;
        let (rows, among) = match link.side() {
            EngineConnection::Sqlite(_) => {
                (format!("json_group_array(json_array({COLUMNS}))"), AMONG.0)
            }
            EngineConnection::Postgres(_) => (
                format!("CAST(json_agg(json_build_array({COLUMNS})) AS TEXT)"),
                AMONG.1,
            ),
        };
        let sql = format!(
            "SELECT {rows} FROM users WHERE realm = $1 AND (state = 'active' OR state_reason = 'disabled') AND username_key IN {among} AND {SETTLED}"
        );
        let list = json!(keys).to_string();
        let text = on!(link, c => sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(sql)).bind(realm.as_str()).bind(list).bind(sends_to_new).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users"))?;
        let rows: Vec<SettledRow> = serde_json::from_str(text.as_deref().unwrap_or("[]"))
            .map_err(|e| StoreError::Nonsense(format!("users as a list: {e}")))?;
        let settled = |(key, display_name, email, phone, methods, note): SettledRow| {
            let two_factor = two_factor(&methods)?;
            let user = SettledUser {
                display_name,
                email,
                phone,
                two_factor,
                note,
            };
            Ok((key, user))
        };
        rows.into_iter().map(settled).collect()
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
