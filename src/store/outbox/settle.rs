//! What became of attempts, many in one transaction: one wait for the disk carries all that ended meanwhile.

use super::locks::{self, in_order};
use super::{JobRow, job_columns, text};
use crate::clock::Timestamp;
use crate::model::message_rules::{
    self, AttemptEnd, Becoming, Meanwhile, is_application, is_for_the_person,
};
use crate::model::{Job, JobId, JobState, Phone, RealmId};
use crate::store::db::{Tx, on};
use crate::store::{Store, StoreError};

/// One attempt that ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// The job as it was claimed.
    pub job: Job,
    /// How it ended.
    pub ending: AttemptEnd,
    /// When.
    pub now: Timestamp,
}

impl Settlement {
    /// It ended now, and what is to be waited for is waited for from now on: the clock may have been set since it was noted.
    pub fn from_now(&mut self, now: Timestamp) {
        if let AttemptEnd::Again {
            next_attempt_at, ..
        }
        | AttemptEnd::Later {
            next_attempt_at, ..
        } = &mut self.ending
        {
            *next_attempt_at = now.plus_ms(next_attempt_at.since_ms(self.now));
        }
        self.now = now;
    }
}

/// What became of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Accepted.
    Delivered,
    /// Refused for good.
    Final,
    /// Waits for the next attempt, or is held.
    Again,
    /// `retry-for` is over, or no attempt can be begun.
    Dead,
    /// Dead, since it cannot be read; the log says so already.
    Unreadable,
    /// Not needed any more.
    Dropped,
    /// Not this owner's any more: its lease was over, and another has it.
    Gone,
    /// Not settled: somebody has the user or the message just now. Settle it again.
    Deferred,
}

impl Store {
    /// Settles attempts in one transaction; the fates are in the order of the settlements. Waits for no other transaction on PostgreSQL.
    pub async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fate>, StoreError> {
        let mut tx = self.db.begin().await?;
        let jobs: Vec<_> = settlements
            .iter()
            .map(|s| (s.job.user, s.job.seq))
            .collect();
        let free = locks::free_jobs(&mut tx, &jobs).await?;
        let mut fates = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let held_up = free
                .as_ref()
                .is_some_and(|free| !free.contains(&settlement.job.seq));
            fates.push(if held_up {
                Fate::Deferred
            } else {
                settle_one(&mut tx, settlement).await?
            });
        }
        tx.commit().await?;
        Ok(fates)
    }
}

async fn settle_one(tx: &mut Tx, settlement: &Settlement) -> Result<Fate, StoreError> {
    // An acceptance counts even when the lease was over meanwhile; the attempt's number keeps a stranger's row alone otherwise.
    const ACCEPTED: &str = "
        UPDATE jobs SET state = 'delivered', body = NULL, last_error = NULL, lease_until = NULL, leased_by = NULL, held_by = NULL, held_since = NULL, settled_at = $2
        WHERE seq = $1 AND state IN ('sending', 'waiting', 'held', 'dead')";
    let Settlement { job, ending, now } = settlement;
    match ending {
        AttemptEnd::Accepted => {
            let rows = on!(tx, c => sqlx::query(ACCEPTED).bind(job.seq).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("settle a delivered message"))?;
            if rows == 0 {
                return Ok(Fate::Gone);
            }
            let there = is_application(job.r#type) && provisioned(tx, job).await?;
            if !there {
                erase_of_removed(tx, job.seq).await?;
            }
            Ok(Fate::Delivered)
        }
        _ => come_back(tx, job, ending, *now).await,
    }
}

/// The outside world knows this number now; `false`: the user was removed meanwhile, or is somebody else by now, and the receiver is
/// told to forget.
async fn provisioned(tx: &mut Tx, job: &Job) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE users SET phone_provisioned = COALESCE($2, phone_provisioned), provisioned = $3 WHERE id = $1 AND state <> 'removed'
          AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = $1 AND j.seq > $4 AND j.type = 'user.deprovision')";
    let phone = job.phone.as_ref().map(Phone::as_str);
    on!(tx, c => sqlx::query(SQL).bind(job.user.0.as_bytes().as_slice()).bind(phone).bind(true).bind(job.seq).execute(&mut *c).await.map(|r| r.rows_affected() > 0))
        .map_err(StoreError::from_sqlx("remember the provisioned phone"))
}

/// The user was removed while the message was under way: what its order needed goes now.
async fn erase_of_removed(tx: &mut Tx, seq: i64) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE jobs SET username = '', name_key = '', old_name_key = NULL, phone = NULL
        WHERE seq = $1 AND state NOT IN ('waiting', 'sending', 'held')
          AND EXISTS (SELECT 1 FROM users u WHERE u.id = jobs.user_id AND u.state = 'removed')";
    on!(tx, c => sqlx::query(SQL).bind(seq).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("erase a removed user's message"))
}

