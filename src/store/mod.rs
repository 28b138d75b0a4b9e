//! All that knows SQL: one file a noun, one function a query, the same text on SQLite and PostgreSQL.

mod access;
mod answer;
mod api_tokens;
mod apply;
mod aside;
mod audit;
mod by_hand;
mod changes;
mod completeness;
mod configurations;
mod containers;
mod copy;
mod coverage;
mod db;
mod declare;
mod delta_history;
mod enrolling;
mod enrolments;
mod error;
mod factors;
mod fence;
mod freezes;
mod generation;
mod held;
mod imported;
mod index;
mod insert;
mod keep;
mod keys;
mod lease;
mod lease_owner;
mod lease_rows;
mod lease_status;
mod lock;
mod lost_key;
mod notices;
mod operations;
mod outbox;
mod own_key;
mod pause;
mod probe;
mod reach;
mod realm_by_hand;
mod realms;
mod refused;
mod refused_rows;
mod rejected;
mod reminders;
mod restored;
mod rows;
mod rulings;
mod runs;
mod schema;
mod scratch;
mod search;
mod stage;
mod staged;
mod staged_refused;
mod staged_user;
mod swap;
mod sweep;
#[cfg(test)]
mod tests;
mod to_look_at;
mod typed_id;
mod undone;
mod users;

use secrecy::ExposeSecret as _;
use sqlx::migrate::{MigrateError, Migrator};

pub use access::Access;
pub use apply::{Application, CursorUpdate, RealmUpdate};
pub use audit::{AuditCheck, AuditFilter, AuditKey, AuditNote};
pub use by_hand::{HandAct, Override};
pub use coverage::CoverageGroup;
use db::Db;
pub use declare::{Declared, RealmDecl};
pub use delta_history::DeltaHistory;
pub use enrolling::{Begun, Enrolled, PageStep, Possessions, Renewed, link_is_valid};
pub use error::StoreError;
pub use factors::{
    ANSWERED_FOR, ActiveAuthenticator, CodeUse, Examined, Guesses, HardTokenFilter, HardTokenRow,
    KeptAnswer, KeptAuthenticator, LogonRow, NameSought, NewBypass, NewHardToken, ProofOutcome,
    TokenOfSerial, UserFactors, VerificationFilter, VerificationRow, VerifiedUser, Verifying,
    WrongCode,
};
use generation::GenerationFile;
pub use index::Indexed;
pub use keys::{KeptSecret, KeyKeeping, LockedOut, MovedSecret};
pub use lease::RealmLock;
use lease_owner::{LeaseOwner, Leases};
pub use lease_status::LeaseHolder;
pub use lock::{StoreLock, is_taken, lock};
pub use lost_key::GivenUp;
pub use notices::NoticeToTell;
pub use operations::{BatchLinks, BatchRefusal, BatchWrite, NewOperation, OperationUsers};
#[cfg(test)]
pub(crate) use outbox::tests as outbox_tests;
pub use outbox::{
    Counted, EnrolmentContext, EnrolmentKey, Fate, JobAction, JobSelection, MessageContext,
    MessageLink, Mine, Overdue, Settlement,
};
pub use refused::{RefusedDiff, RefusedRow};
pub use reminders::LinkToRemind;
pub use restored::Restored;
pub use rulings::NumberRuling;
pub use runs::{CLOCKS_DIFFER_MS, RunFacts};
pub use search::{BuildStep, SearchBuild, UserPage};
pub use stage::Staged;
pub use staged::StagedName;
pub use staged_refused::RefusedKey;
pub use staged_user::StagedUser;
pub use sweep::Abandoned;
pub use users::Holder;

use crate::clock::Timestamp;
use crate::config::{Environment, StoreConfig, StoreUrl};

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// The store of one installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    leases: Leases,
    /// What whoever asked for an act did.
    note: Option<std::sync::Arc<AuditNote>>,
}

impl Store {
    /// Opens the store; for writing, brings its schema up to date and puts the messages of a restored copy on hold.
    pub async fn open(
        config: &StoreConfig,
        env: &Environment,
        access: Access,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let leases = Leases::default();
        let beside = match &config.url {
            StoreUrl::Sqlite(path) if access == Access::Write => {
                Some((path.as_path(), GenerationFile::look(path)))
            }
            _ => None,
        };
        let (db, what) = match &config.url {
            StoreUrl::Sqlite(path) => {
                // A folder that may not be searched is no absence.
                if access == Access::Read && path.try_exists().is_ok_and(|there| !there) {
                    let text = format!(
                        "there is no store {} yet: start the service, or run `sync`",
                        path.display()
                    );
                    return Err(StoreError::NotFound(text));
                }
                (Db::sqlite(path, access).await?, path.display().to_string())
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
                        &LeaseOwner::session_name(&leases.owner().id),
                        access,
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
        let mut store = Self {
            db,
            leases,
            note: None,
        };
        match access {
            Access::Write => {
                // Where all is there no right to make anything is needed, and the migrator always begins with a table of its own.
                if !store.is_current(migrator, &what).await? {
                    let ran = match &store.db {
                        Db::Sqlite { write, .. } => migrator.run(write).await,
                        Db::Postgres { pool, .. } => migrator.run(pool).await,
                    };
                    ran.map_err(|e| migration_error(e, &what))?;
                }
                let copy = store.take_on_copy(now).await?;
                if let Some((path, beside)) = beside {
                    store.check_generation(path, &beside, copy, now).await?;
                }
            }
            Access::Read => store.schema_fits(migrator, &what).await?,
        }
        Ok(store)
    }

    /// Reaches the engine once, for `/readyz`.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut link = self.db.read().await?;
        db::on!(link, c => sqlx::query("SELECT 1").execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("reach the store"))
    }

    /// Closes the pools: writes what is to be written, lets go of leases, and waits for who still reads.
    pub async fn close(&self) {
        self.leases.released().await;
        if let Err(error) = self.let_go().await {
            tracing::debug!(%error, "the store still says that it is in use: {error}");
        }
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
