//! Puts one user back to what they were before a run, as far as nobody else has changed them since.

use serde_json::{Map, Value, json};

use super::decide::{Decision, Draft};
use super::say::{dues, plain};
use crate::clock::Timestamp;
use crate::model::{
    Change, ChangeKind, Intent, JobReason, JobType, Phone, PhoneSource, Policy, State, StateReason,
    User,
};

/// The decision that takes the run's changes of this user back; `None`: removed since, or changed since by another run or hand.
///
/// `created` becomes suspended as `undone`; everything else gets its former value.
pub fn put_back(
    user: &User,
    changes: &[&Change],
    policy: &Policy,
    now: Timestamp,
    realm_clock: i64,
) -> Option<Decision> {
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
        for (field, then) in &change.after {
            // A later change of the same field, by whomever, stays.
            if current(user, field).is_some_and(|is| is != *then) {
                return None;
            }
        }
        for (field, was) in &change.before {
            set(&mut after, field, was, now, realm_clock);
        }
        drafts.push(Draft {
            kind: opposite(change),
            before: change.after.clone(),
            after: change.before.clone(),
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

fn opposite(change: &Change) -> ChangeKind {
    match change.kind {
        ChangeKind::Suspended => ChangeKind::Restored,
        ChangeKind::Restored => ChangeKind::Suspended,
        ChangeKind::PhoneLost => ChangeKind::PhoneChanged,
        ChangeKind::PhoneChanged if change.before.get("phone").is_none_or(Value::is_null) => {
            ChangeKind::PhoneLost
        }
        kind => kind,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn current(user: &User, field: &str) -> Option<Value> {
    Some(match field {
        "username" => json!(user.username),
        "display_name" => json!(user.display_name),
        "email" => json!(user.email),
        "dn" => json!(user.dn),
        "phone" => json!(user.phone),
        "phone_pending" => json!(user.phone_pending),
        "state" => json!(user.state),
        "state_reason" => json!(user.state_reason),
        _ => return None,
    })
}

fn set(user: &mut User, field: &str, was: &Value, now: Timestamp, realm_clock: i64) {
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
