//! Who was told of another number, or of something that was set up, says "this was not me", and an administrator says which number counts.

use super::decide::{ChangeDrafts, Decision, DecisionContext, drop_pending};
use crate::model::message_rules::dues;
use crate::model::{
    DisputedNumber, Freeze, FreezeLink, Intent, JobReason, Phone, PhoneSource, User,
};

/// Which number counts after a freeze.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counts {
    /// The one before: the other one stays refused until the directory gives yet another one.
    Previous,
    /// The new one, at once.
    Accept,
}

/// Freezes a user: the number before is in use again, if there is one; what is waiting to be sent is dropped.
pub fn freeze(held: &User, link: &FreezeLink, context: &DecisionContext<'_>) -> (Decision, Freeze) {
    let number = disputed(held, &link.previous);
    let mut after = held.clone();
    drop_pending(&mut after);
    if after.phone.as_ref().is_some_and(|p| *p != link.previous) {
        take(&mut after, link.previous.clone(), None, own_source(held));
    }
    after.fingerprint = None;
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push_rest(&after);
    let reason = JobReason::Frozen;
    let decision = written(
        held,
        after,
        rows,
        vec![Intent::Withdraw { reason }],
        context,
    );
    let freeze = Freeze {
        previous: link.previous.clone(),
        number,
        since: link.since,
        at: context.now,
    };
    (decision, freeze)
}

/// Ends a freeze. No hold begins, and nobody hears of the number once more.
pub fn unfreeze(
    held: &User,
    freeze: &Freeze,
    counts: Counts,
    context: &DecisionContext<'_>,
) -> Decision {
    let mut after = held.clone();
    if let (Counts::Accept, Some(number)) = (counts, &freeze.number) {
        drop_pending(&mut after);
        let raw = number.raw.clone();
        take(&mut after, number.phone.clone(), raw, number.source);
    }
    after.fingerprint = None;
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push_rest(&after);
    let mut intents = dues(Some(held), &mut after, context.policy, None);
    if intents.is_empty() && after.usable() && after.phone.is_some() {
        // A message about the other number may have arrived: then the one that counts is told.
        intents.push(Intent::Unsay);
    }
    written(held, after, rows, intents, context)
}

/// The version rises in any case: whoever decided about the user before this does so anew.
fn written(
    held: &User,
    after: User,
    rows: ChangeDrafts<'_>,
    intents: Vec<Intent>,
    context: &DecisionContext<'_>,
) -> Decision {
    let mut after = after;
    after.version = held.version + 1;
    after.updated_at = context.now;
    Decision {
        base_version: held.version,
        after,
        changes: rows.0,
        intents,
    }
}

/// The number that is not to be used: the one that waits, or the one in use.
fn disputed(held: &User, previous: &Phone) -> Option<DisputedNumber> {
    let waiting = held.phone_pending.clone().map(|phone| DisputedNumber {
        phone,
        raw: held.phone_pending_raw.clone(),
        source: held.phone_pending_source.unwrap_or(PhoneSource::Directory),
    });
    let in_use = || {
        held.phone.clone().map(|phone| DisputedNumber {
            phone,
            raw: held.phone_raw.clone(),
            source: held.phone_source.unwrap_or(PhoneSource::Directory),
        })
    };
    waiting
        .or_else(in_use)
        .filter(|number| number.phone != *previous)
}

/// Who counts as having given a number that is put back: whoever gave the one in its place. A number by hand takes the place of another by
/// hand alone, or of what the directory does not own.
fn own_source(held: &User) -> PhoneSource {
    let by_default = if held.of_a_directory() {
        PhoneSource::Directory
    } else {
        PhoneSource::Manual
    };
    held.phone_source.unwrap_or(by_default)
}

fn take(user: &mut User, phone: Phone, raw: Option<String>, source: PhoneSource) {
    user.phone = Some(phone);
    user.phone_raw = raw;
    user.phone_attribute = None;
    user.phone_rule = None;
    user.phone_source = Some(source);
}
