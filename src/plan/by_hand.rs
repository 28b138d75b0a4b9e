//! What an administrator does to one user: the user, the wish, the policy and the time in; changes, post-image and messages out.
//!
//! What a directory owns stays the directory's, and the number follows the realm's `phone-authority`. Everything else (who waits, who
//! is told what) is as in a pass.

use super::decide::{
    ChangeDrafts, Decision, DecisionContext, Draft, Observation, PHONE_FIELDS, STANDING, decide,
    drop_pending, finish, notice, remove as remove_now, renamed,
};
use super::phone::waits;
use crate::model::change::created_fields;
use crate::model::message_rules::{dues, plain};
use crate::model::{
    ChangeKind, Edit, Field, Intent, JobReason, JobType, Phone, PhoneSource, State, StateReason,
    TwoFactor, User, UserName, UserOrigin,
};

/// A number that somebody typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypedPhone {
    /// As it is kept.
    pub phone: Phone,
    /// As it was typed.
    pub raw: String,
    /// Who typed it.
    pub source: PhoneSource,
}

/// Somebody who is to be made without a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewUser {
    /// Nobody of the realm has it; the caller has looked.
    pub name: UserName,
    /// The name for people.
    pub display_name: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// The number.
    pub phone: Option<TypedPhone>,
    /// The administrator's words.
    pub note: Option<String>,
    /// The methods; `None`: those of the realm.
    pub two_factor: Option<Vec<TwoFactor>>,
    /// Where the user comes from; not a directory.
    pub origin: UserOrigin,
}

/// What is to become of a user's fields.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct UserEdit {
    /// Another name, which nobody of the realm has; the caller has looked. `None`: it stays.
    pub name: Option<UserName>,
    /// The name for people.
    pub display_name: Edit<String>,
    /// The address.
    pub email: Edit<String>,
    /// The number.
    pub phone: Edit<TypedPhone>,
    /// The administrator's words.
    pub note: Edit<String>,
    /// The methods; `None`: they stay.
    pub two_factor: Option<Vec<TwoFactor>>,
    /// The user is there: who was suspended as gone, or by an undo, comes back with everything they have.
    pub returns: bool,
}

/// Why something is not done to a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandRefusal {
    /// The realm's directory says what this is.
    Owned(Field),
    /// The user is removed, and nobody any more.
    Removed,
    /// The user is somebody of a directory already.
    OfDirectory,
    /// The user is suspended and lets go of the name: an entry of that name is somebody new.
    Away,
    /// The user is suspended or blocked, and is told nothing.
    Unusable,
    /// Somebody objects to a change: no other number is taken until an administrator decides.
    Frozen,
    /// This number was refused for the user.
    NumberRefused,
}

/// Sends the application, whatever was sent before. The number that is told is the one in use.
pub fn send(held: &User) -> Result<Decision, HandRefusal> {
    if held.state == State::Removed {
        return Err(HandRefusal::Removed);
    }
    if !held.usable() {
        return Err(HandRefusal::Unusable);
    }
    let mut after = held.clone();
    after.phone_told.clone_from(&after.phone);
    after.told = true;
    let kind = if held.provisioned {
        JobType::Reprovision
    } else {
        JobType::Provision
    };
    Ok(Decision {
        base_version: held.version,
        after,
        changes: vec![],
        intents: vec![Intent::Say {
            r#type: kind,
            reason: JobReason::Sent,
            previous_phone: held.phone_provisioned.clone(),
            previous_username: None,
        }],
    })
}

/// Makes a user.
pub fn add(new: NewUser, context: &DecisionContext<'_>) -> Decision {
    let mut after = User {
        id: context.new_id,
        realm: context.realm.clone(),
        directory_id: None,
        entry_uuid: None,
        username: new.name.shown,
        username_key: new.name.key,
        display_name: new.display_name,
        email: new.email,
        dn: None,
        phone: None,
        phone_raw: None,
        phone_attribute: None,
        phone_rule: None,
        phone_source: None,
        phone_pending: None,
        phone_pending_raw: None,
        phone_pending_until: None,
        phone_pending_source: None,
        phone_provisioned: None,
        phone_told: None,
        told: false,
        provisioned: false,
        state: State::Active,
        state_reason: None,
        suspended_at: None,
        suspended_clock: None,
        blocked: false,
        version: 1,
        two_factor: new
            .two_factor
            .unwrap_or_else(|| context.policy.two_factor.clone()),
        last_used_at: None,
        fingerprint: None,
        created_at: context.now,
        updated_at: context.now,
        origin: new.origin,
        note: new.note,
    };
    if let Some(phone) = new.phone {
        take(&mut after, phone);
    }
    let intents = dues(None, &mut after, context.policy, None);
    let mut shown = serde_json::Map::new();
    // The user's row shows it all.
    if !context.bare {
        shown = created_fields(&after, context.id_form);
        for field in [Field::TwoFactor, Field::Origin, Field::Note] {
            let value = field.get(&after, context.id_form);
            shown.insert(field.as_str().to_owned(), value);
        }
    }
    let draft = Draft {
        kind: ChangeKind::Created,
        before: serde_json::Map::new(),
        after: shown,
    };
    Decision {
        base_version: 0,
        after,
        changes: vec![draft],
        intents,
    }
}

