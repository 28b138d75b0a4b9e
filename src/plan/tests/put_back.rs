//! What can be put back: every field of the table, whoever set it.

use serde_json::{Map, Value};

use super::*;
use crate::model::{Change, Field, TwoFactor};
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
