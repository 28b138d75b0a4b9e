//! One batch of an operation, in one transaction: how far it is, the users, their changes, the run's counts and what is to be said.

use super::key;
use super::links::{BatchLinks, send, unlock, withdraw};
use crate::clock::Timestamp;
use crate::model::{Change, ChangeKind, Mode, OperationBatch, RunId, State, Trigger, UserId};
use crate::store::apply::{ERASE, ERASE_JOBS, LET_GO, MADE, UPDATE};
use crate::store::by_hand::{forget_adoption, there};
use crate::store::db::{EngineConnection, Tx, on};
use crate::store::factors::endings;
use crate::store::outbox::{MessageContext, apply_intents, locks};
use crate::store::rows::bytes;
use crate::store::{StagedUser, Store, StoreError, copy, insert, search, sweep};

/// Somebody of a batch to whom nothing is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchRefusal {
    /// Whom.
    pub user: UserId,
    /// Why.
    pub reason: String,
}

/// What a batch comes to. Whoever is in neither list is so already.
#[derive(Debug)]
pub struct BatchWrite<'a> {
    /// Which users, and how far the operation was.
    pub batch: &'a OperationBatch,
    /// Those who change, with what is to be said.
    pub users: Vec<StagedUser>,
    /// The lines of their changes; the places are given here.
    pub changes: Vec<Change>,
    /// To whom it is not done.
    pub refused: &'a [BatchRefusal],
    /// What the run is; a run begins with its first change.
    pub mode: Mode,
    /// Who asked for it.
    pub by: Option<&'a str>,
    /// The run that is put back.
    pub undoes: Option<RunId>,
    /// What becomes of the links of those who change; they may be as they were for the rest.
    pub links: BatchLinks,
    /// How messages are made.
    pub messages: &'a MessageContext,
}

impl Store {
    /// Writes a batch.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else wrote it, or changed one of its users: it is to be read anew.
    pub async fn write_batch(&self, write: BatchWrite<'_>) -> Result<(), StoreError> {
        const REFUSED: &str = "INSERT INTO operation_refused (operation, seq, user_id, reason) VALUES ($1, $2, $3, $4)";
        let failed = StoreError::from_sqlx("write a batch");
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let counts = (count(write.users.len()), count(write.refused.len()));
        let id = write.batch.operation;
        let mut tx = self.db.begin().await?;
        move_on(&mut tx, write.batch, counts).await?;
        for (n, refusal) in (1..).zip(write.refused) {
            on!(tx, c => sqlx::query(REFUSED).bind(key(id)).bind(write.batch.done + n).bind(refusal.user.0.as_bytes().to_vec())
                .bind(&refusal.reason).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        }
        if !write.users.is_empty() {
            change_users(&mut tx, write).await?;
        }
        crate::failpoint::hit("operation.before-commit");
        tx.commit().await?;
        crate::failpoint::hit("operation.after-commit");
        Ok(())
    }
}

impl Store {
    /// Lets those of a batch who are locked, or in a delay, guess again. There is no run of it: nothing of a user is changed.
    ///
    /// # Errors
    /// As of [`Store::write_batch`].
    pub async fn unlock_batch(
        &self,
        batch: &OperationBatch,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let changed = unlock(&mut tx, batch, now).await?;
        move_on(&mut tx, batch, (changed, 0)).await?;
        crate::failpoint::hit("operation.before-commit");
        tx.commit().await?;
        crate::failpoint::hit("operation.after-commit");
        Ok(())
    }
}

/// Moves an operation on behind a batch, of whose users so many were changed and refused.
async fn move_on(
    tx: &mut Tx,
    batch: &OperationBatch,
    (changed, refused): (i64, i64),
) -> Result<(), StoreError> {
    const MOVE: &str = "
        UPDATE operations SET done = done + $3, changed = changed + $4, skipped = skipped + $5, refused = refused + $6
        WHERE id = $1 AND done = $2 AND state = 'running' AND cancelled_by IS NULL";
    let all = i64::try_from(batch.users.len()).unwrap_or(i64::MAX);
    let moved = on!(tx, c => sqlx::query(MOVE).bind(key(batch.operation)).bind(batch.done).bind(all).bind(changed)
        .bind(all - changed - refused).bind(refused).execute(&mut *c).await.map(|r| r.rows_affected()))
    .map_err(StoreError::from_sqlx("write a batch"))?;
    if moved == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict(0))
    }
}