/// A job that is `sending` comes back without being accepted: what it is now depends on what happened meanwhile. One that cannot be
/// read, or whose user cannot, is put aside.
pub(super) async fn come_back(
    tx: &mut Tx,
    claimed: &Job,
    ending: &AttemptEnd,
    now: Timestamp,
) -> Result<Fate, StoreError> {
    match weigh(tx, claimed, ending, now).await {
        Err(error @ StoreError::Nonsense(_)) => {
            let of = (&claimed.realm, claimed.seq, claimed.attempts);
            put_aside(tx, of, ending, &error, now).await?;
            Ok(Fate::Unreadable)
        }
        fate => fate,
    }
}

/// A message that is `sending` (its realm, its place, the number of its attempt) is dead and visible, since it cannot be read: it must
/// not stop the others. Its body stays, for a retry once the row is mended.
pub(super) async fn put_aside(
    tx: &mut Tx,
    (realm, seq, attempts): (&RealmId, i64, i64),
    ending: &AttemptEnd,
    error: &StoreError,
    now: Timestamp,
) -> Result<(), StoreError> {
    const DEAD: &str = "
        UPDATE jobs SET state = 'dead', attempts = attempts - $3, uncertain = (uncertain OR $4), last_error = $5,
                        lease_until = NULL, leased_by = NULL, held_by = NULL, held_since = NULL, settled_at = $6
        WHERE seq = $1 AND attempts = $2 AND state = 'sending'";
    let untried = matches!(
        ending,
        AttemptEnd::NotTried | AttemptEnd::Later { .. } | AttemptEnd::GivenUp(_)
    );
    let unknown_end = matches!(
        ending,
        AttemptEnd::Interrupted
            | AttemptEnd::Again {
                unknown_end: true,
                ..
            }
    );
    let why = format!("it cannot be read: {error}");
    tracing::error!(%realm, seq, error = why, "a message is given up: {why}");
    on!(tx, c => sqlx::query(DEAD).bind(seq).bind(attempts).bind(i64::from(untried)).bind(unknown_end).bind(why.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("give an unreadable message up"))
}

async fn weigh(
    tx: &mut Tx,
    claimed: &Job,
    ending: &AttemptEnd,
    now: Timestamp,
) -> Result<Fate, StoreError> {
    const CURRENT: &str = concat!(
        "SELECT ",
        job_columns!(),
        " FROM jobs WHERE seq = $1 AND state = 'sending' AND attempts = $2"
    );
    // Without a fingerprint the next pass looks at the user, whatever the entry says; a plan that was made before is made anew.
    const UNTOLD: &str = "UPDATE users SET phone_told = NULL, told = $2, fingerprint = NULL, version = version + 1 WHERE id = $1";
    const DROPPED: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, uncertain = $2, attempts = $3, last_error = $4, lease_until = NULL, leased_by = NULL, held_by = NULL, held_since = NULL, settled_at = $5
        WHERE seq = $1";
    // The body is kept until the message is dropped or overtaken: the receiver may be mended, and an administrator can have it tried again.
    const OVER: &str = "
        UPDATE jobs SET state = $6, body = CASE WHEN $7 THEN NULL ELSE body END, uncertain = $2, attempts = $3, last_error = $4, lease_until = NULL, leased_by = NULL, held_by = NULL, held_since = NULL, settled_at = $5
        WHERE seq = $1";
    const AGAIN: &str = "
        UPDATE jobs SET state = CASE WHEN held_by IS NULL THEN 'waiting' ELSE 'held' END,
                        uncertain = $2, attempts = $3, last_error = $4, next_attempt_at = $5, lease_until = NULL, leased_by = NULL
        WHERE seq = $1";
    // Those behind it cannot go before it: without this they would be looked at in vain by every claim of a long outage.
    const BEHIND: (&str, &str) = in_order!(
        "next_attempt_at = $3",
        "user_id = $1 AND seq > $2 AND state = 'waiting' AND next_attempt_at < $3",
        " SKIP LOCKED"
    );

    let row = on!(tx, c => sqlx::query_as::<_, JobRow>(CURRENT).bind(claimed.seq).bind(claimed.attempts).fetch_optional(&mut *c).await)
        .map_err(StoreError::from_sqlx("read a message that comes back"))?;
    let Some(row) = row else {
        return Ok(Fate::Gone);
    };
    let job = Job::try_from(row)?;

    let meanwhile = meanwhile(tx, &job).await?;
    let returned = message_rules::come_back(&job, ending, &meanwhile, now);
    match returned.becomes {
        Becoming::Dropped { untold } => {
            if untold {
                on!(tx, c => sqlx::query(UNTOLD).bind(job.user.0.as_bytes().as_slice()).bind(false).execute(&mut *c).await.map(|_| ()))
                    .map_err(StoreError::from_sqlx("forget what was told"))?;
            }
            on!(tx, c => sqlx::query(DROPPED).bind(job.seq).bind(returned.uncertain).bind(returned.attempts).bind(&returned.why).bind(now.0).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("drop a message"))?;
            erase_of_removed(tx, job.seq).await?;
            Ok(Fate::Dropped)
        }
        Becoming::Dead { erased } | Becoming::Final { erased } => {
            let (state, fate) = match returned.becomes {
                Becoming::Final { .. } => (JobState::Final, Fate::Final),
                _ => (JobState::Dead, Fate::Dead),
            };
            on!(tx, c => sqlx::query(OVER).bind(job.seq).bind(returned.uncertain).bind(returned.attempts).bind(&returned.why).bind(now.0).bind(state.as_str()).bind(erased).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("give a message up"))?;
            erase_of_removed(tx, job.seq).await?;
            Ok(fate)
        }
        Becoming::Waits(next) => {
            on!(tx, c => sqlx::query(AGAIN).bind(job.seq).bind(returned.uncertain).bind(returned.attempts).bind(&returned.why).bind(next.0).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("put a message back"))?;
            let behind = text(tx, BEHIND.0, BEHIND.1);
            on!(tx, c => sqlx::query(behind).bind(job.user.0.as_bytes().as_slice()).bind(job.seq).bind(next.0).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("put messages back"))?;
            Ok(Fate::Again)
        }
    }
}

/// What happened to the user of a message that comes back. Asked only where the rules look at it.
async fn meanwhile(tx: &mut Tx, job: &Job) -> Result<Meanwhile, StoreError> {
    const SQL: &str = "
        SELECT u.state, u.state_reason, u.blocked, u.phone, (
            SELECT COUNT(*) FROM jobs
            WHERE user_id = $1 AND seq > $2 AND state IN ('waiting', 'sending', 'held') AND type IN ('user.provision', 'user.reprovision')) AS newer,
            (SELECT e.state FROM enrolments e WHERE e.id = $3) AS link
        FROM users u WHERE u.id = $1";
    if !looks_at_the_user(job) {
        return Ok(Meanwhile::default());
    }
    let row = on!(tx, c => sqlx::query_as::<_, UserAndNewer>(SQL).bind(job.user.0.as_bytes().as_slice()).bind(job.seq).bind(job.enrolment.map(|id| id.0.as_bytes().to_vec())).fetch_optional(&mut *c).await)
        .map_err(StoreError::from_sqlx("read a user's state"))?;
    let row = row.unwrap_or_default();
    row.user.meanwhile(job, row.newer)
}

/// Whether the rules ask what happened to the user of such a message.
fn looks_at_the_user(job: &Job) -> bool {
    is_application(job.r#type) || is_for_the_person(job.r#type)
}

#[derive(Default, sqlx::FromRow)]
struct UserAndNewer {
    #[sqlx(flatten)]
    user: UserNow,
    newer: i64,
}

/// A message's user as they are now; without a state they are there no more.
#[derive(Default, sqlx::FromRow)]
pub(super) struct UserNow {
    state: Option<String>,
    state_reason: Option<String>,
    blocked: Option<bool>,
    phone: Option<String>,
    /// The state of the link that the message carries.
    link: Option<String>,
}

impl UserNow {
    /// What that means for the message; `newer`: later provisions and reprovisions of theirs that are open.
    pub(super) fn meanwhile(self, job: &Job, newer: i64) -> Result<Meanwhile, StoreError> {
        if !looks_at_the_user(job) {
            return Ok(Meanwhile::default());
        }
        let blocked = self.blocked.unwrap_or(false);
        let unusable = match self.state {
            Some(state) if state == "active" => blocked.then(|| "blocked".to_owned()),
            Some(state) => Some(self.state_reason.unwrap_or(state)),
            None => Some("removed".to_owned()),
        };
        let phone = self
            .phone
            .map(Phone::try_from)
            .transpose()
            .map_err(|why| StoreError::Nonsense(format!("users.phone: {why}")))?;
        Ok(Meanwhile {
            newer: newer > 0,
            unusable,
            phone,
            link_over: job.enrolment.is_some() && self.link.as_deref() != Some("open"),
        })
    }
}

/// A job's id, for logs.
impl Settlement {
    /// The key that the receiver saw.
    pub fn id(&self) -> JobId {
        self.job.id
    }
}
