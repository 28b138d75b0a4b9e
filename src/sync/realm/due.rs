//! Realms that something waits for.

use crate::clock::Timestamp;
use crate::model::{RealmId, RealmRow};
use crate::runs::RunError;
use crate::sync::engine::Engine;

impl Engine {
    /// The realms that are marked as due, and are kept from going on by nothing. Of those that do not live by deltas only the ones from
    /// whose plans something is left out: nothing else marks them for a run at once.
    pub async fn due(&self, now: Timestamp) -> Result<Vec<RealmId>, RunError> {
        let rows = self.store.realms().await?;
        let at_once = |row: &RealmRow| row.cursor.is_some() || row.left_out_until.is_some();
        let free = |row: &RealmRow| row.due && at_once(row) && !in_the_way(row, now);
        Ok(rows.into_iter().filter(free).map(|row| row.id).collect())
    }
}

/// Whether a delta must wait: until a plan is decided, or a pause is over.
pub(in crate::sync) fn in_the_way(row: &RealmRow, now: Timestamp) -> bool {
    row.held.is_some() || row.is_paused(now) || row.orphaned
}
