//! What can be put back: every field of the table, whoever set it.

use serde_json::{Map, Value};

use super::*;
use crate::model::{Change, Field, PhoneSource, TwoFactor, UserOrigin};
use crate::plan::undo::{PutBack, put_back};

/// The change from one user to another, as an act or a run would have noted it.
fn change(kind: ChangeKind, before: &User, after: &User) -> Change {
    let differ = |of: &User| -> Map<String, Value> {
        Field::ALL
            .iter()
            .filter(|f| f.get(before, IdForm::Uuid) != f.get(after, IdForm::Uuid))
            .map(|f| (f.as_str().to_owned(), f.get(of, IdForm::Uuid)))
            .collect()
    };
    Change {
        run: None,
        seq: 1,
        realm: after.realm.clone(),
        user: after.id,
        username: Some(after.username.clone()),
        by: None,
        kind,
        before: differ(before),
        after: differ(after),
        at: Timestamp(10),
    }
}

fn back(user: &User, change: &Change) -> Option<Decision> {
    let policy = policy();
    let rules = PutBack {
        policy: &policy,
        now: Timestamp(50),
        realm_clock: 50,
        id_form: IdForm::Uuid,
        marks: &std::collections::HashMap::new(),
    };
    put_back(user, &[change], &rules)
}

#[test]
fn a_block_is_put_back_and_told() {
    let free = held(&person(&[1], 0, &[], 0), &policy());
    let blocked = User {
        blocked: true,
        ..free.clone()
    };
    let lifted = back(&blocked, &change(ChangeKind::Blocked, &free, &blocked)).unwrap();
    assert!(!lifted.after.blocked);
    assert_eq!(kinds(Some(&lifted)), [ChangeKind::Unblocked]);
    assert_eq!(says(&lifted), [JobType::Restore]);
    let again = back(&free, &change(ChangeKind::Unblocked, &blocked, &free)).unwrap();
    assert!(again.after.blocked);
    assert_eq!(kinds(Some(&again)), [ChangeKind::Blocked]);
    let Some(Intent::Withdraw { reason }) = again.intents.first() else {
        panic!("{:?}", again.intents)
    };
    assert_eq!(*reason, JobReason::Blocked);
    // Somebody has lifted it since.
    assert_eq!(
        back(&free, &change(ChangeKind::Blocked, &free, &blocked)),
        None
    );
}

#[test]
fn methods_are_put_back() {
    let before = held(&person(&[1], 0, &[], 0), &policy());
    let after = User {
        two_factor: vec![TwoFactor::SmsOtp],
        ..before.clone()
    };
    let change = change(ChangeKind::Updated, &before, &after);
    let undone = back(&after, &change).unwrap();
    assert_eq!(undone.after.two_factor, before.two_factor);
    assert_eq!(kinds(Some(&undone)), [ChangeKind::Updated]);
    let other = User {
        two_factor: vec![TwoFactor::Fido],
        ..before
    };
    assert_eq!(back(&other, &change), None, "changed since");
}

#[test]
fn a_move_is_put_back_to_the_realm_that_had_let_go() {
    let held = held(&person(&[1], 0, &[], 0), &policy());
    let before = User {
        realm: RealmId::from("former"),
        state: State::Suspended,
        state_reason: Some(StateReason::OutOfScope),
        suspended_at: Some(Timestamp(3)),
        suspended_clock: Some(3),
        ..held.clone()
    };
    let undone = back(&held, &change(ChangeKind::Moved, &before, &held)).unwrap();
    let is = &undone.after;
    assert_eq!(
        (&is.realm, is.state, is.state_reason),
        (
            &before.realm,
            State::Suspended,
            Some(StateReason::OutOfScope)
        )
    );
    assert_eq!(is.suspended_clock, Some(50), "grace begins anew");
    assert_eq!(kinds(Some(&undone)), [ChangeKind::Moved]);
    assert_eq!(says(&undone), [JobType::Suspend]);
}

#[test]
fn a_value_that_cannot_be_read_puts_nobody_back() {
    let before = held(&person(&[1], 0, &[], 0), &policy());
    let after = User {
        email: Some("jan@example.org".into()),
        ..before.clone()
    };
    let mut change = change(ChangeKind::Updated, &before, &after);
    change.before.insert("email".into(), 5.into());
    assert_eq!(back(&after, &change), None);
}

/// A user by hand who was given the entry of the name, which is somebody else's.
#[test]
fn an_entry_that_the_name_alone_gave_is_given_back() {
    let policy = policy();
    let realm = RealmId::from("r");
    let with_entry = held(&person(&[1], 0, &[], 0), &policy);
    let by_hand = User {
        directory_id: None,
        dn: None,
        entry_uuid: None,
        origin: UserOrigin::Manual,
        phone: Some(number(9)),
        phone_source: Some(PhoneSource::Manual),
        phone_attribute: None,
        phone_rule: None,
        fingerprint: None,
        ..with_entry.clone()
    };
    let context = DecisionContext {
        adopts: true,
        ..at(&realm, &policy, 5)
    };
    let mut entry = person(&[1], 0, &[], 0);
    entry.entry_uuid = Some(DirectoryId([9; 16]));
    let seen = Observation::Here {
        person: std::borrow::Cow::Owned(entry),
        name: NameGrant::Granted(name("jan")),
    };
    let given = decide(Some(&by_hand), seen, &context).unwrap();
    assert_eq!(given.after.origin, UserOrigin::Directory);
    assert!(given.after.entry_uuid.is_some());
    let rules = PutBack {
        policy: &policy,
        now: Timestamp(50),
        realm_clock: 50,
        id_form: IdForm::Uuid,
        marks: &std::collections::HashMap::new(),
    };
    let changes: Vec<Change> = given
        .changes
        .iter()
        .map(|draft| Change {
            before: draft.before.clone(),
            after: draft.after.clone(),
            ..change(draft.kind, &by_hand, &given.after)
        })
        .collect();
    let changes: Vec<&Change> = changes.iter().collect();
    let undone = put_back(&given.after, &changes, &rules).unwrap();
    let is = &undone.after;
    assert_eq!(
        (is.directory_id, is.entry_uuid, &is.dn, is.origin),
        (None, None, &None, UserOrigin::Manual)
    );
    assert_eq!(
        (&is.phone, is.phone_source),
        (&by_hand.phone, by_hand.phone_source)
    );
    // Line by line it is what was done.
    for draft in &undone.changes {
        for (field, value) in &draft.after {
            let field: Field = field.parse().unwrap();
            assert_eq!(field.get(is, IdForm::Uuid), *value, "{field}");
        }
    }
    let told = |field: Field| {
        undone
            .changes
            .iter()
            .any(|d| d.after.contains_key(field.as_str()))
    };
    assert!(told(Field::DirectoryId) && told(Field::Origin));
}

/// Whoever has an id of a directory keeps it, and no line says otherwise.
#[test]
fn an_id_that_stays_is_in_no_line() {
    let after = held(&person(&[1], 0, &[], 0), &policy());
    let before = User {
        directory_id: None,
        email: Some("jan@example.org".into()),
        ..after.clone()
    };
    let undone = back(&after, &change(ChangeKind::Updated, &before, &after)).unwrap();
    assert_eq!(undone.after.directory_id, after.directory_id);
    assert_eq!(undone.after.email, before.email);
    let line = &undone.changes[0];
    assert!(!line.after.contains_key("directory_id") && !line.before.contains_key("directory_id"));
    assert!(line.after.contains_key("email"));
}
