//! Users who are frozen, and numbers that are refused.

use super::by_hand::{act, by_hand, entry, ready};
use super::endings::{equip, left, pass};
use super::*;
use crate::model::{
    AuditAct, DisputedNumber, Freeze, FreezeLink, JobReason, JobType, NumberMark, Phone,
    PhoneSource,
};
use crate::store::freezes::{is_frozen, keep_link};

const A: &str = "+421905123499";
const B: &str = "+421905123498";

fn phone(number: &str) -> Phone {
    Phone::try_from(number.to_owned()).unwrap()
}

async fn decide(
    f: &Fixture,
    user: &User,
    base: i64,
    intents: &[Intent],
    change: &NumberRuling,
) -> Result<(), StoreError> {
    let key = AuditKey::of(&f.key);
    let act = HandAct {
        changes: &[],
        user,
        base_version: base,
        intents,
        messages: &f.ctx(),
        until: crate::model::Edit::Keep,
        audit: (&entry(AuditAct::UserFreeze, Some(user)), &key),
    };
    f.store.write_ruling(act, change).await
}

async fn frozen(f: &Fixture, user: &User) -> bool {
    let mut tx = f.store.db.begin().await.unwrap();
    let frozen = is_frozen(&mut tx, user.id).await.unwrap();
    tx.commit().await.unwrap();
    frozen
}

/// A run that gives somebody a number.
async fn gives(f: &Fixture, n: u128, user: &User, number: &str) -> Result<(), StoreError> {
    let mut run = run_of(n);
    f.store.begin_run(&run, false, None).await.unwrap();
    let after = User {
        phone: Some(phone(number)),
        ..later(user)
    };
    stage(
        f,
        &run,
        &[(after, user.version, vec![])],
        ChangeKind::PhoneChanged,
    )
    .await;
    run.outcome = Outcome::Applied;
    run.phone_changed = 1;
    apply(f, &run).await.map(|_| ())
}

/// The link of a number counts beyond its end as long as that number's change waits, and with no later one.
pub(super) async fn a_link_counts_after_its_end_only_while_its_own_change_waits(f: &Fixture) {
    const C: &str = "+421905123497";
    ready(f).await;
    let user = User {
        phone: Some(phone(A)),
        phone_pending: Some(phone(B)),
        phone_pending_until: Some(START.plus_ms(5 * DAY_MS)),
        ..by_hand("holder", 24)
    };
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    let keep = async |n: u8, previous: &str, since| {
        let link = FreezeLink {
            user: user.id,
            previous: phone(previous),
            since,
            expires_at: START.plus_ms(DAY_MS),
        };
        let mut tx = f.store.db.begin().await.unwrap();
        let id = uuid::Uuid::from_u128(u128::from(n));
        keep_link(&mut tx, id, [n; 32], &link).await.unwrap();
        tx.commit().await.unwrap();
    };
    let counts = async |n: u8, days: i64| {
        let now = START.plus_ms(days * DAY_MS + 1);
        f.store.freeze_link([n; 32], now).await.unwrap().is_some()
    };
    keep(1, A, START).await;
    assert!(counts(1, 0).await && counts(1, 2).await, "B waits");
    // B is in use since, and another one waits: the one who had A objects to that no more.
    let mut is = User {
        phone: Some(phone(B)),
        phone_pending: Some(phone(C)),
        ..later(&user)
    };
    act(f, &is, 1, AuditAct::UserEdit).await.unwrap();
    keep(2, B, START.plus_ms(1)).await;
    assert!(counts(1, 0).await, "within its time");
    assert!(!counts(1, 2).await && counts(2, 2).await);
    // Back to A, and C waits again: the first link was about another change.
    is = User {
        phone: Some(phone(A)),
        ..later(&is)
    };
    act(f, &is, 2, AuditAct::UserEdit).await.unwrap();
    assert!(!counts(1, 2).await);
    is = User {
        phone_pending: None,
        phone_pending_until: None,
        ..later(&is)
    };
    act(f, &is, 3, AuditAct::UserEdit).await.unwrap();
    assert!(!counts(1, 2).await && !counts(2, 2).await, "nothing waits");
}

