//! What administrators do by hand, whatever was done before.

use proptest::prelude::*;

use super::{at, name, number, person, policy, see};
use crate::model::{
    ChangeKind, Edit, Field, Intent, JobType, Phone, PhoneSource, Policy, RealmId, State,
    TwoFactor, User, UserOrigin,
};
use crate::plan::by_hand::{
    HandRefusal, NewUser, TypedPhone, UserEdit, add, block, edit, end_override, may_adopt, remove,
    restore,
};
use crate::plan::decide::{Decision, end_hold};

fn typed(n: u8) -> TypedPhone {
    TypedPhone {
        phone: number(n),
        raw: format!("0905 1234{n:02}"),
        source: PhoneSource::Manual,
    }
}

fn made(policy: &Policy, phone: Option<u8>) -> User {
    let new = NewUser {
        name: name("jan"),
        display_name: None,
        email: None,
        phone: phone.map(typed),
        note: None,
        two_factor: None,
        origin: UserOrigin::Manual,
    };
    add(new, &at(&RealmId::from("r"), policy, 1)).after
}

fn said(decision: &Decision) -> Vec<JobType> {
    let kind = |intent: &Intent| match intent {
        Intent::Say { r#type, .. } => Some(*r#type),
        Intent::Unsay | Intent::Allow | Intent::Withdraw { .. } | Intent::Forget { .. } => None,
    };
    decision.intents.iter().filter_map(kind).collect()
}

/// What an administrator may do.
#[derive(Clone, Debug)]
enum Wish {
    Phone(Edit<u8>),
    Name(u8),
    Note(Edit<String>),
    Methods(bool),
    Block(bool),
    EndHold,
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        (0_u8..4).prop_map(|n| Wish::Phone(Edit::Set(n))),
        Just(Wish::Phone(Edit::Clear)),
        (0_u8..3).prop_map(Wish::Name),
        any::<bool>().prop_map(|set| Wish::Note(if set {
            Edit::Set("n".to_owned())
        } else {
            Edit::Clear
        })),
        any::<bool>().prop_map(Wish::Methods),
        any::<bool>().prop_map(Wish::Block),
        Just(Wish::EndHold),
    ]
}

fn grant(
    held: &User,
    wish: &Wish,
    policy: &Policy,
    now: i64,
) -> Result<Option<Decision>, HandRefusal> {
    let realm = RealmId::from("r");
    let context = at(&realm, policy, now);
    let mut change = UserEdit::default();
    match wish {
        Wish::Phone(phone) => {
            let phone: Result<Edit<TypedPhone>, ()> = phone.try_map(|n| Ok(typed(n)));
            change.phone = phone.unwrap_or_default();
        }
        Wish::Name(n) => change.name = Some(name(&format!("jan{n}"))),
        Wish::Note(note) => change.note = note.clone(),
        Wish::Methods(fido) => {
            change.two_factor = Some(if *fido { vec![TwoFactor::Fido] } else { vec![] });
        }
        Wish::Block(on) => return block(held, *on, &context),
        Wish::EndHold => return Ok(end_hold(held, &context)),
    }
    edit(held, change, &context)
}

fn policies() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(send_to_new, holds, notify_previous, local_phones)| Policy {
            send_to_new,
            hold_ms: if holds { 5 } else { 0 },
            notify_previous,
            local_phones,
            ..policy()
        },
    )
}

proptest! {
    /// The version rises with every change and with nothing else, the lines say what became of each field, asking for the same
    /// again changes nothing, and what the directory owns is as the directory gave it.
    #[test]
    fn whatever_is_done_by_hand_is_told_and_done_once(
        policy in policies(),
        of_directory in any::<bool>(),
        phone in proptest::option::of(0_u8..4),
        wishes in proptest::collection::vec(wish(), 1..12),
    ) {
        let mut held = if of_directory {
            see(None, &person(&phone.into_iter().collect::<Vec<u8>>(), 0, &[], 0), &policy).unwrap().after
        } else {
            made(&policy, phone)
        };
        let first = held.clone();
        let owned = [Field::Username, Field::DisplayName, Field::Email, Field::DirectoryId, Field::Dn, Field::Origin];
        let form = crate::model::IdForm::Uuid;
        for (n, wish) in wishes.iter().enumerate() {
            let now = 10 + 3 * i64::try_from(n).unwrap();
            let decision = match grant(&held, wish, &policy, now) {
                Ok(Some(decision)) => decision,
                Ok(None) => continue,
                Err(refusal) => {
                    prop_assert!(of_directory, "{refusal:?}");
                    continue;
                }
            };
            let after = &decision.after;
            prop_assert_eq!(after.version, held.version + i64::from(!decision.changes.is_empty()));
            prop_assert_eq!(decision.base_version, held.version);
            for draft in &decision.changes {
                for (field, value) in &draft.after {
                    let field: Field = field.parse().unwrap();
                    prop_assert_eq!(&field.get(after, form), value);
                }
                for (field, value) in &draft.before {
                    let field: Field = field.parse().unwrap();
                    prop_assert_eq!(&field.get(&held, form), value);
                }
            }
            for field in Field::ALL.iter().filter(|f| field_is_told(**f)) {
                let told = decision.changes.iter().any(|c| c.after.contains_key(field.as_str()));
                prop_assert!(told || field.get(after, form) == field.get(&held, form), "{field} is not told");
            }
            prop_assert!(after.phone.is_some() == after.phone_source.is_some());
            prop_assert!(after.phone_pending.is_some() == after.phone_pending_until.is_some());
            prop_assert!(after.phone_pending.is_some() || after.phone_pending_source.is_none());
            // Who is not usable hears nothing of numbers.
            let tells = |kind: &JobType| matches!(kind, JobType::Provision | JobType::Reprovision | JobType::PhoneNotice);
            prop_assert!(after.usable() || !said(&decision).iter().any(tells));
            held = decision.after;
            if of_directory {
                for field in owned {
                    prop_assert_eq!(field.get(&first, form), field.get(&held, form));
                }
            }
            if !matches!(wish, Wish::EndHold) {
                let again = grant(&held, wish, &policy, now);
                prop_assert!(again.as_ref().is_ok_and(Option::is_none), "{wish:?} again: {again:?}");
            }
        }
        // A pass that gives the same as before finds a number by hand, and under `local` leaves it, also a waiting one.
        if of_directory && policy.local_phones && held.phone_source == Some(PhoneSource::Manual) {
            let seen = person(&phone.into_iter().collect::<Vec<u8>>(), 0, &[], 0);
            let numbers = |u: &User| (u.phone.clone(), u.phone_pending.clone());
            if let Some(decision) = see(Some(&held), &seen, &policy) {
                prop_assert_eq!(numbers(&decision.after), numbers(&held));
            }
        }
    }
}

