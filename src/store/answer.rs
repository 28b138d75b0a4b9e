//! How long an answer of PostgreSQL is waited for, since a server can go away without a word, and which connections are trusted
//! once one was lost.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnectionMetadata;
use sqlx::{Connection as _, PgConnection};

use super::error::{is_lost, is_read_only};

/// How long one statement may take on PostgreSQL before its connection counts as dead: the largest, over a million users, takes
/// a minute or two, and a server that went away without a word (a failover, a firewall that forgot) would be waited for for ever.
const ANSWER: Duration = Duration::from_mins(10);

/// How long PostgreSQL may take to show that an idle connection is still one.
const ALIVE: Duration = Duration::from_secs(3);

/// When a connection of this process was last found lost. A server that restarts ends all of them, so that each that was idle then
/// is asked before it is used; without that, one call after the other would fail, as many as there are connections. One value for
/// all stores of a process: another store's connections are only asked once more.
static LOST: Mutex<Option<Instant>> = Mutex::new(None);

/// How long after the loss a connection may have been put back and still be one of those. It is asked when it is put back, and a
/// loaded process reads that answer long after it came.
const PUT_BACK: Duration = Duration::from_secs(10);

/// When a session of this process last took no writes. Another one of the same former primary may be in use just then, and only
/// come back afterwards, so that for a while each is asked.
static READ_ONLY: Mutex<Option<Instant>> = Mutex::new(None);

/// For how long.
const ASKED: Duration = Duration::from_mins(1);

fn read_only() -> MutexGuard<'static, Option<Instant>> {
    READ_ONLY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> MutexGuard<'static, Option<Instant>> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an idle connection of the pool may be used. One that was used a moment ago needs no question, unless another one was
/// lost since.
///
/// A database that takes no writes was the primary once: after a failover its sessions may live on.
pub(super) async fn usable(connection: &mut PgConnection, met: PoolConnectionMetadata) -> bool {
    let doubted = lost().is_some_and(|at| met.idle_for + PUT_BACK >= at.elapsed())
        || read_only().is_some_and(|at| at.elapsed() < ASKED);
    if !doubted {
        return met.idle_for < Duration::from_secs(1)
            || answered_within(ALIVE, connection.ping()).await.is_ok();
    }
    let asked = sqlx::query_scalar::<_, String>("SHOW transaction_read_only").persistent(false);
    answered_within(ALIVE, asked.fetch_one(connection))
        .await
        .is_ok_and(|read_only| read_only == "off")
}

/// What every connection of PostgreSQL is set to. The server notices within a minute that this side went away (what this side
/// notices of TCP the driver cannot set, which is what [`ANSWER`] and [`ALIVE`] are for); and a process that stands still in a
/// transaction does not keep its locks for longer than its leases. What a role or a database brings along of limits and defaults is
/// set to what the statements here are written for.
pub(super) const SESSION: &str = "
    SET statement_timeout = 0; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
    SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = 0;
    SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off;
    SELECT set_config(name, '0', FALSE) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0';
    SELECT set_config(name, 'on', FALSE) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'";

/// The answer of a statement, or that none came.
pub(super) async fn answered<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    answered_within(ANSWER, statement).await
}

/// The same for what cannot be waited for that long.
pub(super) async fn answered_within<T>(
    limit: Duration,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(limit, statement)
        .await
        .unwrap_or_else(|_| {
            Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {} seconds", limit.as_secs()),
            )))
        });
    if answer.as_ref().is_err_and(is_lost) {
        *lost() = Some(Instant::now());
    }
    if answer.as_ref().is_err_and(is_read_only) {
        *read_only() = Some(Instant::now());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[tokio::test(start_paused = true)]
    async fn a_statement_without_an_answer_ends() {
        let error = answered(std::future::pending::<Result<(), _>>()).await;
        let error = StoreError::from_sqlx("read users")(error.unwrap_err());
        assert!(matches!(error, StoreError::Lost(_)), "{error}");
        assert!(error.to_string().contains("600 seconds"), "{error}");
        assert_eq!(answered(async { Ok(7) }).await.unwrap(), 7);
    }
}
