//! Who runs a realm: one run at a time in this process, and on PostgreSQL one process, by a lease.
//!
//! ```text
//!          take: a new token               renewed every 5 s for 15 s more
//!   (free) ─────────────────▶ held ◀──────────────────────────────────────┐
//!     ▲                        │ └────────────────────────────────────────┘
//!     └───────release──────────┤
//!                              └─ until is past, or its session ended ──▶ another takes it: a higher token
//! ```
//!
//! The clock is the database's. Every transaction of a run begins with `fence(token)` ([`Store::fenced`]), which fails when
//! another has taken the lease, and which keeps it from being taken until the transaction ends. So a process that stood still
//! and wakes up can write nothing, however long it slept and wherever it was.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPool;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::db::Db;
use super::lease_rows::{HeldLease, LeaseRequest};
use super::{Store, StoreError};
use crate::model::RealmId;

/// Three renewals may fail before anybody may take it.
const RENEW: Duration = Duration::from_millis(4_500);
/// A renewal that failed is tried again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// A run waits so long for another to end: for a look at somebody, an end of a hold, a session whose process just died.
const WAIT: Duration = Duration::from_secs(3);
/// Held for as long as a run of the realm goes on.
#[derive(Debug)]
pub struct RealmLock {
    /// `None`: SQLite.
    lease: Option<Lease>,
    _here: OwnedMutexGuard<()>,
}

#[derive(Debug)]
struct Lease {
    token: i64,
    former: Option<String>,
    lost: CancellationToken,
    /// Lets it go when dropped.
    _release: DropGuard,
}

impl RealmLock {
    /// Who held the lease before and did not let it go: it ended, or stands still.
    pub fn taken_over_from(&self) -> Option<&str> {
        self.lease.as_ref()?.former.as_deref()
    }

    /// Comes when another has taken the lease, since this process stood still; never on SQLite.
    pub async fn lost(&self) {
        match &self.lease {
            Some(lease) => lease.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Store {
    /// Takes a realm for a run, and waits a moment for it; `Busy` when one is under way, here or in another process.
    pub async fn lock_realm(&self, realm: &RealmId) -> Result<RealmLock, StoreError> {
        self.take_realm(realm, WAIT).await
    }

    /// The same for what can wait: it does not.
    pub async fn try_lock_realm(&self, realm: &RealmId) -> Result<RealmLock, StoreError> {
        self.take_realm(realm, Duration::ZERO).await
    }

    async fn take_realm(&self, realm: &RealmId, wait: Duration) -> Result<RealmLock, StoreError> {
        let end = Instant::now() + wait;
        let here = tokio::time::timeout(wait, self.leases.here(realm).lock_owned())
            .await
            .map_err(|_| StoreError::Busy {
                what: format!("realm `{realm}`"),
                holder: "a run of it is under way".into(),
            })?;
        let Db::Postgres { pool, .. } = &self.db else {
            return Ok(RealmLock {
                lease: None,
                _here: here,
            });
        };
        let mut taking = LeaseRequest::begin(pool, realm, self.leases.owner()).await?;
        let kept = loop {
            match taking.take().await {
                Err(StoreError::Busy { .. }) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
                Ok(kept) => break kept,
            }
        };
        let (lost, release) = (CancellationToken::new(), CancellationToken::new());
        let (token, former) = (kept.token, taking.former.take());
        self.leases.keep(keep(
            pool.clone(),
            kept,
            taking.realm.clone(),
            lost.clone(),
            release.clone(),
        ));
        Ok(RealmLock {
            lease: Some(Lease {
                token,
                former,
                lost,
                _release: release.drop_guard(),
            }),
            _here: here,
        })
    }

    /// The same store for a run: every transaction finds the lease as it was taken, or fails as [`StoreError::TakenOver`].
    #[must_use]
    pub fn fenced(&self, lock: &RealmLock) -> Self {
        let mut store = self.clone();
        if let Db::Postgres { fence, .. } = &mut store.db {
            *fence = lock.lease.as_ref().map(|lease| lease.token);
        }
        store
    }
}

/// Renews a lease until it is let go, or lost.
async fn keep(
    pool: PgPool,
    mut kept: HeldLease,
    realm: RealmId,
    lost: CancellationToken,
    release: CancellationToken,
) {
    let mut pause = RENEW;
    loop {
        tokio::select! {
            biased;
            () = release.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match kept.renew(&pool).await {
            Ok(true) => RENEW,
            Ok(false) => {
                tracing::warn!(%realm, "{realm}: another daemon took the realm over, since this one did not renew its lease in time; what was under way here ends and writes nothing");
                lost.cancel();
                return;
            }
            Err(error) => {
                tracing::warn!(%realm, %error, "{realm}: the lease cannot be renewed, and is tried again: {error}");
                RENEW_AGAIN
            }
        };
    }
    // Whoever comes next need not wait for its end; failing that, they notice that the session is gone.
    kept.release().await;
}