async fn change_users(tx: &mut Tx, write: BatchWrite<'_>) -> Result<(), StoreError> {
    let BatchWrite {
        batch,
        users,
        mut changes,
        messages,
        links,
        ..
    } = write;
    let (run, now) = (batch.run, messages.now);
    begin_run(tx, batch, write.mode, write.by, write.undoes, now).await?;
    number(tx, run, &mut changes).await?;
    let removed: Vec<UserId> = users
        .iter()
        .filter(|s| s.user.state == State::Removed)
        .map(|s| s.user.id)
        .collect();
    let said: Vec<_> = users
        .iter()
        .filter(|s| !s.intents.is_empty())
        .map(|s| (s.user.clone(), s.intents.clone()))
        .collect();
    let ids: Vec<UserId> = users.iter().map(|s| s.user.id).collect();
    let staged = users.len();
    match tx.side() {
        EngineConnection::Sqlite(c) => {
            insert::users(c, run, &users).await?;
            insert::changes(c, run, &changes).await?;
        }
        EngineConnection::Postgres(c) => {
            copy::users(c, run, &users).await?;
            copy::changes(c, run, &changes).await?;
        }
    }
    locks::users_of_plan(tx, run, None).await?;
    endings::with_stage(tx, &bytes(run), now, messages.revoke_at_once).await?;
    search::log::changed(tx, &bytes(run)).await?;
    let erase: &[&'static str] = if removed.is_empty() { &[] } else { &ERASE };
    for sql in [MADE].iter().chain(erase).copied().chain([LET_GO]) {
        on!(tx, c => sqlx::query(sql).bind(bytes(run)).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("change users"))?;
    }
    let rows = on!(tx, c => sqlx::query(UPDATE).bind(bytes(run)).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::taken("change users"))?;
    if rows != staged as u64 {
        return Err(StoreError::Conflict((staged as u64).saturating_sub(rows)));
    }
    locks::realm(tx, &batch.realm).await?;
    there(tx, &batch.realm, false).await?;
    locks::runs(tx, &[run]).await?;
    locks::jobs_of_plan(tx, run, None, None).await?;
    // Before what was not said is dropped: whoever is not sent a link after all counts as told what they were told before.
    match &links {
        BatchLinks::Withdraw => withdraw(tx, (run, &ids), None, now).await?,
        BatchLinks::WithdrawSent(of) => withdraw(tx, (run, &ids), Some(*of), now).await?,
        BatchLinks::Stay | BatchLinks::Send { .. } => {}
    }
    if let Some(undone) = write.undoes {
        drop_jobs(tx, run, undone, now).await?;
    }
    if !removed.is_empty() {
        on!(tx, c => sqlx::query(ERASE_JOBS).bind(bytes(run)).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("erase messages"))?;
        for user in removed {
            forget_adoption(tx, user).await?;
        }
    }
    let messages = MessageContext {
        run: Some(run),
        ..messages.clone()
    };
    let mut jobs = 0;
    if let BatchLinks::Send { lost, again } = &links {
        jobs = send(tx, batch, &said, &messages, (*lost, again), write.by).await?;
    } else {
        for (user, intents) in &said {
            jobs += apply_intents(tx, &messages, user, intents).await?;
        }
    }
    count_in(tx, run, &changes, jobs, now).await?;
    sweep::forget_staged(tx, run).await
}

/// The run is there with its first change, and counts as applied: what it did stays, whatever becomes of the rest.
async fn begin_run(
    tx: &mut Tx,
    batch: &OperationBatch,
    mode: Mode,
    by: Option<&str>,
    undoes: Option<RunId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO runs (id, realm, mode, trigger_by, by_whom, outcome, complete, started_at, decided_at, undoes)
        VALUES ($1, $2, $3, $4, $5, 'applied', $6, $7, $7, $8) ON CONFLICT (id) DO NOTHING";
    on!(tx, c => sqlx::query(SQL).bind(bytes(batch.run)).bind(batch.realm.as_str()).bind(mode.as_str()).bind(Trigger::Command.as_str())
        .bind(by.map(str::to_owned)).bind(true).bind(now.0).bind(undoes.map(bytes)).execute(&mut *c).await.map(|_| ()))
    .map_err(StoreError::from_sqlx("begin a run"))
}

/// Gives the lines their places, behind those of the batches before.
async fn number(tx: &mut Tx, run: RunId, changes: &mut [Change]) -> Result<(), StoreError> {
    const LAST: &str = "SELECT COALESCE(MAX(seq), 0) FROM changes WHERE run = $1";
    let last =
        on!(tx, c => sqlx::query_scalar::<_, i64>(LAST).bind(bytes(run)).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("write a batch"))?;
    for (place, change) in (last + 1..).zip(changes) {
        change.seq = place;
    }
    Ok(())
}

/// Adds to the run's counts.
async fn count_in(
    tx: &mut Tx,
    run: RunId,
    changes: &[Change],
    jobs: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE runs SET updated = updated + $2, phone_changed = phone_changed + $3, phone_lost = phone_lost + $4, suspended = suspended + $5,
            restored = restored + $6, removed = removed + $7, jobs = jobs + $8, decided_at = $9, elapsed_ms = $9 - started_at WHERE id = $1";
    let n = |kinds: &[ChangeKind]| {
        i64::try_from(changes.iter().filter(|c| kinds.contains(&c.kind)).count()).unwrap_or(0)
    };
    on!(tx, c => sqlx::query(SQL).bind(bytes(run))
        // A block is no state of the directory's, and has no count of its own.
        .bind(n(&[ChangeKind::Updated, ChangeKind::Blocked, ChangeKind::Unblocked]))
        .bind(n(&[ChangeKind::PhoneChanged])).bind(n(&[ChangeKind::PhoneLost])).bind(n(&[ChangeKind::Suspended]))
        .bind(n(&[ChangeKind::Restored])).bind(n(&[ChangeKind::Removed])).bind(jobs).bind(now.0)
        .execute(&mut *c).await.map(|_| ()))
    .map_err(StoreError::from_sqlx("write a run"))
}

/// Drops what the run that is put back wanted said to these users and was not said yet.
async fn drop_jobs(
    tx: &mut Tx,
    run: RunId,
    undone: RunId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const UNTOLD: &str = "
        UPDATE users SET phone_told = NULL, told = $3, fingerprint = NULL WHERE id IN (SELECT id FROM staged_users WHERE run = $1) AND id IN (
            SELECT user_id FROM jobs WHERE run = $2 AND state IN ('waiting', 'held') AND uncertain = $3 AND type IN ('user.provision', 'user.reprovision'))";
    const DROP: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, last_error = 'undone', settled_at = $4, held_by = NULL, held_since = NULL
        WHERE run = $2 AND state IN ('waiting', 'held') AND uncertain = $3 AND user_id IN (SELECT id FROM staged_users WHERE run = $1)";
    let failed = StoreError::from_sqlx("drop messages");
    on!(tx, c => sqlx::query(UNTOLD).bind(bytes(run)).bind(bytes(undone)).bind(false).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    on!(tx, c => sqlx::query(DROP).bind(bytes(run)).bind(bytes(undone)).bind(false).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(failed)
}