fn field_is_told(field: Field) -> bool {
    !matches!(
        field,
        Field::PhoneProvisioned | Field::PhoneRaw | Field::PhoneSource
    )
}

#[test]
fn a_user_by_hand_is_made_silently_unless_the_realm_sends() {
    let realm = RealmId::from("r");
    for (send_to_new, kinds) in [(false, vec![]), (true, vec![JobType::Provision])] {
        let rules = Policy {
            send_to_new,
            ..policy()
        };
        let new = NewUser {
            name: name("jan"),
            display_name: Some("Ján".into()),
            email: None,
            phone: Some(typed(1)),
            note: Some("n".into()),
            two_factor: Some(vec![TwoFactor::SmsOtp]),
            origin: UserOrigin::Manual,
        };
        let decision = add(new, &at(&realm, &rules, 1));
        assert_eq!(said(&decision), kinds);
        let after = &decision.after;
        assert_eq!((after.version, after.state), (1, State::Active));
        assert_eq!(after.phone_provisioned.is_some(), !send_to_new);
        assert_eq!(decision.changes[0].kind, ChangeKind::Created);
        assert_eq!(decision.changes[0].after["note"], "n");
    }
}

#[test]
fn a_number_by_hand_waits_and_the_one_before_hears_of_it() {
    let rules = Policy {
        hold_ms: 100,
        notify_previous: true,
        ..policy()
    };
    let realm = RealmId::from("r");
    let held = made(&rules, Some(1));
    let wish = Wish::Phone(Edit::Set(2));
    let decision = grant(&held, &wish, &rules, 10).unwrap().unwrap();
    assert_eq!(said(&decision), [JobType::PhoneNotice]);
    let waits = decision.after;
    assert_eq!(
        (&waits.phone, &waits.phone_pending),
        (&Some(number(1)), &Some(number(2)))
    );
    assert!(end_hold(&waits, &at(&realm, &rules, 109)).is_none());
    let ended = end_hold(&waits, &at(&realm, &rules, 110)).unwrap();
    assert_eq!(said(&ended), [JobType::Reprovision]);
    assert_eq!(ended.after.phone, Some(number(2)));
    assert_eq!(
        ended.after.phone_source,
        Some(PhoneSource::Manual),
        "it stays the administrator's"
    );
    // Back to the number in use: nothing waits any more.
    let back = grant(&waits, &Wish::Phone(Edit::Set(1)), &rules, 20)
        .unwrap()
        .unwrap();
    assert_eq!(
        (back.after.phone, back.after.phone_pending),
        (Some(number(1)), None::<Phone>)
    );
}

/// § 11: an override may end by itself. Then the directory decides, and until it has, nobody loses a number.
#[test]
fn a_number_by_hand_that_ends_leaves_it_to_the_directory() {
    let rules = Policy {
        local_phones: true,
        ..policy()
    };
    let realm = RealmId::from("r");
    let held = see(None, &person(&[1], 0, &[], 0), &rules).unwrap().after;
    let set = grant(&held, &Wish::Phone(Edit::Set(2)), &rules, 10)
        .unwrap()
        .unwrap()
        .after;
    assert_eq!(set.phone, Some(number(2)));
    let seen = see(Some(&set), &person(&[1], 0, &[], 0), &rules);
    assert!(
        seen.is_none_or(|d| d.after.phone == Some(number(2))),
        "it stands"
    );
    let ended = end_override(&set, &at(&realm, &rules, 20)).unwrap().after;
    assert_eq!(
        (&ended.phone, ended.phone_source),
        (&Some(number(2)), Some(PhoneSource::Directory))
    );
    assert!(end_override(&ended, &at(&realm, &rules, 20)).is_none());
    for (gives, becomes, kind) in [
        (&[1][..], Some(number(1)), ChangeKind::PhoneChanged),
        (&[], None, ChangeKind::PhoneLost),
    ] {
        let seen = see(Some(&ended), &person(gives, 0, &[], 0), &rules).unwrap();
        assert_eq!((seen.after.phone, seen.changes[0].kind), (becomes, kind));
    }
}

