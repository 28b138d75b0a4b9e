//! What deltas came to of late, for `status`.

use super::db::on;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::RealmId;

/// Runs that are looked through, newest first: `status` must not walk through a year of pushes.
const LOOKED_THROUGH: i64 = 2_000;

/// What deltas of a realm came to of late.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct DeltaHistory {
    /// When the newest delta that was kept was decided; `None`: none of late.
    pub last_delta_at: Option<Timestamp>,
    /// What the newest full pass that counted drift found, and when; `None`: none of late.
    pub drift: Option<(i64, Timestamp)>,
    /// Whom that pass found changed although their entries did not change; `None`: it did not count them.
    pub computed: Option<i64>,
}

impl Store {
    /// What deltas of a realm came to of late.
    pub async fn delta_history(&self, realm: &RealmId) -> Result<DeltaHistory, StoreError> {
        const DELTA: &str = "
            SELECT MAX(decided_at) FROM (SELECT mode, outcome, decided_at FROM runs WHERE realm = $1 ORDER BY started_at DESC LIMIT $2) AS late
            WHERE mode = 'delta' AND outcome IN ('applied', 'unchanged')";
        const DRIFT: &str = "
            SELECT drift, computed, decided_at FROM (SELECT drift, computed, decided_at FROM runs WHERE realm = $1 ORDER BY started_at DESC LIMIT $2) AS late
            WHERE drift IS NOT NULL AND decided_at IS NOT NULL ORDER BY decided_at DESC LIMIT 1";
        let mut link = self.db.read().await?;
        let delta = on!(link, c => sqlx::query_scalar::<_, Option<i64>>(DELTA).bind(realm.as_str()).bind(LOOKED_THROUGH).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("read deltas"))?;
        let drift = on!(link, c => sqlx::query_as::<_, (i64, Option<i64>, i64)>(DRIFT).bind(realm.as_str()).bind(LOOKED_THROUGH).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read drift"))?;
        Ok(DeltaHistory {
            last_delta_at: delta.map(Timestamp),
            drift: drift.map(|(count, _, at)| (count, Timestamp(at))),
            computed: drift.and_then(|(_, computed, _)| computed),
        })
    }
}
