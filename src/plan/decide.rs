//! One person's decision: what is held, what was seen, the policy and the time in; changes, post-image and messages out.
//!
//! ```text
//!            created                 gone / disabled              grace over
//!   (nobody) ───────▶ active ◀────────────────────▶ suspended ─────────────▶ removed
//!        └── created disabled ──────────────────────────▲  back: same id, same factors
//! ```
//!
//! The same function serves full passes, deltas, pushes, single look-ups and imports.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::phone::{Choice, Outcome, choose, previous, waits_from_now};
use crate::clock::Timestamp;
use crate::model::message_rules::{dues, plain};
use crate::model::person::in_use;
use crate::model::{
    ChangeKind, Field, IdForm, Intent, JobReason, JobType, Known, NumberMark, Person, PhoneReading,
    PhoneSource, Policy, RealmId, State, StateReason, User, UserId, UserName, UserOrigin,
};

/// What a run found of a person.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one decision, and a box would be one more piece of memory for each person"
)]
#[derive(Clone, Debug)]
pub enum Observation<'a> {
    /// The entry is there, in scope.
    Here {
        /// The entry, normalised; what is made of an owned one takes its texts along.
        person: Cow<'a, Person>,
        /// The name they get; see [`super::names`].
        name: NameGrant,
    },
    /// The entry is not in scope: `Deleted` or `OutOfScope` by evidence, `None` while nobody was looked up.
    Gone(Option<StateReason>),
}

/// The outcome of the contest for a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameGrant {
    /// Theirs.
    Granted(UserName),
    /// The entry's name is refused; the held name is theirs and stays.
    Keep,
    /// No name to hold: a new entry is no user, a suspended user cannot come back.
    Nothing,
}

/// Everything else that a decision depends on.
#[derive(Clone, Debug)]
pub struct DecisionContext<'a> {
    /// The realm that decides; differs from the held user's when it takes them over.
    pub realm: &'a RealmId,
    /// The realm's rules.
    pub policy: &'a Policy,
    /// The time of the decision.
    pub now: Timestamp,
    /// The realm's own clock, milliseconds.
    pub realm_clock: i64,
    /// How ids are shown in the changes.
    pub id_form: IdForm,
    /// The id of the user if one is made.
    pub new_id: UserId,
    /// What is made is shown by the user's row: the `created` line stays bare (a first pass of a million).
    pub bare: bool,
    /// The held user takes this entry's id in place of the old one (`adopt`).
    pub adopts: bool,
    /// What is known of the held user's numbers.
    pub number: NumberMark,
    /// The held user gets another number only after an administrator's decision: they match `phone-change.protect`, or that could not
    /// be found out.
    pub protected: bool,
}

/// What is to be done with one user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The version that was decided upon; 0: a new user.
    pub base_version: i64,
    /// The user as they will be. Without changes it still may differ in what is not told: raw values, the fingerprint.
    pub after: User,
    /// The lines of the plan.
    pub changes: Vec<Draft>,
    /// The messages.
    pub intents: Vec<Intent>,
}

/// A line of the plan before it has a place in a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// What happens.
    pub kind: ChangeKind,
    /// The changed fields as they were.
    pub before: Map<String, Value>,
    /// The changed fields as they will be.
    pub after: Map<String, Value>,
}

/// Decides about one person. `None`: nothing differs, not even a raw value.
pub fn decide(
    held: Option<&User>,
    seen: Observation<'_>,
    context: &DecisionContext<'_>,
) -> Option<Decision> {
    match (held, seen) {
        (None, Observation::Here { person, name }) => create(person.into_owned(), name, context),
        (None, Observation::Gone(_)) => None,
        (Some(held), Observation::Here { person, name }) => follow(held, &person, name, context),
        (Some(held), Observation::Gone(reason)) => gone(held, reason, context),
    }
}

