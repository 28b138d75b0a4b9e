//! Properties of one person's decision, told as sequences of what a directory may show and an outside world that listens.

use std::borrow::Cow;
use std::collections::HashMap;

use proptest::prelude::*;

use super::decide::{Decision, DecisionContext, NameGrant, Observation, decide, end_hold, remove};
use crate::clock::Timestamp;
use crate::model::{
    AttributeReading, ChangeKind, DirectoryId, Field, FieldOwner, IdForm, Intent, JobReason,
    JobType, Known, NumberMark, Others, Person, Phone, PhoneReading, PhoneValue, Policy, RealmId,
    State, StateReason, User, UserId, UserName,
};

mod by_hand;
mod holds;
mod imported;
mod protect;
mod put_back;
mod refused;
mod stranger;

fn policy() -> Policy {
    Policy {
        send_to_new: false,
        only_provisioned: false,
        hold_ms: 0,
        notify_previous: false,
        protect: None,
        local_phones: false,
        phone_attributes: vec!["mobile".into(), "telephoneNumber".into()],
        two_factor: vec![],
        grace_ms: 1000,
    }
}

fn number(n: u8) -> Phone {
    Phone::from_e164(&format!("+4219051234{n:02}")).unwrap()
}

fn value(n: u8) -> PhoneValue {
    PhoneValue {
        phone: number(n),
        raw: format!("0905 1234{n:02}"),
        rule: "national, region SK of the realm".into(),
    }
}

/// `mobile`, then `telephoneNumber`: usable numbers and how many refused values.
fn person(mobile: &[u8], mobile_refused: usize, other: &[u8], other_refused: usize) -> Person {
    let reading = |attribute: &str, usable: &[u8], refused| {
        let mut usable: Vec<PhoneValue> = usable.iter().map(|n| value(*n)).collect();
        usable.sort_by(|a, b| a.phone.cmp(&b.phone));
        AttributeReading {
            attribute: attribute.into(),
            usable,
            refused,
        }
    };
    Person {
        directory_id: DirectoryId([7; 16]),
        entry_uuid: None,
        dn: "uid=jan,ou=people,dc=example,dc=org".into(),
        username: Ok(name("jan")),
        display_name: Known::Known(Some("Ján".into())),
        email: Known::Known(None),
        enabled: Known::Known(true),
        phone: PhoneReading::Read(vec![
            reading("mobile", mobile, mobile_refused),
            reading("telephoneNumber", other, other_refused),
        ]),
        refused: vec![],
        others: Others::default(),
        fingerprint: 5,
    }
}

fn name(text: &str) -> UserName {
    UserName {
        shown: text.into(),
        key: text.into(),
    }
}

fn at<'a>(realm: &'a RealmId, policy: &'a Policy, now: i64) -> DecisionContext<'a> {
    DecisionContext {
        realm,
        policy,
        now: Timestamp(now),
        realm_clock: now,
        id_form: IdForm::Uuid,
        new_id: UserId(uuid::Uuid::from_u128(1)),
        bare: false,
        adopts: false,
        number: NumberMark::default(),
        protected: false,
    }
}

fn see(held: Option<&User>, person: &Person, policy: &Policy) -> Option<Decision> {
    let realm = RealmId::from("r");
    let granted = person
        .username
        .clone()
        .map_or(NameGrant::Keep, NameGrant::Granted);
    decide(
        held,
        Observation::Here {
            person: Cow::Borrowed(person),
            name: granted,
        },
        &at(&realm, policy, 10),
    )
}

fn kinds(decision: Option<&Decision>) -> Vec<ChangeKind> {
    decision
        .map(|d| d.changes.iter().map(|c| c.kind).collect())
        .unwrap_or_default()
}

