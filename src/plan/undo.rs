//! Puts one user back to what they were before a run, as far as nobody else has changed them since.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::decide::{Decision, Draft};
use crate::clock::Timestamp;
use crate::model::field::UnfitValue;
use crate::model::message_rules::{dues, plain};
use crate::model::user::awaiting_approval;
use crate::model::{
    Change, ChangeKind, Field, IdForm, Intent, JobReason, JobType, NumberMark, Phone, PhoneSource,
    Policy, State, StateReason, User, UserId, UserOrigin,
};

/// Everything that putting back depends on beside the user and the changes.
#[derive(Clone, Copy, Debug)]
pub struct PutBack<'a> {
    /// The realm's rules.
    pub policy: &'a Policy,
    /// The time of the decision.
    pub now: Timestamp,
    /// The own clock of the realm that they will be in, milliseconds.
    pub realm_clock: i64,
    /// How the changes show directory ids.
    pub id_form: IdForm,
    /// Of whom a number is not used.
    pub marks: &'a HashMap<UserId, NumberMark>,
}

/// The decision that takes the run's changes of this user back; `None`: removed since, or changed since by another run or hand, or
/// somebody objects to the number that would be theirs again.
///
/// `created` becomes suspended as `undone`; everything else gets its former value.
pub fn put_back(user: &User, changes: &[&Change], rules: &PutBack<'_>) -> Option<Decision> {
    let PutBack {
        policy,
        now,
        realm_clock,
        ..
    } = *rules;
    if user.state == State::Removed || changes.iter().any(|c| c.kind == ChangeKind::Removed) {
        return None;
    }
    let mut after = user.clone();
    let mut drafts = vec![];
    for change in changes {
        if change.kind == ChangeKind::Created {
            if user.state == State::Suspended && user.state_reason != Some(StateReason::Disabled) {
                return None;
            }
            after.state = State::Suspended;
            after.state_reason = Some(StateReason::Undone);
            after.suspended_at = user.suspended_at.or(Some(now));
            after.suspended_clock = Some(realm_clock);
            let kind = if user.state == State::Active {
                ChangeKind::Suspended
            } else {
                ChangeKind::Updated
            };
            let standing = |of: &User| shown(&[Field::State, Field::StateReason], of, rules);
            drafts.push(Draft {
                kind,
                before: standing(user),
                after: standing(&after),
            });
            continue;
        }
        let took_effect = waited_and_took_effect(user, change);
        for (field, then) in fields(&change.after) {
            // A later change of the same field, by whomever, stays.
            let stands = field.goes_along() || field.get(user, rules.id_form) == *then;
            let waited = took_effect && field.as_str().starts_with("phone");
            if !stands && !waited {
                return None;
            }
        }
        let given = given_by_name(change);
        for (field, was) in fields(&change.before) {
            set(&mut after, field, was, given, rules).ok()?;
        }
        if given {
            after.entry_uuid = None;
        }
        let mut is = change.after.clone();
        if took_effect {
            // What the old number was read from was not kept.
            after.phone_raw = None;
            is = shown(&[Field::Phone], user, rules);
        }
        // What a line says beside the fields is of that change alone.
        is.retain(|field, _| field.parse::<Field>().is_ok());
        // The line says what is put back, and not what was before: some fields begin anew, and some stay.
        let back: Vec<Field> = fields(&change.before)
            .map(|(field, _)| field)
            .filter(|field| !took_effect || is.contains_key(field.as_str()))
            .collect();
        let mut becomes = shown(&back, &after, rules);
        let stays: Vec<String> = [Field::DirectoryId, Field::Origin]
            .iter()
            .map(|field| field.as_str().to_owned())
            .filter(|field| becomes.get(field) == is.get(field))
            .collect();
        for field in stays {
            becomes.shift_remove(&field);
            is.shift_remove(&field);
        }
        drafts.push(Draft {
            kind: opposite(user, change),
            after: becomes,
            before: is,
        });
    }
    if let Some(mark) = rules.marks.get(&user.id)
        && is_objected_to(user, &after, mark)
    {
        return None;
    }
    after.fingerprint = None;
    after.version = user.version + 1;
    after.updated_at = now;
    let mut intents = vec![];
    if user.usable() && !after.usable() {
        let reason = match after.state_reason {
            Some(StateReason::Disabled) => JobReason::Disabled,
            Some(StateReason::Deleted) => JobReason::Deleted,
            Some(StateReason::OutOfScope) => JobReason::OutOfScope,
            None if after.blocked => JobReason::Blocked,
            Some(StateReason::Undone) | None => JobReason::Undone,
        };
        intents.push(Intent::Withdraw { reason });
        intents.push(plain(JobType::Suspend, reason));
    }
    // Who goes back to their realm is told too, though they never stopped working.
    let moved = user.realm != after.realm;
    if after.usable() && (moved || !user.usable()) {
        let reason = if moved {
            JobReason::Moved
        } else if user.blocked {
            JobReason::Unblocked
        } else {
            JobReason::Restored
        };
        intents.push(plain(JobType::Restore, reason));
    }
    if user.username_key != after.username_key {
        intents.push(Intent::Say {
            r#type: JobType::Rename,
            reason: JobReason::Renamed,
            previous_phone: None,
            previous_username: Some(user.username.clone()),
        });
    }
    intents.extend(dues(Some(user), &mut after, policy, None));
    Some(Decision {
        base_version: user.version,
        after,
        changes: drafts,
        intents,
    })
}