fn create(mut person: Person, name: NameGrant, context: &DecisionContext<'_>) -> Option<Decision> {
    let NameGrant::Granted(name) = name else {
        return None;
    };
    // An entry whose disabled attribute cannot be understood starts closed.
    let enabled = person.enabled == Known::Known(true);
    let mut after = User {
        id: context.new_id,
        realm: context.realm.clone(),
        directory_id: Some(person.directory_id),
        entry_uuid: person.entry_uuid,
        username: name.shown,
        username_key: name.key,
        display_name: known(std::mem::replace(&mut person.display_name, Known::Unknown)),
        email: known(std::mem::replace(&mut person.email, Known::Unknown)),
        dn: Some(std::mem::take(&mut person.dn)),
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
        state: if enabled {
            State::Active
        } else {
            State::Suspended
        },
        state_reason: (!enabled).then_some(StateReason::Disabled),
        suspended_at: (!enabled).then_some(context.now),
        suspended_clock: (!enabled).then_some(context.realm_clock),
        blocked: false,
        version: 1,
        two_factor: context.policy.two_factor.clone(),
        last_used_at: None,
        fingerprint: None,
        created_at: context.now,
        updated_at: context.now,
        origin: UserOrigin::Directory,
        note: None,
    };
    if let Outcome::Other(choice) = choose(None, &person.phone, &context.number, context.policy) {
        take(&mut after, choice);
    }
    after.fingerprint = rest(&after, &person);
    let intents = dues(None, &mut after, context.policy, None);
    let draft = Draft {
        kind: ChangeKind::Created,
        before: Map::new(),
        after: if context.bare {
            Map::new()
        } else {
            crate::model::change::created_fields(&after, context.id_form)
        },
    };
    Some(Decision {
        base_version: 0,
        after,
        changes: vec![draft],
        intents,
    })
}

pub(super) fn follow(
    held: &User,
    person: &Person,
    name: NameGrant,
    context: &DecisionContext<'_>,
) -> Option<Decision> {
    if held.state == State::Removed
        || (held.state_reason == Some(StateReason::Undone) && !context.adopts)
    {
        return None;
    }
    let mut after = held.clone();
    let moved = held.realm != *context.realm;
    after.realm = context.realm.clone();
    after.directory_id = Some(person.directory_id);
    after.origin = UserOrigin::Directory;
    after.entry_uuid = person.entry_uuid.or(held.entry_uuid);
    after.dn = Some(person.dn.clone());
    if let Known::Known(display_name) = &person.display_name {
        let others = &person.others.display_name;
        let text = in_use(display_name, others, &held.display_name);
        after.display_name.clone_from(text);
    }
    if let Known::Known(email) = &person.email {
        let text = in_use(email, &person.others.email, &held.email);
        after.email.clone_from(text);
    }
    match name {
        NameGrant::Granted(name) => {
            after.username = name.shown;
            after.username_key = name.key;
        }
        NameGrant::Keep => {}
        // Somebody else has the name by now: who yielded it, or comes from another realm, stays away until that is settled.
        NameGrant::Nothing => return None,
    }
    let phone_row = follow_phone(held, &mut after, person, context);
    follow_state(held, &mut after, &person.enabled, context);
    after.fingerprint = rest(&after, person);

    let mut intents = vec![];
    let rows = rows_of(held, &after, phone_row, context);
    let cause = if moved {
        Some(JobReason::Moved)
    } else if context.adopts {
        Some(JobReason::Adopted)
    } else if !held.usable() && after.usable() {
        Some(JobReason::Restored)
    } else {
        None
    };
    if held.usable() && !after.usable() {
        intents.push(Intent::Withdraw {
            reason: JobReason::Disabled,
        });
        intents.push(plain(JobType::Suspend, JobReason::Disabled));
    }
    // Who moves is told too, though they never stopped working: the message says in which realm they are now.
    if after.usable() && (moved || !held.usable()) {
        intents.push(plain(
            JobType::Restore,
            cause.unwrap_or(JobReason::Restored),
        ));
    }
    intents.extend(renamed(held, &after));
    if phone_row == Some(ChangeKind::PhoneChanged) {
        intents.extend(notice(held, &after, context.policy));
    }
    if no_more_refused(person, &context.number) {
        intents.push(Intent::Allow);
    }
    // A number that is disputed is told to nobody.
    if !context.number.frozen {
        intents.extend(dues(Some(held), &mut after, context.policy, cause));
    }
    finish(held, after, rows, intents, context.now)
}

