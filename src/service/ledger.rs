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
use crate::store::{Access, EnrolmentKey, Store, StoreError, StoreLock, lock};

/// `run` waits this long for a command that writes in its own process.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The open store with the lock that a daemon holds for its life.
#[derive(Debug)]
pub struct Ledger {
    /// The store.
    pub store: Store,
    _lock: StoreLock,
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
pub async fn open(config: &StoreConfig, environment: &Environment, now: Timestamp) -> Result<Ledger, StoreError> {
    let wanted = config.clone();
    // Waiting for a command that writes blocks its thread, so it has one of its own.
    let lock = tokio::task::spawn_blocking(move || lock(&wanted, LOCK_WAIT)).await.map_err(|e| StoreError::Nonsense(e.to_string()))??;
    let store = Store::open(config, environment, Access::Write, now).await?;
    Ok(Ledger { store, _lock: lock })
}

/// Every realm that the store knows.
pub async fn realms(store: &Store) -> Result<Vec<RealmRow>, StoreError> {
    store.realms().await
}

/// One realm.
pub async fn realm(store: &Store, realm: &RealmId) -> Result<Option<RealmRow>, StoreError> {
    store.realm(realm).await
}

/// No passes, until an instant or until resumed.
pub async fn pause(store: &Store, realm: &RealmId, until: Option<Timestamp>, now: Timestamp) -> Result<(), StoreError> {
    store.pause(realm, until, now).await
}

/// Passes again.
pub async fn resume(store: &Store, realm: &RealmId, now: Timestamp) -> Result<(), StoreError> {
    store.resume(realm, now).await
}

/// The schedule's ticks up to here are done with.
pub async fn set_tick(store: &Store, realm: &RealmId, tick: Timestamp) -> Result<(), StoreError> {
    store.set_tick(realm, tick).await
}

/// A run by its id or a unique prefix.
pub async fn run(store: &Store, prefix: &str) -> Result<Run, StoreError> {
    store.run(prefix).await
}

/// See [`LastRuns`].
pub async fn last_runs(store: &Store, realm: &RealmId) -> Result<LastRuns, StoreError> {
    Ok(LastRuns { last: store.last_run(realm).await?, success_at: store.last_success(realm).await? })
}

/// Users by state.
pub async fn users(store: &Store, realm: &RealmId) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(store.count_by_state(realm).await?.into_iter().map(|(state, n)| (state.as_str().to_owned(), n)).collect())
}

/// Held plans that nobody decided within their seven days become `expired`.
pub async fn expire_held(store: &Store, now: Timestamp) -> Result<Vec<Run>, StoreError> {
    let mut expired = vec![];
    for run in store.expired_held(now).await? {
        expired.push(store.decide_held(run.run, Outcome::Expired, None, None, now).await?);
    }
    Ok(expired)
}

/// Old runs, their changes and settled jobs are deleted.
pub async fn prune(store: &Store, now: Timestamp, keep_runs_ms: i64) -> Result<(), StoreError> {
    store.prune(now, keep_runs_ms).await.map(|_| ())
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
pub async fn backup(store: &Store, to: &Path, now: Timestamp) -> Result<(), StoreError> {
    store.backup(to, now).await
}
