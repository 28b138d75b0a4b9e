//! `outbox retry`, `drop`, `hold`, `release`: what an administrator does to messages.

use serde::{Deserialize, Serialize};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::config::Config;
use crate::model::ids::telling;
use crate::model::words::count;
use crate::model::{AuditAct, AuditEntry, JobId, JobState, JobType, RealmId};
use crate::store::{JobAction as StoreAct, JobSelection};

/// What is done to jobs: `POST /api/v1/outbox/{act}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the commands of the same names")]
pub enum OutboxAct {
    Retry,
    Drop,
    Hold,
    Release,
}

impl OutboxAct {
    /// The word in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Drop => "drop",
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }

    fn audited(self) -> AuditAct {
        match self {
            Self::Retry => AuditAct::OutboxRetry,
            Self::Drop => AuditAct::OutboxDrop,
            Self::Hold => AuditAct::OutboxHold,
            Self::Release => AuditAct::OutboxRelease,
        }
    }

    /// Of which states messages are for it.
    fn states(self) -> Vec<JobState> {
        match self {
            Self::Retry => vec![JobState::Waiting, JobState::Dead, JobState::Final],
            Self::Drop => vec![
                JobState::Waiting,
                JobState::Held,
                JobState::Dead,
                JobState::Final,
            ],
            Self::Hold => vec![JobState::Waiting],
            Self::Release => vec![JobState::Held],
        }
    }
}

/// Which jobs: all that fit every given condition. Without any condition only `all` takes them all, so that a slip of
/// the keyboard drops nothing.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxRequest {
    /// Job ids, or beginnings or ends of them that no other has; empty: any.
    pub jobs: Vec<String>,
    /// One realm; `None`: any.
    pub realm: Option<RealmId>,
    /// Types; empty: any.
    pub types: Vec<JobType>,
    /// Every job.
    pub all: bool,
}

/// The answer to an outbox request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutboxAnswer {
    /// How many jobs were touched.
    pub jobs: u64,
}

/// Retries, drops, holds or releases messages.
///
/// # Errors
/// `not-found` or `refused` where an id fits no message for which that can be done, or several; then nothing is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbox {
    /// What.
    pub act: OutboxAct,
    /// To which.
    pub which: OutboxRequest,
}

impl Act for Outbox {
    type Output = OutboxAnswer;

    async fn act(self, at: &ActContext) -> Result<OutboxAnswer, ActFailure> {
        let Self { act, which } = self;
        let open = JobSelection {
            realm: which.realm.clone(),
            types: which.types.clone(),
            states: act.states(),
            ..JobSelection::default()
        };
        let mut ids: Vec<JobId> = Vec::with_capacity(which.jobs.len());
        for typed in &which.jobs {
            let id = the_one(typed, &at.store().job_ids(typed, &open).await?)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let does = match act {
            OutboxAct::Retry => StoreAct::Retry {
                retry_for_ms: retry_for_ms(at.config(), which.realm.as_ref())?,
            },
            OutboxAct::Drop => StoreAct::Drop,
            OutboxAct::Hold => StoreAct::Hold,
            OutboxAct::Release => StoreAct::Release,
        };
        let selection = JobSelection { ids, ..open };
        let noting = at.noting(entry(at, act, &selection)).await?;
        let touched = noting.outbox_act(does, &selection, at.now()).await?;
        let jobs = touched.len() as u64;
        let what = act.as_str();
        tracing::info!(
            by = at.by(),
            from = at.caller.door.as_str(),
            jobs,
            "outbox {what}: {}",
            count(jobs, "message")
        );
        Ok(OutboxAnswer { jobs })
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

/// What the audit says of an act on messages: which were meant. How many they were the store adds.
fn entry(at: &ActContext, act: OutboxAct, which: &JobSelection) -> AuditEntry {
    /// Messages that are named; of more, as a program may name, only how many there are.
    const NAMED: usize = 20;
    let mut entry = at.entry(act.audited());
    entry.realm.clone_from(&which.realm);
    if !which.types.is_empty() {
        let types: Vec<&str> = which.types.iter().map(|t| t.as_str()).collect();
        entry = entry.is("types", types);
    }
    match which.ids.len() {
        0 => entry,
        1..=NAMED => {
            let ids: Vec<String> = which.ids.iter().map(ToString::to_string).collect();
            entry.is("ids", ids)
        }
        named => entry.is("named", named),
    }
}

/// `retry-for` of what is tried again.
fn retry_for_ms(config: &Config, realm: Option<&RealmId>) -> Result<i64, ActFailure> {
    let realms = &config.realms;
    let own = realms
        .iter()
        .find(|r| realm == Some(&r.id))
        .and_then(|r| r.delivery.as_ref());
    own.or(config.delivery.as_ref())
        .or_else(|| realms.iter().find_map(|r| r.delivery.as_ref()))
        .map(|delivery| delivery.retry_for_ms)
        .ok_or_else(|| {
            let why = "no [delivery] is configured: there is nowhere to send to";
            ActFailure::new(FailureKind::Refused, why)
        })
}

/// The one message that is meant, of those whose ids begin or end so.
fn the_one(typed: &str, fitting: &[JobId]) -> Result<JobId, ActFailure> {
    /// Ids that are told where several fit.
    const TOLD: usize = 5;
    match fitting {
        [id] => Ok(*id),
        [] => Err(ActFailure::new(
            FailureKind::NotFound,
            format!(
                "no message for which that can be done begins or ends with `{typed}` (at least four digits of its beginning, or six of its end); `realmsync outbox list` shows them"
            ),
        )),
        several => {
            let digits = telling(several.iter().map(|id| id.0));
            let told: Vec<String> = several
                .iter()
                .take(TOLD)
                .map(|id| format!("{id:#.digits$}"))
                .collect();
            Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "several messages begin or end with `{typed}`: {}; give more digits",
                    told.join(", ")
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_by_a_part_of_its_id_that_is_only_its_own() {
        let ids = [1, 2].map(|n| JobId(uuid::Uuid::from_u128(n)));
        assert_eq!(the_one("0000", &ids[..1]).expect("one"), ids[0]);
        let two = the_one("0000", &ids).expect_err("two");
        assert_eq!(two.code, "refused");
        assert!(two.message.contains(": 00000001, 00000002;"), "{two}");
        assert_eq!(the_one("ff", &[]).expect_err("none").code, "not-found");
    }
}
