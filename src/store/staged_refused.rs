//! What an open pass refuses, staged like its users: a realm may refuse something of everybody.

use sqlx::{AssertSqlSafe, QueryBuilder};

use super::answer::answered;
use super::db::{EngineConnection, Tx, on};
use super::refused_rows::{LIST, ROWS, push_refusal};
use super::rows::{places, run_id, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{DirectoryId, Outcome, RealmId, Refusal, RunId};

/// A refusal by its key, and what it counts as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedKey {
    /// Hash of DN, attribute, value and reason.
    pub key: i64,
    /// Of which attribute; `None`: of the entry.
    pub attribute: Option<String>,
    /// The entry cannot be used, not only a value.
    pub entry: bool,
}

type RefusedKeyColumns = (i64, Option<String>, bool);

impl From<RefusedKeyColumns> for RefusedKey {
    fn from((key, attribute, entry): RefusedKeyColumns) -> Self {
        Self {
            key,
            attribute,
            entry,
        }
    }
}

/// Writes what a run staged to what is refused in the realm, within the caller's transaction; what stands already keeps its `since`.
pub(super) async fn apply_staged_refusals(
    tx: &mut Tx,
    realm: &RealmId,
    run: RunId,
    given: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const COUNT: &str = "SELECT COUNT(*) FROM staged_refused WHERE run = $1";
    const TAKE: &str = "
        INSERT INTO refused (realm, key, dn, directory_id, username, attribute, raw, reason, entry, since)
        SELECT CAST($2 AS TEXT), key, dn, directory_id, username, attribute, raw, reason, entry, CAST($3 AS BIGINT)
        FROM staged_refused WHERE run = $1 ON CONFLICT (realm, key) DO NOTHING";
    const FORGET: &str = "DELETE FROM staged_refused WHERE run = $1";
    let failed = StoreError::from_sqlx("write refusals");
    let id = run.0.as_bytes().to_vec();
    let there =
        on!(tx, c => sqlx::query_scalar::<_, i64>(COUNT).bind(id.clone()).fetch_one(&mut *c).await)
            .map_err(&failed)?;
    if there != given {
        return Err(StoreError::Forgotten { there, given });
    }
    on!(tx, c => sqlx::query(TAKE).bind(id.clone()).bind(realm.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    on!(tx, c => sqlx::query(FORGET).bind(id).execute(&mut *c).await.map(|_| ())).map_err(&failed)
}

impl Store {
    /// Adds to what a pass refuses, in one transaction that does not wait for the disk.
    pub async fn stage_refused(
        &self,
        run: RunId,
        rows: &[(i64, Refusal)],
    ) -> Result<(), StoreError> {
        macro_rules! insert {
            ($c:expr) => {
                for rows in rows.chunks(ROWS) {
                    let mut query = QueryBuilder::new(
                        "INSERT INTO staged_refused (run, key, dn, directory_id, username, attribute, raw, reason, entry) ",
                    );
                    query.push_values(rows, |mut row, (key, refusal)| {
                        row.push_bind(run.0.as_bytes().to_vec());
                        push_refusal!(row, key, refusal);
                    });
                    answered(query.build().execute(&mut *$c))
                        .await
                        .map_err(StoreError::from_sqlx("stage refusals"))?;
                }
            };
        }
        self.relaxed(async |side| {
            match side {
                EngineConnection::Sqlite(c) => insert!(c),
                EngineConnection::Postgres(c) => insert!(c),
            }
            Ok(())
        })
        .await
    }

    /// Takes back what is staged as refused of these people; gives it.
    pub async fn unstage_refused(
        &self,
        run: RunId,
        ids: &[DirectoryId],
    ) -> Result<Vec<RefusedKey>, StoreError> {
        let mut gone = vec![];
        let mut tx = self.db.begin().await?;
        for ids in ids.chunks(LIST) {
            let sql = format!(
                "DELETE FROM staged_refused WHERE run = $1 AND directory_id IN ({}) RETURNING key, attribute, entry",
                places(2, ids.len())
            );
            let rows = on!(tx, c => {
                let mut query = sqlx::query_as::<_, RefusedKeyColumns>(AssertSqlSafe(sql)).bind(run.0.as_bytes().to_vec());
                for id in ids { query = query.bind(id.0.to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("take refusals back"))?;
            gone.extend(rows.into_iter().map(RefusedKey::from));
        }
        tx.commit().await?;
        Ok(gone)
    }

    /// What stands as refused of these people.
    pub async fn refused_of(
        &self,
        realm: &RealmId,
        ids: &[DirectoryId],
    ) -> Result<Vec<RefusedKey>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for ids in ids.chunks(LIST) {
            let sql = format!(
                "SELECT key, attribute, entry FROM refused WHERE realm = $1 AND directory_id IN ({})",
                places(2, ids.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, RefusedKeyColumns>(AssertSqlSafe(sql)).bind(realm.as_str());
                for id in ids { query = query.bind(id.0.to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read refusals"))?;
            found.extend(rows.into_iter().map(RefusedKey::from));
        }
        Ok(found)
    }

    /// Removes what is staged as refused by runs that are no longer under way. What they wrote to `refused` stays.
    pub(super) async fn sweep_refused_leftovers(&self) -> Result<(), StoreError> {
        const NEXT: &str = "SELECT run FROM staged_refused WHERE run > $1 ORDER BY run LIMIT 1";
        const OUTCOME: &str = "SELECT outcome FROM runs WHERE id = $1";
        let failed = StoreError::from_sqlx("look for refusals of passes that are over");
        let mut after = vec![0; 16];
        loop {
            let mut link = self.db.read().await?;
            let next = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(NEXT).bind(after.clone()).fetch_optional(&mut *c).await).map_err(&failed)?;
            let Some(run) = next else { return Ok(()) };
            let outcome = on!(link, c => sqlx::query_scalar::<_, String>(OUTCOME).bind(run.clone()).fetch_optional(&mut *c).await).map_err(&failed)?;
            drop(link);
            if outcome.as_deref().map(word::<Outcome>).transpose()? != Some(Outcome::Running) {
                self.forget_staged_refused(run_id(&run)?).await?;
            }
            after = run;
        }
    }

    /// Removes what is staged as refused by a run, in small transactions.
    pub(super) async fn forget_staged_refused(&self, run: RunId) -> Result<(), StoreError> {
        const ROWS: &str = "DELETE FROM staged_refused WHERE run = $1 AND key IN (SELECT key FROM staged_refused WHERE run = $1 LIMIT $2)";
        self.little_by_little(ROWS, run).await
    }
}
