//! What becomes of a message when an attempt ends.

use super::jobs::{is_application, is_for_the_person};
use crate::clock::Timestamp;
use crate::model::{Job, JobState, JobType, Phone};

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttemptEnd {
    /// The receiver has it.
    Accepted,
    /// The receiver refused it for good.
    Final(String),
    /// To be tried again.
    Again {
        /// What was met, for people.
        why: String,
        /// The receiver may have it all the same.
        unknown_end: bool,
        /// When.
        next_attempt_at: Timestamp,
    },
    /// Claimed, but no attempt was begun.
    NotTried,
    /// Claimed, but no attempt can be begun yet.
    Later {
        /// What is missing here, for people.
        why: String,
        /// When to look again.
        next_attempt_at: Timestamp,
    },
    /// No attempt can be begun, until an administrator sees to it.
    GivenUp(String),
    /// The process ended, or lost its lease, with the attempt under way.
    Interrupted,
}

/// Whether an ending says anything about a message that stands there now. `same_attempt`: nobody has begun another one since.
///
/// An acceptance counts even when the lease was over meanwhile and another daemon has the message: the receiver has it. Every other
/// ending is the word of whoever has the message.
pub fn counts(ending: &AttemptEnd, state: JobState, same_attempt: bool) -> bool {
    match ending {
        AttemptEnd::Accepted => matches!(
            state,
            JobState::Sending | JobState::Waiting | JobState::Held | JobState::Dead
        ),
        _ => state == JobState::Sending && same_attempt,
    }
}

/// What happened to the user while the message was being sent.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Meanwhile {
    /// A newer provision or reprovision of theirs is open.
    pub newer: bool,
    /// Why they are not usable; `None`: they are.
    pub unusable: Option<String>,
    /// Their number in use.
    pub phone: Option<Phone>,
    /// The link that the message carries is used or void.
    pub link_over: bool,
}

/// What a message is after an attempt that was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Becoming {
    /// It waits, or is held if somebody wanted that meanwhile, until then.
    Waits(Timestamp),
    /// It is given up. An administrator may have it tried again, unless it is erased.
    Dead {
        /// What it says is not true any more.
        erased: bool,
    },
    /// It is refused for good. An administrator may have it tried again, unless it is erased.
    Final {
        /// What it says is not true any more.
        erased: bool,
    },
    /// It is not needed any more.
    Dropped {
        /// The number that it tells counts as never told, so that it is told when it is theirs again.
        untold: bool,
    },
}

/// A message whose attempt was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returned {
    /// What it is now.
    pub becomes: Becoming,
    /// Whether there is an attempt whose end is unknown.
    pub uncertain: bool,
    /// The attempts that were begun.
    pub attempts: i64,
    /// What the last attempt met, or why the message is dropped.
    pub why: Option<String>,
}

/// What a claimed message becomes whose attempt was not accepted. `job` is as it stands now, `sending`.
///
/// A newer number takes its place; somebody who is not usable any more, or lost the number, is not told it, unless they may have
/// been told already; and only an attempt that failed can be the last one, so that after an outage of this machine each message
/// gets another.
pub fn come_back(
    job: &Job,
    ending: &AttemptEnd,
    meanwhile: &Meanwhile,
    now: Timestamp,
) -> Returned {
    let (why, unknown, next, tried) = match ending {
        AttemptEnd::Again {
            why,
            unknown_end,
            next_attempt_at,
        } => (Some(why.clone()), *unknown_end, *next_attempt_at, true),
        AttemptEnd::Final(why) => (Some(why.clone()), false, now, true),
        AttemptEnd::NotTried => (job.last_error.clone(), false, job.next_attempt_at, false),
        AttemptEnd::Later {
            why,
            next_attempt_at,
        } => (Some(why.clone()), false, *next_attempt_at, false),
        AttemptEnd::GivenUp(why) => (Some(why.clone()), false, now, false),
        AttemptEnd::Interrupted | AttemptEnd::Accepted => (
            Some("interrupted while being sent; whether it arrived is unknown".to_owned()),
            true,
            now,
            true,
        ),
    };
    let uncertain = job.uncertain || unknown;
    let overtaken = overtaken(job, meanwhile);
    let erased = overtaken.is_some();
    let last = matches!(ending, AttemptEnd::Again { .. }) && now >= job.give_up_at;
    let (becomes, why) = match (overtaken, ending) {
        (_, AttemptEnd::Final(_)) => (Becoming::Final { erased }, why),
        (Some(overtaken), _) if !uncertain || overtaken.newer => {
            let untold = is_application(job.r#type) && !overtaken.newer;
            (Becoming::Dropped { untold }, Some(overtaken.why))
        }
        (_, AttemptEnd::GivenUp(_)) => (Becoming::Dead { erased }, why),
        _ if last => (Becoming::Dead { erased }, why),
        _ => (Becoming::Waits(next.min(job.give_up_at.max(now))), why),
    };
    Returned {
        becomes,
        uncertain,
        attempts: job.attempts - i64::from(!tried),
        why,
    }
}

/// Whether a claimed message may be begun, after what happened to its user since. One that may not comes back
/// [untried](AttemptEnd::NotTried), and is dropped then.
pub fn may_begin(job: &Job, meanwhile: &Meanwhile) -> bool {
    let back = come_back(job, &AttemptEnd::NotTried, meanwhile, job.next_attempt_at);
    !matches!(back.becomes, Becoming::Dropped { .. })
}

/// Why a message says what is not true any more.
struct Overtaken {
    why: String,
    /// A newer message says what is.
    newer: bool,
}

fn overtaken(job: &Job, meanwhile: &Meanwhile) -> Option<Overtaken> {
    let application = is_application(job.r#type);
    let because = |why: &str, newer| {
        let why = why.to_owned();
        Some(Overtaken { why, newer })
    };
    let reminder = job.r#type == JobType::Reminder;
    if (application || reminder) && meanwhile.newer {
        return because("superseded", true);
    }
    if reminder && meanwhile.link_over {
        return because("its link is over", true);
    }
    let tells_a_number = application || is_for_the_person(job.r#type);
    match &meanwhile.unusable {
        Some(reason) if tells_a_number => because(reason, false),
        _ if job.phone.is_some() && job.phone != meanwhile.phone => {
            because("its number is not in use any more", false)
        }
        _ => None,
    }
}
