//! In which containers a realm's present users are.

use sqlx::AssertSqlSafe;

use super::db::on;
use super::rows::{directory_id, places};
use super::{Store, StoreError};
use crate::model::{DirectoryId, RealmId};

/// Containers of one statement.
const LIST: usize = 500;

impl Store {
    /// The (folded) containers of the realm's present users, each once.
    pub async fn containers(&self, realm: &RealmId) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT DISTINCT container FROM users WHERE realm = $1 AND (state = 'active' OR state_reason = 'disabled') AND directory_id IS NOT NULL AND container IS NOT NULL";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, String>(SQL).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read containers"))
    }

    /// The present users whose entries are directly in these (folded) containers; one more than `most` where there are more.
    pub async fn present_in(
        &self,
        realm: &RealmId,
        containers: &[&str],
        most: usize,
    ) -> Result<Vec<DirectoryId>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for some in containers.chunks(LIST) {
            let left = i64::try_from(most.saturating_add(1).saturating_sub(found.len()));
            let sql = format!(
                "SELECT directory_id FROM users WHERE realm = $1 AND (state = 'active' OR state_reason = 'disabled') AND directory_id IS NOT NULL AND container IN ({}) LIMIT {}",
                places(2, some.len()),
                left.unwrap_or(i64::MAX)
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(realm.as_str());
                for container in some { query = query.bind(*container); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read who is in containers"))?;
            for id in rows {
                found.push(directory_id(&id)?);
            }
        }
        Ok(found)
    }
}
