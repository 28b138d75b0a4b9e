//! The two engines behind one face: pools, transactions, and how one text of SQL runs on both.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction,
};

use super::{Access, StoreError};

/// Takes the writer's turn at once: a deferred transaction fails when it turns into a writer (TRAPS 31).
const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// The pools of one store.
#[derive(Clone, Debug)]
pub(super) enum Db {
    /// One connection writes, so that two writers never meet (TRAPS 31); some read beside it.
    Sqlite {
        /// The only connection that writes.
        write: SqlitePool,
        /// Connections that read.
        read: SqlitePool,
    },
    /// A pool; the server keeps writers apart.
    Postgres {
        /// All connections but those that hold leases.
        pool: PgPool,
        /// The token of the lease that each transaction must still find; `None`: what is no part of a run.
        fence: Option<i64>,
    },
}

/// A transaction that may write; rolled back when dropped without [`Tx::commit`].
pub(super) enum Tx {
    /// `BEGIN IMMEDIATE` on the only writer.
    Sqlite(Transaction<'static, Sqlite>),
    /// An ordinary transaction.
    Postgres(Open),
}

/// A connection of PostgreSQL within a transaction. One that was not committed is closed, whatever state it is in, and the
/// server rolls back.
pub(super) struct Open {
    connection: PoolConnection<Postgres>,
    committed: bool,
}

impl Open {
    /// Begins one; with a fence, the first statement is in the same message, so that it costs no round trip.
    async fn begin(pool: &PgPool, fence: Option<i64>) -> Result<Self, sqlx::Error> {
        let mut open = Self {
            connection: pool.acquire().await?,
            committed: false,
        };
        let sql = match fence {
            Some(token) => format!("BEGIN; SELECT fence({token})"),
            None => "BEGIN".to_owned(),
        };
        answered(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *open.connection)).await?;
        Ok(open)
    }

    async fn commit(mut self) -> Result<(), sqlx::Error> {
        answered(sqlx::raw_sql("COMMIT").execute(&mut *self.connection)).await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Open {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Open {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A connection for reading.
pub(super) enum Link {
    /// One of the readers.
    Sqlite(PoolConnection<Sqlite>),
    /// Any connection.
    Postgres(PoolConnection<Postgres>),
}

/// The bare connection of either engine, for [`on!`].
pub(super) enum Side<'a> {
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
}

impl Tx {
    /// The connection below.
    pub(super) fn side(&mut self) -> Side<'_> {
        match self {
            Self::Sqlite(t) => Side::Sqlite(&mut *t),
            Self::Postgres(t) => Side::Postgres(&mut *t),
        }
    }

    /// Makes it last.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(t) => t.commit().await,
            Self::Postgres(t) => t.commit().await,
        }
        .map_err(StoreError::from_sqlx("commit"))
    }
}

impl Link {
    /// The connection below.
    pub(super) fn side(&mut self) -> Side<'_> {
        match self {
            Self::Sqlite(c) => Side::Sqlite(&mut *c),
            Self::Postgres(c) => Side::Postgres(&mut *c),
        }
    }
}

/// Runs one expression on whichever engine is there: `on!(tx, c => sqlx::query(SQL).bind(x).execute(&mut *c).await)`.
/// The text is compiled once for each engine, so both arms must give the same type (`.map(|r| r.rows_affected())`).
/// SQL in it uses `$1` and what both engines know.
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn.side() {
            $crate::store::db::Side::Sqlite($c) => $body,
            $crate::store::db::Side::Postgres($c) => {
                $crate::store::db::answered(async { $body }).await
            }
        }
    };
}
pub(super) use on;

/// How long one statement may take on PostgreSQL before its connection counts as dead: the largest, over a million users, takes
/// a minute or two, and a server that went away without a word (a failover, a firewall that forgot) would be waited for for ever.
const ANSWER: Duration = Duration::from_mins(10);

/// How long PostgreSQL may take to show that an idle connection is still one.
const ALIVE: Duration = Duration::from_secs(3);

/// What every connection of PostgreSQL is set to. The server notices within a minute that this side went away (what this side
/// notices of TCP the driver cannot set, which is what [`ANSWER`] and [`ALIVE`] are for); and a process that stands still in a
/// transaction does not keep its locks for longer than its leases.
const SESSION: &str = "
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
    SET idle_in_transaction_session_timeout = '15s'";

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
    tokio::time::timeout(limit, statement)
        .await
        .unwrap_or_else(|_| {
            Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {} seconds", limit.as_secs()),
            )))
        })
}

