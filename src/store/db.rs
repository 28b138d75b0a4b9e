//! The two engines behind one face: pools, transactions, and how one text of SQL runs on both.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};
use tokio_util::task::TaskTracker;

use super::StoreError;
use super::access::Access;
use super::answer::{SESSION, answered, usable};
use super::fence::FencedTransaction;
use super::generation::Generation;
use super::probe::{POOL, probe};
use super::reach::{reached, told};

/// Takes the writer's turn at once: a deferred transaction fails when it turns into a writer (TRAPS 31).
pub(super) const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// The pools of one store.
#[derive(Clone, Debug)]
pub(super) enum Db {
    /// One connection writes, so that two writers never meet (TRAPS 31); some read beside it.
    Sqlite {
        /// The only connection that writes.
        write: SqlitePool,
        /// Connections that read.
        read: SqlitePool,
        /// The writer does not wait for the disk at present, until it is acquired anew; see
        /// [`Store::stage`](super::Store::stage).
        relaxed: Arc<AtomicBool>,
        /// Where the log is [folded beside](fold_beside): nothing, or one task.
        folding: TaskTracker,
        /// What counts commits, once the store is opened for writing.
        generation: Option<Arc<Generation>>,
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
    /// `BEGIN IMMEDIATE` on the only writer, and what counts its commit.
    Sqlite(Transaction<'static, Sqlite>, Option<Arc<Generation>>),
    /// An ordinary transaction.
    Postgres(FencedTransaction),
}

/// A connection for reading.
pub(super) enum ReadConnection {
    /// One of the readers.
    Sqlite(PoolConnection<Sqlite>),
    /// Any connection.
    Postgres(PoolConnection<Postgres>),
}

/// The bare connection of either engine, for [`on!`].
pub(super) enum EngineConnection<'a> {
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
}

impl Tx {
    /// The connection below.
    pub(super) fn side(&mut self) -> EngineConnection<'_> {
        match self {
            Self::Sqlite(t, _) => EngineConnection::Sqlite(&mut *t),
            Self::Postgres(t) => EngineConnection::Postgres(&mut *t),
        }
    }

    /// Makes it last.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(t, None) => t.commit().await,
            Self::Sqlite(t, Some(generation)) => counted(t, &generation).await,
            Self::Postgres(t) => t.commit().await,
        }
        .map_err(StoreError::from_sqlx("commit"))
    }
}

async fn counted(
    mut transaction: Transaction<'static, Sqlite>,
    generation: &Generation,
) -> Result<(), sqlx::Error> {
    let next = Generation::next(&mut transaction).await?;
    transaction.commit().await?;
    crate::failpoint::hit("commit.unnoted");
    generation.note(next);
    Ok(())
}

impl ReadConnection {
    /// The connection below.
    pub(super) fn side(&mut self) -> EngineConnection<'_> {
        match self {
            Self::Sqlite(c) => EngineConnection::Sqlite(&mut *c),
            Self::Postgres(c) => EngineConnection::Postgres(&mut *c),
        }
    }
}

/// Runs one expression on whichever engine is there: `on!(tx, c => sqlx::query(SQL).bind(x).execute(&mut *c).await)`.
/// The text is compiled once for each engine, so both arms must give the same type (`.map(|r| r.rows_affected())`).
/// SQL in it uses `$1` and what both engines know.
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn.side() {
            $crate::store::db::EngineConnection::Sqlite($c) => $body,
            $crate::store::db::EngineConnection::Postgres($c) => {
                $crate::store::answer::answered(async { $body }).await
            }
        }
    };
}
pub(super) use on;

/// The writer waits so long for others.
const BUSY: Duration = Duration::from_secs(10);
/// For ever, as far as a timer can say that.
const TURN: Duration = Duration::from_hours(24 * 365);
/// A log that somebody still reads is not waited for that long: nobody can write meanwhile.
const FOLD: &str = "PRAGMA busy_timeout = 300; PRAGMA wal_checkpoint(TRUNCATE)";

/// How the writer commits: what is there lasts.
pub(super) const LASTING: &str = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000";
/// The same while a plan is staged: no commit waits for the disk, and the log is [folded beside](fold_beside). Of pages of 16 KiB the
/// writer folds 256 MiB itself, should that come to nothing.
pub(super) const RELAXED: &str = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 16384";

/// Sets something of a connection.
pub(super) async fn pragma(
    writer: &mut SqliteConnection,
    sql: &'static str,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sql).execute(writer).await.map(|_| ())
}

/// Folds what stands in the log into the file by a connection that reads. It waits for the disk while the writer goes on.
pub(super) fn fold_beside(read: &SqlitePool, folding: &TaskTracker) {
    const WHAT_CAN_BE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
    if !folding.is_empty() {
        return;
    }
    let read = read.clone();
    folding.spawn(async move {
        if let Ok(mut reader) = read.acquire().await
            && let Err(error) = pragma(&mut reader, WHAT_CAN_BE).await
        {
            tracing::debug!("the log is left to the writer: {error}");
        }
    });
}

