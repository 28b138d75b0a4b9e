//! What a run wanted said while somebody undoes it: on hold as long as the undo plan is open, dropped when it is applied, and
//! let go when it comes to nothing.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use super::db::{Tx, on};
use super::outbox::locks::in_order;
use super::outbox::text;
use super::rows::{bytes, places, uuid};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{RunId, UserId};

/// Users in one statement.
const LIST: usize = 500;

impl Store {
    /// Puts what a run wanted said and was not said yet on hold, for as long as the run that undoes it is open; what is being
    /// sent joins it if it comes back.
    pub async fn hold_jobs_for_undo(
        &self,
        undone: RunId,
        undo: RunId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const MARK: &str = "UPDATE runs SET undoes = $2 WHERE id = $1 AND outcome = 'running'";
        const HOLD: (&str, &str) = in_order!(
            "state = CASE WHEN state = 'waiting' THEN 'held' ELSE state END, held_by = 'undo', held_since = $2",
            "run = $1 AND state IN ('waiting', 'sending') AND held_by IS NULL",
            ""
        );
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(MARK).bind(bytes(undo)).bind(bytes(undone)).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("mark an undo"))?;
        let hold = text(&tx, HOLD.0, HOLD.1);
        on!(tx, c => sqlx::query(hold).bind(bytes(undone)).bind(now.0).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("hold messages"))?;
        tx.commit().await
    }

    /// Those of these users of a run whose number would be told by messages that `drop_jobs` drops.
    pub async fn untold_by_undo(
        &self,
        undone: RunId,
        users: &[UserId],
    ) -> Result<HashSet<UserId>, StoreError> {
        let mut untold = HashSet::new();
        let mut link = self.db.read().await?;
        for users in users.chunks(LIST) {
            let sql = format!(
                "SELECT DISTINCT user_id FROM jobs
                 WHERE run = $1 AND state IN ('waiting', 'held') AND uncertain = $2 AND type IN ('user.provision', 'user.reprovision')
                   AND user_id IN ({})",
                places(3, users.len())
            );
            let ids = on!(link, c => {
                let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(bytes(undone)).bind(false);
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("look for unsent messages"))?;
            for id in ids {
                untold.insert(UserId(uuid(&id)?));
            }
        }
        Ok(untold)
    }
}

/// Drops what a run wanted said and was not said yet. A number that was to be told may be told again: the next pass looks at its user.
pub(super) async fn drop_jobs(
    tx: &mut Tx,
    undone: RunId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const UNTOLD: &str = "
        UPDATE users SET phone_told = NULL, told = $2, fingerprint = NULL WHERE id IN (
            SELECT user_id FROM jobs WHERE run = $1 AND state IN ('waiting', 'held') AND uncertain = $2 AND type IN ('user.provision', 'user.reprovision'))";
    const DROP: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, last_error = 'undone', settled_at = $3, held_by = NULL, held_since = NULL
        WHERE run = $1 AND state IN ('waiting', 'held') AND uncertain = $2";
    on!(tx, c => sqlx::query(UNTOLD).bind(bytes(undone)).bind(false).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("drop messages"))?;
    on!(tx, c => sqlx::query(DROP).bind(bytes(undone)).bind(false).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("drop messages"))
}

/// Lets go what is held for undo runs that are neither under way nor held any more: in the transaction that ends one, so that
/// nothing stays behind wherever the process stops. After one that was applied that is what
/// has an attempt whose end is unknown.
pub(super) async fn release(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    const SQL: (&str, &str) = in_order!(
        "state = CASE WHEN state = 'held' THEN 'waiting' ELSE state END, next_attempt_at = $1,
         give_up_at = give_up_at + ($1 - COALESCE(held_since, $1)), held_by = NULL, held_since = NULL",
        "state IN ('waiting', 'sending', 'held') AND held_by = 'undo'
         AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.undoes = jobs.run AND r.outcome IN ('running', 'held'))",
        ""
    );
    let sql = text(tx, SQL.0, SQL.1);
    on!(tx, c => sqlx::query(sql).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("release messages"))
}
