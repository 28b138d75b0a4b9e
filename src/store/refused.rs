//! What could not be used, for the directory team.

use sqlx::{AssertSqlSafe, QueryBuilder};

use super::db::{Tx, on};
use super::refused_rows::{LIST, ROWS, push_refusal};
use super::rows::places;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{DirectoryId, RealmId, Refusal, RunId};

/// Columns of a row, in the order of [`RefusedColumns`].
macro_rules! refused_columns {
    () => {
        "realm, dn, directory_id, username, attribute, raw, reason, entry, since"
    };
}

/// Rows read at once. Each page is sorted out of all of them, so few large ones are quicker than many small ones.
const PAGE: i64 = 10_000;

/// What a pass refused that was not refused before (key, refusal), and the keys that are refused no longer.
#[derive(Clone, Default, Debug)]
pub struct RefusedDiff {
    /// New ones.
    pub add: Vec<(i64, Refusal)>,
    /// More new ones, staged by this run, and how many; `None`: there are no more.
    pub staged: Option<(RunId, i64)>,
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
                row.push_bind(realm.as_str().to_owned());
                push_refusal!(row, key, r).push_bind(now.0);
            });
            query.push(" ON CONFLICT (realm, key) DO NOTHING");
            query.build().execute(&mut *c).await.map(|_| ())
        })
        .map_err(StoreError::from_sqlx("write a refusal"))?;
    }
    if let Some((run, given)) = diff.staged {
        super::staged_refused::apply_staged_refusals(tx, realm, run, given, now).await?;
    }
    Ok(())
}

impl Store {
    /// Adds to what is refused in a realm: what a pass met that came to nothing, and takes nothing away.
    pub async fn add_refused(
        &self,
        realm: &RealmId,
        met: RefusedDiff,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let diff = RefusedDiff {
            gone: vec![],
            ..met
        };
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

    /// How many entries and how many single values of each realm are refused now: realm, entries, values.
    pub async fn refused_counts(&self) -> Result<Vec<(RealmId, i64, i64)>, StoreError> {
        const SQL: &str = "SELECT realm, SUM(CASE WHEN entry THEN 1 ELSE 0 END), SUM(CASE WHEN entry THEN 0 ELSE 1 END) FROM refused GROUP BY realm";
        let mut link = self.db.read().await?;
        let rows =
            on!(link, c => sqlx::query_as::<_, (String, i64, i64)>(SQL).fetch_all(&mut *c).await)
                .map_err(StoreError::from_sqlx("count refusals"))?;
        Ok(rows
            .into_iter()
            .map(|(realm, entries, values)| (RealmId::from(realm), entries, values))
            .collect())
    }

    /// Everything that is refused, by realm and DN, one after the other: a realm may refuse something of everybody. Read page by page, so that nothing is open in the
    /// store while somebody looks at them.
    pub async fn refused_each(
        &self,
        realm: Option<&RealmId>,
        mut each: impl FnMut(RefusedRow),
    ) -> Result<(), StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            refused_columns!(),
            ", key FROM refused WHERE ($1 IS NULL OR realm = $1) AND (realm, dn, COALESCE(attribute, ''), key) > ($2, $3, $4, $5)
             ORDER BY realm, dn, COALESCE(attribute, ''), key LIMIT $6"
        );
        let realm = realm.map(|r| r.as_str().to_owned());
        let (mut in_realm, mut dn, mut attribute, mut key) =
            (String::new(), String::new(), String::new(), i64::MIN);
        loop {
            let mut link = self.db.read().await?;
            let rows = on!(link, c => sqlx::query_as::<_, Keyed>(SQL).bind(realm.clone()).bind(in_realm.clone()).bind(dn.clone())
                .bind(attribute.clone()).bind(key).bind(PAGE).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read refusals"))?;
            drop(link);
            let Some(last) = rows.last() else {
                return Ok(());
            };
            in_realm.clone_from(&last.row.0);
            dn.clone_from(&last.row.1);
            attribute = last.row.4.clone().unwrap_or_default();
            key = last.key;
            for Keyed { row, .. } in rows {
                each(row.try_into()?);
            }
        }
    }

    /// What is refused of one entry.
    pub async fn refused_of_entry(
        &self,
        realm: &RealmId,
        id: DirectoryId,
    ) -> Result<Vec<RefusedRow>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            refused_columns!(),
            " FROM refused WHERE realm = $1 AND directory_id = $2 ORDER BY dn, attribute, key"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, RefusedColumns>(SQL).bind(realm.as_str()).bind(id.0.to_vec()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read refusals"))?;
        rows.into_iter().map(RefusedRow::try_from).collect()
    }
}

#[derive(sqlx::FromRow)]
struct Keyed {
    #[sqlx(flatten)]
    row: RefusedColumns,
    key: i64,
}

type RefusedColumns = (
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

impl TryFrom<RefusedColumns> for RefusedRow {
    type Error = StoreError;

    fn try_from(
        (realm, dn, id, username, attribute, raw, reason, entry, since): RefusedColumns,
    ) -> Result<Self, StoreError> {
        let directory_id = id.as_deref().map(super::rows::directory_id).transpose()?;
        Ok(Self {
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
    }
}
