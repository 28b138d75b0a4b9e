//! Time that counts towards `retry-for`, and times that a wrong clock wrote (design § 3.4, § 6).

use super::locks::{self, in_order};
use super::text;
use crate::clock::Timestamp;
use crate::model::RealmId;
use crate::store::db::{Tx, on};
use crate::store::{Store, StoreError};

/// No retry and no `Retry-After` is further away than an hour; what is was written by a clock that was ahead.
const FURTHEST_MS: i64 = 3_600_000 + 60_000;
/// The clocks of machines that share a store differ by less.
const CLOCKS_DIFFER_MS: i64 = 60_000;
/// Between two looks of a worker lies less than this.
const BETWEEN_LOOKS_MS: i64 = 30_000;
/// What one process's own clocks differ by, when none was set.
const NOISE_MS: i64 = 1_000;

/// A realm for which messages can be sent now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The realm.
    pub realm: RealmId,
    /// `retry-for` of its receiver.
    pub retry_for_ms: i64,
    /// How much of the time since the last look did not pass (a clock was set forward by so much; negative: back). `None`: this
    /// process did not look before, and all since the store's last look counts as lost.
    pub lost_ms: Option<i64>,
}

impl Store {
    /// Notes that messages of these realms can be sent now. What was lost of the time since the last look moves the end of
    /// `retry-for` on; what a clock that was ahead wrote counts from now. Writes only where messages are open, a transaction for each
    /// realm. Gives the realms that it could not note, since somebody has their rows on PostgreSQL: to be noted again.
    pub async fn keep_time(
        &self,
        realms: &[Counted],
        now: Timestamp,
    ) -> Result<Vec<RealmId>, StoreError> {
        const OPEN: &str = "
            SELECT r.id, r.tried_until FROM realms r
            WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.realm = r.id AND j.state IN ('waiting', 'sending'))";
        const KEEP: &str = "UPDATE realms SET tried_until = $2 WHERE id = $1";
        let mut link = self.db.read().await?;
        let open = on!(link, c => sqlx::query_as::<_, (String, Option<i64>)>(OPEN).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for open messages"))?;
        drop(link);
        let mut busy = Vec::new();
        for (realm, tried_until) in open {
            let Some(counted) = realms.iter().find(|c| c.realm.as_str() == realm) else {
                continue;
            };
            let lost = match counted.lost_ms {
                Some(lost) if lost.abs() < NOISE_MS => 0,
                Some(lost) => lost,
                None => match now.since_ms(Timestamp(tried_until.unwrap_or(0))) {
                    between if between.abs() < BETWEEN_LOOKS_MS => 0,
                    lost => lost,
                },
            };
            let mut tx = self.db.begin().await?;
            if !locks::free_realm(&mut tx, &counted.realm).await? {
                busy.push(counted.realm.clone());
                continue;
            }
            if lost != 0 {
                locks::open_jobs(&mut tx, &[realm.as_str()]).await?;
            }
            if lost > 0 {
                move_on(&mut tx, &counted.realm, lost, now).await?;
            } else if lost < 0 {
                move_back(&mut tx, counted, -lost, now).await?;
            }
            from_now(&mut tx, &counted.realm, now).await?;
            on!(tx, c => sqlx::query(KEEP).bind(realm.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("note until when messages were sent"))?;
            tx.commit().await?;
        }
        Ok(busy)
    }
}

/// `lost` of the time before `now` did not pass. Nobody lost more than there was since their message was made. What is held moves on
/// when it is released.
async fn move_on(
    tx: &mut Tx,
    realm: &RealmId,
    lost: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE jobs SET give_up_at = give_up_at + CASE WHEN created_at > $2 THEN 0 WHEN $2 - created_at < $3 THEN $2 - created_at ELSE $3 END
        WHERE realm = $1 AND state IN ('waiting', 'sending')";
    on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(now.0).bind(lost).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("move retry-for on"))
}

/// The clock was set back by `back`: what was to come is that much nearer, and nothing is tried for longer than `retry-for` from now.
async fn move_back(
    tx: &mut Tx,
    counted: &Counted,
    back: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const NEXT: &str = "
        UPDATE jobs SET next_attempt_at = CASE WHEN next_attempt_at - $3 > $2 THEN next_attempt_at - $3 ELSE $2 END
        WHERE realm = $1 AND state = 'waiting' AND next_attempt_at > $2";
    const END: &str = "UPDATE jobs SET give_up_at = $2 WHERE realm = $1 AND state IN ('waiting', 'sending') AND give_up_at > $2";
    let realm = counted.realm.as_str();
    on!(tx, c => sqlx::query(NEXT).bind(realm).bind(now.0).bind(back).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("bring messages forward"))?;
    let end = now.plus_ms(counted.retry_for_ms);
    on!(tx, c => sqlx::query(END).bind(realm).bind(end.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("bring retry-for forward"))
}

/// What no right clock can have written is due now: also where nobody saw the clock being set, since no daemon ran.
async fn from_now(tx: &mut Tx, realm: &RealmId, now: Timestamp) -> Result<(), StoreError> {
    const SQL: (&str, &str) = in_order!(
        "next_attempt_at = $2",
        "realm = $1 AND state = 'waiting' AND next_attempt_at > $2
         AND (next_attempt_at > $3 OR created_at > $4 AND attempts = 0 AND last_error IS NULL)",
        " SKIP LOCKED"
    );
    let sql = text(tx, SQL.0, SQL.1);
    let (furthest, made) = (now.plus_ms(FURTHEST_MS), now.plus_ms(CLOCKS_DIFFER_MS));
    on!(tx, c => sqlx::query(sql).bind(realm.as_str()).bind(now.0).bind(furthest.0).bind(made.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("bring messages forward"))
}