fn says(decision: &Decision) -> Vec<JobType> {
    decision
        .intents
        .iter()
        .filter_map(|i| {
            if let Intent::Say { r#type, .. } = i {
                Some(*r#type)
            } else {
                None
            }
        })
        .collect()
}

fn held(person: &Person, policy: &Policy) -> User {
    see(None, person, policy).unwrap().after
}

#[test]
fn a_first_number_is_provisioned_silently() {
    let decision = see(None, &person(&[1], 0, &[], 0), &policy()).unwrap();
    assert_eq!(kinds(Some(&decision)), [ChangeKind::Created]);
    assert_eq!(decision.intents, []);
    assert_eq!(decision.after.phone_provisioned, Some(number(1)));
}

#[test]
fn a_new_number_is_told_once_with_the_previous_one() {
    let user = held(&person(&[1], 0, &[], 0), &policy());
    let decision = see(Some(&user), &person(&[2], 0, &[], 0), &policy()).unwrap();
    assert_eq!(kinds(Some(&decision)), [ChangeKind::PhoneChanged]);
    let [
        Intent::Say {
            r#type: JobType::Reprovision,
            reason: JobReason::PhoneChanged,
            previous_phone,
            ..
        },
    ] = decision.intents.as_slice()
    else {
        panic!("{:?}", decision.intents)
    };
    assert_eq!(previous_phone.as_ref(), Some(&number(1)));
    // Not by each pass again, accepted or not.
    assert_eq!(
        see(Some(&decision.after), &person(&[2], 0, &[], 0), &policy()),
        None
    );
}

#[test]
fn trap_14_order_and_format_are_no_change() {
    let user = held(&person(&[2, 1], 0, &[], 0), &policy());
    assert_eq!(user.phone, Some(number(1)));
    assert_eq!(
        see(Some(&user), &person(&[1, 2], 0, &[], 0), &policy()),
        None
    );
    let mut international = person(&[1], 0, &[], 0);
    let PhoneReading::Read(attributes) = &mut international.phone else {
        unreachable!()
    };
    attributes[0].usable[0].raw = "+421 905 123 401".into();
    let decision = see(Some(&user), &international, &policy()).unwrap();
    assert_eq!((decision.changes.len(), decision.intents.len()), (0, 0));
    assert_eq!(decision.after.version, user.version);
}

#[test]
fn an_invalid_new_value_never_erases_a_valid_old_one() {
    let user = held(&person(&[1], 0, &[], 0), &policy());
    for junk in [
        person(&[], 1, &[], 0),
        person(&[], 1, &[3], 0),
        person(&[], 2, &[], 1),
    ] {
        assert_eq!(
            kinds(see(Some(&user), &junk, &policy()).as_ref()),
            [],
            "{junk:?}"
        );
    }
    // Gone for good, and the other attribute holds only junk: nothing new that is invalid replaced it.
    assert_eq!(
        kinds(see(Some(&user), &person(&[], 0, &[], 1), &policy()).as_ref()),
        [ChangeKind::PhoneLost]
    );
    // A number from the second attribute stays while the first holds junk.
    let second = held(&person(&[], 0, &[4], 0), &policy());
    assert_eq!(
        kinds(see(Some(&second), &person(&[], 1, &[], 0), &policy()).as_ref()),
        []
    );
}

#[test]
fn name_and_address_in_use_stay_while_they_are_there() {
    let read = |display_name: &str, email: &str, others: Others| Person {
        display_name: Known::Known(Some(display_name.into())),
        email: Known::Known(Some(email.into())),
        others,
        ..person(&[1], 0, &[], 0)
    };
    let user = held(&read("Zora", "z@example.org", Others::default()), &policy());
    let both = Others {
        display_name: vec!["Zora".into()],
        email: vec!["z@example.org".into()],
        ..Others::default()
    };
    let with_both = read("Anna", "a@example.org", both);
    assert_eq!(kinds(see(Some(&user), &with_both, &policy()).as_ref()), []);
    let alone = read("Anna", "a@example.org", Others::default());
    let after = see(Some(&user), &alone, &policy()).unwrap().after;
    assert_eq!(after.display_name.as_deref(), Some("Anna"));
    assert_eq!(after.email.as_deref(), Some("a@example.org"));
    let none = Person {
        display_name: Known::Known(None),
        ..with_both
    };
    let after = see(Some(&user), &none, &policy()).unwrap().after;
    assert_eq!(after.display_name, None);
}

#[test]
fn the_user_name_in_use_stays_while_it_is_there() {
    let written = |shown: &str| UserName {
        shown: shown.into(),
        key: shown.to_lowercase(),
    };
    let after = |in_use: &str, chosen: &str, others: &[&str]| {
        let user = User {
            username: in_use.into(),
            username_key: in_use.to_lowercase(),
            ..held(&person(&[1], 0, &[], 0), &policy())
        };
        let mut person = Person {
            username: Ok(written(chosen)),
            others: Others {
                username: others.iter().map(|n| written(n)).collect(),
                ..Others::default()
            },
            ..person(&[1], 0, &[], 0)
        };
        person.keep_name(&user);
        person.username.unwrap().shown
    };
    assert_eq!(after("zora", "anna", &["zora"]), "zora");
    assert_eq!(after("zora", "anna", &["bea"]), "anna");
    assert_eq!(after("Zora", "anna", &["zora"]), "zora", "in another case");
    assert_eq!(after("B", "B", &["b"]), "B");
    assert_eq!(after("b", "B", &["b"]), "b");
    assert_eq!(
        after("Bea", "BEA", &["bea"]),
        "BEA",
        "neither is written so"
    );
}

#[test]
fn trap_56_the_preferred_attribute_decides() {
    let user = held(&person(&[], 0, &[1], 0), &policy());
    let decision = see(Some(&user), &person(&[2], 0, &[1], 0), &policy()).unwrap();
    assert_eq!(decision.after.phone, Some(number(2)));
    assert_eq!(says(&decision), [JobType::Reprovision]);
}

#[test]
fn trap_42_lost_and_given_again() {
    let policy = policy();
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let lost = see(Some(&user), &person(&[], 0, &[], 0), &policy).unwrap();
    assert_eq!(
        (kinds(Some(&lost)), lost.intents.len()),
        (vec![ChangeKind::PhoneLost], 0)
    );
    let same = see(Some(&lost.after), &person(&[1], 0, &[], 0), &policy).unwrap();
    assert_eq!(
        (kinds(Some(&same)), says(&same)),
        (vec![ChangeKind::PhoneChanged], vec![])
    );
    let other = see(Some(&lost.after), &person(&[2], 0, &[], 0), &policy).unwrap();
    assert_eq!(says(&other), [JobType::Reprovision]);
    let Intent::Say {
        reason,
        previous_phone,
        ..
    } = &other.intents[0]
    else {
        panic!()
    };
    assert_eq!(
        (*reason, previous_phone.as_ref()),
        (JobReason::PhoneGiven, Some(&number(1)))
    );
}

#[test]
fn trap_57_back_to_the_old_number_unsays() {
    let policy = policy();
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let told = see(Some(&user), &person(&[2], 0, &[], 0), &policy)
        .unwrap()
        .after;
    let back = see(Some(&told), &person(&[1], 0, &[], 0), &policy).unwrap();
    assert_eq!(back.intents, [Intent::Unsay]);
}

#[test]
fn trap_37_a_new_number_waits_and_the_old_one_is_noticed() {
    let policy = Policy {
        hold_ms: 100,
        notify_previous: true,
        ..policy()
    };
    let realm = RealmId::from("r");
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let waits = see(Some(&user), &person(&[2], 0, &[], 0), &policy).unwrap();
    assert_eq!(kinds(Some(&waits)), [ChangeKind::PhoneChanged]);
    assert_eq!(says(&waits), [JobType::PhoneNotice]);
    assert_eq!(
        (&waits.after.phone, &waits.after.phone_pending),
        (&Some(number(1)), &Some(number(2)))
    );
    assert_eq!(
        see(Some(&waits.after), &person(&[2], 0, &[], 0), &policy),
        None
    );
    assert_eq!(end_hold(&waits.after, &at(&realm, &policy, 109)), None);
    let over = end_hold(&waits.after, &at(&realm, &policy, 110)).unwrap();
    assert_eq!(
        (kinds(Some(&over)), says(&over)),
        (vec![ChangeKind::Updated], vec![JobType::Reprovision])
    );
    assert_eq!(over.after.phone, Some(number(2)));
    let back = see(Some(&waits.after), &person(&[1], 0, &[], 0), &policy).unwrap();
    assert_eq!(
        (
            kinds(Some(&back)),
            back.intents.len(),
            &back.after.phone_pending
        ),
        (vec![ChangeKind::Updated], 0, &None)
    );
}

#[test]
fn trap_38_a_block_is_not_lifted_by_the_directory() {
    let policy = policy();
    let mut user = held(&person(&[1], 0, &[], 0), &policy);
    user.blocked = true;
    let mut off = person(&[1], 0, &[], 0);
    off.enabled = Known::Known(false);
    let suspended = see(Some(&user), &off, &policy).unwrap();
    assert_eq!(
        (kinds(Some(&suspended)), says(&suspended).len()),
        (vec![ChangeKind::Suspended], 0)
    );
    let on = see(Some(&suspended.after), &person(&[2], 0, &[], 0), &policy).unwrap();
    assert!(on.after.blocked);
    assert_eq!(says(&on), [], "a blocked user is told nothing");
}

#[test]
fn trap_40_a_number_by_hand_stays() {
    use crate::model::PhoneSource;
    let mut user = held(&person(&[], 0, &[], 0), &policy());
    user.phone = Some(number(9));
    user.phone_source = Some(PhoneSource::Manual);
    user.phone_provisioned = Some(number(9));
    assert_eq!(
        kinds(see(Some(&user), &person(&[], 0, &[], 0), &policy()).as_ref()),
        []
    );
    let local = Policy {
        local_phones: true,
        ..policy()
    };
    assert_eq!(
        kinds(see(Some(&user), &person(&[1], 0, &[], 0), &local).as_ref()),
        []
    );
    let replaced = see(Some(&user), &person(&[1], 0, &[], 0), &policy()).unwrap();
    assert_eq!(
        (kinds(Some(&replaced)), says(&replaced)),
        (vec![ChangeKind::PhoneChanged], vec![JobType::Reprovision])
    );
}

#[test]
fn who_comes_back_keeps_id_and_factors() {
    let policy = policy();
    let realm = RealmId::from("r");
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let gone = decide(
        Some(&user),
        Observation::Gone(Some(StateReason::Deleted)),
        &at(&realm, &policy, 20),
    )
    .unwrap();
    assert_eq!(says(&gone), [JobType::Suspend]);
    assert_eq!(
        gone.intents[0],
        Intent::Withdraw {
            reason: JobReason::Deleted
        }
    );
    let back = see(Some(&gone.after), &person(&[2], 0, &[], 0), &policy).unwrap();
    assert_eq!(back.after.id, user.id);
    assert_eq!(
        kinds(Some(&back)),
        [ChangeKind::Restored, ChangeKind::PhoneChanged]
    );
    assert_eq!(says(&back), [JobType::Restore, JobType::Reprovision]);
    // While the name is another's, they stay away.
    let seen = Observation::Here {
        person: Cow::Owned(person(&[2], 0, &[], 0)),
        name: NameGrant::Nothing,
    };
    assert_eq!(
        decide(Some(&gone.after), seen, &at(&realm, &policy, 30)),
        None
    );
}

#[test]
fn removal_erases_everything_personal() {
    let policy = policy();
    let realm = RealmId::from("r");
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let gone = decide(
        Some(&user),
        Observation::Gone(Some(StateReason::Deleted)),
        &at(&realm, &policy, 20),
    )
    .unwrap()
    .after;
    let removed = remove(&gone, JobReason::GraceOver, &at(&realm, &policy, 30)).unwrap();
    let u = &removed.after;
    assert_eq!(
        (
            u.state,
            &u.phone,
            &u.email,
            &u.dn,
            u.directory_id,
            u.username.as_str()
        ),
        (State::Removed, &None, &None, &None, None, "")
    );
    assert_eq!(says(&removed), [JobType::Deprovision]);
}

#[test]
fn new_users_are_sent_the_application_where_the_realm_says_so() {
    let policy = Policy {
        send_to_new: true,
        ..policy()
    };
    let decision = see(None, &person(&[1], 0, &[], 0), &policy).unwrap();
    assert_eq!(
        (says(&decision), &decision.after.phone_provisioned),
        (vec![JobType::Provision], &None)
    );
    assert_eq!(
        see(Some(&decision.after), &person(&[1], 0, &[], 0), &policy),
        None
    );
    // First seen disabled: due when enabled.
    let mut off = person(&[1], 0, &[], 0);
    off.enabled = Known::Known(false);
    let created = see(None, &off, &policy).unwrap();
    assert_eq!(
        (kinds(Some(&created)), created.intents.len()),
        (vec![ChangeKind::Created], 0)
    );
    let on = see(Some(&created.after), &person(&[1], 0, &[], 0), &policy).unwrap();
    assert_eq!(says(&on), [JobType::Restore, JobType::Provision]);
}

#[test]
fn a_newer_number_supersedes_an_invitation_that_is_under_way() {
    let policy = Policy {
        send_to_new: true,
        only_provisioned: true,
        ..policy()
    };
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let changed = see(Some(&user), &person(&[2], 0, &[], 0), &policy).unwrap();
    assert_eq!(
        says(&changed),
        [JobType::Provision],
        "the application was sent to them, so they follow"
    );
    // To whom nothing was sent, nothing is.
    let waits = Policy {
        send_to_new: false,
        ..policy
    };
    let user = held(&person(&[1], 0, &[], 0), &waits);
    let changed = see(Some(&user), &person(&[2], 0, &[], 0), &waits).unwrap();
    assert_eq!(says(&changed), []);
}

#[test]
fn a_number_that_took_effect_is_not_erased_by_a_refused_one() {
    let policy = Policy {
        hold_ms: 100,
        ..policy()
    };
    let realm = RealmId::from("r");
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let waits = see(Some(&user), &person(&[], 0, &[2], 0), &policy).unwrap();
    let over = end_hold(&waits.after, &at(&realm, &policy, 110)).unwrap();
    assert_eq!(
        kinds(see(Some(&over.after), &person(&[], 0, &[], 1), &policy).as_ref()),
        [],
        "it came from the attribute that holds only refused values now"
    );
}

/// What a directory may show of one person at one time.
#[derive(Clone, Debug)]
enum Event {
    Seen {
        mobile: Vec<u8>,
        refused: usize,
        other: Vec<u8>,
        enabled: bool,
        renamed: bool,
    },
    Gone(StateReason),
    /// The outside world accepts the newest message.
    Accepted,
    Block(bool),
    HoldOver,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let seen = (
        prop::collection::vec(0u8..4, 0..3),
        0usize..2,
        prop::collection::vec(0u8..4, 0..2),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(mobile, refused, other, enabled, renamed)| Event::Seen {
            mobile,
            refused,
            other,
            enabled,
            renamed,
        });
    let event = prop_oneof![
        6 => seen,
        1 => prop_oneof![Just(StateReason::Deleted), Just(StateReason::OutOfScope)].prop_map(Event::Gone),
        2 => Just(Event::Accepted),
        1 => any::<bool>().prop_map(Event::Block),
        1 => Just(Event::HoldOver),
    ];
    prop::collection::vec(event, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_keeps_the_rules(events in events(), send in any::<bool>(), hold in prop::bool::ANY, notify in any::<bool>()) {
        let policy = Policy { send_to_new: send, hold_ms: if hold { 5 } else { 0 }, notify_previous: notify, ..policy() };
        let realm = RealmId::from("r");
        let mut user: Option<User> = None;
        // An administrator's act, which has messages of its own: what it left due is told at the next look.
        let mut unblocked = false;
        // Since when the directory shows a number without a break; a refused value breaks nothing.
        let mut shown: HashMap<Phone, i64> = HashMap::new();
        for (now, event) in events.iter().enumerate() {
            let now = i64::try_from(now).unwrap() * 3;
            let context = at(&realm, &policy, now);
            let p;
            let decision = match event {
                Event::Seen { mobile, refused, other, enabled, renamed } => {
                    let mut someone = person(mobile, *refused, other, 0);
                    someone.enabled = Known::Known(*enabled);
                    if *refused == 0 { shown.retain(|phone, _| mobile.iter().chain(other).any(|n| number(*n) == *phone)); }
                    for n in mobile.iter().chain(other) { shown.entry(number(*n)).or_insert(now); }
                    if *renamed { someone.username = Ok(name("jano")); }
                    p = someone;
                    let seen = || Observation::Here { person: Cow::Borrowed(&p), name: NameGrant::Granted(p.username.clone().unwrap()) };
                    let decision = decide(user.as_ref(), seen(), &context);
                    if let Some(d) = &decision {
                        // Planning again changes nothing.
                        prop_assert_eq!(decide(Some(&d.after), seen(), &context), None);
                    }
                    decision
                }
                Event::Gone(reason) => decide(user.as_ref(), Observation::Gone(Some(*reason)), &context),
                Event::HoldOver => user.as_ref().and_then(|u| end_hold(u, &context)),
                Event::Accepted => {
                    if let Some(u) = user.as_mut().filter(|u| u.told) {
                        u.phone_provisioned.clone_from(&u.phone_told);
                        u.provisioned = true;
                    }
                    None
                }
                Event::Block(on) => {
                    if let Some(u) = user.as_mut() { unblocked |= u.blocked && !*on; u.blocked = *on; }
                    None
                }
            };
            let Some(decision) = decision else { continue };
            let before = user.clone();
            let says = says(&decision);
            if let Some(b) = &before {
                prop_assert_eq!(decision.after.id, b.id, "the id never changes");
                let administrators = Field::ALL.iter().filter(|f| f.owner() == FieldOwner::Administrator);
                for field in administrators {
                    let of = |user: &User| field.get(user, IdForm::Uuid);
                    prop_assert_eq!(of(&decision.after), of(b), "{}: no run touches it", field);
                }
                prop_assert_eq!(decision.base_version, b.version);
                prop_assert_eq!(decision.after.version, b.version + i64::from(!decision.changes.is_empty()));
                let suspends = says.contains(&JobType::Suspend);
                prop_assert_eq!(suspends, b.usable() && !decision.after.usable());
                prop_assert_eq!(says.contains(&JobType::Restore), !b.usable() && decision.after.usable());
                let provisioned = b.phone_provisioned.as_ref();
                if let Some(phone) = decision.after.phone.as_ref().filter(|p| hold && b.phone.as_ref() != Some(p)) && provisioned.is_some_and(|p| p != phone) {
                    // What is not in use is not told: every message about a number carries the one in use.
                    prop_assert!(shown.get(phone).is_some_and(|since| now - since >= policy.hold_ms), "no number gets round its hold");
                }
                if notify && decision.after.usable() && decision.changes.iter().any(|c| c.kind == ChangeKind::PhoneChanged) && provisioned.is_some() && provisioned != decision.after.phone.as_ref() {
                    prop_assert!(says.contains(&JobType::PhoneNotice), "the number before hears of it");
                }
                if b.phone.is_some() && decision.after.phone != b.phone {
                    prop_assert!(!matches!(event, Event::Gone(_)), "who is gone keeps the number");
                }
            }
            for name in decision.changes.iter().flat_map(|c| c.before.keys().chain(c.after.keys())) {
                prop_assert!(name.parse::<Field>().is_ok(), "{} is in the table of fields", name);
            }
            if !decision.after.usable() {
                prop_assert!(!says.iter().any(|t| matches!(t, JobType::Provision | JobType::Reprovision | JobType::PhoneNotice)));
            }
            if says.contains(&JobType::Reprovision) {
                prop_assert_ne!(&decision.after.phone, &decision.after.phone_provisioned);
                prop_assert!(decision.after.phone.is_some());
            }
            if decision.changes.is_empty() && !unblocked {
                prop_assert!(says.is_empty(), "every message has a cause: {:?}", decision);
            }
            prop_assert_eq!(decision.after.phone.is_some(), decision.after.phone_source.is_some());
            prop_assert_eq!(decision.after.state == State::Suspended, decision.after.state_reason.is_some());
            prop_assert!(decision.after.fingerprint.is_none() || (decision.after.present() && decision.after.phone_pending.is_none()));
            unblocked = false;
            let mut after = decision.after;
            // What the outbox does of it: an unsent message is dropped, and may then be told again.
            let unsaid = decision.intents.iter().any(|i| matches!(i, Intent::Unsay | Intent::Withdraw { .. }));
            if unsaid && !says.iter().any(|t| matches!(t, JobType::Provision | JobType::Reprovision)) && after.phone_told != after.phone_provisioned {
                after.phone_told.clone_from(&after.phone_provisioned);
                after.told = after.provisioned;
            }
            user = Some(after);
        }
    }
}
