//! A realm's turn: the lock under which a run, or a decision on a held plan, is made.

use crate::clock::Timestamp;
use crate::model::RealmId;
use crate::store::{RealmLock, Store, StoreError};

/// A realm that is ours until this is dropped: nobody else runs it, here or in another process.
pub(crate) struct RealmTurn {
    /// What is written through it is written under the lock, or fails as [`StoreError::TakenOver`].
    pub store: Store,
    lock: RealmLock,
}

impl RealmTurn {
    /// Waits a moment for a run that is under way, then is [`StoreError::Busy`]. What a daemon that stood still left under way in
    /// the realm is ended.
    pub async fn take(store: &Store, realm: &RealmId, now: Timestamp) -> Result<Self, StoreError> {
        let lock = store.lock_realm(realm).await?;
        Self::under(lock, store, realm, now).await
    }

    /// The same without waiting.
    pub async fn try_take(
        store: &Store,
        realm: &RealmId,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let lock = store.try_lock_realm(realm).await?;
        Self::under(lock, store, realm, now).await
    }

    async fn under(
        lock: RealmLock,
        store: &Store,
        realm: &RealmId,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let store = store.fenced(&lock);
        if let Some(former) = lock.taken_over_from() {
            store.end_abandoned(realm, Some(former), now).await?;
        }
        Ok(Self { store, lock })
    }

    /// Work on the realm. It is dropped as soon as another daemon has taken the realm, since this one stood still.
    pub async fn work<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.lock.lost() => Err(StoreError::TakenOver.into()),
        }
    }
}