/// Changes a user's fields. `None`: they have these values already.
pub fn edit(
    held: &User,
    edit: UserEdit,
    context: &DecisionContext<'_>,
) -> Result<Option<Decision>, HandRefusal> {
    if held.state == State::Removed {
        return Err(HandRefusal::Removed);
    }
    let mut after = held.clone();
    if let Some(name) = edit.name {
        after.username = name.shown;
        after.username_key = name.key;
    }
    after.display_name = edit.display_name.over(after.display_name);
    after.email = edit.email.over(after.email);
    if held.of_a_directory() {
        let owned = [Field::Username, Field::DisplayName, Field::Email]
            .into_iter()
            .find(|field| field.get(held, context.id_form) != field.get(&after, context.id_form));
        if let Some(field) = owned {
            return Err(HandRefusal::Owned(field));
        }
    }
    let comes_back = edit.returns && held.state == State::Suspended && !held.present();
    if comes_back {
        after.state = State::Active;
        after.state_reason = None;
        after.suspended_at = None;
        after.suspended_clock = None;
    }
    let phone_row = edit_phone(held, &mut after, edit.phone, context)?;
    after.note = edit.note.over(after.note);
    if let Some(methods) = edit.two_factor {
        after.two_factor = methods;
    }
    let number = |u: &User| (u.phone.clone(), u.phone_pending.clone(), u.phone_source);
    if number(held) != number(&after) {
        // The next pass looks at what the directory says of it.
        after.fingerprint = None;
    }
    let mut rows = ChangeDrafts::new(held, context.id_form);
    if comes_back {
        rows.push(ChangeKind::Restored, &after, &STANDING);
    }
    if held.username_key != after.username_key {
        rows.push(ChangeKind::Renamed, &after, &[Field::Username]);
    }
    if let Some(kind) = phone_row {
        rows.push(kind, &after, &PHONE_FIELDS);
    }
    rows.push_rest(&after);
    let mut intents: Vec<Intent> = vec![];
    let returns = !held.usable() && after.usable();
    if returns {
        intents.push(plain(JobType::Restore, JobReason::Restored));
    }
    intents.extend(renamed(held, &after));
    if phone_row == Some(ChangeKind::PhoneChanged) {
        intents.extend(notice(held, &after, context.policy));
    }
    let cause = returns.then_some(JobReason::Restored);
    intents.extend(dues(Some(held), &mut after, context.policy, cause));
    Ok(finish(held, after, rows.0, intents, context.now))
}

/// Sets or clears the number; tells which row of the changes it is, if any.
fn edit_phone(
    held: &User,
    after: &mut User,
    edit: Edit<TypedPhone>,
    context: &DecisionContext<'_>,
) -> Result<Option<ChangeKind>, HandRefusal> {
    let of_directory = held.phone_source == Some(PhoneSource::Directory)
        || held.phone_pending.is_some() && held.phone_pending_source.is_none();
    let of_directory = of_directory && held.of_a_directory();
    match edit {
        Edit::Keep => Ok(None),
        Edit::Set(typed) if context.number.frozen && held.phone.as_ref() == Some(&typed.phone) => {
            Ok(None)
        }
        _ if context.number.frozen => Err(HandRefusal::Frozen),
        // What the directory gives it would give again.
        Edit::Clear if of_directory => Err(HandRefusal::Owned(Field::Phone)),
        Edit::Clear => {
            drop_pending(after);
            after.phone = None;
            after.phone_raw = None;
            after.phone_attribute = None;
            after.phone_rule = None;
            after.phone_source = None;
            Ok(held.phone.is_some().then_some(ChangeKind::PhoneLost))
        }
        Edit::Set(_) if of_directory && !context.policy.local_phones => {
            Err(HandRefusal::Owned(Field::Phone))
        }
        Edit::Set(typed) if held.phone.as_ref() == Some(&typed.phone) => {
            drop_pending(after);
            // It is the same number, however it is typed, but under `local` it is theirs from now on.
            if held.phone_source == Some(PhoneSource::Directory) {
                take(after, typed);
            }
            Ok(None)
        }
        Edit::Set(typed) if waits(held, &typed.phone, context.policy) => {
            let same = held.phone_pending.as_ref() == Some(&typed.phone);
            after.phone_pending_source = Some(typed.source);
            if same {
                // To type it is to approve of it; the rest of its hold stays.
                after.phone_pending_until = held.phone_hold_ends();
                return Ok(None);
            }
            after.phone_pending = Some(typed.phone);
            after.phone_pending_raw = Some(typed.raw);
            after.phone_pending_until = Some(context.now.plus_ms(context.policy.hold_ms));
            Ok(Some(ChangeKind::PhoneChanged))
        }
        Edit::Set(typed) => {
            // A number that waited was counted when it began to wait.
            let waited = held.phone_pending.as_ref() == Some(&typed.phone);
            drop_pending(after);
            take(after, typed);
            Ok((!waited).then_some(ChangeKind::PhoneChanged))
        }
    }
}

