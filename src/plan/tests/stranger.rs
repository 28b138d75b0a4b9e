//! The entry of a name is given to a user by hand who may be somebody else.

use super::*;
use crate::model::change::ANOTHER_PERSON;
use crate::model::{PhoneSource, UserOrigin};
use crate::plan::decide::Draft;
use crate::plan::stranger::decide_stranger;
use crate::plan::undo::{PutBack, put_back};

/// A user by hand with number 9, whom the receiver knows.
fn by_hand() -> User {
    User {
        directory_id: None,
        dn: None,
        origin: UserOrigin::Manual,
        phone: Some(number(9)),
        phone_source: Some(PhoneSource::Manual),
        phone_attribute: None,
        phone_rule: None,
        phone_provisioned: Some(number(9)),
        phone_pending: Some(number(8)),
        phone_pending_until: Some(Timestamp(99)),
        phone_pending_source: Some(PhoneSource::Manual),
        told: true,
        provisioned: true,
        fingerprint: None,
        ..held(&person(&[1], 0, &[], 0), &policy())
    }
}

fn given(held: &User, entry: &Person, policy: &Policy) -> Decision {
    let realm = RealmId::from("r");
    let context = DecisionContext {
        adopts: true,
        ..at(&realm, policy, 5)
    };
    decide_stranger(held, entry, NameGrant::Granted(name("jan")), &context).unwrap()
}

/// Whatever the realm says of numbers: the one before is never the other person's, nor is what the receiver has.
#[test]
fn nothing_of_the_one_before_stays() {
    for local_phones in [false, true] {
        for (hold_ms, mobile) in [(0, &[1][..]), (5, &[1]), (0, &[]), (5, &[])] {
            for send_to_new in [false, true] {
                let policy = Policy {
                    local_phones,
                    hold_ms,
                    send_to_new,
                    notify_previous: true,
                    ..policy()
                };
                let was = by_hand();
                let done = given(&was, &person(mobile, 0, &[], 0), &policy);
                let is = &done.after;
                let phone = mobile.first().map(|n| number(*n));
                assert_eq!((&is.phone, &is.phone_pending), (&phone, &None));
                assert!(is.phone_provisioned != was.phone_provisioned && !is.provisioned);
                assert_eq!((is.told, is.version), (send_to_new, was.version + 1));
                assert!(matches!(done.intents[0], Intent::Forget { .. }));
                assert!(!done.intents.contains(&Intent::Unsay));
                let mut wanted = vec![JobType::Deprovision];
                wanted.extend(send_to_new.then_some(JobType::Provision));
                assert_eq!(says(&done), wanted, "{policy:?}");
                // The lines say what it was, and that it may be somebody else.
                let kind = if phone.is_some() {
                    ChangeKind::PhoneChanged
                } else {
                    ChangeKind::PhoneLost
                };
                let line = |kind| done.changes.iter().find(|d| d.kind == kind).unwrap();
                assert_eq!(line(kind).before["phone"], number(9).as_str());
                assert_eq!(line(ChangeKind::Updated).after[ANOTHER_PERSON], true);
            }
        }
    }
}

/// Of whom the receiver never heard, it is not told to forget anybody.
#[test]
fn whom_the_receiver_does_not_know_it_does_not_forget() {
    let unknown = User {
        told: false,
        provisioned: false,
        ..by_hand()
    };
    let done = given(&unknown, &person(&[1], 0, &[], 0), &policy());
    assert_eq!(says(&done), []);
}

/// What is put back is the user as they were, but for factors, and the mark is in no line.
#[test]
fn a_wrong_match_is_put_back() {
    let was = User {
        phone_pending: None,
        phone_pending_until: None,
        phone_pending_source: None,
        ..by_hand()
    };
    let policy = policy();
    let done = given(&was, &person(&[1], 0, &[], 0), &policy);
    let changes: Vec<crate::model::Change> = done
        .changes
        .iter()
        .map(|draft| crate::model::Change {
            run: None,
            seq: 1,
            realm: was.realm.clone(),
            user: was.id,
            username: None,
            by: None,
            kind: draft.kind,
            before: draft.before.clone(),
            after: draft.after.clone(),
            at: Timestamp(10),
        })
        .collect();
    let rules = PutBack {
        policy: &policy,
        now: Timestamp(50),
        realm_clock: 50,
        id_form: IdForm::Uuid,
        marks: &std::collections::HashMap::new(),
    };
    let undone = put_back(&done.after, &changes.iter().collect::<Vec<_>>(), &rules).unwrap();
    let is = &undone.after;
    assert_eq!(
        (&is.phone, is.phone_source, is.origin, is.directory_id),
        (&was.phone, was.phone_source, UserOrigin::Manual, None)
    );
    let marked =
        |d: &Draft| d.before.contains_key(ANOTHER_PERSON) || d.after.contains_key(ANOTHER_PERSON);
    assert!(!undone.changes.iter().any(marked), "{:?}", undone.changes);
}