/// The lines of somebody who is there.
pub(super) fn rows_of(
    held: &User,
    after: &User,
    phone_row: Option<ChangeKind>,
    context: &DecisionContext<'_>,
) -> Vec<Draft> {
    let mut rows = ChangeDrafts::new(held, context.id_form);
    if held.realm == after.realm {
        match (held.state, after.state) {
            (State::Active, State::Suspended) => {
                rows.push(ChangeKind::Suspended, after, &STANDING);
            }
            (State::Suspended, State::Active) => rows.push(ChangeKind::Restored, after, &STANDING),
            _ => {}
        }
    } else {
        rows.push(
            ChangeKind::Moved,
            after,
            &[
                Field::Realm,
                Field::State,
                Field::StateReason,
                Field::SuspendedAt,
            ],
        );
    }
    if held.username_key != after.username_key {
        rows.push(ChangeKind::Renamed, after, &[Field::Username]);
    }
    if let Some(kind) = phone_row {
        rows.push(kind, after, &PHONE_FIELDS);
    }
    rows.push_rest(after);
    rows.0
}

/// Whether the entry gives something else than the number that was refused.
fn no_more_refused(person: &Person, mark: &NumberMark) -> bool {
    match (&mark.refused, &person.phone) {
        (Some(refused), PhoneReading::Read(attributes)) if !mark.frozen => {
            let usable = || attributes.iter().flat_map(|attribute| &attribute.usable);
            // None at all is no other one.
            usable().next().is_some() && usable().all(|value| value.phone != *refused)
        }
        _ => false,
    }
}

/// What is said of another name.
pub(super) fn renamed(held: &User, after: &User) -> Option<Intent> {
    (held.username_key != after.username_key).then(|| Intent::Say {
        r#type: JobType::Rename,
        reason: JobReason::Renamed,
        previous_phone: None,
        previous_username: Some(held.username.clone()),
    })
}

/// What the number before hears of another one, whoever gave that.
pub(super) fn notice(held: &User, after: &User, policy: &Policy) -> Option<Intent> {
    let noticed = previous(held)
        .filter(|p| after.phone_pending.is_some() || after.phone.as_ref() != Some(p))?;
    (policy.notify_previous && after.usable()).then(|| Intent::Say {
        r#type: JobType::PhoneNotice,
        reason: JobReason::PhoneChanged,
        previous_phone: Some(noticed.clone()),
        previous_username: None,
    })
}

/// Sets the number; tells which row of the plan it is, if any.
fn follow_phone(
    held: &User,
    after: &mut User,
    person: &Person,
    context: &DecisionContext<'_>,
) -> Option<ChangeKind> {
    if context.number.frozen {
        return None;
    }
    match choose(Some(held), &person.phone, &context.number, context.policy) {
        Outcome::Keep => None,
        Outcome::Same(choice) => {
            take(after, choice);
            drop_pending(after);
            None
        }
        Outcome::Lost => {
            after.phone = None;
            after.phone_raw = None;
            after.phone_attribute = None;
            after.phone_rule = None;
            after.phone_source = None;
            drop_pending(after);
            Some(ChangeKind::PhoneLost)
        }
        Outcome::Withdrawn => {
            drop_pending(after);
            None
        }
        Outcome::Other(choice) => {
            let phone = &choice.value.phone;
            let DecisionContext {
                policy,
                now,
                protected,
                ..
            } = *context;
            let same = held.phone_pending.as_ref() == Some(phone);
            let until = waits_from_now(held, phone, policy, now, protected);
            if same && (until.is_some() || held.phone_awaits_approval()) {
                after.phone_pending_raw = Some(choice.value.raw.clone());
                return None;
            }
            if let Some(until) = until {
                after.phone_pending = Some(phone.clone());
                after.phone_pending_raw = Some(choice.value.raw.clone());
                after.phone_pending_until = Some(until);
                after.phone_pending_source = None;
                return Some(ChangeKind::PhoneChanged);
            }
            // A number that waited, when the hold was since taken out of the file, was counted when it began to wait.
            take(after, choice);
            drop_pending(after);
            (!same).then_some(ChangeKind::PhoneChanged)
        }
    }
}