impl Db {
    /// Opens an SQLite file: WAL, foreign keys, one writer. For writing, makes the file (mode 0600) if it is not there; for
    /// reading, there is no connection that writes.
    ///
    /// `synchronous = FULL`: a message that left the house must not be forgotten by a power cut, or it would be told twice
    /// with another key; each run is a handful of commits, so the price is not felt.
    pub(super) async fn sqlite(path: &Path, access: Access) -> Result<Self, StoreError> {
        if access == Access::Write && !path.exists() {
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|e| StoreError::Open {
                    what: path.display().to_string(),
                    why: super::lock::advice(path, &e),
                })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            // KiB: the writer's indexes are its working set; readers go from one end to the other.
            .pragma("cache_size", "-16000")
            // What is erased of people who were removed is overwritten with zeros, not only marked as free. FAST does so
            // wherever it costs no further write; pages that become free as a whole go to waste until they are used again.
            .pragma("secure_delete", "FAST")
            .pragma("journal_size_limit", "67108864");
        let open = |e: sqlx::Error| StoreError::Open {
            what: path.display().to_string(),
            why: match StoreError::from_sqlx("open the store")(e) {
                StoreError::Database { source, .. } => source.to_string(),
                known => known.to_string(),
            },
        };
        let reader = options
            .clone()
            .pragma("query_only", "ON")
            .pragma("cache_size", "-2000");
        let writers = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None);
        let write = match access {
            Access::Write => writers
                .min_connections(1)
                .connect_with(options.optimize_on_close(true, None))
                .await
                .map_err(open)?,
            // Whoever tries is told that the store is read-only.
            Access::Read => writers.connect_lazy_with(reader.clone()),
        };
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(reader)
            .await
            .map_err(open)?;
        Ok(Self::Sqlite { write, read })
    }

    /// Connects to PostgreSQL. `name` is what the server's list of sessions shows: whoever takes over a lease knows by it which
    /// transactions the former holder left open.
    pub(super) async fn postgres(
        url: &str,
        password: Option<&str>,
        shown: &str,
        name: &str,
    ) -> Result<Self, StoreError> {
        let bad = |e: sqlx::Error| StoreError::Open {
            what: shown.to_owned(),
            why: e.to_string(),
        };
        let mut options = PgConnectOptions::from_str(url)
            .map_err(bad)?
            .application_name(name);
        if let Some(password) = password {
            options = options.password(password);
        }
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(15))
            .test_before_acquire(false)
            .before_acquire(|connection, met| {
                Box::pin(async move {
                    // One that was used a moment ago needs no question.
                    if met.idle_for < Duration::from_secs(1) {
                        return Ok(true);
                    }
                    let alive = tokio::time::timeout(ALIVE, connection.ping()).await;
                    Ok(matches!(alive, Ok(Ok(()))))
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move {
                    answered(sqlx::raw_sql(SESSION).execute(connection)).await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(bad)?;
        Ok(Self::Postgres { pool, fence: None })
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres { pool, .. } => pool.close().await,
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite { write, .. } => match write.begin_with(IMMEDIATE).await {
                // A full disk made SQLite end a transaction by itself, and the driver still counts it: begin on a fresh connection.
                Err(sqlx::Error::InvalidSavePointStatement) => {
                    if let Ok(stuck) = write.acquire().await {
                        let _closed = stuck.close().await;
                    }
                    write.begin_with(IMMEDIATE).await.map(Tx::Sqlite)
                }
                begun => begun.map(Tx::Sqlite),
            },
            Self::Postgres { pool, fence } => Open::begin(pool, *fence).await.map(Tx::Postgres),
        }
        .map_err(StoreError::from_sqlx("begin"))
    }

    /// A connection for reading.
    pub(super) async fn read(&self) -> Result<Link, StoreError> {
        match self {
            Self::Sqlite { read, .. } => read.acquire().await.map(Link::Sqlite),
            Self::Postgres { pool, .. } => pool.acquire().await.map(Link::Postgres),
        }
        .map_err(StoreError::from_sqlx("connect"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_statement_without_an_answer_ends() {
        let error = answered(std::future::pending::<Result<(), _>>()).await;
        let error = StoreError::from_sqlx("read users")(error.unwrap_err());
        assert!(matches!(error, StoreError::Lost(_)), "{error}");
        assert!(error.to_string().contains("600 seconds"), "{error}");
        assert_eq!(answered(async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_is_erased_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&dir.path().join("store.db"), Access::Write)
            .await
            .unwrap();
        let Db::Sqlite { write, .. } = &db else {
            panic!("an SQLite store");
        };
        let secure: i64 = sqlx::query_scalar("PRAGMA secure_delete")
            .fetch_one(write)
            .await
            .unwrap();
        assert_eq!(secure, 2, "FAST");
    }
}
