//! Realms that may not send: paused or orphaned. `retry-for` stands still meanwhile (design § 3.4).

use super::{locks, text};
use crate::clock::Timestamp;
use crate::model::RealmId;
use crate::store::db::{Tx, on};
use crate::store::{Store, StoreError};

/// Notes which realms stand still since now, and gives those that go on the time back. Idempotent: called wherever a
/// realm is paused, resumed or orphaned, and by the worker now and then (a pause may end by itself).
///
/// Locks the open messages of realms that go on. A transaction that has locked messages before says `only` in which realm, and has all
/// that is open there.
pub(in crate::store) async fn reckon_standing(
    tx: &mut Tx,
    only: Option<&RealmId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    // No daemon may have run before, and then nothing could be sent either.
    macro_rules! stand {
        ($lock:literal) => {
            concat!(
                "UPDATE realms SET still_since = CASE WHEN tried_until < $1 THEN tried_until ELSE $1 END WHERE id IN (
                    SELECT id FROM realms
                    WHERE ($2 IS NULL OR id = $2) AND still_since IS NULL AND (orphaned OR paused AND (paused_until IS NULL OR paused_until > $1)) ORDER BY id",
                $lock,
                ")"
            )
        };
    }
    macro_rules! goes_on {
        ($lock:literal) => {
            concat!(
                "SELECT id FROM realms
                 WHERE ($2 IS NULL OR id = $2) AND still_since IS NOT NULL AND NOT (orphaned OR paused AND (paused_until IS NULL OR paused_until > $1)) ORDER BY id",
                $lock
            )
        };
    }
    // What came into being meanwhile is moved on from there; what is held moves on when released, from the time it was held.
    const MOVE: &str = "
        UPDATE jobs SET give_up_at = give_up_at + (
            SELECT CASE WHEN COALESCE(jobs.held_since, $1) <= s.from_at THEN 0 ELSE COALESCE(jobs.held_since, $1) - s.from_at END
            FROM (SELECT CASE WHEN r.still_since > jobs.created_at THEN r.still_since ELSE jobs.created_at END AS from_at
                  FROM realms r WHERE r.id = jobs.realm) s)
        WHERE state IN ('waiting', 'sending', 'held') AND realm = $2";
    // All until now is given back: it must not be a second time (see `Store::keep_time`).
    const GO: &str = "UPDATE realms SET still_since = NULL, tried_until = $2 WHERE id = $1";
    // What somebody else has is reckoned by them, or by the next look. Two that reckon at once must not give the time back twice.
    let stand = text(tx, stand!(""), stand!(" FOR NO KEY UPDATE SKIP LOCKED"));
    let goes_on = text(tx, goes_on!(""), goes_on!(" FOR NO KEY UPDATE SKIP LOCKED"));
    let only = only.map(RealmId::as_str);
    on!(tx, c => sqlx::query(stand).bind(now.0).bind(only).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("note realms that stand still"))?;
    let realms =
        on!(tx, c => sqlx::query_scalar::<_, String>(goes_on).bind(now.0).bind(only).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for realms that go on"))?;
    if realms.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = realms.iter().map(String::as_str).collect();
    locks::open_jobs(tx, &ids).await?;
    for realm in realms {
        on!(tx, c => sqlx::query(MOVE).bind(now.0).bind(&realm).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("move retry-for on"))?;
        on!(tx, c => sqlx::query(GO).bind(&realm).bind(now.0).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("let a realm go on"))?;
    }
    Ok(())
}

impl Store {
    /// The realms that may send now: neither orphaned nor paused. Of directory realms only those of the daemon's own file, since
    /// only that says where their messages go.
    pub async fn sending_realms(
        &self,
        ours: &[RealmId],
        now: Timestamp,
    ) -> Result<Vec<RealmId>, StoreError> {
        const CHANGED: &str = "
            SELECT COUNT(*) FROM realms
            WHERE (still_since IS NULL) = (orphaned OR paused AND (paused_until IS NULL OR paused_until > $1))";
        const SQL: &str = "SELECT id, kind = 'directory' FROM realms WHERE NOT (orphaned OR paused AND (paused_until IS NULL OR paused_until > $1)) ORDER BY id";
        let mut link = self.db.read().await?;
        let changed = on!(link, c => sqlx::query_scalar::<_, i64>(CHANGED).bind(now.0).fetch_one(&mut *c).await).map_err(StoreError::from_sqlx("read realms"))?;
        let realms = on!(link, c => sqlx::query_as::<_, (String, bool)>(SQL).bind(now.0).fetch_all(&mut *c).await).map_err(StoreError::from_sqlx("read realms"))?;
        drop(link);
        if changed > 0 {
            let mut tx = self.db.begin().await?;
            reckon_standing(&mut tx, None, now).await?;
            tx.commit().await?;
        }
        Ok(realms
            .into_iter()
            .map(|(realm, directory)| (RealmId::from(realm), directory))
            .filter(|(realm, directory)| !directory || ours.contains(realm))
            .map(|(realm, _)| realm)
            .collect())
    }
}
