//! Who may write: one process for an SQLite store, one run for a realm.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use tokio::sync::OwnedMutexGuard;

use super::db::{Db, answered};
use super::{Store, StoreError};
use crate::config::{StoreConfig, StoreUrl};
use crate::model::RealmId;

/// How long PostgreSQL is given to notice that the holder of a realm died.
const DEAD_HOLDER: Duration = Duration::from_secs(3);

/// Held for as long as this process may write. PostgreSQL needs none.
#[derive(Debug)]
pub struct StoreLock {
    _file: Option<File>,
}

/// Takes the store for writing, and waits for it that long at most.
pub fn lock(config: &StoreConfig, wait: Duration) -> Result<StoreLock, StoreError> {
    let StoreUrl::Sqlite(path) = &config.url else {
        return Ok(StoreLock { _file: None });
    };
    let mut name = path.clone().into_os_string();
    name.push(".lock");
    let name = PathBuf::from(name);
    let open = |e: std::io::Error| StoreError::Open {
        what: name.display().to_string(),
        why: advice(path, &e),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&name).map_err(open)?;
    let end = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _unread = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "unknown".to_owned()
                } else {
                    holder.trim().to_owned()
                };
                return Err(StoreError::Busy {
                    what: path.display().to_string(),
                    holder,
                });
            }
            Err(TryLockError::Error(e)) => return Err(open(e)),
        }
    }
    let me = format!(
        "process {} ({})",
        std::process::id(),
        std::env::args()
            .skip(1)
            .take(6)
            .collect::<Vec<_>>()
            .join(" ")
    );
    let _told = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(me.as_bytes()));
    Ok(StoreLock { _file: Some(file) })
}

/// What an administrator does about a file that cannot be opened.
pub(super) fn advice(path: &Path, error: &std::io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{error}; make the folder {folder} (`install -d -m 0700 {folder}`)")
        }
        std::io::ErrorKind::PermissionDenied => format!(
            "{error}; it belongs to another user: run this as the user of the service, or as root"
        ),
        std::io::ErrorKind::StorageFull => format!("{error}; make room on the disk of {folder}"),
        _ => error.to_string(),
    }
}

/// Realms under a run in this process.
#[derive(Clone, Default, Debug)]
pub(super) struct RealmLocks(Arc<Mutex<HashMap<RealmId, Arc<tokio::sync::Mutex<()>>>>>);

/// Held for as long as a run of the realm goes on.
#[derive(Debug)]
pub struct RealmLock {
    _here: OwnedMutexGuard<()>,
    _there: Option<Advisory>,
}

/// A PostgreSQL connection that holds an advisory lock; closed when dropped, which frees the lock.
#[derive(Debug)]
struct Advisory(Option<PgConnection>);

impl Drop for Advisory {
    fn drop(&mut self) {
        // Dropping the detached connection closes its socket, and the server frees the lock.
        drop(self.0.take());
    }
}

impl Store {
    /// Takes a realm for a run; `Busy` when one is under way.
    pub async fn lock_realm(&self, realm: &RealmId) -> Result<RealmLock, StoreError> {
        let busy = || StoreError::Busy {
            what: format!("realm `{realm}`"),
            holder: "a run of it is under way".into(),
        };
        let mutex = {
            let mut locks = self
                .locks
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            locks.entry(realm.clone()).or_default().clone()
        };
        let here = mutex.try_lock_owned().map_err(|_| busy())?;
        let there = match &self.db {
            Db::Sqlite { .. } => None,
            Db::Postgres(pool) => {
                let failed = StoreError::from_sqlx("lock a realm");
                let connection: PoolConnection<Postgres> = pool.acquire().await.map_err(&failed)?;
                let mut connection = connection.detach();
                let key = xxhash_rust::xxh3::xxh3_64(format!("realmsync realm {realm}").as_bytes())
                    .cast_signed();
                // A process that was killed holds it until the server has ended what it was doing for it.
                let end = Instant::now() + DEAD_HOLDER;
                loop {
                    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key);
                    let taken: bool = answered(asked.fetch_one(&mut connection))
                        .await
                        .map_err(&failed)?;
                    if taken {
                        break;
                    }
                    if Instant::now() >= end {
                        let _closed = connection.close().await;
                        return Err(busy());
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Some(Advisory(Some(connection)))
            }
        };
        Ok(RealmLock {
            _here: here,
            _there: there,
        })
    }
}
