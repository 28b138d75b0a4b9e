//! Whether an SQLite file is the whole store, or a copy that lacks the end of its story: a plain copy without its `-wal`, or an old
//! one, would forget what was told to whom, and everybody would be told again.
//!
//! Each commit counts a generation within the store, and then writes it into a small file beside it. The file is never ahead of a
//! healthy store, since it is written after the commit and a commit waits for the disk; it may be behind, which proves nothing. For
//! a copy that came without the file there is a second sign: a store in use says so in its main file, and whatever ended it, its
//! log is there then.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sqlx::SqliteConnection;

/// The file beside the store, and what stands in it.
#[derive(Debug)]
pub(super) struct Generation(Mutex<NotedGeneration>);

#[derive(Debug)]
struct NotedGeneration {
    /// `None`: the store is closed.
    file: Option<File>,
    generation: i64,
}

/// What was found beside a store before it was opened.
pub(super) struct GenerationFile {
    /// The file of the generation.
    pub(super) path: PathBuf,
    /// The log, of whatever length.
    pub(super) log: bool,
    /// There was no store, so that it is made anew: its first pass is a baseline and tells nobody.
    pub(super) new: bool,
    /// What stands in the file; `None`: it is missing or cannot be read.
    pub(super) text: Option<String>,
}

fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl GenerationFile {
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

    /// The generation that was noted.
    pub(super) fn number(&self) -> Option<i64> {
        self.text.as_ref()?.parse().ok()
    }
}

impl Generation {
    /// Counts on in this file.
    pub(super) fn of(file: File) -> Self {
        Self(Mutex::new(NotedGeneration {
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

    /// Notes nothing more.
    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).file = None;
    }
}
