//! A number that an administrator refused, and the end of a freeze.

use super::*;
use crate::model::{DisputedNumber, Freeze, FreezeLink, PhoneSource};
use crate::plan::freeze::{Counts, freeze, unfreeze};

fn refusing<'a>(realm: &'a RealmId, policy: &'a Policy, refused: u8) -> DecisionContext<'a> {
    DecisionContext {
        number: NumberMark {
            frozen: false,
            refused: Some(number(refused)),
        },
        ..at(realm, policy, 10)
    }
}

/// `mobile`, then `telephoneNumber`, where number 2 was refused.
fn look(
    user: &User,
    mobile: &[u8],
    junk: usize,
    other: &[u8],
    policy: &Policy,
) -> Option<Decision> {
    let realm = RealmId::from("r");
    let seen = Observation::Here {
        person: Cow::Owned(person(mobile, junk, other, 0)),
        name: NameGrant::Granted(name("jan")),
    };
    decide(Some(user), seen, &refusing(&realm, policy, 2))
}

#[test]
fn a_refused_number_hides_no_other_one_beside_it() {
    let policy = policy();
    let user = held(&person(&[1], 0, &[], 0), &policy);
    for beside in [[2, 3], [0, 2]] {
        let other = beside.into_iter().find(|n| *n != 2).unwrap();
        let decision = look(&user, &beside, 0, &[], &policy).expect("the other one");
        assert_eq!(decision.after.phone, Some(number(other)));
        assert!(
            !decision.intents.contains(&Intent::Allow),
            "it is given still"
        );
    }
    // The attribute that is preferred has nothing else: the number in use stays, whatever another attribute has.
    for other in [&[][..], &[3]] {
        assert_eq!(kinds(look(&user, &[2], 0, other, &policy).as_ref()), []);
    }
    // Also where the attribute of the number in use is empty by now.
    assert_eq!(kinds(look(&user, &[], 0, &[2], &policy).as_ref()), []);
    // In use it is no more refused, whoever gave it.
    let by_hand = User {
        phone: Some(number(2)),
        phone_source: Some(PhoneSource::Manual),
        ..user
    };
    let same = look(&by_hand, &[2], 0, &[], &policy);
    assert!(same.is_none_or(|decision| decision.after.phone == Some(number(2))));
}

#[test]
fn a_number_that_waited_goes_with_its_value_beside_a_refused_one() {
    let policy = Policy {
        hold_ms: 100,
        ..policy()
    };
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let waits = look(&user, &[2, 3], 0, &[], &policy)
        .expect("it waits")
        .after;
    assert_eq!(waits.phone_pending, Some(number(3)));
    assert_eq!(kinds(look(&waits, &[2, 3], 0, &[], &policy).as_ref()), []);
    let gone = look(&waits, &[2], 0, &[], &policy).expect("it goes").after;
    assert_eq!((gone.phone, gone.phone_pending), (Some(number(1)), None));
    // A value that nobody can read may be meant for it.
    let stays = look(&waits, &[2], 1, &[], &policy);
    assert!(stays.is_none_or(|decision| decision.after.phone_pending == Some(number(3))));
}

#[test]
fn a_refusal_ends_with_another_number_and_not_with_none() {
    let policy = policy();
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let allows = |numbers: &[u8], junk: usize| {
        look(&user, numbers, junk, &[], &policy)
            .is_some_and(|decision| decision.intents.contains(&Intent::Allow))
    };
    assert!(allows(&[3], 0) && allows(&[1], 0));
    for (numbers, junk) in [(&[][..], 0), (&[], 1), (&[2], 0), (&[2, 3], 0)] {
        assert!(!allows(numbers, junk), "{numbers:?} {junk}");
    }
}

fn link(user: &User, previous: u8) -> FreezeLink {
    FreezeLink {
        user: user.id,
        previous: number(previous),
        since: Timestamp(5),
        expires_at: Timestamp(1000),
    }
}

#[test]
fn a_number_by_hand_that_a_freeze_puts_back_is_by_hand() {
    let (realm, policy) = (RealmId::from("r"), policy());
    let directory = held(&person(&[2], 0, &[], 0), &policy);
    let by_hand = User {
        phone_source: Some(PhoneSource::Manual),
        ..directory.clone()
    };
    for (user, source) in [
        (&directory, PhoneSource::Directory),
        (&by_hand, PhoneSource::Manual),
    ] {
        let (frozen, freeze) = freeze(user, &link(user, 1), &at(&realm, &policy, 10));
        assert_eq!(
            (&frozen.after.phone, frozen.after.phone_source),
            (&Some(number(1)), Some(source))
        );
        assert_eq!(freeze.number.map(|n| n.source), Some(source));
    }
    // So the pass after it takes nothing away.
    let (frozen, freeze) = freeze(&by_hand, &link(&by_hand, 1), &at(&realm, &policy, 10));
    let over = unfreeze(
        &frozen.after,
        &freeze,
        Counts::Previous,
        &at(&realm, &policy, 20),
    );
    let next = look(&over.after, &[], 0, &[], &policy);
    assert_eq!(kinds(next.as_ref()), []);
}

#[test]
fn the_end_of_a_freeze_corrects_what_may_have_been_told() {
    let (realm, policy) = (RealmId::from("r"), policy());
    let user = held(&person(&[1], 0, &[], 0), &policy);
    let freeze = Freeze {
        previous: number(1),
        number: Some(DisputedNumber {
            phone: number(2),
            raw: None,
            source: PhoneSource::Directory,
        }),
        since: Timestamp(5),
        at: Timestamp(10),
    };
    let context = at(&realm, &policy, 20);
    // The number before counts, which was told, and so may be the other one since.
    let over = unfreeze(&user, &freeze, Counts::Previous, &context);
    assert_eq!(over.intents, [Intent::Unsay]);
    let accepted = unfreeze(&user, &freeze, Counts::Accept, &context);
    assert_eq!(says(&accepted), [JobType::Reprovision]);
    let nobody = User {
        phone: None,
        ..user
    };
    let over = unfreeze(&nobody, &freeze, Counts::Previous, &context);
    assert!(!over.intents.contains(&Intent::Unsay), "no number to tell");
}
