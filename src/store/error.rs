//! What can go wrong with the store, in words that say what to do next.

use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use super::reach::{said, told};
use crate::model::ErrorCode;
use crate::model::words::count;

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
    #[error(
        "{what} was written by a newer realmsync (schema {version}): install that version, or restore a backup from before the upgrade"
    )]
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
    /// Another process has the lease of the realm by now, so that nothing more of this run can be written.
    #[error(
        "another daemon took the realm over, since this one stood still for longer than its lease; nothing of this run was applied, and that daemon decides anew"
    )]
    TakenOver,
    /// Somebody changed a user while a plan was made: nothing was applied.
    #[error(
        "{} changed while the plan was made; nothing was applied, the next run decides anew",
        count(*.0, "user")
    )]
    Conflict(u64),
    /// A secret that is there cannot be decrypted.
    #[error("a secret cannot be decrypted: {0}; look at the enrolment key in `realmsync status`")]
    Sealed(String),
    /// It cannot be done as things stand.
    #[error("{0}")]
    Refused(String),
    /// The disk is full, or the file cannot be written.
    #[error(
        "the store cannot be written: {0}. Nothing was half done; once that is mended the next run goes on"
    )]
    Unwritable(String),
    /// The database does not answer.
    #[error(
        "the store does not answer: {0}. Nothing was half done; look whether the database runs, the next run tries again"
    )]
    Lost(String),
    /// The database, a role's limit or a pooler gives less than is needed.
    #[error("the database gives realmsync too little: {0}")]
    Limited(String),
    /// An SQLite file that lacks what the store held before.
    #[error(
        "{what} is an older copy of the store, or one without its log: what was told to people since is not in it, and they would be told again. Put the whole store back (realmsync.db with its -wal), or a copy that `realmsync backup` made; to take this file all the same, write the word `accept` into {file}: it then starts as a copy, with its messages on hold"
    )]
    Incomplete {
        /// The store's file.
        what: String,
        /// The file that notes the generation.
        file: String,
    },
    /// PostgreSQL crashed while a plan was made, and came back without what it had not written to the disk yet.
    #[error(
        "the database was started anew while the plan was made, and has {there} of the plan's {given} rows. Nothing was applied; the next run decides anew"
    )]
    Forgotten {
        /// Rows that are there.
        there: i64,
        /// Rows that it was given.
        given: i64,
    },
    /// The file is no database any more.
    #[error(
        "the store is damaged: {0}. Stop the service, keep the file for a look, and put a backup in its place"
    )]
    Damaged(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The engine refused a statement.
    #[error("store: {what}: {}", told(source))]
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
    /// For `map_err`: a name that somebody else took a moment ago is a conflict like any other.
    pub(super) fn taken(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        const WHAT: [&str; 3] = ["users_name", "username_key", "staged_users"];
        let other = Self::from_sqlx(what);
        move |error| match &error {
            sqlx::Error::Database(known)
                if known.is_unique_violation()
                    && WHAT.iter().any(|w| known.message().contains(w)) =>
            {
                Self::Conflict(1)
            }
            _ => other(error),
        }
    }

    /// For `map_err`: names what was being done, and tells apart what an administrator can mend.
    pub(crate) fn from_sqlx(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| {
            match &source {
            sqlx::Error::Database(error) => {
                let known = if let Some(error) = error.try_downcast_ref::<SqliteError>() {
                    of_sqlite(error)
                } else if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
                    of_postgres(error)
                } else {
                    None
                };
                known.unwrap_or(Self::Database { what, source })
            }
            sqlx::Error::PoolTimedOut => Self::Limited("no connection became free in time; see that the database, the role's CONNECTION LIMIT and a pooler allow as many as docs/operating.md says".into()),
            other if is_lost(other) => Self::Lost(told(other)),
            _ => Self::Database { what, source },
        }
        }
    }

    /// The word for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Busy { .. } | Self::TakenOver => ErrorCode::Busy,
            Self::Open { .. } | Self::Lost(_) | Self::Limited(_) | Self::Forgotten { .. } => {
                ErrorCode::Unreachable
            }
            _ => ErrorCode::Store,
        }
    }
}

/// Whether the connection is gone, or its server is.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| is_ended(error.code())),
        _ => false,
    }
}

/// Whether the session takes no writes, as one of a former primary.
pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("25006"))
}

/// Shut down, crashed, starting, or idle for too long.
fn is_ended(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03" | "57P05") || code.starts_with("08")
}

/// SQLite's result codes; what is above the lowest eight bits only refines them (<https://www.sqlite.org/rescode.html>).
fn of_sqlite(error: &SqliteError) -> Option<StoreError> {
    use sqlx::error::DatabaseError as _;
    let code: i32 = error.code()?.parse().ok()?;
    match code & 0xff {
        5 | 6 => Some(StoreError::Busy {
            what: "the store's file".into(),
            holder: format!("it was not let go within 10 s ({error})"),
        }),
        8 => Some(StoreError::Unwritable(format!(
            "{error}; look at the owner and the rights of the file and its folder, and whether the disk is mounted read-only"
        ))),
        10 | 14 => Some(StoreError::Unwritable(format!(
            "{error}; look at the disk and at the rights of the store's folder"
        ))),
        11 | 26 => Some(StoreError::Damaged(error.to_string())),
        13 => Some(StoreError::Unwritable(format!(
            "the disk is full ({error}); make room"
        ))),
        _ => None,
    }
}

/// PostgreSQL's SQLSTATE classes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn of_postgres(error: &PgDatabaseError) -> Option<StoreError> {
    match error.code() {
        // Deadlock, lock timeout, serialization: another transaction was first.
        "40001" | "40P01" | "55P03" => Some(StoreError::Busy {
            what: "rows of the store".into(),
            holder: said(error),
        }),
        // Raised by fence() of the schema.
        "RS001" => Some(StoreError::TakenOver),
        "25006" => Some(StoreError::Unwritable(format!(
            "{}; the database takes no writes: is it a standby?",
            said(error)
        ))),
        "42501" => Some(StoreError::Unwritable(format!(
            "{}; grant the database user its rights: docs/operating.md says which ones installing and running need",
            said(error)
        ))),
        "53300" | "53400" => Some(StoreError::Limited(format!(
            "{}; raise max_connections, the role's or the database's CONNECTION LIMIT, or the pooler's default_pool_size: docs/operating.md says how many are needed",
            error.message()
        ))),
        "57014" | "25P04" => Some(StoreError::Limited(format!(
            "{}; a limit of a pooler or of the database ended a statement (statement_timeout, transaction_timeout, query_timeout of PgBouncer), or an administrator did: take the limit off this role",
            error.message()
        ))),
        "53100" => Some(StoreError::Unwritable(format!(
            "the database's disk is full ({}); make room",
            said(error)
        ))),
        code if is_ended(code) => Some(StoreError::Lost(said(error))),
        _ => None,
    }
}