pub(super) async fn a_frozen_user_keeps_what_was_there_before_and_takes_no_number(f: &Fixture) {
    ready(f).await;
    let user = User {
        phone: Some(phone(B)),
        ..by_hand("frozen", 21)
    };
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    equip(f, &user, 21).await;
    let freeze = |since| Freeze {
        previous: phone(A),
        number: Some(DisputedNumber {
            phone: phone(B),
            raw: Some("raw".into()),
            source: PhoneSource::Directory,
        }),
        since,
        at: START,
    };
    let back = User {
        phone: Some(phone(A)),
        ..later(&user)
    };
    // What was activated before the change stays; the pending one, the open link and later codes go.
    let begins = NumberRuling::Begins(freeze(START.plus_ms(1)));
    decide(f, &back, 1, &[], &begins).await.unwrap();
    assert_eq!(left(f, &user).await, "void 1 revoked active active");
    assert!(frozen(f, &user).await);
    assert_eq!(
        f.store.freeze_of(user.id).await.unwrap(),
        Some(freeze(START.plus_ms(1)))
    );
    let marks = f.store.number_marks().await.unwrap();
    let mark = NumberMark {
        frozen: true,
        refused: Some(phone(B)),
    };
    assert_eq!(marks.get(&user.id), Some(&mark));
    // Nothing is sent, and whoever decided without knowing has to look again.
    assert_eq!(
        f.change(&back, &[say(JobType::Reprovision, JobReason::PhoneChanged)])
            .await,
        0
    );
    for number in [B, "+421905123497"] {
        let taken = gives(f, 200 + u128::from(number == B), &back, number).await;
        assert!(matches!(taken, Err(StoreError::Conflict(1))), "{taken:?}");
    }
    // An earlier change is found: what was activated since goes too.
    let again = later(&back);
    let begins = NumberRuling::Begins(freeze(START));
    decide(f, &again, 2, &[], &begins).await.unwrap();
    assert_eq!(left(f, &user).await, "void 1 revoked revoked");

    let end = later(&again);
    decide(f, &end, 3, &[], &NumberRuling::EndsRefused)
        .await
        .unwrap();
    assert!(!frozen(f, &user).await);
    let refused = gives(f, 202, &end, B).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(1))),
        "{refused:?}"
    );
    // Another one may come, and then the refused one is none any more.
    let told = vec![(later(&end), end.version, vec![Intent::Allow])];
    pass(f, 203, &told, false).await;
    gives(f, 204, &later(&end), B).await.unwrap();

    // Accepted: the number takes its place in the act that ends the freeze.
    let other = User {
        phone: Some(phone(A)),
        ..by_hand("accepted", 22)
    };
    act(f, &other, 0, AuditAct::UserAdd).await.unwrap();
    decide(
        f,
        &later(&other),
        1,
        &[],
        &NumberRuling::Begins(freeze(START)),
    )
    .await
    .unwrap();
    let taken = User {
        phone: Some(phone(B)),
        ..later(&later(&other))
    };
    decide(f, &taken, 2, &[], &NumberRuling::EndsAccepted)
        .await
        .unwrap();
    assert_eq!(f.store.number_marks().await.unwrap().get(&other.id), None);

    // A number that waits for an administrator is refused: whoever gives it meanwhile has to look again.
    let waits = User {
        phone: Some(phone(A)),
        phone_pending: Some(phone(B)),
        phone_pending_until: Some(crate::model::user::awaiting_approval(START)),
        ..by_hand("waiting", 23)
    };
    act(f, &waits, 0, AuditAct::UserAdd).await.unwrap();
    let kept = f.store.users_by_id(&[waits.id]).await.unwrap().remove(0);
    assert!(kept.phone_awaits_approval());
    assert_eq!(kept.phone_hold_ends(), Some(START));
    let due = f
        .store
        .holds_over(START.plus_ms(1 << 40), 10)
        .await
        .unwrap();
    assert!(
        due.iter().all(|user| user.id != waits.id),
        "no time ends it"
    );
    let refused = User {
        phone_pending: None,
        phone_pending_until: None,
        ..later(&waits)
    };
    decide(f, &refused, 1, &[], &NumberRuling::Refuses(phone(B)))
        .await
        .unwrap();
    assert!(!frozen(f, &refused).await);
    let mark = NumberMark {
        frozen: false,
        refused: Some(phone(B)),
    };
    let marks = f.store.number_marks().await.unwrap();
    assert_eq!(marks.get(&refused.id), Some(&mark));
    // One that cannot be read stops nobody: its user takes no number at all until it can.
    f.sql("UPDATE refused_numbers SET phone = 'unreadable'")
        .await;
    let marks = f.store.number_marks().await.unwrap();
    let careful = NumberMark {
        frozen: true,
        refused: None,
    };
    assert_eq!(marks.get(&refused.id), Some(&careful));
    f.sql("UPDATE refused_numbers SET phone = '+421905123498'")
        .await;
    let given = gives(f, 205, &refused, B).await;
    assert!(matches!(given, Err(StoreError::Conflict(1))), "{given:?}");
}
