//! The daemon's store: opened once for writing under the lock, and what the daemon does with it over several statements.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::clock::Timestamp;
use crate::config::{Environment, StoreConfig};
use crate::store::{Access, Store, StoreError, StoreLock, lock};

/// `run` waits this long for a command that writes in its own process.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The open store with the lock that a daemon holds for its life.
#[derive(Debug)]
pub struct Ledger {
    /// The store.
    pub store: Store,
    /// Dropped with the daemon, after the store.
    _lock: StoreLock,
}

/// Takes the lock and opens the store for writing.
pub async fn open(
    config: &StoreConfig,
    environment: &Environment,
    now: Timestamp,
) -> Result<Ledger, StoreError> {
    let of = config.clone();
    // Waits in the kernel's time, on a thread of its own: signals are heard meanwhile.
    let lock = spawn_blocking(move || lock(&of, LOCK_WAIT))
        .await
        .map_err(|e| StoreError::Nonsense(format!("taking the lock broke off: {e}")))??;
    let store = Store::open(config, environment, Access::Write, now).await?;
    Ok(Ledger { store, _lock: lock })
}
