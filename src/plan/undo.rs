//! Puts one user back to what they were before a run, as far as nobody else has changed them since.

use serde_json::{Map, Value, json};

use super::decide::{Decision, Draft};
use super::say::{dues, plain};
use crate::clock::Timestamp;
use crate::model::{
    Change, ChangeKind, DirectoryId, IdForm, Intent, JobReason, JobType, Phone, PhoneSource,
    Policy, State, StateReason, User,
};

/// Everything that putting back depends on beside the user and the changes.
#[derive(Clone, Copy, Debug)]
pub struct PutBack<'a> {
    /// The realm's rules.
    pub policy: &'a Policy,
    /// The time of the decision.
    pub now: Timestamp,
    /// The realm's own clock, milliseconds.
    pub realm_clock: i64,
    /// How the changes show directory ids.
    pub id_form: IdForm,
}

/// The decision that takes the run's changes of this user back; `None`: removed since, or changed since by another run or hand.
///
/// `created` becomes suspended as `undone`; everything else gets its former value.
pub fn put_back(user: &User, changes: &[&Change], rules: &PutBack<'_>) -> Option<Decision> {
    let PutBack {
        policy,
        now,
        realm_clock,
        ..
    } = *rules;
    if user.state == State::Removed
        || changes
            .iter()
            .any(|c| matches!(c.kind, ChangeKind::Removed | ChangeKind::Moved))
    {
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
            drafts.push(Draft {
                kind,
                before: object(json!({ "state": user.state, "state_reason": user.state_reason })),
                after: object(json!({ "state": after.state, "state_reason": after.state_reason })),
            });
            continue;
        }
        let took_effect = waited_and_took_effect(user, change);
        for (field, then) in &change.after {
            // A later change of the same field, by whomever, stays.
            let is = current(user, field, rules.id_form);
            if is.is_some_and(|is| is != *then) && !(took_effect && field.starts_with("phone")) {
                return None;
            }
        }
        for (field, was) in &change.before {
            set(&mut after, field, was, rules);
        }
        let mut shown = change.after.clone();
        if took_effect {
            // What the old number was read from was not kept.
            after.phone_raw = None;
            shown = object(json!({ "phone": user.phone }));
        }
        let back = change.before.iter();
        drafts.push(Draft {
            kind: opposite(user, change),
            after: back
                .filter(|(field, _)| !took_effect || shown.contains_key(*field))
                .map(|(field, was)| (field.clone(), was.clone()))
                .collect(),
            before: shown,
        });
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
            Some(StateReason::Undone) | None => JobReason::Undone,
        };
        intents.push(Intent::Withdraw { reason });
        intents.push(plain(JobType::Suspend, reason));
    }
    if !user.usable() && after.usable() {
        intents.push(plain(JobType::Restore, JobReason::Restored));
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
        // A number that only waits, beside none in use, is not lost.
        ChangeKind::PhoneChanged if was_none && user.phone.is_some() => ChangeKind::PhoneLost,
        kind => kind,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn current(user: &User, field: &str, form: IdForm) -> Option<Value> {
    Some(match field {
        "username" => json!(user.username),
        "display_name" => json!(user.display_name),
        "email" => json!(user.email),
        "dn" => json!(user.dn),
        "directory_id" => json!(user.directory_id.map(|id| id.display(form))),
        "phone" => json!(user.phone),
        "phone_pending" => json!(user.phone_pending),
        "state" => json!(user.state),
        "state_reason" => json!(user.state_reason),
        _ => return None,
    })
}

fn set(user: &mut User, field: &str, was: &Value, rules: &PutBack<'_>) {
    let PutBack {
        now, realm_clock, ..
    } = *rules;
    let text = was.as_str().map(str::to_owned);
    match field {
        "username" => {
            if let Some(name) = text {
                user.username_key = crate::model::person::fold_name(&name);
                user.username = name;
            }
        }
        "display_name" => user.display_name = text,
        "email" => user.email = text,
        "dn" => user.dn = text,
        "directory_id" => {
            let id = text.and_then(|t| DirectoryId::parse(&t, rules.id_form));
            user.directory_id = id.or(user.directory_id);
        }
        "phone" => {
            user.phone = text.as_deref().and_then(Phone::from_e164);
            user.phone_source = user.phone.is_some().then_some(PhoneSource::Directory);
            user.phone_attribute = None;
            user.phone_rule = None;
        }
        "phone_raw" => user.phone_raw = text,
        "phone_source" => {
            user.phone_source = text
                .and_then(|t| t.parse().ok())
                .filter(|_| user.phone.is_some());
        }
        "phone_pending" => {
            user.phone_pending = text.as_deref().and_then(Phone::from_e164);
            if user.phone_pending.is_none() {
                user.phone_pending_raw = None;
                user.phone_pending_until = None;
            } else if user.phone_pending_until.is_none() {
                user.phone_pending_until = Some(now);
            }
        }
        "state" => {
            if let Some(state) = text.and_then(|t| t.parse().ok()) {
                user.state = state;
                if state == State::Active {
                    user.state_reason = None;
                    user.suspended_at = None;
                    user.suspended_clock = None;
                } else {
                    user.suspended_at = Some(now);
                    user.suspended_clock = Some(realm_clock);
                }
            }
        }
        "state_reason" => {
            user.state_reason = text
                .and_then(|t| t.parse().ok())
                .filter(|_| user.state == State::Suspended);
        }
        _ => {}
    }
}
