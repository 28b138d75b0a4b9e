//! What could not be used, for the directory team.

use sqlx::{AssertSqlSafe, QueryBuilder};

use super::db::{Tx, on};
use super::rows::places;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{DirectoryId, RealmId, Refusal};

/// Refusals of one statement: the way to PostgreSQL and back costs more than a row.
const ROWS: usize = 100;

/// Ids in one statement: both engines take more, but the text stays short.
const LIST: usize = 500;

/// What a pass refused that was not refused before (key, refusal), and the keys that are refused no longer.
#[derive(Clone, Default, Debug)]
pub struct RefusedDiff {
    /// New ones.
    pub add: Vec<(i64, Refusal)>,
    /// Mended ones.
    pub gone: Vec<i64>,
}

/// A refusal and its realm, and since when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRow {
    /// The realm.
    pub realm: RealmId,
    /// What was refused.
    pub refusal: Refusal,
    /// Since when, without a pass in between that did not refuse it.
    pub since: Timestamp,
}

/// No text of PostgreSQL can hold a NUL, and a directory's value may: one bad entry stops nobody. The key is of the value as it came.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Writes the difference.
pub(super) async fn write(
    tx: &mut Tx,
    realm: &RealmId,
    diff: RefusedDiff,
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO refused (realm, key, dn, directory_id, username, attribute, raw, reason, entry, since) ";
    for keys in diff.gone.chunks(ROWS) {
        on!(tx, c => {
            let mut query = QueryBuilder::new("DELETE FROM refused WHERE realm = ");
            query.push_bind(realm.as_str().to_owned()).push(" AND key IN (");
            let mut list = query.separated(", ");
            for key in keys {
                list.push_bind(*key);
            }
            query.push(")");
            query.build().execute(&mut *c).await.map(|_| ())
        })
        .map_err(StoreError::from_sqlx("forget a refusal"))?;
    }
    for rows in diff.add.chunks(ROWS) {
        on!(tx, c => {
            let mut query = QueryBuilder::new(INSERT);
            query.push_values(rows, |mut row, (key, r)| {
                row.push_bind(realm.as_str().to_owned())
                    .push_bind(*key)
                    .push_bind(storable(&r.dn))
                    .push_bind(r.directory_id.map(|id| id.0.to_vec()))
                    .push_bind(r.username.as_deref().map(storable))
                    .push_bind(r.attribute.as_deref().map(storable))
                    .push_bind(r.raw.as_deref().map(storable))
                    .push_bind(storable(&r.reason))
                    .push_bind(r.entry)
                    .push_bind(now.0);
            });
            query.push(" ON CONFLICT (realm, key) DO NOTHING");
            query.build().execute(&mut *c).await.map(|_| ())
        })
        .map_err(StoreError::from_sqlx("write a refusal"))?;
    }
    Ok(())
}

impl Store {
    /// Adds to what is refused in a realm: what a pass met that came to nothing, and takes nothing away.
    pub async fn add_refused(
        &self,
        realm: &RealmId,
        add: Vec<(i64, Refusal)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let diff = RefusedDiff { add, gone: vec![] };
        write(&mut tx, realm, diff, now).await?;
        tx.commit().await
    }

    /// Calls `each` with the key of everything that is refused in the realm.
    pub async fn refused_keys(
        &self,
        realm: &RealmId,
        mut each: impl FnMut(i64),
    ) -> Result<(), StoreError> {
        let mut link = self.db.read().await?;
        let keys = on!(link, c => sqlx::query_scalar::<_, i64>("SELECT key FROM refused WHERE realm = $1").bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read refusals"))?;
        keys.into_iter().for_each(&mut each);
        Ok(())
    }

    /// The keys of what is refused of these people.
    pub async fn refused_keys_of(
        &self,
        realm: &RealmId,
        ids: &[DirectoryId],
    ) -> Result<Vec<i64>, StoreError> {
        let mut keys = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(LIST) {
            let sql = format!(
                "SELECT key FROM refused WHERE realm = $1 AND directory_id IN ({})",
                places(2, ids.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).bind(realm.as_str());
                for id in ids { query = query.bind(id.0.to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read refusals"))?;
            keys.extend(rows);
        }
        Ok(keys)
    }

    /// Who was refused a name, and the name as it is shown.
    pub async fn refused_names(
        &self,
        realm: &RealmId,
    ) -> Result<Vec<(DirectoryId, String)>, StoreError> {
        const SQL: &str = "SELECT directory_id, raw FROM refused WHERE realm = $1 AND attribute = 'username' AND directory_id IS NOT NULL AND raw IS NOT NULL";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (Vec<u8>, String)>(SQL).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read refusals"))?;
        rows.into_iter()
            .map(|(id, name)| Ok((super::rows::directory_id(&id)?, name)))
            .collect()
    }

    /// Who is refused because another realm holds them.
    pub async fn refused_as_elsewhere(
        &self,
        realm: &RealmId,
    ) -> Result<Vec<DirectoryId>, StoreError> {
        const SQL: &str = "SELECT directory_id FROM refused WHERE realm = $1 AND attribute IS NULL AND directory_id IS NOT NULL AND reason LIKE 'still in realm %'";
        let mut link = self.db.read().await?;
        let ids = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(SQL).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read refusals"))?;
        ids.iter().map(|id| super::rows::directory_id(id)).collect()
    }

    /// Everything that is refused, by realm and DN; of one realm, or of one entry of it.
    pub async fn refused(&self, realm: Option<&RealmId>) -> Result<Vec<RefusedRow>, StoreError> {
        const SQL: &str = "SELECT realm, dn, directory_id, username, attribute, raw, reason, entry, since FROM refused WHERE ($1 IS NULL OR realm = $1) ORDER BY realm, dn, attribute, key";
        type Row = (
            String,
            String,
            Option<Vec<u8>>,
            Option<String>,
            Option<String>,
            Option<String>,
            String,
            bool,
            i64,
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, Row>(SQL).bind(realm.map(|r| r.as_str().to_owned())).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read refusals"))?;
        rows.into_iter()
            .map(
                |(realm, dn, id, username, attribute, raw, reason, entry, since)| {
                    let directory_id = id.as_deref().map(super::rows::directory_id).transpose()?;
                    Ok(RefusedRow {
                        realm: RealmId::from(realm),
                        refusal: Refusal {
                            dn,
                            directory_id,
                            username,
                            attribute,
                            raw,
                            reason,
                            entry,
                        },
                        since: Timestamp(since),
                    })
                },
            )
            .collect()
    }
}
