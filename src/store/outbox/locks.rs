//! In which order transactions of PostgreSQL lock rows, so that no two ever wait for each other: users by id, then realms by id, then
//! runs by id, then messages in the order of their making, all of them at once. Acts that come to everybody lock whole tables first, see
//! [`links_and_authenticators`].
//!
//! What is done to many messages at once locks all that it may come to (by [`jobs`] and the like, or by one statement that is
//! [`in_order!`]) before it changes the first one. What the outbox's worker settles, renews and gives up waits for nobody: it passes by
//! what is locked (`SKIP LOCKED`), and comes back to it with its next turn. SQLite has one writer, and none of this.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use crate::model::{RealmId, RunId, UserId};
use crate::store::StoreError;
use crate::store::answer::answered;
use crate::store::db::{EngineConnection, Tx};

/// A statement that changes the messages of a condition: as SQLite runs it, and as PostgreSQL does, in the order of their making. The
/// third argument is `""`, or `" SKIP LOCKED"` where what is locked is left for later.
macro_rules! in_order {
    ($set:expr, $condition:expr, $skip:literal) => {
        (
            concat!("UPDATE jobs SET ", $set, " WHERE ", $condition),
            concat!(
                "UPDATE jobs SET ",
                $set,
                " WHERE seq IN (SELECT seq FROM jobs WHERE ",
                $condition,
                " ORDER BY seq FOR NO KEY UPDATE",
                $skip,
                ")"
            ),
        )
    };
}
pub(in crate::store) use in_order;

/// Keeps all others from changing links and authenticators until the end of the transaction, for an act that comes to most of them. The
/// first thing of it: whoever changes links or messages of a user locks that user before, and waits here with nothing locked.
/// Whoever only reads waits for nothing.
pub(in crate::store) async fn links_and_authenticators(tx: &mut Tx) -> Result<(), StoreError> {
    const ALL: [&str; 2] = [
        "LOCK TABLE users IN EXCLUSIVE MODE",
        "LOCK TABLE enrolments, authenticators IN SHARE ROW EXCLUSIVE MODE",
    ];
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    for sql in ALL {
        answered(sqlx::query(sql).execute(&mut *c))
            .await
            .map_err(StoreError::from_sqlx("lock links and authenticators"))?;
    }
    Ok(())
}

/// Locks the messages of a condition over `$1` (a realm), `$2` (a run or a user, 16 bytes) and `$3` (ids of messages), where no other
/// word than our own is in the text.
pub(in crate::store) async fn jobs(
    tx: &mut Tx,
    condition: &str,
    realm: Option<&RealmId>,
    id: Option<&[u8]>,
    ids: &[Vec<u8>],
) -> Result<(), StoreError> {
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    let sql = format!(
        "SELECT seq FROM jobs WHERE ($1::text IS NULL OR TRUE) AND ($2::bytea IS NULL OR TRUE) AND ($3::bytea[] IS NULL OR TRUE) AND ({condition}) ORDER BY seq FOR NO KEY UPDATE"
    );
    let locking = sqlx::query(AssertSqlSafe(sql))
        .bind(realm.map(RealmId::as_str))
        .bind(id)
        .bind(ids)
        .execute(&mut *c);
    answered(locking)
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock messages"))
}

/// Locks the open messages of these realms.
pub(super) async fn open_jobs(tx: &mut Tx, realms: &[&str]) -> Result<(), StoreError> {
    const SQL: &str = "
        SELECT seq FROM jobs WHERE realm = ANY($1) AND state NOT IN ('delivered', 'dropped')
        ORDER BY seq FOR NO KEY UPDATE";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    let locking = sqlx::query(SQL).bind(realms).execute(&mut *c);
    answered(locking)
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock messages"))
}

/// Locks a user.
pub(in crate::store) async fn user(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    let locking = sqlx::query(SQL).bind(user.0.as_bytes().as_slice());
    answered(locking.execute(&mut *c))
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock a user"))
}

/// Locks the users that a plan changes, and those whose messages an undo drops.
pub(in crate::store) async fn users_of_plan(
    tx: &mut Tx,
    run: RunId,
    undone: Option<RunId>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        SELECT id FROM users WHERE id IN (SELECT id FROM staged_users WHERE run = $1 AND base_version > 0)
        ORDER BY id FOR NO KEY UPDATE";
    const UNDO: &str = "
        SELECT id FROM users WHERE id IN (
            SELECT id FROM staged_users WHERE run = $1 AND base_version > 0
            UNION SELECT user_id FROM jobs WHERE run = $2)
        ORDER BY id FOR NO KEY UPDATE";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    let sql = if undone.is_some() { UNDO } else { SQL };
    let mut locking = sqlx::query(sql).bind(run.0.as_bytes().as_slice());
    if let Some(undone) = undone {
        locking = locking.bind(undone.0.as_bytes().to_vec());
    }
    answered(locking.execute(&mut *c))
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock users"))
}

