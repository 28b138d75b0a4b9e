//! All that knows SQL: one file a noun, one function a query, the same text on SQLite and PostgreSQL.

mod apply;
mod changes;
mod copy;
mod db;
mod keep;
mod lock;
mod outbox;
mod realms;
mod refused;
mod rows;
mod runs;
mod stage;
#[cfg(test)]
mod tests;
mod users;

use secrecy::ExposeSecret as _;
use sqlx::migrate::{MigrateError, Migrator};

pub use apply::{Application, RealmUpdate};
use db::Db;
pub use lock::{RealmLock, StoreLock, lock};
#[cfg(test)]
pub(crate) use outbox::tests as outbox_tests;
pub use outbox::{
    Act, Ending, EnrolmentContext, EnrolmentKey, Fate, JobSelection, MessageContext, Settlement,
};
pub use realms::RealmDecl;
pub use refused::{RefusedDiff, RefusedRow};
pub use runs::RunFacts;
pub use stage::StagedUser;
pub use users::{Holder, UserFilter};

use crate::clock::Timestamp;
use crate::config::{Environment, StoreConfig, StoreUrl};
use crate::model::ErrorCode;

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

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
    /// Somebody changed a user while a plan was made: nothing was applied.
    #[error(
        "{0} users changed while the plan was made; nothing was applied, the next run decides anew"
    )]
    Conflict(u64),
    /// It cannot be done as things stand.
    #[error("{0}")]
    Refused(String),
    /// The disk is full, or the file cannot be written.
    #[error(
        "the store cannot be written: {0}. Nothing was half done; once that is mended the next run goes on"
    )]
    Unwritable(String),
    /// The database does not answer.
    #[error("the store does not answer: {0}. Nothing was half done; the next run tries again")]
    Lost(String),
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
    /// For `map_err`: names what was being done, and tells apart what an administrator can mend.
    pub(crate) fn from_sqlx(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        // SQLite's result codes: 8 READONLY, 10 IOERR, 13 FULL, and 1032 … 2570 their extended ones (https://www.sqlite.org/rescode.html).
        move |source| match &source {
            sqlx::Error::Database(error) => match error
                .code()
                .and_then(|c| c.parse::<i64>().ok())
                .map(|c| c & 0xff)
            {
                Some(13) if error.code().is_some_and(|c| c.len() < 5) => {
                    Self::Unwritable(format!("the disk is full ({error})"))
                }
                Some(8 | 10) if error.code().is_some_and(|c| c.len() < 5) => {
                    Self::Unwritable(error.to_string())
                }
                _ => Self::Database { what, source },
            },
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => Self::Lost(source.to_string()),
            _ => Self::Database { what, source },
        }
    }

    /// The word for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Busy { .. } => ErrorCode::Busy,
            _ => ErrorCode::Store,
        }
    }
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Makes it if it is not there, and brings its schema up to date. The caller holds [`lock()`].
    Write,
    /// Neither makes nor changes anything.
    Read,
}

/// The store of one installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    locks: lock::RealmLocks,
}

impl Store {
    /// Opens the store; for writing, brings its schema up to date and puts the messages of a restored copy on hold.
    pub async fn open(
        config: &StoreConfig,
        env: &Environment,
        access: Access,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let (db, what) = match &config.url {
            StoreUrl::Sqlite(path) => {
                if access == Access::Read && !path.exists() {
                    let text = format!(
                        "there is no store {} yet: start the service, or run `sync`",
                        path.display()
                    );
                    return Err(StoreError::NotFound(text));
                }
                (
                    Db::sqlite(path, access == Access::Write).await?,
                    path.display().to_string(),
                )
            }
            StoreUrl::Postgres { url, display } => {
                let secret = config.password.as_ref().map(|s| s.resolve(env)).transpose();
                let secret = secret.map_err(|e| StoreError::Open {
                    what: display.clone(),
                    why: format!("{}; {}", e.message, e.help),
                })?;
                (
                    Db::postgres(
                        url.expose_secret(),
                        secret.as_ref().map(secrecy::ExposeSecret::expose_secret),
                        display,
                    )
                    .await?,
                    display.clone(),
                )
            }
        };
        let migrator = if matches!(db, Db::Sqlite { .. }) {
            &SQLITE
        } else {
            &POSTGRES
        };
        let store = Self {
            db,
            locks: lock::RealmLocks::default(),
        };
        match access {
            Access::Write => {
                let ran = match &store.db {
                    Db::Sqlite { write, .. } => migrator.run(write).await,
                    Db::Postgres(pool) => migrator.run(pool).await,
                };
                ran.map_err(|e| migration_error(e, &what))?;
                store.settle_copy(now).await?;
            }
            Access::Read => store.schema_fits(migrator, &what).await?,
        }
        Ok(store)
    }

    /// Whether this program knows the schema that is there.
    async fn schema_fits(&self, migrator: &Migrator, what: &str) -> Result<(), StoreError> {
        let mut link = self.db.read().await?;
        let there = db::on!(link, c => sqlx::query_scalar::<_, Option<i64>>("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&mut *c).await);
        let newest = migrator.iter().map(|m| m.version).max().unwrap_or(0);
        match there {
            Ok(Some(version)) if version > newest => Err(StoreError::TooNew {
                what: what.to_owned(),
                version,
            }),
            Ok(Some(version)) if version == newest => Ok(()),
            Ok(_) => Err(StoreError::NotFound(format!(
                "{what} was written by an older realmsync: start the service once, it brings the store up to date"
            ))),
            Err(_) => Err(StoreError::NotFound(format!(
                "{what} is no store of realmsync: look at `store.url`"
            ))),
        }
    }

    /// Reaches the engine once, for `/readyz`.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut link = self.db.read().await?;
        db::on!(link, c => sqlx::query("SELECT 1").execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("reach the store"))
    }

    /// Closes the pools: writes what is to be written, and waits for who still reads.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

fn migration_error(error: MigrateError, what: &str) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            StoreError::TooNew {
                what: what.to_owned(),
                version,
            }
        }
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            StoreError::from_sqlx("bring the schema up to date")(source)
        }
        other => StoreError::Open {
            what: what.to_owned(),
            why: other.to_string(),
        },
    }
}
