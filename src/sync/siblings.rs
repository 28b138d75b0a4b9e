//! Realms of one directory wait for each other: who is refused as still being in one of them is taken over once that has let go.

use super::pass::Pass;
use super::prepare::{PassError, Prepared};
use super::{Engine, EngineError};
use crate::clock::Timestamp;
use crate::model::{ChangeKind, RealmId, RealmRow, State, StateReason, User};
use crate::store::StoreError;

/// Whether a realm's user is to be had by a realm of the same directory.
pub(super) fn let_go(user: &User, from: &RealmRow) -> bool {
    let left = user.state == State::Suspended && user.state_reason == Some(StateReason::OutOfScope);
    left || from.orphaned
}

impl Engine {
    /// Whether a realm refuses somebody as still being in a sibling that has let go meanwhile.
    pub(super) async fn may_take_over(
        &self,
        row: &RealmRow,
        siblings: &[RealmRow],
    ) -> Result<bool, StoreError> {
        if siblings.is_empty() {
            return Ok(false);
        }
        let refused = self.store.refused_as_elsewhere(&row.id).await?;
        if refused.is_empty() {
            return Ok(false);
        }
        let users = self.store.same_id_elsewhere(&row.id, &refused).await?;
        let kept = |id| {
            users.iter().any(|u| {
                u.directory_id == Some(id)
                    && siblings.iter().any(|s| s.id == u.realm && !let_go(u, s))
            })
        };
        Ok(refused.into_iter().any(|id| !kept(id)))
    }

    /// The same of a realm whose directory told nothing.
    pub(super) async fn waits_no_longer(
        &self,
        row: &RealmRow,
        prepared: &Prepared,
    ) -> Result<bool, PassError> {
        let siblings = self.siblings(row, &prepared.directory_key()).await?;
        Ok(self.may_take_over(row, &siblings).await?)
    }

    /// Marks the siblings of a realm that has let people go as due, if they wait for any of them.
    pub(super) async fn wake_siblings(&self, of: &RealmId) -> Result<(), StoreError> {
        let rows = self.store.realms().await?;
        let Some(directory) = rows.iter().find(|r| r.id == *of).map(|r| &r.directory) else {
            return Ok(());
        };
        let same = |r: &&RealmRow| directory.is_some() && r.directory == *directory;
        for row in rows
            .iter()
            .filter(same)
            .filter(|r| !r.orphaned && r.id != *of)
        {
            let siblings: Vec<RealmRow> = rows
                .iter()
                .filter(same)
                .filter(|r| r.id != row.id)
                .cloned()
                .collect();
            if self.may_take_over(row, &siblings).await? {
                self.store.set_due(&row.id, true).await?;
            }
        }
        Ok(())
    }

    /// The realms that are marked as due, live by deltas, and are kept from going on by nothing.
    pub async fn due(&self, now: Timestamp) -> Result<Vec<RealmId>, EngineError> {
        let rows = self.store.realms().await?;
        let free = |row: &RealmRow| {
            row.due && row.cursor.is_some() && !super::follow::in_the_way(row, now)
        };
        Ok(rows.into_iter().filter(free).map(|row| row.id).collect())
    }
}

impl Engine {
    /// After a plan was applied: siblings wait for whom it let go, and one may have let go of others while it was made. What was
    /// applied stays so whatever becomes of this: whoever is not woken goes on by its own schedule.
    pub(super) async fn after_applied(&self, pass: &Pass<'_>) {
        if !pass.neighbours.is_empty() {
            let woken = self.wake_all(pass).await;
            not_woken(&pass.row.id, woken.map_err(|error| error.message));
        }
    }

    /// The same after an approval.
    pub(super) async fn after_approved(&self, realm: &RealmId) {
        let woken = self.wake_siblings(realm).await;
        not_woken(realm, woken.map_err(|error| error.to_string()));
    }

    async fn wake_all(&self, pass: &Pass<'_>) -> Result<(), PassError> {
        if pass.plan.counts.of(ChangeKind::Suspended) > 0 {
            self.wake_siblings(&pass.row.id).await?;
        }
        let siblings = self
            .siblings(pass.row, &pass.prepared.directory_key())
            .await?;
        if self.may_take_over(pass.row, &siblings).await? {
            self.store.set_due(&pass.row.id, true).await?;
        }
        Ok(())
    }

    /// The realm's siblings.
    pub(super) async fn siblings(
        &self,
        row: &RealmRow,
        directory: &str,
    ) -> Result<Vec<RealmRow>, PassError> {
        let rows = self.store.realms().await?;
        Ok(rows
            .into_iter()
            .filter(|r| r.id != row.id && r.directory.as_deref() == Some(directory))
            .collect())
    }
}

fn not_woken(realm: &RealmId, woken: Result<(), String>) {
    if let Err(error) = woken {
        tracing::warn!(%realm, error, "{realm}: what was applied stays applied, but realms of the same directory could not be told of it, and go on by their schedule: {error}");
    }
}