#[test]
fn a_directory_user_is_blocked_and_not_removed() {
    let realm = RealmId::from("r");
    let rules = policy();
    let context = at(&realm, &rules, 10);
    let held = see(None, &person(&[1], 0, &[], 0), &rules).unwrap().after;
    for at_once in [false, true] {
        assert_eq!(
            remove(&held, at_once, &context),
            Err(HandRefusal::Owned(Field::State))
        );
    }
    let blocked = block(&held, true, &context).unwrap().unwrap();
    assert_eq!(said(&blocked), [JobType::Suspend]);
    assert!(blocked.after.blocked && blocked.after.state == State::Active);
    let lifted = block(&blocked.after, false, &context).unwrap().unwrap();
    assert_eq!(said(&lifted), [JobType::Restore]);
    let by_hand = made(&rules, Some(1));
    let away = remove(&by_hand, false, &context).unwrap().unwrap();
    assert_eq!(said(&away), [JobType::Suspend]);
    assert_eq!(
        remove(&away.after, false, &context),
        Ok(None),
        "the grace has begun"
    );
    let gone = remove(&away.after, true, &context).unwrap().unwrap();
    assert_eq!(said(&gone), [JobType::Deprovision]);
    assert_eq!(
        remove(&gone.after, true, &context),
        Err(HandRefusal::Removed)
    );
    assert!(gone.after.username.is_empty() && gone.after.phone.is_none());
}

/// Who is in the grace lets go of the name: an entry of that name is somebody new, until the removal is taken back.
#[test]
fn who_is_in_the_grace_is_given_no_entry_and_may_be_restored() {
    let policy = Policy {
        send_to_new: true,
        ..policy()
    };
    let realm = RealmId::from("r");
    let context = at(&realm, &policy, 5);
    let jan = made(&policy, Some(1));
    assert_eq!(may_adopt(&jan), Ok(()));
    assert_eq!(restore(&jan, &context), Ok(None), "nobody suspended them");
    let away = remove(&jan, false, &context).unwrap().unwrap().after;
    assert_eq!(may_adopt(&away), Err(HandRefusal::Away));
    let back = restore(&away, &context).unwrap().unwrap();
    let is = &back.after;
    assert_eq!(
        (
            is.state,
            is.state_reason,
            is.suspended_at,
            is.suspended_clock
        ),
        (State::Active, None, None, None)
    );
    assert_eq!(is.version, away.version + 1);
    assert!(
        said(&back).contains(&JobType::Restore),
        "{:?}",
        back.intents
    );
    assert_eq!(back.changes[0].kind, ChangeKind::Restored);
    // A block stays, and nobody is told.
    let blocked = User {
        blocked: true,
        ..away.clone()
    };
    let back = restore(&blocked, &context).unwrap().unwrap();
    assert!(!back.after.usable() && said(&back).is_empty());
    let of_directory = see(None, &person(&[1], 0, &[], 0), &policy).unwrap().after;
    assert_eq!(
        restore(&of_directory, &context),
        Err(HandRefusal::Owned(Field::StateReason))
    );
    let gone = remove(&jan, true, &context).unwrap().unwrap().after;
    assert_eq!(restore(&gone, &context), Err(HandRefusal::Removed));
}

/// The number that waits already, given by hand: from then on it waits by hand, which is told, and is a new version.
#[test]
fn a_waiting_number_that_is_typed_is_a_change_of_who_gave_it() {
    let policy = Policy {
        hold_ms: 5,
        local_phones: true,
        ..policy()
    };
    let realm = RealmId::from("r");
    let first = see(None, &person(&[1], 0, &[], 0), &policy).unwrap().after;
    let waiting = see(Some(&first), &person(&[2], 0, &[], 0), &policy)
        .unwrap()
        .after;
    assert_eq!(waiting.phone_pending, Some(number(2)));
    let change = UserEdit {
        phone: Edit::Set(typed(2)),
        ..UserEdit::default()
    };
    let done = edit(&waiting, change, &at(&realm, &policy, 5))
        .unwrap()
        .unwrap();
    assert_eq!(done.after.phone_pending_source, Some(PhoneSource::Manual));
    assert_eq!(done.after.version, waiting.version + 1);
    let line = &done.changes[0];
    assert_eq!(
        (
            &line.before["phone_pending_source"],
            &line.after["phone_pending_source"]
        ),
        (&serde_json::json!(null), &serde_json::json!("manual"))
    );
}
