//! What plans leave behind when they are over, or when a crash ended them.

use super::db::{Side, Tx, on};
use super::rows::{run_id, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{Outcome, RealmId, RunId};

/// Rows swept in one transaction.
const SWEEP: i64 = 5000;

/// Removes a decided run's staged users; its changes stay or go with the caller.
pub(super) async fn forget_staged(tx: &mut Tx, run: RunId) -> Result<(), StoreError> {
    const OTHERS: &str = "SELECT EXISTS (SELECT 1 FROM staged_users WHERE run < ?) OR EXISTS (SELECT 1 FROM staged_users WHERE run > ?)";
    let failed = StoreError::from_sqlx("sweep a plan");
    if let Side::Sqlite(c) = tx.side() {
        let id = run.0.as_bytes().to_vec();
        let others: bool = sqlx::query_scalar(OTHERS)
            .bind(id.clone())
            .bind(id)
            .fetch_one(&mut *c)
            .await
            .map_err(&failed)?;
        if !others {
            // Without a condition SQLite lets whole pages go, instead of row after row.
            sqlx::query("DELETE FROM staged_users")
                .execute(c)
                .await
                .map_err(&failed)?;
            return Ok(());
        }
    }
    on!(tx, c => sqlx::query("DELETE FROM staged_users WHERE run = $1").bind(run.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("sweep a plan"))
}

/// Removes all rows of a plan within the caller's transaction.
pub(super) async fn sweep_in(tx: &mut Tx, run: RunId) -> Result<(), StoreError> {
    forget_staged(tx, run).await?;
    on!(tx, c => sqlx::query("DELETE FROM changes WHERE run = $1").bind(run.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("sweep a plan"))
}

impl Store {
    /// Removes all rows of a plan that came to nothing, in small transactions. The lines go first: as long as there are staged
    /// users, [`Store::sweep_abandoned`] knows that a sweep was interrupted.
    pub async fn sweep(&self, run: RunId) -> Result<(), StoreError> {
        const LINES: &str = "DELETE FROM changes WHERE run = $1 AND seq IN (SELECT seq FROM changes WHERE run = $1 LIMIT $2)";
        self.little_by_little(LINES, run).await?;
        self.forget_staged_slowly(run).await
    }

    /// Removes what is staged of a run, in small transactions.
    pub(super) async fn forget_staged_slowly(&self, run: RunId) -> Result<(), StoreError> {
        const USERS: &str = "DELETE FROM staged_users WHERE run = $1 AND seq IN (SELECT seq FROM staged_users WHERE run = $1 LIMIT $2)";
        self.little_by_little(USERS, run).await
    }

    async fn little_by_little(&self, sql: &'static str, run: RunId) -> Result<(), StoreError> {
        loop {
            let mut tx = self.db.begin().await?;
            let rows = on!(tx, c => sqlx::query(sql).bind(run.0.as_bytes().to_vec()).bind(SWEEP).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("sweep a plan"))?;
            tx.commit().await?;
            if rows == 0 {
                return Ok(());
            }
        }
    }

    /// Runs that a crash left under way become failed, and their rows are swept; so are rows that a crash left of a plan that
    /// came to nothing. A run whose realm is locked goes on, here or in another daemon on the same database.
    pub async fn sweep_abandoned(&self, now: Timestamp) -> Result<usize, StoreError> {
        const FIND: &str = "SELECT id, realm FROM runs WHERE outcome = 'running'";
        const END: &str = "UPDATE runs SET outcome = 'failed', decided_at = $2, error_code = 'incomplete',
            error = 'the process ended in the middle; nothing was applied, the next run decides anew' WHERE id = $1 AND outcome = 'running'";
        let mut link = self.db.read().await?;
        let open =
            on!(link, c => sqlx::query_as::<_, (Vec<u8>, String)>(FIND).fetch_all(&mut *c).await)
                .map_err(StoreError::from_sqlx("look for abandoned runs"))?;
        drop(link);
        let mut ended = 0;
        for (id, realm) in open {
            let _lock = match self.lock_realm(&RealmId::from(realm)).await {
                Err(StoreError::Busy { .. }) => continue,
                lock => lock?,
            };
            let mut tx = self.db.begin().await?;
            let rows = on!(tx, c => sqlx::query(END).bind(id.clone()).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("end an abandoned run"))?;
            tx.commit().await?;
            if rows == 1 {
                self.sweep(run_id(&id)?).await?;
                ended += 1;
            }
        }
        self.sweep_leftovers().await?;
        Ok(ended)
    }

    /// Sweeps what is staged of runs that are neither under way nor held, and the lines of those that came to nothing: they would
    /// show what never happened.
    async fn sweep_leftovers(&self) -> Result<(), StoreError> {
        // Goes from run to run, since each may have a million rows.
        const NEXT: &str = "SELECT run FROM staged_users WHERE run > $1 ORDER BY run LIMIT 1";
        const OUTCOME: &str = "SELECT outcome FROM runs WHERE id = $1";
        let failed = StoreError::from_sqlx("look for rows of plans that are over");
        let mut after = vec![0; 16];
        loop {
            let mut link = self.db.read().await?;
            let next = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(NEXT).bind(after.clone()).fetch_optional(&mut *c).await).map_err(&failed)?;
            let Some(run) = next else { return Ok(()) };
            let outcome = on!(link, c => sqlx::query_scalar::<_, String>(OUTCOME).bind(run.clone()).fetch_optional(&mut *c).await).map_err(&failed)?;
            drop(link);
            match outcome.as_deref().map(word::<Outcome>).transpose()? {
                Some(Outcome::Running | Outcome::Held) => {}
                Some(Outcome::Applied | Outcome::Unchanged) => {
                    self.forget_staged_slowly(run_id(&run)?).await?;
                }
                _ => self.sweep(run_id(&run)?).await?,
            }
            after = run;
        }
    }
}
