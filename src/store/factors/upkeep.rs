//! What verifications leave behind: who is locked, who was seen, and what is forgotten after a time.

use crate::clock::Timestamp;
use crate::factors::throttle::DELAYED_FROM;
use crate::model::{AuditEntry, RealmId, UserId};
use crate::store::audit::{AuditKey, append};
use crate::store::db::on;
use crate::store::{ANSWERED_FOR, Store, StoreError};

/// Verifications are kept for so long, in milliseconds.
const KEPT: i64 = 90 * 86_400_000;

/// What is looked back at for an alarm, in milliseconds.
const HOUR: i64 = 3_600_000;

/// Rows that go in one transaction.
const BATCH: i64 = 2000;

/// Guesses in a realm, within the last hour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guesses {
    /// Where.
    pub realm: RealmId,
    /// Users who were locked.
    pub locked: i64,
    /// Users who came into a delay.
    pub delayed: i64,
    /// So many of the realm's users are in a delay or locked that somebody is guessing, and not typing badly.
    pub alarm: bool,
}

impl Store {
    /// Lets a user guess again: what was counted counts no more. `false`: nothing held them back.
    pub async fn unlock_user(
        &self,
        user: UserId,
        now: Timestamp,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<bool, StoreError> {
        const SQL: &str = "
            UPDATE user_factors SET in_a_row = 0, failed_at = NULL, locked_at = NULL, counted_from = $2
            WHERE user_id = $1 AND (locked_at IS NOT NULL OR in_a_row > 0)";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("unlock a user"))?;
        if rows == 0 {
            return Ok(false);
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Where users were locked, or came into a delay, within the last hour.
    pub async fn guesses(&self, now: Timestamp) -> Result<Vec<Guesses>, StoreError> {
        const SQL: &str = "
            SELECT u.realm, COUNT(CASE WHEN f.locked_at > $1 THEN 1 END), COUNT(CASE WHEN f.failed_at > $1 AND f.in_a_row >= $2 THEN 1 END)
            FROM (SELECT user_id, locked_at, failed_at, in_a_row FROM user_factors WHERE locked_at IS NOT NULL AND locked_at > $1
                  UNION SELECT user_id, locked_at, failed_at, in_a_row FROM user_factors WHERE in_a_row >= 5 AND failed_at > $1) f
            JOIN users u ON u.id = f.user_id GROUP BY u.realm ORDER BY u.realm";
        let since = now.0.saturating_sub(HOUR);
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (String, i64, i64)>(SQL).bind(since).bind(i64::from(DELAYED_FROM)).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("count who guesses"))?;
        drop(link);
        let mut all = vec![];
        for (realm, locked, delayed) in rows {
            let realm = RealmId::from(realm);
            // Five of a hundred; of a handful of users one is no alarm.
            let alarm = locked >= 10
                || delayed >= 3 && {
                    let enough = delayed * 20 + 1;
                    self.not_removed_up_to(&realm, enough).await? < enough
                };
            all.push(Guesses {
                realm,
                locked,
                delayed,
                alarm,
            });
        }
        Ok(all)
    }

    /// Forgets answers that are given no more, and what tokens made more than an hour ago.
    pub async fn forget_answers(&self, now: Timestamp) -> Result<(), StoreError> {
        const ANSWERS: &str = "DELETE FROM answers WHERE (token, key) IN (SELECT token, key FROM answers WHERE at <= $1 LIMIT $2)";
        const MADE: &str = "DELETE FROM made_by_tokens WHERE (token, minute) IN (SELECT token, minute FROM made_by_tokens WHERE minute < $1 LIMIT $2)";
        self.batches(ANSWERS, now.0.saturating_sub(ANSWERED_FOR))
            .await?;
        self.batches(MADE, now.0.saturating_sub(HOUR) / 60_000)
            .await
    }

    /// Forgets verifications that are older than ninety days.
    pub async fn forget_verifications(&self, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM verifications WHERE seq IN (SELECT seq FROM verifications WHERE at < $1 LIMIT $2)";
        self.batches(SQL, now.0.saturating_sub(KEPT)).await
    }

    /// Forgets what was noted of users in the moment in which they were removed.
    pub async fn forget_removed(&self) -> Result<(), StoreError> {
        const SQL: &str = "
            DELETE FROM user_factors WHERE user_id IN (
                SELECT f.user_id FROM user_factors f JOIN users u ON u.id = f.user_id WHERE u.state = 'removed' AND $1 = $1 LIMIT $2)";
        const PAGES: &str = "
            DELETE FROM search_pages WHERE user_id IN (
                SELECT p.user_id FROM search_pages p JOIN users u ON u.id = p.user_id WHERE u.state = 'removed' AND $1 = $1 LIMIT $2)";
        self.batches(SQL, 0).await?;
        self.batches(PAGES, 0).await
    }

    /// Some rows at a time, so that nobody waits for all of them.
    async fn batches(&self, sql: &'static str, before: i64) -> Result<(), StoreError> {
        loop {
            let mut tx = self.db.begin().await?;
            let rows = on!(tx, c => sqlx::query(sql).bind(before).bind(BATCH).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("forget old rows"))?;
            tx.commit().await?;
            if rows == 0 {
                return Ok(());
            }
        }
    }
}
