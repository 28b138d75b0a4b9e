//! What plans leave behind when they are over, or when a crash ended them.

use super::db::{Db, EngineConnection, Tx, on};
use super::lease_rows::{now, session};
use super::outbox::locks;
use super::rows::{run_id, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{Outcome, RealmId, RunId, Trigger};

/// Rows swept in one transaction.
const SWEEP: i64 = 5000;

/// So many processes may end in the middle of a tick's pass; then the tick is left alone. What kills whoever reads it (a server's
/// answer, too little memory) must not kill one daemon after the other for ever.
const TRIES: i64 = 3;

/// A run that was under way when its process ended, or lost its lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Abandoned {
    /// Failed by now, and swept.
    pub run: RunId,
    /// Where.
    pub realm: RealmId,
    /// What had started it.
    pub trigger: Trigger,
    /// Who had the lease (host:pid); `None`: it was let go, or the store is SQLite.
    pub former: Option<String>,
}

/// Removes a decided run's staged users; its changes stay or go with the caller.
pub(super) async fn forget_staged(tx: &mut Tx, run: RunId) -> Result<(), StoreError> {
    const OTHERS: &str = "SELECT EXISTS (SELECT 1 FROM staged_users WHERE run < ?) OR EXISTS (SELECT 1 FROM staged_users WHERE run > ?)";
    let failed = StoreError::from_sqlx("sweep a plan");
    if let EngineConnection::Sqlite(c) = tx.side() {
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
        self.forget_staged_refused(run).await?;
        self.little_by_little(LINES, run).await?;
        self.forget_staged_slowly(run).await?;
        self.forget_aside(run).await
    }

    /// Removes what is staged of a run, in small transactions.
    pub(super) async fn forget_staged_slowly(&self, run: RunId) -> Result<(), StoreError> {
        const USERS: &str = "DELETE FROM staged_users WHERE run = $1 AND seq IN (SELECT seq FROM staged_users WHERE run = $1 LIMIT $2)";
        self.little_by_little(USERS, run).await
    }

    pub(super) async fn little_by_little(
        &self,
        sql: &'static str,
        run: RunId,
    ) -> Result<(), StoreError> {
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
        let ended = self.fail_abandoned(now).await?.len();
        self.sweep_leftovers().await?;
        Ok(ended)
    }

    /// Takes over from processes that ended or stand still in the middle of a run: the run is failed and swept. Cheap where
    /// nobody did.
    pub async fn fail_abandoned(&self, now: Timestamp) -> Result<Vec<Abandoned>, StoreError> {
        const OPEN: &str = "SELECT DISTINCT realm FROM runs WHERE outcome = 'running'";
        const UNHELD: &str = concat!(
            "SELECT DISTINCT r.realm FROM runs r LEFT JOIN leases l ON l.realm = r.realm AND l.owner IS NOT NULL
             WHERE r.outcome = 'running' AND (l.realm IS NULL OR l.until <= ",
            now!(),
            " OR pg_try_advisory_xact_lock(",
            session!("l.owner", "l.token"),
            "))"
        );
        let sql = match self.db {
            Db::Sqlite { .. } => OPEN,
            Db::Postgres { .. } => UNHELD,
        };
        let mut link = self.db.read().await?;
        let open = on!(link, c => sqlx::query_scalar::<_, String>(sql).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for abandoned runs"))?;
        drop(link);
        let mut ended = vec![];
        for realm in open.into_iter().map(RealmId::from) {
            let lock = match self.try_lock_realm(&realm).await {
                Err(StoreError::Busy { .. }) => continue,
                lock => lock?,
            };
            let former = lock.taken_over_from();
            ended.extend(
                self.fenced(&lock)
                    .end_abandoned(&realm, former, now)
                    .await?,
            );
        }
        Ok(ended)
    }

    /// Ends and sweeps whatever is under way in a realm whose lock the caller holds, and has begun nothing. Where other daemons
    /// share the store, a tick whose pass was among it is due again.
    pub async fn end_abandoned(
        &self,
        realm: &RealmId,
        former: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Abandoned>, StoreError> {
        const END: &str = "UPDATE runs SET outcome = 'failed', decided_at = $2, error_code = 'incomplete', error = $3
            WHERE realm = $1 AND outcome = 'running' RETURNING id, trigger_by";
        const GIVE_BACK: &str = "UPDATE realms SET last_tick_at = last_tick_at - 1 WHERE id = $1 AND $2 > (
            SELECT COUNT(*) FROM runs r WHERE r.realm = $1 AND r.trigger_by = 'schedule' AND r.outcome = 'failed'
            AND r.error_code = 'incomplete' AND r.started_at >= realms.last_tick_at)";
        let who = former.unwrap_or("the process");
        let why = format!(
            "{who} ended or stood still in the middle; nothing was applied, the next run decides anew"
        );
        let mut tx = self.db.begin().await?;
        locks::realm(&mut tx, realm).await?;
        let rows = on!(tx, c => sqlx::query_as::<_, (Vec<u8>, String)>(END).bind(realm.as_str()).bind(now.0).bind(why).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("end an abandoned run"))?;
        let mut ended = vec![];
        for (id, trigger) in rows {
            ended.push(Abandoned {
                run: run_id(&id)?,
                realm: realm.clone(),
                // Of a newer version: it is nothing that this one started, least of all a tick.
                trigger: word(&trigger).unwrap_or(Trigger::Command),
                former: former.map(str::to_owned),
            });
        }
        if !self.single_daemon() && ended.iter().any(|a| a.trigger == Trigger::Schedule) {
            on!(tx, c => sqlx::query(GIVE_BACK).bind(realm.as_str()).bind(TRIES).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("give a tick back"))?;
        }
        if !ended.is_empty() {
            super::undone::release(&mut tx, now).await?;
        }
        tx.commit().await?;
        for abandoned in &ended {
            self.sweep(abandoned.run).await?;
        }
        Ok(ended)
    }

    /// Sweeps what is staged of runs that are neither under way nor held, and the lines of those that came to nothing: they would
    /// show what never happened.
    async fn sweep_leftovers(&self) -> Result<(), StoreError> {
        // Goes from run to run, since each may have a million rows.
        const NEXT: &str = "SELECT run FROM staged_users WHERE run > $1 ORDER BY run LIMIT 1";
        const OUTCOME: &str = "SELECT outcome FROM runs WHERE id = $1";
        let failed = StoreError::from_sqlx("look for rows of plans that are over");
        self.sweep_refused_leftovers().await?;
        for run in self.lying_aside().await? {
            let mut link = self.db.read().await?;
            let outcome = on!(link, c => sqlx::query_scalar::<_, String>(OUTCOME).bind(run.0.as_bytes().to_vec()).fetch_optional(&mut *c).await).map_err(&failed)?;
            drop(link);
            if outcome.as_deref() != Some(Outcome::Running.as_str()) {
                self.forget_aside(run).await?;
            }
        }
        let mut after = vec![0; 16];
        loop {
            let mut link = self.db.read().await?;
            let next = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(NEXT).bind(after.clone()).fetch_optional(&mut *c).await).map_err(&failed)?;
            let Some(run) = next else { return Ok(()) };
            let outcome = on!(link, c => sqlx::query_scalar::<_, String>(OUTCOME).bind(run.clone()).fetch_optional(&mut *c).await).map_err(&failed)?;
            drop(link);
            match outcome.as_deref().map(word::<Outcome>) {
                // One that a newer version knows is left to it.
                Some(Ok(Outcome::Running | Outcome::Held) | Err(_)) => {}
                Some(Ok(Outcome::Applied | Outcome::Unchanged)) => {
                    self.forget_staged_slowly(run_id(&run)?).await?;
                }
                _ => self.sweep(run_id(&run)?).await?,
            }
            after = run;
        }
    }
}