/// A number by hand stands no longer: from now on the directory says which one it is. It is in use until the next pass has looked.
/// `None`: it stands no more already.
pub fn end_override(held: &User, context: &DecisionContext<'_>) -> Option<Decision> {
    let by_hand = |source: Option<PhoneSource>| source.is_some_and(|s| s != PhoneSource::Directory);
    if !held.of_a_directory() {
        return None;
    }
    let mut after = held.clone();
    if by_hand(held.phone_pending_source) {
        drop_pending(&mut after);
    }
    if by_hand(held.phone_source) {
        after.phone_source = Some(PhoneSource::Directory);
    }
    if after == *held {
        return None;
    }
    after.fingerprint = None;
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push_rest(&after);
    let intents = dues(Some(held), &mut after, context.policy, None);
    finish(held, after, rows.0, intents, context.now)
}

/// Blocks a user, or lifts the block. `None`: it is so already.
pub fn block(
    held: &User,
    on: bool,
    context: &DecisionContext<'_>,
) -> Result<Option<Decision>, HandRefusal> {
    if held.state == State::Removed {
        return Err(HandRefusal::Removed);
    }
    if held.blocked == on {
        return Ok(None);
    }
    let mut after = held.clone();
    after.blocked = on;
    let kind = if on {
        ChangeKind::Blocked
    } else {
        ChangeKind::Unblocked
    };
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push(kind, &after, &[Field::Blocked]);
    let mut intents = vec![];
    if held.usable() && !after.usable() {
        let reason = JobReason::Blocked;
        intents.push(Intent::Withdraw { reason });
        intents.push(plain(JobType::Suspend, reason));
    }
    if !held.usable() && after.usable() {
        intents.push(plain(JobType::Restore, JobReason::Unblocked));
        let cause = Some(JobReason::Unblocked);
        intents.extend(dues(Some(held), &mut after, context.policy, cause));
    }
    Ok(finish(held, after, rows.0, intents, context.now))
}

/// Removes a user who is of no directory: suspends them, so that the grace begins, or erases them at once. `None`: the grace has
/// begun already.
pub fn remove(
    held: &User,
    at_once: bool,
    context: &DecisionContext<'_>,
) -> Result<Option<Decision>, HandRefusal> {
    if held.state == State::Removed {
        return Err(HandRefusal::Removed);
    }
    if held.of_a_directory() {
        return Err(HandRefusal::Owned(Field::State));
    }
    Ok(if at_once {
        remove_now(held, JobReason::Removed, context)
    } else {
        decide(
            Some(held),
            Observation::Gone(Some(StateReason::Deleted)),
            context,
        )
    })
}

/// Takes a suspension of somebody who is of no directory back, as long as the name is free; the caller has looked. `None`: nobody
/// suspended them.
pub fn restore(
    held: &User,
    context: &DecisionContext<'_>,
) -> Result<Option<Decision>, HandRefusal> {
    match held.state {
        State::Removed => return Err(HandRefusal::Removed),
        _ if held.of_a_directory() => return Err(HandRefusal::Owned(Field::StateReason)),
        State::Active => return Ok(None),
        State::Suspended => {}
    }
    let mut after = held.clone();
    after.state = State::Active;
    after.state_reason = None;
    after.suspended_at = None;
    after.suspended_clock = None;
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push(ChangeKind::Restored, &after, &STANDING);
    let mut intents = vec![];
    if after.usable() {
        intents.push(plain(JobType::Restore, JobReason::Restored));
        let cause = Some(JobReason::Restored);
        intents.extend(dues(Some(held), &mut after, context.policy, cause));
    }
    Ok(finish(held, after, rows.0, intents, context.now))
}

/// Whether a directory's entry may be given to a user.
pub fn may_adopt(held: &User) -> Result<(), HandRefusal> {
    match held.state {
        State::Removed => Err(HandRefusal::Removed),
        _ if held.of_a_directory() => Err(HandRefusal::OfDirectory),
        _ if !held.present() => Err(HandRefusal::Away),
        _ => Ok(()),
    }
}

fn take(user: &mut User, typed: TypedPhone) {
    user.phone = Some(typed.phone);
    user.phone_raw = Some(typed.raw);
    user.phone_attribute = None;
    user.phone_rule = None;
    user.phone_source = Some(typed.source);
}