fn follow_state(
    held: &User,
    after: &mut User,
    enabled: &Known<bool>,
    context: &DecisionContext<'_>,
) {
    let active = match enabled {
        Known::Known(yes) => *yes,
        Known::Unknown => held.state == State::Active,
    };
    if active {
        after.state = State::Active;
        after.state_reason = None;
        after.suspended_at = None;
        after.suspended_clock = None;
    } else {
        after.state = State::Suspended;
        after.state_reason = Some(StateReason::Disabled);
        after.suspended_at = held.suspended_at.or(Some(context.now));
        after.suspended_clock = held.suspended_clock.or(Some(context.realm_clock));
    }
}

fn gone(
    held: &User,
    reason: Option<StateReason>,
    context: &DecisionContext<'_>,
) -> Option<Decision> {
    if held.state == State::Removed
        || (held.state == State::Suspended && held.state_reason == reason)
    {
        return None;
    }
    // Who is away already and was not looked up stays what they are.
    if reason.is_none() && !held.present() {
        return None;
    }
    let mut after = held.clone();
    after.state = State::Suspended;
    after.state_reason = reason;
    after.suspended_at = held.suspended_at.or(Some(context.now));
    let aged_before = matches!(
        held.state_reason,
        Some(StateReason::Deleted | StateReason::OutOfScope)
    );
    if !aged_before {
        after.suspended_clock = Some(context.realm_clock);
    }
    after.fingerprint = None;
    let mut rows = ChangeDrafts::new(held, context.id_form);
    if held.state == State::Active {
        rows.push(ChangeKind::Suspended, &after, &STANDING);
    }
    rows.push_rest(&after);
    let mut intents = vec![];
    if held.usable() {
        let why = if reason == Some(StateReason::OutOfScope) {
            JobReason::OutOfScope
        } else {
            JobReason::Deleted
        };
        intents.push(Intent::Withdraw { reason: why });
        intents.push(plain(JobType::Suspend, why));
    }
    finish(held, after, rows.0, intents, context.now)
}

/// The grace period of a suspended user is over: personal data goes, the bare row stays. The caller has looked the id up once more.
pub fn remove(held: &User, reason: JobReason, context: &DecisionContext<'_>) -> Option<Decision> {
    if held.state == State::Removed {
        return None;
    }
    let mut after = held.clone();
    after.state = State::Removed;
    after.state_reason = None;
    after.directory_id = None;
    after.entry_uuid = None;
    after.username = String::new();
    after.username_key = String::new();
    after.display_name = None;
    after.email = None;
    after.dn = None;
    after.phone = None;
    after.phone_raw = None;
    after.phone_attribute = None;
    after.phone_rule = None;
    after.phone_source = None;
    drop_pending(&mut after);
    after.phone_provisioned = None;
    after.phone_told = None;
    after.fingerprint = None;
    after.suspended_clock = None;
    after.note = None;
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push(ChangeKind::Removed, &after, &[Field::State]);
    let mut intents = vec![Intent::Withdraw { reason }];
    // The post-image has no name any more; the message, and its order among those of that name, need it once more.
    intents.push(Intent::Say {
        r#type: JobType::Deprovision,
        reason,
        previous_phone: None,
        previous_username: Some(held.username.clone()),
    });
    finish(held, after, rows.0, intents, context.now)
}

/// A hold is over: the waiting number is in use now. `None`: nothing waits, or not yet.
pub fn end_hold(held: &User, context: &DecisionContext<'_>) -> Option<Decision> {
    let until = held.phone_waits_until()?;
    if until > context.now {
        return None;
    }
    takes_effect(held, context)
}

/// The waiting number is in use now, whatever it waited for. `None`: nothing waits.
pub(super) fn takes_effect(held: &User, context: &DecisionContext<'_>) -> Option<Decision> {
    let phone = held.phone_pending.clone()?;
    let mut after = held.clone();
    after.phone = Some(phone);
    after.phone_raw.clone_from(&held.phone_pending_raw);
    // Which attribute gave the waiting number is seen at the next look.
    after.phone_attribute = None;
    after.phone_rule = None;
    after.phone_source = held.phone_pending_source.or(Some(PhoneSource::Directory));
    drop_pending(&mut after);
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push_rest(&after);
    let intents = dues(Some(held), &mut after, context.policy, None);
    finish(held, after, rows.0, intents, context.now)
}

