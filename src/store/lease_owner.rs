//! This process as an owner of leases: what the database knows it by, which realms it runs, and who renews and releases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::model::RealmId;

/// A lease lasts so long unless it is renewed.
pub(super) const LEASE_MS: i64 = 15_000;
/// Releases are small statements; who waits longer for them waits in vain.
const LAST_RELEASES: Duration = Duration::from_secs(1);

/// The leases of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Realms under a run in this process.
    here: Mutex<HashMap<RealmId, Arc<tokio::sync::Mutex<()>>>>,
    owner: LeaseOwner,
    /// Who renew and release.
    keepers: TaskTracker,
}

/// A process as the database knows it.
#[derive(Clone, Debug)]
pub(super) struct LeaseOwner {
    /// What no other process has.
    pub(super) id: String,
    /// For people: host:pid.
    pub(super) name: String,
}

impl LeaseOwner {
    /// What the server's list of sessions shows.
    pub(super) fn session_name(id: &str) -> String {
        format!("realmsync {id}")
    }
}

impl Default for Leases {
    fn default() -> Self {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        Self(Arc::new(Inner {
            here: Mutex::default(),
            owner: LeaseOwner {
                id: Uuid::now_v7().to_string(),
                name: format!("{host}:{}", std::process::id()),
            },
            keepers: TaskTracker::new(),
        }))
    }
}

impl Leases {
    pub(super) fn owner(&self) -> &LeaseOwner {
        &self.0.owner
    }

    /// Waits until what was let go is free for others too.
    pub(super) async fn released(&self) {
        self.0.keepers.close();
        let _tried = tokio::time::timeout(LAST_RELEASES, self.0.keepers.wait()).await;
    }

    /// Renews and releases in the background.
    pub(super) fn keep(&self, keeping: impl Future<Output = ()> + Send + 'static) {
        self.0.keepers.spawn(keeping);
    }

    /// What a run of the realm in this process holds.
    pub(super) fn here(&self, realm: &RealmId) -> Arc<tokio::sync::Mutex<()>> {
        let mut here = self.0.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.entry(realm.clone()).or_default().clone()
    }
}
