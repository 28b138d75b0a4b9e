//! The outbox: messages on their way out, in the transaction of the change that caused them.
//!
//! ```text
//!               carry_out                claim                 settle
//!   (a change) ──────────▶ waiting ──────────────▶ sending ──────────────▶ delivered │ final │ dead
//!                           │  ▲ ▲                    │                       (dead: after retry-for; a retry
//!                  brake,   │  │ └── again, lease over ┘                        makes it waiting again)
//!                  hold     ▼  │ release
//!                          held ┘        waiting, held ──▶ dropped (superseded, equal again, withdrawn, by hand)
//! ```
//!
//! *Unsent* = waiting or held, and not `uncertain`: no attempt was made whose end is unknown (design § 3.8).

mod body;
mod claim;
pub(super) mod enrolment;
mod intents;
pub(super) mod locks;
mod reclaim;
mod selection;
mod settle;
mod standing;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod unlinked;

pub use claim::Mine;
pub use enrolment::{EnrolmentContext, EnrolmentKey, MessageLink};
pub(super) use enrolment::{KEPT_KEY, decoded};
pub(super) use intents::{apply_intents, say_again, say_notice, set_told};
pub use reclaim::Overdue;
pub use selection::{JobAction, JobSelection};
pub(super) use selection::{hold_copy, keep_on_hold, release_brake, set_waiting_on_hold};
pub use settle::{Fate, Settlement};
pub(super) use standing::reckon_standing;
pub use time::Counted;
pub(super) use unlinked::without_links;

use uuid::Uuid;

use super::StoreError;
use super::db::Tx;
use crate::clock::Timestamp;
use crate::model::{EnrolmentId, Job, JobId, Phone, RealmId, RunId, UserId};

/// What the jobs of one transaction have in common.
#[derive(Clone, Debug)]
pub struct MessageContext {
    /// The run that causes them; `None`: an administrator's own act, or a timer.
    pub run: Option<RunId>,
    /// The messages' `timestamp`.
    pub now: Timestamp,
    /// `retry-for` of the realm's delivery in milliseconds.
    pub retry_for_ms: i64,
    /// `false`: the realm has no delivery, and no jobs are made.
    pub delivers: bool,
    /// `revoke = "at-once"`: applications end when another number takes effect, and not when the next one is proved.
    pub revoke_at_once: bool,
    /// `None`: no `[http]`, so `enrolment_url` and `expires_at` are null.
    pub enrolment: Option<EnrolmentContext>,
}

/// The columns of [`JobRow`], in any statement that reads a job.
macro_rules! job_columns {
    () => {
        "seq, id, realm, user_id, username, type, body, enrolment, phone, state, uncertain, attempts, next_attempt_at, give_up_at, last_error, run, created_at"
    };
}
use job_columns;

/// A row of `jobs` as either engine gives it.
#[derive(sqlx::FromRow)]
struct JobRow {
    seq: i64,
    id: Vec<u8>,
    realm: String,
    user_id: Vec<u8>,
    username: String,
    r#type: String,
    body: Option<String>,
    enrolment: Option<Vec<u8>>,
    phone: Option<String>,
    state: String,
    uncertain: bool,
    attempts: i64,
    next_attempt_at: i64,
    give_up_at: i64,
    last_error: Option<String>,
    run: Option<Vec<u8>>,
    created_at: i64,
}

impl TryFrom<JobRow> for Job {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: JobId(id(&row.id)?),
            seq: row.seq,
            realm: RealmId::from(row.realm),
            user: UserId(id(&row.user_id)?),
            username: row.username,
            r#type: word(&row.r#type)?,
            body: row.body,
            enrolment: row
                .enrolment
                .as_deref()
                .map(id)
                .transpose()?
                .map(EnrolmentId),
            phone: row
                .phone
                .map(Phone::try_from)
                .transpose()
                .map_err(|why| StoreError::Nonsense(format!("a job's phone: {why}")))?,
            state: word(&row.state)?,
            uncertain: row.uncertain,
            attempts: row.attempts,
            next_attempt_at: Timestamp(row.next_attempt_at),
            give_up_at: Timestamp(row.give_up_at),
            last_error: row.last_error,
            run: row.run.as_deref().map(id).transpose()?.map(RunId),
            created_at: Timestamp(row.created_at),
        })
    }
}

/// Sixteen bytes of a row.
fn id(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|e| StoreError::Nonsense(format!("an id of the outbox: {e}")))
}

/// A word of a row.
fn word<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, StoreError> {
    text.parse()
        .map_err(|why: String| StoreError::Nonsense(format!("the outbox: {why}")))
}

/// A fresh id; its time is the caller's.
pub(super) fn fresh_id(now: Timestamp) -> Uuid {
    let ms = u64::try_from(now.0).unwrap_or(0);
    let nanos = u32::try_from(ms % 1000 * 1_000_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        ms / 1000,
        nanos,
    ))
}

/// One of two texts, where the engines differ (row locks).
pub(super) fn text(tx: &Tx, sqlite: &'static str, postgres: &'static str) -> &'static str {
    match tx {
        Tx::Sqlite(..) => sqlite,
        Tx::Postgres(_) => postgres,
    }
}