/// What to do where the system does not let this user open the file. Only asked once SQLite has failed: to close a file ends the
/// locks that this process has on it.
fn denied(path: &Path, access: Access) -> Option<String> {
    let mut options = std::fs::OpenOptions::new();
    let tried = options.read(true).write(access == Access::Write).open(path);
    let error = tried.err()?;
    (error.kind() == std::io::ErrorKind::PermissionDenied)
        .then(|| super::lock::advice(path, &error))
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
            .busy_timeout(BUSY)
            // KiB: the inner pages of the writer's indexes; the system caches the others. A sort takes as much once more, and readers go
            // from one end to the other.
            .pragma("cache_size", "-3000")
            // What is erased of people who were removed is overwritten with zeros, not only marked as free; also whole pages, since
            // every name was in a plan once, and what a plan took up becomes free as a whole: to overwrite only what a removal erases
            // would leave the plans of earlier days. A first load of 100,000 took as long with FAST.
            .pragma("secure_delete", "ON")
            // Of a new file. A first pass writes its pages one after the other: with 4 KiB it spent a third of its time in calls.
            .page_size(16_384)
            // 16 MiB at a time; see [`LASTING`].
            .pragma("wal_autocheckpoint", "1000")
            .pragma("journal_size_limit", "67108864");
        let open = |e: sqlx::Error| StoreError::Open {
            what: path.display().to_string(),
            why: match StoreError::from_sqlx("open the store")(e) {
                StoreError::Database { source, .. } => source.to_string(),
                known => denied(path, access).unwrap_or_else(|| known.to_string()),
            },
        };
        let reader = options
            .clone()
            .pragma("query_only", "ON")
            .pragma("cache_size", "-500");
        let relaxed = Arc::new(AtomicBool::new(false));
        let left = Arc::clone(&relaxed);
        let writers = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // Whoever writes before is of this process, and the plan of a large realm takes its time: each waits for its turn.
            .acquire_timeout(TURN)
            // Whoever staged may have been stopped in the middle.
            .before_acquire(move |writer, _| {
                let left = left.swap(false, Ordering::SeqCst);
                Box::pin(async move {
                    if left {
                        pragma(writer, LASTING).await?;
                    }
                    Ok(true)
                })
            });
        let write = match access {
            Access::Write => writers
                .min_connections(1)
                // A sample of each index tells its planner enough; a whole one would read a million rows at each command's end.
                .connect_with(options.optimize_on_close(true, Some(400)))
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
        Ok(Self::Sqlite {
            write,
            read,
            relaxed,
            folding: TaskTracker::new(),
            generation: None,
        })
    }

    /// Connects to PostgreSQL. `name` is what the server's list of sessions shows: whoever takes over a lease knows by it which
    /// transactions the former holder left open.
    pub(super) async fn postgres(
        url: &str,
        password: Option<&str>,
        shown: &str,
        name: &str,
        access: Access,
    ) -> Result<Self, StoreError> {
        let bad = |e: sqlx::Error| match StoreError::from_sqlx("connect")(e) {
            limited @ StoreError::Limited(_) => limited,
            StoreError::Database { source, .. } => StoreError::Open {
                what: shown.to_owned(),
                why: told(&source),
            },
            other => StoreError::Open {
                what: shown.to_owned(),
                why: other.to_string(),
            },
        };
        let mut options = PgConnectOptions::from_str(url)
            .map_err(bad)?
            .application_name(name);
        if let Some(password) = password {
            options = options.password(password);
        }
        let options = reached(options).await.map_err(|why| StoreError::Open {
            what: shown.to_owned(),
            why,
        })?;
        probe(&options, shown, access).await?;
        let pool = PgPoolOptions::new()
            .max_connections(POOL)
            .acquire_timeout(Duration::from_secs(15))
            .test_before_acquire(false)
            .before_acquire(|connection, met| {
                Box::pin(async move { Ok(usable(connection, met).await) })
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
            Self::Sqlite {
                write, generation, ..
            } => match write.begin_with(IMMEDIATE).await {
                // A full disk made SQLite end a transaction by itself, and the driver still counts it: begin on a fresh connection.
                Err(sqlx::Error::InvalidSavePointStatement) => {
                    if let Ok(stuck) = write.acquire().await {
                        let _closed = stuck.close().await;
                    }
                    write.begin_with(IMMEDIATE).await
                }
                begun => begun,
            }
            .map(|t| Tx::Sqlite(t, generation.clone())),
            Self::Postgres { pool, fence } => FencedTransaction::begin(pool, *fence, false)
                .await
                .map(Tx::Postgres),
        }
        .map_err(StoreError::from_sqlx("begin"))
    }

    /// Folds the log of an SQLite file into it and empties it, if nobody reads it just now: what was erased stands in it until
    /// it is written over.
    pub(super) async fn fold_log(&self) -> Result<(), StoreError> {
        let Self::Sqlite { write, .. } = self else {
            return Ok(());
        };
        let failed = StoreError::from_sqlx("fold the log into the store");
        let mut writer = write.acquire().await.map_err(&failed)?;
        let folded = sqlx::raw_sql(FOLD).execute(&mut *writer).await;
        let patient = format!("PRAGMA busy_timeout = {}", BUSY.as_millis());
        let patient = sqlx::raw_sql(AssertSqlSafe(patient)).execute(&mut *writer);
        patient.await.and(folded).map(|_| ()).map_err(failed)
    }

    /// A connection for reading.
    pub(super) async fn read(&self) -> Result<ReadConnection, StoreError> {
        match self {
            Self::Sqlite { read, .. } => read.acquire().await.map(ReadConnection::Sqlite),
            Self::Postgres { pool, .. } => pool.acquire().await.map(ReadConnection::Postgres),
        }
        .map_err(StoreError::from_sqlx("connect"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(secure, 1, "ON");
    }
}