/// Locks the messages that a plan may change: those of its users, of the run that it undoes, and, of this realm, what the brake holds,
/// with all that undo plans hold. An undo begins or ends a pause, which comes to all that is open in the realm.
pub(in crate::store) async fn jobs_of_plan(
    tx: &mut Tx,
    run: RunId,
    undone: Option<RunId>,
    held: Option<&RealmId>,
) -> Result<(), StoreError> {
    const USERS: &str = "
        SELECT seq FROM jobs WHERE state NOT IN ('delivered', 'dropped')
        AND user_id IN (SELECT id FROM staged_users WHERE run = $1 AND base_version > 0)";
    const UNDONE: &str =
        " UNION SELECT seq FROM jobs WHERE run = $2 AND state NOT IN ('delivered', 'dropped')";
    const HELD: &str = "
        UNION SELECT seq FROM jobs WHERE state IN ('waiting', 'sending', 'held')
        AND (realm = $3 AND held_by = 'brake' OR held_by = 'undo')";
    const OPEN: &str =
        " UNION SELECT seq FROM jobs WHERE realm = $3 AND state NOT IN ('delivered', 'dropped')";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    // The types of parameters that one of the texts does not use.
    let mut which =
        format!("{USERS} AND ($2::bytea IS NULL OR TRUE) AND ($3::text IS NULL OR TRUE)");
    if undone.is_some() {
        which += UNDONE;
    }
    if held.is_some() {
        which += HELD;
    }
    if undone.is_some() && held.is_some() {
        which += OPEN;
    }
    let sql = format!("SELECT seq FROM jobs WHERE seq IN ({which}) ORDER BY seq FOR NO KEY UPDATE");
    let locking = sqlx::query(AssertSqlSafe(sql))
        .bind(run.0.as_bytes().as_slice())
        .bind(undone.map(|run| run.0.as_bytes().to_vec()))
        .bind(held.map(RealmId::as_str))
        .execute(&mut *c);
    answered(locking)
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock messages"))
}

/// Locks a realm's row.
pub(in crate::store) async fn realm(tx: &mut Tx, realm: &RealmId) -> Result<(), StoreError> {
    const SQL: &str = "SELECT id FROM realms WHERE id = $1 FOR NO KEY UPDATE";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    let locking = sqlx::query(SQL).bind(realm.as_str()).execute(&mut *c);
    answered(locking)
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock a realm"))
}

/// Locks the rows of runs.
pub(in crate::store) async fn runs(tx: &mut Tx, runs: &[RunId]) -> Result<(), StoreError> {
    const SQL: &str = "SELECT id FROM runs WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(());
    };
    let ids: Vec<Vec<u8>> = runs.iter().map(|run| run.0.as_bytes().to_vec()).collect();
    let locking = sqlx::query(SQL).bind(ids).execute(&mut *c);
    answered(locking)
        .await
        .map(|_| ())
        .map_err(StoreError::from_sqlx("lock runs"))
}

/// Locks a realm's row unless somebody has it. `false`: somebody has.
pub(in crate::store) async fn free_realm(tx: &mut Tx, realm: &RealmId) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT id FROM realms WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(true);
    };
    let locking = sqlx::query(SQL)
        .bind(realm.as_str())
        .fetch_optional(&mut *c);
    answered(locking)
        .await
        .map(|row| row.is_some())
        .map_err(StoreError::from_sqlx("lock a realm"))
}

/// Locks messages and their users as far as nobody has them; gives the messages of which both are free. `None`: all are, since nobody
/// else writes.
pub(super) async fn free_jobs(
    tx: &mut Tx,
    jobs: &[(UserId, i64)],
) -> Result<Option<HashSet<i64>>, StoreError> {
    const USERS: &str = "SELECT id FROM users WHERE id = ANY($1) FOR UPDATE SKIP LOCKED";
    const JOBS: &str = "SELECT seq FROM jobs WHERE seq = ANY($1) FOR NO KEY UPDATE SKIP LOCKED";
    let EngineConnection::Postgres(c) = tx.side() else {
        return Ok(None);
    };
    let ids: Vec<Vec<u8>> = jobs
        .iter()
        .map(|(user, _)| user.0.as_bytes().to_vec())
        .collect();
    let users = sqlx::query_scalar::<_, Vec<u8>>(USERS).bind(ids);
    let users = answered(users.fetch_all(&mut *c))
        .await
        .map_err(StoreError::from_sqlx("lock users"))?;
    let users: HashSet<Vec<u8>> = users.into_iter().collect();
    let seqs: Vec<i64> = jobs
        .iter()
        .filter(|(user, _)| users.contains(user.0.as_bytes().as_slice()))
        .map(|(_, seq)| *seq)
        .collect();
    let seqs = sqlx::query_scalar::<_, i64>(JOBS).bind(seqs);
    let seqs = answered(seqs.fetch_all(&mut *c))
        .await
        .map_err(StoreError::from_sqlx("lock messages"))?;
    Ok(Some(seqs.into_iter().collect()))
}
