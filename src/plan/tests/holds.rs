//! A hold is a wait, whatever came before: nobody gets round it by taking the number away first (TRAPS 37).

use super::*;
use crate::model::{Change, PhoneSource};
use crate::plan::undo::{PutBack, put_back};

fn waiting() -> Policy {
    Policy {
        hold_ms: 100,
        notify_previous: true,
        ..policy()
    }
}

/// The number 1, and then none.
fn lost() -> User {
    let user = held(&person(&[1], 0, &[], 0), &waiting());
    let lost = see(Some(&user), &person(&[], 0, &[], 0), &waiting()).unwrap();
    assert_eq!(
        (kinds(Some(&lost)), lost.intents.len()),
        (vec![ChangeKind::PhoneLost], 0)
    );
    lost.after
}

/// Who hears of the change.
fn noticed(decision: &Decision) -> Vec<Option<Phone>> {
    decision
        .intents
        .iter()
        .filter_map(|i| match i {
            Intent::Say {
                r#type: JobType::PhoneNotice,
                previous_phone,
                ..
            } => Some(previous_phone.clone()),
            _ => None,
        })
        .collect()
}

fn over(user: &User, now: i64) -> Option<Decision> {
    end_hold(user, &at(&RealmId::from("r"), &waiting(), now))
}

