//! The pause of a realm whose run is being undone, and what becomes of it when the process ends in the middle.
//!
//! ```text
//!                       ┌─ applied, or held ──▶ paused until resumed
//! (as it was) ─▶ meanwhile
//!                       ├─ failed, stopped ───▶ as it was
//!                       └─ the process ended ─▶ whoever sweeps its run settles it, by how that run ended
//! ```
//!
//! Nobody else pauses a realm until just that instant, so that the end of the pause says whose it is.

use super::{Engine, EngineError};
use crate::clock::Timestamp;
use crate::model::{Mode, Outcome, RealmRow};
use crate::store::StoreError;

/// The pause lasts so long, should nobody settle it: an undo takes seconds.
const MEANWHILE_MS: i64 = 7 * 24 * 3_600_000 + 1;

impl Engine {
    /// Pauses a realm while a run of it is undone that began `now`, unless it is paused for good.
    pub(super) async fn pause_meanwhile(
        &self,
        row: &RealmRow,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        if !row.paused || row.paused_until.is_some() {
            let until = now.plus_ms(MEANWHILE_MS);
            self.store.pause(&row.id, Some(until), now).await?;
        }
        Ok(())
    }

    /// Nothing was undone.
    pub(super) async fn pause_as_before(&self, row: &RealmRow) -> Result<(), StoreError> {
        let now = self.clock.now();
        if row.paused {
            self.store.pause(&row.id, row.paused_until, now).await
        } else {
            self.store.resume(&row.id, now).await
        }
    }

    /// Settles the pauses of undos whose process ended in the middle. Cheap where there are none.
    pub async fn settle_pauses(&self) -> Result<(), StoreError> {
        for row in self.store.realms().await? {
            let Some(until) = row.paused_until.filter(|_| row.paused) else {
                continue;
            };
            let Some(undo) = self.store.last_run(&row.id).await? else {
                continue;
            };
            let is_its_own =
                undo.mode == Mode::Undo && until == undo.started_at.plus_ms(MEANWHILE_MS);
            if !is_its_own {
                continue;
            }
            let lock = match self.store.try_lock_realm(&row.id).await {
                Err(StoreError::Busy { .. }) => continue,
                lock => lock?,
            };
            let (store, now) = (self.store.fenced(&lock), self.clock.now());
            let realm = &row.id;
            if matches!(undo.outcome, Outcome::Applied | Outcome::Held) {
                store.pause(realm, None, now).await?;
                tracing::warn!(%realm, run = %undo.run, "{realm}: stays paused, since its next pass would do again what undo {} has put back or is to: mend the directory or the configuration, then `realmsync resume {realm}`", undo.run);
            } else {
                store.resume(realm, now).await?;
                tracing::warn!(%realm, run = %undo.run, "{realm}: runs again: undo {} had paused it and came to nothing", undo.run);
            }
        }
        Ok(())
    }
}