/// Whether a user would get a number that is not to be used: any other one while they are frozen, else the one that was refused.
fn is_objected_to(user: &User, after: &User, mark: &NumberMark) -> bool {
    let gets = |number: &Option<Phone>, had: &Option<Phone>| {
        number != had && (mark.frozen || number.is_some() && *number == mark.refused)
    };
    gets(&after.phone, &user.phone) || gets(&after.phone_pending, &user.phone_pending)
}

/// Whether this change gave a user by hand the directory's entry of the name.
fn given_by_name(change: &Change) -> bool {
    let was = |field: Field| change.before.get(field.as_str());
    let by_hand = was(Field::Origin).and_then(Value::as_str);
    was(Field::DirectoryId).is_some_and(Value::is_null)
        && by_hand.is_some_and(|origin| origin != UserOrigin::Directory.as_str())
}

/// Whether the number that waited since this change is in use by now: the end of a hold is no change of anyone's mind.
fn waited_and_took_effect(user: &User, change: &Change) -> bool {
    let waited = change.after.get("phone_pending").and_then(Value::as_str);
    change.kind == ChangeKind::PhoneChanged
        && user.phone_pending.is_none()
        && waited.is_some_and(|phone| user.phone.as_ref().is_some_and(|is| is.as_str() == phone))
}

fn opposite(user: &User, change: &Change) -> ChangeKind {
    let was_none = change.before.get("phone").is_none_or(Value::is_null);
    match change.kind {
        ChangeKind::Suspended => ChangeKind::Restored,
        ChangeKind::Restored => ChangeKind::Suspended,
        ChangeKind::PhoneLost => ChangeKind::PhoneChanged,
        ChangeKind::Blocked => ChangeKind::Unblocked,
        ChangeKind::Unblocked => ChangeKind::Blocked,
        // A number that only waits, beside none in use, is not lost.
        ChangeKind::PhoneChanged if was_none && user.phone.is_some() => ChangeKind::PhoneLost,
        kind => kind,
    }
}

/// The fields of one side of a change, in their order.
fn fields(side: &Map<String, Value>) -> impl Iterator<Item = (Field, &Value)> {
    side.iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
}

/// Some fields of a user, as a side of a change.
fn shown(fields: &[Field], user: &User, rules: &PutBack<'_>) -> Map<String, Value> {
    fields
        .iter()
        .map(|field| (field.as_str().to_owned(), field.get(user, rules.id_form)))
        .collect()
}

/// Gives a field its former value, and whatever hangs on it. `given` as [`given_by_name`] says.
fn set(
    user: &mut User,
    field: Field,
    was: &Value,
    given: bool,
    rules: &PutBack<'_>,
) -> Result<(), UnfitValue> {
    let mut back = user.clone();
    let fits = field.set(&mut back, was, rules.id_form);
    match field {
        // Both begin anew.
        Field::SuspendedAt | Field::PhonePendingUntil => return Ok(()),
        // Who has had an id keeps one, and stays the directory's, unless the name alone was what gave it to them.
        Field::DirectoryId if fits.is_err() || back.directory_id.is_none() && !given => {
            return Ok(());
        }
        Field::Origin if !given && user.of_a_directory() => return Ok(()),
        _ => fits?,
    }
    match field {
        Field::Phone => {
            // Before it was a directory's, or of whoever gives the numbers of such users.
            let source = match user.phone_source {
                Some(source) if !user.of_a_directory() => source,
                None if !user.of_a_directory() => PhoneSource::Manual,
                _ => PhoneSource::Directory,
            };
            back.phone_source = back.phone.is_some().then_some(source);
            back.phone_attribute = None;
            back.phone_rule = None;
        }
        Field::PhoneSource if back.phone.is_none() => back.phone_source = None,
        Field::PhonePending if back.phone_pending.is_none() => {
            back.phone_pending_raw = None;
            back.phone_pending_until = None;
            back.phone_pending_source = None;
        }
        Field::PhonePendingSource if back.phone_pending.is_none() => {
            back.phone_pending_source = None;
        }
        Field::PhonePending => {
            // What it waited for is not kept: where people are protected an administrator decides.
            let until = match rules.policy.protect {
                Some(_) => awaiting_approval(rules.now),
                None => rules.now,
            };
            back.phone_pending_until = back.phone_pending_until.or(Some(until));
        }
        Field::State if back.state == State::Active => {
            back.state_reason = None;
            back.suspended_at = None;
            back.suspended_clock = None;
        }
        Field::State => {
            back.suspended_at = Some(rules.now);
            back.suspended_clock = Some(rules.realm_clock);
        }
        Field::StateReason if back.state != State::Suspended => back.state_reason = None,
        _ => {}
    }
    *user = back;
    Ok(())
}