#[test]
fn trap_37_a_number_given_after_a_loss_waits_like_a_change() {
    let waits = see(Some(&lost()), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    assert_eq!(kinds(Some(&waits)), [ChangeKind::PhoneChanged]);
    assert_eq!(says(&waits), [JobType::PhoneNotice]);
    assert_eq!(noticed(&waits), [Some(number(1))]);
    assert_eq!(
        (&waits.after.phone, &waits.after.phone_pending),
        (&None, &Some(number(2)))
    );
    assert_eq!(
        see(Some(&waits.after), &person(&[2], 0, &[], 0), &waiting()),
        None
    );
    assert_eq!(over(&waits.after, 109), None);
    let over = over(&waits.after, 110).unwrap();
    assert_eq!(kinds(Some(&over)), [ChangeKind::Updated]);
    let [
        Intent::Say {
            r#type: JobType::Reprovision,
            previous_phone,
            ..
        },
    ] = over.intents.as_slice()
    else {
        panic!("{:?}", over.intents)
    };
    assert_eq!(previous_phone, &Some(number(1)));
    assert_eq!(over.after.phone, Some(number(2)));
}

#[test]
fn trap_37_without_a_hold_the_number_before_the_loss_is_noticed() {
    let at_once = Policy {
        hold_ms: 0,
        ..waiting()
    };
    let given = see(Some(&lost()), &person(&[2], 0, &[], 0), &at_once).unwrap();
    assert_eq!(noticed(&given), [Some(number(1))]);
    assert_eq!(
        says(&given),
        [JobType::PhoneNotice, JobType::Reprovision],
        "the notice goes out first"
    );
}

#[test]
fn the_provisioned_number_comes_back_at_once_and_says_nothing() {
    let waits = see(Some(&lost()), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    for user in [lost(), waits.after] {
        let back = see(Some(&user), &person(&[1], 0, &[], 0), &waiting()).unwrap();
        assert_eq!(kinds(Some(&back)), [ChangeKind::PhoneChanged]);
        assert_eq!(
            (&back.after.phone, &back.after.phone_pending, says(&back)),
            (&Some(number(1)), &None, vec![])
        );
        assert_eq!(over(&back.after, 1000), None);
    }
}

#[test]
fn a_number_that_waits_goes_with_its_value() {
    let waits = see(Some(&lost()), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    let refused = see(Some(&waits.after), &person(&[], 1, &[], 0), &waiting());
    assert_eq!(refused, None, "an invalid value erases nothing");
    let gone = see(Some(&waits.after), &person(&[], 0, &[], 0), &waiting()).unwrap();
    assert_eq!(
        (kinds(Some(&gone)), gone.intents.len()),
        (vec![ChangeKind::Updated], 0),
        "no number in use is lost"
    );
    assert_eq!(
        (&gone.after.phone, &gone.after.phone_pending),
        (&None, &None)
    );
    assert_eq!(over(&gone.after, 1000), None);
    let again = see(Some(&gone.after), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    assert_eq!(again.after.phone_pending, Some(number(2)), "it starts over");
}

#[test]
fn a_waiting_number_beside_one_by_hand_goes_with_its_value() {
    let mut user = held(&person(&[], 0, &[], 0), &waiting());
    user.phone = Some(number(9));
    user.phone_source = Some(PhoneSource::Manual);
    user.phone_provisioned = Some(number(9));
    let waits = see(Some(&user), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    let local = Policy {
        local_phones: true,
        ..waiting()
    };
    for (reading, policy) in [
        (person(&[], 0, &[], 0), waiting()),
        (person(&[2], 0, &[], 0), local),
    ] {
        let gone = see(Some(&waits.after), &reading, &policy).unwrap();
        assert_eq!(
            (&gone.after.phone, &gone.after.phone_pending),
            (&Some(number(9)), &None)
        );
    }
}

#[test]
fn another_number_starts_over_and_is_noticed_again() {
    let waits = see(Some(&lost()), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    let newer = see(Some(&waits.after), &person(&[3], 0, &[], 0), &waiting()).unwrap();
    assert_eq!(newer.after.phone_pending, Some(number(3)));
    assert_eq!(noticed(&newer), [Some(number(1))]);
}

#[test]
fn every_way_of_losing_a_number_leads_to_the_wait() {
    let user = held(&person(&[1], 0, &[], 0), &waiting());
    // It turned invalid, and the invalid one was deleted; or it moved to the other attribute, and from there away.
    for way in [person(&[], 1, &[], 0), person(&[], 0, &[1], 0)] {
        let on_the_way = see(Some(&user), &way, &waiting()).map_or(user.clone(), |d| d.after);
        assert_eq!(on_the_way.phone, Some(number(1)));
        let lost = see(Some(&on_the_way), &person(&[], 0, &[], 0), &waiting()).unwrap();
        assert_eq!(kinds(Some(&lost)), [ChangeKind::PhoneLost]);
        let waits = see(Some(&lost.after), &person(&[], 0, &[2], 0), &waiting()).unwrap();
        assert_eq!(waits.after.phone_pending, Some(number(2)));
    }
    // Away, or disabled, and back with another one: also when the number was lost meanwhile.
    for number_before in [user, lost()] {
        let mut off = person(&[2], 0, &[], 0);
        off.enabled = Known::Known(false);
        let disabled = see(Some(&number_before), &off, &waiting()).unwrap().after;
        let gone = decide(
            Some(&number_before),
            Observation::Gone(Some(StateReason::Deleted)),
            &at(&RealmId::from("r"), &waiting(), 20),
        );
        for away in [disabled, gone.unwrap().after] {
            let back = see(Some(&away), &person(&[2], 0, &[], 0), &waiting()).unwrap();
            assert_eq!(back.after.phone_pending, Some(number(2)));
            assert!(!says(&back).contains(&JobType::Reprovision), "{back:?}");
        }
    }
}

#[test]
fn a_first_number_never_waits() {
    let user = held(&person(&[], 0, &[], 0), &waiting());
    let given = see(Some(&user), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    assert_eq!(
        (&given.after.phone, &given.after.phone_pending),
        (&Some(number(2)), &None)
    );
    assert_eq!(says(&given), [], "the baseline is silent");
}

/// The decision's only change, as the store gives it back.
fn change_of(decision: &Decision) -> Change {
    let [draft] = decision.changes.as_slice() else {
        panic!("{:?}", decision.changes)
    };
    Change {
        run: None,
        seq: 1,
        realm: RealmId::from("r"),
        user: decision.after.id,
        username: None,
        by: None,
        kind: draft.kind,
        before: draft.before.clone(),
        after: draft.after.clone(),
        at: Timestamp(10),
    }
}

#[test]
fn a_number_that_waits_after_a_loss_is_undone() {
    let waits = see(Some(&lost()), &person(&[2], 0, &[], 0), &waiting()).unwrap();
    let change = change_of(&waits);
    let policy = waiting();
    let rules = PutBack {
        policy: &policy,
        now: Timestamp(50),
        realm_clock: 50,
        id_form: IdForm::Uuid,
        marks: &std::collections::HashMap::new(),
    };
    let back = put_back(&waits.after, &[&change], &rules).unwrap();
    assert_eq!(
        kinds(Some(&back)),
        [ChangeKind::PhoneChanged],
        "no number in use is lost"
    );
    assert_eq!(
        (&back.after.phone, &back.after.phone_pending),
        (&None, &None)
    );
    let over = over(&waits.after, 110).unwrap();
    let back = put_back(&over.after, &[&change], &rules).unwrap();
    assert_eq!(kinds(Some(&back)), [ChangeKind::PhoneLost]);
    assert_eq!((&back.after.phone, back.after.phone_source), (&None, None));
}
