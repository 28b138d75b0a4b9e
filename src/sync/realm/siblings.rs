//! Realms of one directory wait for each other: who is refused as still being in one of them is taken over once that has let go.

use super::session::PreparedSession;
use crate::model::{RealmId, RealmRow, State, StateReason, User};
use crate::runs::RunFailure;
use crate::store::StoreError;
use crate::sync::engine::Engine;

/// Whether a realm's user is to be had by a realm of the same directory.
pub(in crate::sync) fn let_go(user: &User, from: &RealmRow) -> bool {
    let left = user.state == State::Suspended && user.state_reason == Some(StateReason::OutOfScope);
    left || from.orphaned
}

impl Engine {
    /// Whether a realm refuses somebody as still being in a sibling that has let go meanwhile.
    pub(in crate::sync) async fn may_take_over(
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

    /// Whether a realm whose directory told nothing has to look at somebody all the same: the same, or something was done by hand
    /// since the last look.
    pub(in crate::sync) async fn waits_no_longer(
        &self,
        row: &RealmRow,
        prepared: &PreparedSession,
    ) -> Result<bool, RunFailure> {
        let siblings = self.siblings(row, &prepared.directory_key()).await?;
        Ok(self.may_take_over(row, &siblings).await?
            || row.due && !self.store.to_look_at(&row.id).await?.is_empty())
    }

    /// Marks the siblings of a realm that has let people go as due, if they wait for any of them.
    pub(in crate::sync) async fn wake_siblings(&self, of: &RealmId) -> Result<(), StoreError> {
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

    /// After a plan was applied that suspended so many: siblings wait for whom it let go, and one may have let go of others while it
    /// was made. What was applied stays so whatever becomes of this: whoever is not woken goes on by its own schedule.
    pub(in crate::sync) async fn after_applied(
        &self,
        row: &RealmRow,
        directory: &str,
        suspended: i64,
    ) {
        let woken = self.wake_all(row, directory, suspended > 0).await;
        not_woken(&row.id, woken);
    }

    /// The same after an approval.
    pub(in crate::sync) async fn after_approved(&self, realm: &RealmId) {
        let woken = self.wake_siblings(realm).await;
        not_woken(realm, woken);
    }

    async fn wake_all(
        &self,
        row: &RealmRow,
        directory: &str,
        let_go: bool,
    ) -> Result<(), StoreError> {
        if let_go {
            self.wake_siblings(&row.id).await?;
        }
        let siblings = self.siblings(row, directory).await?;
        if self.may_take_over(row, &siblings).await? {
            self.store.set_due(&row.id, true).await?;
        }
        Ok(())
    }

    /// The realm's siblings.
    pub(in crate::sync) async fn siblings(
        &self,
        row: &RealmRow,
        directory: &str,
    ) -> Result<Vec<RealmRow>, StoreError> {
        let rows = self.store.realms().await?;
        Ok(rows
            .into_iter()
            .filter(|r| r.id != row.id && r.directory.as_deref() == Some(directory))
            .collect())
    }
}

fn not_woken(realm: &RealmId, woken: Result<(), StoreError>) {
    if let Err(error) = woken {
        tracing::warn!(%realm, %error, "{realm}: what was applied stays applied, but realms of the same directory could not be told of it, and go on by their schedule: {error}");
    }
}
