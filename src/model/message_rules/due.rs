//! What the outside world is to be told after a decision: the difference between the number in use and the number that the
//! outside world last knows of decides, whatever led there.

use crate::model::{Intent, JobReason, JobType, Policy, User};

/// What is due, given the user before (`None`: new) and after a decision; `cause` overrides the reason where the decision
/// is more than a change of the number. Sets the provisioned phone silently where the first number is not sent.
pub fn dues(
    before: Option<&User>,
    after: &mut User,
    policy: &Policy,
    cause: Option<JobReason>,
) -> Vec<Intent> {
    if !policy.send_to_new && after.phone_provisioned.is_none() && !after.told && !after.provisioned
    {
        after.phone_provisioned.clone_from(&after.phone);
    }
    let phone_moved = before.is_none_or(|b| b.phone != after.phone);
    let newly_usable = after.usable() && before.is_none_or(|b| !b.usable());
    if !after.usable() {
        return vec![];
    }
    let reason = cause.unwrap_or(match before {
        None => JobReason::Created,
        Some(b) if b.phone.is_none() || after.phone_provisioned.is_none() => JobReason::PhoneGiven,
        Some(_) => JobReason::PhoneChanged,
    });
    let never_provisioned = policy.send_to_new && !after.provisioned;
    if never_provisioned && !after.told {
        // To whom nothing happened, the realm began to send: they are new to it.
        let reason = if phone_moved {
            reason
        } else {
            cause.unwrap_or(JobReason::Created)
        };
        return vec![tell(after, JobType::Provision, reason)];
    }
    let Some(phone) = after.phone.clone() else {
        // The number is gone: what tells a number that is no longer theirs must not go out any more.
        // Also one that tells the provisioned number: it may correct another one that is being sent.
        return match phone_moved && after.phone_told.is_some() {
            // Who never had the application still gets it, without a number.
            true if never_provisioned => vec![tell(after, JobType::Provision, reason)],
            true => vec![Intent::Unsay],
            false => vec![],
        };
    };
    if after.phone_provisioned.as_ref() == Some(&phone) {
        // Also where nothing is known to be open: a message that a suspension or a lost number dropped may have followed one whose
        // end is unknown, and the outside world then has that one's number.
        return if before.is_some() && (phone_moved || newly_usable) {
            vec![Intent::Unsay]
        } else {
            vec![]
        };
    }
    // To whom the application was sent, though it was not accepted yet: the newer number takes that message's place.
    let sent_before = after.provisioned || after.told;
    if after.phone_told.as_ref() == Some(&phone) || (policy.only_provisioned && !sent_before) {
        return vec![];
    }
    let kind = if never_provisioned {
        JobType::Provision
    } else {
        JobType::Reprovision
    };
    vec![tell(after, kind, reason)]
}

fn tell(after: &mut User, kind: JobType, reason: JobReason) -> Intent {
    after.phone_told.clone_from(&after.phone);
    after.told = true;
    Intent::Say {
        r#type: kind,
        reason,
        previous_phone: after.phone_provisioned.clone(),
        previous_username: None,
    }
}

/// A message that carries nothing but its reason.
pub fn plain(kind: JobType, reason: JobReason) -> Intent {
    Intent::Say {
        r#type: kind,
        reason,
        previous_phone: None,
        previous_username: None,
    }
}

/// How many messages are to be made.
pub fn count_said(intents: &[Intent]) -> i64 {
    intents
        .iter()
        .map(|i| i64::from(matches!(i, Intent::Say { .. })))
        .sum()
}
