//! Changes that an administrator rejected for a time. A realm knows when the first of them is over: then everything is read anew,
//! since no delta would tell what was left out.

use sqlx::QueryBuilder;

use super::db::{Tx, on};
use super::outbox::locks;
use super::rows::bytes;
use super::runs::run_columns;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{Outcome, RealmId, Run, RunId};

/// Rows of one statement.
const ROWS: usize = 500;

impl Store {
    /// Rejects a held plan, and its changes, by these keys, until then. Expects the realm's lock. Notes who asked.
    pub async fn reject_for(
        &self,
        run: &Run,
        by: Option<String>,
        changes: &[i64],
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Run, StoreError> {
        // The rest need not wait for the next tick, and takes the cursor that went with the plan.
        const DUE: &str = "UPDATE realms SET due = $2 WHERE id = $1";
        let mut tx = self.db.begin().await?;
        super::held::decide_in(&mut tx, run.run, Outcome::Rejected, by, None, now).await?;
        on!(tx, c => sqlx::query(DUE).bind(run.realm.as_str()).bind(true).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("reject changes"))?;
        for keys in changes.chunks(ROWS) {
            on!(tx, c => {
                let mut query = QueryBuilder::new("INSERT INTO rejected_changes (realm, change, run, until) ");
                query.push_values(keys, |mut row, key| {
                    row.push_bind(run.realm.as_str().to_owned())
                        .push_bind(*key)
                        .push_bind(bytes(run.run))
                        .push_bind(until.0);
                });
                query.push(" ON CONFLICT (realm, change) DO UPDATE SET run = excluded.run, until = excluded.until");
                query.build().execute(&mut *c).await.map(|_| ())
            })
            .map_err(StoreError::from_sqlx("reject changes"))?;
        }
        note_end(&mut tx, &run.realm).await?;
        self.note(&mut tx).await?;
        tx.commit().await?;
        self.sweep(run.run).await?;
        self.run(&run.run.to_string()).await
    }

    /// Moves the end of what was rejected with this plan; gives how many changes that are. Notes who asked, where there are any.
    pub async fn reject_until(&self, run: &Run, until: Timestamp) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE rejected_changes SET until = $2 WHERE run = $1";
        let mut tx = self.db.begin().await?;
        locks::realm(&mut tx, &run.realm).await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(bytes(run.run)).bind(until.0).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("reject changes"))?;
        note_end(&mut tx, &run.realm).await?;
        if rows > 0 {
            self.note(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(rows)
    }

    /// The keys of what is rejected for now, and when the last of it is over.
    pub async fn rejected_changes(
        &self,
        realm: &RealmId,
        now: Timestamp,
    ) -> Result<(Vec<i64>, Option<Timestamp>), StoreError> {
        const SQL: &str = "SELECT change FROM rejected_changes WHERE realm = $1 AND until > $2";
        const END: &str = "SELECT MAX(until) FROM rejected_changes WHERE realm = $1 AND until > $2";
        let failed = StoreError::from_sqlx("read what was rejected");
        let mut link = self.db.read().await?;
        let keys = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(realm.as_str()).bind(now.0).fetch_all(&mut *c).await).map_err(&failed)?;
        let end = on!(link, c => sqlx::query_scalar::<_, Option<i64>>(END).bind(realm.as_str()).bind(now.0).fetch_one(&mut *c).await).map_err(&failed)?;
        Ok((keys, end.map(Timestamp)))
    }

    /// Forgets what was rejected until now in these realms. They are due, and read everything. Gives those of which there was any.
    pub async fn end_rejected(
        &self,
        of: &[RealmId],
        now: Timestamp,
    ) -> Result<Vec<RealmId>, StoreError> {
        const OVER: &str = "SELECT id FROM realms WHERE left_out_until <= $1 ORDER BY id";
        const FORGET: &str = "DELETE FROM rejected_changes WHERE realm = $1 AND until <= $2";
        const DUE: &str = "UPDATE realms SET due = $2, cursor = NULL WHERE id = $1";
        let failed = StoreError::from_sqlx("forget what was rejected");
        let over = async {
            let mut link = self.db.read().await?;
            on!(link, c => sqlx::query_scalar::<_, String>(OVER).bind(now.0).fetch_all(&mut *c).await)
                .map_err(&failed)
        };
        // Mostly there is none, and nothing is written.
        let over = over.await?.into_iter().map(RealmId::from);
        let realms: Vec<RealmId> = over.filter(|realm| of.contains(realm)).collect();
        for realm in &realms {
            let mut tx = self.db.begin().await?;
            locks::realm(&mut tx, realm).await?;
            on!(tx, c => sqlx::query(FORGET).bind(realm.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
            on!(tx, c => sqlx::query(DUE).bind(realm.as_str()).bind(true).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
            note_end(&mut tx, realm).await?;
            tx.commit().await?;
        }
        Ok(realms)
    }

    /// The newest plan with the same changes that was rejected before this one.
    pub async fn rejected_before(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE outcome = 'rejected' AND id <> $1
                AND realm = (SELECT realm FROM runs WHERE id = $1) AND plan_hash = (SELECT plan_hash FROM runs WHERE id = $1)
              ORDER BY decided_at DESC LIMIT 1"
        );
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, super::runs::RunRow>(SQL).bind(bytes(run)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a run"))?;
        row.map(Run::try_from).transpose()
    }
}

/// The realm remembers when the first of its rejected changes may come again.
async fn note_end(tx: &mut Tx, realm: &RealmId) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE realms SET left_out_until = (SELECT MIN(until) FROM rejected_changes WHERE realm = $1) WHERE id = $1";
    on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("reject changes"))
}