pub(super) fn finish(
    held: &User,
    mut after: User,
    changes: Vec<Draft>,
    intents: Vec<Intent>,
    now: Timestamp,
) -> Option<Decision> {
    if !changes.is_empty() {
        after.version = held.version + 1;
        after.updated_at = now;
    }
    (after != *held || !intents.is_empty()).then_some(Decision {
        base_version: held.version,
        after,
        changes,
        intents,
    })
}

fn known(value: Known<Option<String>>) -> Option<String> {
    match value {
        Known::Known(value) => value,
        Known::Unknown => None,
    }
}

fn take(user: &mut User, choice: Choice<'_>) {
    user.phone = Some(choice.value.phone.clone());
    user.phone_raw = Some(choice.value.raw.clone());
    user.phone_attribute = Some(choice.attribute.to_owned());
    user.phone_rule = Some(choice.value.rule.clone());
    user.phone_source = Some(PhoneSource::Directory);
}

pub(super) fn drop_pending(user: &mut User) {
    user.phone_pending = None;
    user.phone_pending_raw = None;
    user.phone_pending_until = None;
    user.phone_pending_source = None;
}

/// Only a user at rest may pass by unseen next time: present, nothing refused, nothing waiting.
fn rest(after: &User, person: &Person) -> Option<u64> {
    let at_rest = after.present() && person.refused.is_empty() && after.phone_pending.is_none();
    at_rest.then_some(person.fingerprint)
}

pub(super) const PHONE_FIELDS: [Field; 6] = [
    Field::Phone,
    Field::PhoneRaw,
    Field::PhoneSource,
    Field::PhonePending,
    Field::PhonePendingUntil,
    Field::PhonePendingSource,
];

pub(super) const STANDING: [Field; 3] = [Field::State, Field::StateReason, Field::SuspendedAt];

/// Collects the rows of one user; what one row has shown, the next does not repeat.
pub(super) struct ChangeDrafts<'a>(pub(super) Vec<Draft>, &'a User, IdForm, Vec<Field>);

impl<'a> ChangeDrafts<'a> {
    pub(super) fn new(held: &'a User, form: IdForm) -> Self {
        Self(vec![], held, form, vec![])
    }

    pub(super) fn push(&mut self, kind: ChangeKind, after: &User, fields: &[Field]) {
        let (mut was, mut is) = (Map::new(), Map::new());
        for field in fields.iter().copied() {
            let (a, b) = (field.get(self.1, self.2), field.get(after, self.2));
            // A row about the number always says which one is in use, also while the new one waits.
            let always = field == Field::Phone
                && matches!(kind, ChangeKind::PhoneChanged | ChangeKind::PhoneLost);
            if a != b || always {
                was.insert(field.as_str().to_owned(), a);
                is.insert(field.as_str().to_owned(), b);
            }
            self.3.push(field);
        }
        self.0.push(Draft {
            kind,
            before: was,
            after: is,
        });
    }

    /// Everything else that changed is one row `updated`.
    pub(super) fn push_rest(&mut self, after: &User) {
        const REST: [Field; 16] = [
            Field::Username,
            Field::DisplayName,
            Field::Email,
            Field::Dn,
            Field::DirectoryId,
            Field::State,
            Field::StateReason,
            Field::Phone,
            Field::PhoneSource,
            Field::PhonePending,
            Field::PhonePendingUntil,
            Field::PhonePendingSource,
            Field::Blocked,
            Field::TwoFactor,
            Field::Origin,
            Field::Note,
        ];
        let differs = |f: &Field| f.get(self.1, self.2) != f.get(after, self.2);
        let fields: Vec<Field> = REST
            .into_iter()
            .filter(|f| !self.3.contains(f))
            .filter(differs)
            .collect();
        if !fields.is_empty() {
            self.push(ChangeKind::Updated, after, &fields);
        }
    }
}
