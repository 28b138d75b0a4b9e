//! What is known before anything is read.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::model::{DirectoryId, IdForm, Policy, RealmId, RealmRow, User};
use crate::runs::RunFailure;
use crate::store::Store;
use crate::sync::engine::Engine;
use crate::sync::realm::session::PreparedSession;

/// What is known before anything is read, constant to the end.
pub(in crate::sync) struct Setting<'a> {
    pub engine: &'a Engine,
    pub row: &'a RealmRow,
    /// When the run began.
    pub now: Timestamp,
    /// The realm's own clock, milliseconds.
    pub(super) clock_ms: i64,
    /// Realms of the same directory whose users this one may meet.
    pub(super) neighbours: Vec<RealmRow>,
    pub(super) realm: &'a RealmConfig,
    pub(super) policy: Policy,
    /// How the directory prints its ids.
    pub(super) id_form: IdForm,
}

impl<'a> Setting<'a> {
    /// Of a pass that begins `now`. Asks the store for the neighbours.
    pub(super) async fn new(
        engine: &'a Engine,
        realm: &'a RealmConfig,
        row: &'a RealmRow,
        prepared: &PreparedSession,
        now: Timestamp,
    ) -> Result<Self, RunFailure> {
        let neighbours = engine.siblings(row, &prepared.directory_key()).await?;
        Ok(Self {
            engine,
            row,
            now,
            clock_ms: realm_clock(row, realm.policy.grace_ms, now),
            neighbours,
            realm,
            policy: prepared.policy.clone(),
            id_form: prepared.scope.id_form,
        })
    }

    /// Where the realm's users are. (The plan of a dry run lies in another one.)
    pub(in crate::sync) fn store(&self) -> &'a Store {
        &self.engine.store
    }

    /// The realm's id.
    pub(in crate::sync) fn id(&self) -> &'a RealmId {
        &self.row.id
    }

    /// The realm's users with these ids, read from the store; whom it does not hold is missing.
    pub(in crate::sync) async fn held(
        &self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, User>, RunFailure> {
        let users = self.store().users_by_directory_id(self.id(), ids).await?;
        Ok(users
            .into_iter()
            .filter_map(|u| u.directory_id.map(|id| (id, u)))
            .collect())
    }
}

/// The realm's own clock: between two complete passes at most a quarter of the grace counts, so that neither an outage nor
/// a clock that jumps removes anyone.
fn realm_clock(row: &RealmRow, grace_ms: i64, now: Timestamp) -> i64 {
    let passed = row
        .last_complete_at
        .map_or(0, |last| now.since_ms(last))
        .clamp(0, grace_ms / 4);
    row.clock_ms.saturating_add(passed)
}
