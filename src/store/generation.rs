//! Whether an SQLite file is the whole store, or a copy that lacks the end of its story: a plain copy without its `-wal`, or an old
//! one, would forget what was told to whom, and everybody would be told again.
//!
//! Each commit counts a generation within the store, and then writes it into a small file beside it. The file is never ahead of a
//! healthy store, since it is written after the commit and a commit waits for the disk; it may be behind, which proves nothing. For
//! a copy that came without the file there is a second sign: a store in use says so in its main file, and whatever ended it, its
//! log is there then.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::SqliteConnection;

use super::db::{Db, Tx, on};
use super::outbox::hold_copy;
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// Written into the file by an administrator who takes the store as it is.
const ACCEPT: &str = "accept";

/// The file beside the store, and what stands in it.
#[derive(Debug)]
pub(super) struct Generation(Mutex<Noted>);

#[derive(Debug)]
struct Noted {
    /// `None`: the store is closed.
    file: Option<File>,
    generation: i64,
}

/// What was found beside a store before it was opened.
pub(super) struct Beside {
    path: PathBuf,
    /// The log, of whatever length.
    log: bool,
    /// There was no store, so that it is made anew: its first pass is a baseline and tells nobody.
    new: bool,
    text: Option<String>,
}

fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Beside {
    /// Looks before SQLite makes a log of its own.
    pub(super) fn look(store: &Path) -> Self {
        let path = beside(store, "-generation");
        let mut text = String::new();
        let read = File::open(&path).and_then(|f| f.take(100).read_to_string(&mut text));
        Self {
            log: beside(store, "-wal").exists(),
            new: std::fs::metadata(store).map_or(true, |m| m.len() == 0),
            text: read.is_ok().then(|| text.trim().to_owned()),
            path,
        }
    }

    fn number(&self) -> Option<i64> {
        self.text.as_ref()?.parse().ok()
    }
}

impl Generation {
    fn of(file: File) -> Self {
        Self(Mutex::new(Noted {
            file: Some(file),
            generation: 0,
        }))
    }

    /// Counts a commit; the caller is within its transaction.
    pub(super) async fn next(writer: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
        const SQL: &str = "
            INSERT INTO meta (key, value) VALUES ('generation', '1')
            ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) RETURNING CAST(value AS INTEGER)";
        sqlx::query_scalar(SQL).fetch_one(writer).await
    }

    /// Notes a commit that is done. Always as many bytes in the same place, so that no room on the disk is needed. It does not wait
    /// for the disk: what a power cut forgets of it only leaves it behind the store.
    pub(super) fn note(&self, generation: i64) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.generation >= generation {
            return;
        }
        noted.generation = generation;
        let text = format!("{generation:020}\n");
        let written = noted
            .file
            .as_ref()
            .map(|f| f.write_all_at(text.as_bytes(), 0));
        if let Some(Err(error)) = written {
            tracing::debug!(%error, "the store's generation cannot be noted: {error}");
        }
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).file = None;
    }
}

impl Store {
    /// Refuses a store that lacks what it held before, and begins to count. Expects the lock of the store; `copy`: it is a copy that
    /// says so itself. Errors: [`StoreError::Incomplete`].
    pub(super) async fn settle_generation(
        &mut self,
        store: &Path,
        found: &Beside,
        copy: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const THERE: &str = "SELECT key, value FROM meta WHERE key IN ('generation', 'in-use')";
        const USE: &str = "
            INSERT INTO meta (key, value) VALUES ('in-use', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        const AHEAD: &str =
            "UPDATE meta SET value = $1 WHERE key = 'generation' AND CAST(value AS INTEGER) < $2";
        let failed = StoreError::from_sqlx("read the store's generation");
        let mut tx = self.db.begin().await?;
        let there =
            on!(tx, c => sqlx::query_as::<_, (String, String)>(THERE).fetch_all(&mut *c).await)
                .map_err(&failed)?;
        let of = |key: &str| {
            there
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        let generation: i64 = of("generation").and_then(|g| g.parse().ok()).unwrap_or(0);
        let in_use = of("in-use").is_some();
        let noted = found.number();
        let accepted = found.text.as_deref() == Some(ACCEPT);
        let behind = noted.is_some_and(|n| n > generation);
        let cut_off = noted.is_none() && in_use && !found.log;
        if accepted {
            hold_copy(&mut tx, now).await?;
            tracing::warn!(
                "{} is taken as it is: its messages are on hold, since they may have been sent before",
                store.display()
            );
        } else if (behind || cut_off) && !copy && !found.new {
            return Err(StoreError::Incomplete {
                what: store.display().to_string(),
                file: found.path.display().to_string(),
            });
        } else if noted.is_none() && generation > 0 && !copy {
            tracing::warn!(
                "{} is missing or cannot be read, so that it is not known whether {} is the newest: it is taken to be",
                found.path.display(),
                store.display()
            );
        }
        // The file is there before the store says that it is in use, so that no power cut leaves the one without the other.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let counter = options.open(&found.path).and_then(|file| {
            // Anything else stays until the commit below, so that a crash before it changes nothing.
            if noted.is_none() && !accepted {
                file.set_len(0)?;
                file.write_all_at(format!("{:020}\n", 0).as_bytes(), 0)?;
            }
            file.sync_all()?;
            File::open(found.path.parent().unwrap_or(&found.path))?.sync_all()?;
            Ok(Generation::of(file))
        });
        let counter = counter.map_err(|e| StoreError::Open {
            what: found.path.display().to_string(),
            why: super::lock::advice(&found.path, &e),
        })?;
        on!(tx, c => sqlx::query(AHEAD).bind(noted.unwrap_or(0).to_string()).bind(noted.unwrap_or(0)).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
        on!(tx, c => sqlx::query(USE).bind(now.rfc3339()).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        let Db::Sqlite {
            write, generation, ..
        } = &mut self.db
        else {
            return Ok(());
        };
        *generation = Some(Arc::new(counter));
        let counted = generation.clone();
        let Tx::Sqlite(open, _) = tx else {
            return Ok(());
        };
        Tx::Sqlite(open, counted).commit().await?;
        // From here on the main file says it too; whoever reads just now may put that off.
        let folded = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&*write)
            .await;
        folded.map(|_| ()).map_err(failed)
    }

    /// The store is not in use any more, and all of it will be in its main file.
    pub(super) async fn let_go(&self) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM meta WHERE key = 'in-use'";
        let Db::Sqlite {
            generation: Some(generation),
            ..
        } = &self.db
        else {
            return Ok(());
        };
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("let go of the store"))?;
        let done = tx.commit().await;
        generation.close();
        done
    }
}
