//! Who is protected gets another number only after an administrator's decision (`phone-change.protect`).

use std::collections::HashMap;

use super::*;
use crate::model::{Change, Field};
use crate::plan::approval::{NoApproval, accept, refuse};
use crate::plan::phone::is_to_be_asked;
use crate::plan::undo::{PutBack, put_back};

fn protecting(hold_ms: i64) -> Policy {
    Policy {
        hold_ms,
        protect: Some("(cn=x)".to_owned()),
        notify_previous: true,
        ..policy()
    }
}

fn context<'a>(realm: &'a RealmId, policy: &'a Policy, now: i64) -> DecisionContext<'a> {
    DecisionContext {
        protected: true,
        ..at(realm, policy, now)
    }
}

fn look(user: &User, numbers: &[u8], context: &DecisionContext<'_>) -> Option<Decision> {
    let seen = Observation::Here {
        person: Cow::Owned(person(numbers, 0, &[], 0)),
        name: NameGrant::Granted(name("jan")),
    };
    decide(Some(user), seen, context)
}

#[test]
fn another_number_waits_for_a_decision_and_for_its_hold() {
    let realm = RealmId::from("r");
    for hold_ms in [0, 100] {
        let policy = protecting(hold_ms);
        let user = held(&person(&[1], 0, &[], 0), &policy);
        let waits = look(&user, &[2], &context(&realm, &policy, 10)).unwrap();
        let is = &waits.after;
        assert_eq!(kinds(Some(&waits)), [ChangeKind::PhoneChanged]);
        assert_eq!(says(&waits), [JobType::PhoneNotice]);
        assert_eq!(
            (&is.phone, &is.phone_pending),
            (&Some(number(1)), &Some(number(2)))
        );
        assert!(is.phone_awaits_approval());
        assert_eq!(
            Field::PhonePendingUntil.get(is, IdForm::Uuid),
            serde_json::Value::Null
        );
        // No time and no later look ends that, also where nobody is protected any more.
        for protected in [true, false] {
            let later = DecisionContext {
                protected,
                ..context(&realm, &policy, i64::MAX / 4)
            };
            assert_eq!(end_hold(is, &later), None);
            assert_eq!(look(is, &[2], &later), None);
        }
        let accepted = accept(is, &context(&realm, &policy, 20)).unwrap();
        if hold_ms > 0 {
            let is = &accepted.after;
            assert_eq!(is.phone_waits_until(), Some(Timestamp(110)));
            assert_eq!((&is.phone, says(&accepted)), (&Some(number(1)), vec![]));
            assert_eq!(end_hold(is, &context(&realm, &policy, 109)), None);
            let over = end_hold(is, &context(&realm, &policy, 110)).unwrap();
            assert_eq!(over.after.phone, Some(number(2)));
            let again = accept(is, &context(&realm, &policy, 20));
            assert_eq!(again, Err(NoApproval::WaitsForHold));
        }
        let late = accept(is, &context(&realm, &policy, 200)).unwrap();
        assert_eq!(late.after.phone, Some(number(2)));
        assert_eq!(late.after.phone_pending, None);
        assert_eq!(says(&late), [JobType::Reprovision]);

        let (refused, phone) = refuse(is, &context(&realm, &policy, 20)).unwrap();
        assert_eq!(phone, number(2));
        assert_eq!(
            (&refused.after.phone, says(&refused)),
            (&Some(number(1)), vec![])
        );
        assert_eq!(refused.after.phone_pending, None);
        let none = refuse(&refused.after, &context(&realm, &policy, 20));
        assert_eq!(none, Err(NoApproval::NothingWaits));
    }
}

#[test]
fn the_directory_is_asked_of_another_number_only() {
    let policy = protecting(0);
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let waiting = User {
        phone_pending: Some(number(2)),
        ..user.clone()
    };
    let bare = User {
        phone: None,
        phone_provisioned: None,
        ..user.clone()
    };
    let none = NumberMark::default();
    let refused = NumberMark {
        refused: Some(number(2)),
        ..none.clone()
    };
    let frozen = NumberMark {
        frozen: true,
        ..none.clone()
    };
    let asks = |user: &User, numbers: &[u8], mark: &NumberMark, policy: &Policy| {
        is_to_be_asked(user, &person(numbers, 0, &[], 0).phone, mark, policy)
    };
    assert!(asks(&user, &[2], &none, &policy));
    assert!(asks(&waiting, &[3], &none, &policy));
    for (user, numbers, mark) in [
        (&user, &[1][..], &none),
        (&user, &[], &none),
        (&user, &[2], &refused),
        (&user, &[2], &frozen),
        (&waiting, &[2], &none),
        (&bare, &[2], &none),
    ] {
        assert!(!asks(user, numbers, mark, &policy), "{numbers:?} {mark:?}");
    }
    assert!(!asks(&user, &[2], &none, &super::policy()));
}

/// What an undo would let wait again waits for a decision, and nobody gets a number by an undo to which somebody objects.
#[test]
fn an_undo_passes_nobody_by() {
    let realm = RealmId::from("r");
    let policy = protecting(0);
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let waits = look(&user, &[2], &context(&realm, &policy, 10)).unwrap();
    let withdrawn = look(&waits.after, &[1], &context(&realm, &policy, 20)).unwrap();
    let change = |decision: &Decision| Change {
        run: None,
        seq: 0,
        realm: realm.clone(),
        user: user.id,
        username: None,
        by: None,
        kind: decision.changes[0].kind,
        before: decision.changes[0].before.clone(),
        after: decision.changes[0].after.clone(),
        at: Timestamp(10),
    };
    let undo = |user: &User, change: &Change, marks: &HashMap<UserId, NumberMark>| {
        let rules = PutBack {
            policy: &policy,
            now: Timestamp(50),
            realm_clock: 50,
            id_form: IdForm::Uuid,
            marks,
        };
        put_back(user, &[change], &rules)
    };
    let back = undo(&withdrawn.after, &change(&withdrawn), &HashMap::new()).unwrap();
    assert_eq!(back.after.phone_pending, Some(number(2)));
    assert!(back.after.phone_awaits_approval());

    let changed = see(Some(&user), &person(&[2], 0, &[], 0), &super::policy()).unwrap();
    assert!(undo(&changed.after, &change(&changed), &HashMap::new()).is_some());
    for mark in [
        NumberMark {
            frozen: true,
            refused: None,
        },
        NumberMark {
            frozen: false,
            refused: Some(number(1)),
        },
    ] {
        let marks = HashMap::from([(user.id, mark)]);
        assert_eq!(undo(&changed.after, &change(&changed), &marks), None);
    }
}
