//! What ends with a number, or with its user's standing, by a pass and by hand.

use super::by_hand::{act, by_hand, ready, removed};
use super::factors::application;
use super::*;
use crate::config::StoreUrl;
use crate::factors::verdict::UsedStep;
use crate::model::{
    AuditAct, AuthenticatorId, AuthenticatorKind, AuthenticatorState, JobReason, JobState, JobType,
    Phone, PhoneSource, State, StateReason,
};
use crate::store::MessageContext;
use crate::store::factors::insert_authenticator;

const A: &str = "+421905123499";
const B: &str = "+421905123498";

fn phone(number: &str) -> Option<Phone> {
    Phone::try_from(number.to_owned()).ok()
}

/// An open link, a pending and an active application, a hard token and a recovery code.
pub(super) async fn equip(f: &Fixture, user: &User, n: u8) {
    let n = u128::from(n) * 10;
    let mut tx = f.store.db.begin().await.unwrap();
    for (i, kind) in [
        (0, AuthenticatorKind::App),
        (1, AuthenticatorKind::App),
        (2, AuthenticatorKind::Hotp),
    ] {
        let mut kept = application(f, user.id, kind, n + i);
        if i == 0 {
            kept.authenticator.state = AuthenticatorState::Pending;
            kept.authenticator.activated_at = None;
        }
        insert_authenticator(&mut tx, &kept).await.unwrap();
    }
    let id = user.id.0.as_bytes().to_vec();
    let mark = vec![u8::try_from(n / 10).unwrap(); 32];
    for sql in [
        "INSERT INTO enrolments (id, user_id, token_sha256, state, expires_at, created_at) VALUES ($1, $1, $2, 'open', 1, 1)",
        "INSERT INTO recovery_codes (user_id, digest, kind, set_id, key_id, uses_left, created_at) VALUES ($1, $2, 'recovery', $1, '', 1, 1)",
    ] {
        crate::store::db::on!(tx, c => sqlx::query(sql).bind(id.clone()).bind(mark.clone()).execute(&mut *c).await.map(|_| ())).unwrap();
    }
    tx.commit().await.unwrap();
}

/// What is left: link, pending application, active one, hard token, recovery codes.
pub(super) async fn left(f: &Fixture, user: &User) -> String {
    let mut link = f.store.db.read().await.unwrap();
    let id = user.id.0.as_bytes().to_vec();
    let mut words = vec![];
    for sql in [
        "SELECT state FROM enrolments WHERE user_id = $1",
        "SELECT CAST(COUNT(*) AS TEXT) FROM recovery_codes WHERE user_id = $1",
    ] {
        let text = crate::store::db::on!(link, c => sqlx::query_scalar::<_, String>(sql).bind(id.clone()).fetch_one(&mut *c).await);
        words.push(text.unwrap());
    }
    for kept in f.store.authenticators(user.id).await.unwrap() {
        let ended = kept.authenticator.state == AuthenticatorState::Revoked;
        assert_eq!(
            kept.secret.is_none(),
            ended,
            "a secret stays while it counts"
        );
        assert_eq!(kept.authenticator.ended_at.is_some(), ended);
        words.push(kept.authenticator.state.to_string());
    }
    words.join(" ")
}

/// What becomes of somebody, by a pass and by hand.
struct Ending {
    what: &'static str,
    change: fn(User) -> User,
    left: &'static str,
    at_once: &'static str,
}

const UNTOUCHED: &str = "open 1 pending active active";
const VOID: &str = "void 1 revoked active active";
const GONE: &str = "void 1 revoked revoked active";

const ENDINGS: [Ending; 12] = [
    Ending {
        what: "nothing",
        change: |u| User {
            email: Some("x@example.org".into()),
            ..u
        },
        left: UNTOUCHED,
        at_once: UNTOUCHED,
    },
    Ending {
        what: "another number",
        change: |u| User {
            phone: phone(B),
            ..u
        },
        left: VOID,
        at_once: GONE,
    },
    Ending {
        what: "another number waits",
        change: |u| User {
            phone_pending: phone(B),
            phone_pending_until: Some(START),
            ..u
        },
        left: VOID,
        at_once: VOID,
    },
    Ending {
        what: "lost",
        change: |u| User {
            phone: None,
            phone_source: None,
            ..u
        },
        left: VOID,
        at_once: VOID,
    },
    Ending {
        what: "disabled",
        change: |u| suspended(u, StateReason::Disabled),
        left: VOID,
        at_once: VOID,
    },
    Ending {
        what: "deleted",
        change: |u| suspended(u, StateReason::Deleted),
        left: VOID,
        at_once: VOID,
    },
    Ending {
        what: "out of scope",
        change: |u| suspended(u, StateReason::OutOfScope),
        left: VOID,
        at_once: VOID,
    },
    Ending {
        what: "undone",
        change: |u| suspended(u, StateReason::Undone),
        left: VOID,
        at_once: VOID,
    },
    Ending {
        what: "blocked",
        change: |u| User { blocked: true, ..u },
        left: VOID,
        at_once: VOID,
    },
    // Of whom the outside world knows a number.
    Ending {
        what: "given again after a loss",
        change: |u| User {
            phone: phone(A),
            phone_provisioned: u.phone_provisioned.clone(),
            ..u
        },
        left: UNTOUCHED,
        at_once: UNTOUCHED,
    },
    Ending {
        what: "another one after a loss",
        change: |u| User {
            phone: phone(B),
            ..u
        },
        left: VOID,
        at_once: GONE,
    },
    Ending {
        what: "a first number",
        change: |u| User {
            phone: phone(B),
            ..u
        },
        left: UNTOUCHED,
        at_once: UNTOUCHED,
    },
];

fn suspended(user: User, reason: StateReason) -> User {
    User {
        state: State::Suspended,
        state_reason: Some(reason),
        suspended_at: Some(START),
        suspended_clock: Some(0),
        ..user
    }
}

/// A number comes from somewhere.
fn given(user: User) -> User {
    User {
        phone_source: user.phone.as_ref().map(|_| PhoneSource::Manual),
        ..user
    }
}

/// As they are before.
fn before(ending: &Ending, user: User) -> User {
    let of_a_loss = ending.what.contains("after a loss");
    let has_one = !of_a_loss && ending.what != "a first number";
    given(User {
        phone: phone(A).filter(|_| has_one),
        phone_provisioned: phone(A).filter(|_| of_a_loss),
        ..user
    })
}

pub(super) async fn pass(f: &Fixture, n: u128, users: &[(User, i64, Vec<Intent>)], at_once: bool) {
    let mut run = run_of(n);
    f.store.begin_run(&run, false, None).await.unwrap();
    stage(f, &run, users, ChangeKind::Updated).await;
    run.outcome = Outcome::Applied;
    run.updated = i64::try_from(users.len()).unwrap();
    let messages = MessageContext {
        revoke_at_once: at_once,
        ..f.ctx()
    };
    let application = Application {
        run: &run,
        facts: RunFacts::default(),
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit: None,
    };
    f.store.apply(application).await.unwrap();
}

/// Every way by which a user's number or standing becomes another, and what each ends; by a pass over all of them at once.
pub(super) async fn trap_82_links_and_applications_end_with_number_and_standing_in_a_pass(
    f: &Fixture,
) {
    ready(f).await;
    for at_once in [false, true] {
        let first = if at_once { 60 } else { 40 };
        let mut users = vec![];
        for (i, ending) in (first..).zip(&ENDINGS) {
            let user = before(ending, person(&format!("e{i}"), i));
            users.push(user);
        }
        make(f, u128::from(first), &users).await;
        let mut list = vec![];
        for ((i, ending), user) in (first..).zip(&ENDINGS).zip(&users) {
            equip(f, user, i).await;
            list.push((given((ending.change)(later(user))), user.version, vec![]));
        }
        pass(f, u128::from(first) + 1, &list, at_once).await;
        for (ending, user) in ENDINGS.iter().zip(&users) {
            let expected = if at_once { ending.at_once } else { ending.left };
            assert_eq!(left(f, user).await, expected, "{} {at_once}", ending.what);
        }
        // Whoever follows again gets nothing back, and nothing else ends.
        let next: Vec<_> = list
            .iter()
            .map(|(user, _, _)| (later(user), user.version, vec![]))
            .collect();
        pass(f, u128::from(first) + 2, &next, at_once).await;
        for (ending, user) in ENDINGS.iter().zip(&users) {
            let expected = if at_once { ending.at_once } else { ending.left };
            assert_eq!(left(f, user).await, expected, "{} again", ending.what);
        }
    }
}

/// A plan that ends applications waits for whoever verifies codes of its users, before it has changed any authenticator: the two never
/// wait for each other in a circle.
pub(super) async fn a_plan_that_ends_applications_waits_for_verifications(f: &Fixture) {
    ready(f).await;
    let users: Vec<User> = (80..82)
        .map(|i| given(person(&format!("v{i}"), i)))
        .collect();
    make(f, 80, &users).await;
    let mut changed = vec![];
    for (i, user) in (80..).zip(&users) {
        equip(f, user, i).await;
        let after = User {
            phone: phone(B),
            ..later(user)
        };
        changed.push((given(after), user.version, vec![]));
    }
    let mut ids: Vec<_> = users.iter().map(|user| user.id).collect();
    ids.sort_unstable();
    // Something is known of both of them already.
    let mut before = f.store.verifying().await.unwrap();
    before.lock_factors(&ids).await.unwrap();
    before.commit().await.unwrap();
    let mut verifying = f.store.verifying().await.unwrap();
    verifying.lock_factors(&ids).await.unwrap();
    if !matches!(f.url(), StoreUrl::Postgres { .. }) {
        // One writer at a time.
        verifying.commit().await.unwrap();
        pass(f, 81, &changed, true).await;
        return;
    }
    let plan = pass(f, 81, &changed, true);
    let steps: Vec<UsedStep> = users
        .iter()
        .zip(80..)
        .map(|(_, i)| UsedStep {
            authenticator: AuthenticatorId(uuid::Uuid::from_u128(i * 10 + 1)),
            at: 100,
            drift: 0,
        })
        .collect();
    let verified = async {
        // Time for the plan to come as far as it comes.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let used = verifying.use_steps(&steps, START).await.unwrap();
        verifying.commit().await.unwrap();
        used.len()
    };
    let ((), used) = tokio::join!(plan, verified);
    assert_eq!(used, 2, "both codes counted before the applications ended");
    for user in &users {
        assert_eq!(left(f, user).await, GONE);
    }
}

pub(super) async fn trap_82_links_and_applications_end_with_number_and_standing_by_hand(
    f: &Fixture,
) {
    ready(f).await;
    for (i, ending) in (80..).zip(&ENDINGS) {
        let user = before(ending, by_hand(&format!("h{i}"), i));
        act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
        equip(f, &user, i).await;
        let after = given((ending.change)(later(&user)));
        act(f, &after, user.version, AuditAct::UserEdit)
            .await
            .unwrap();
        assert_eq!(left(f, &user).await, ending.left, "{}", ending.what);
    }
    // The end of a hold comes by its own door, and says what the realm says.
    for (i, at_once, expected) in [(95, false, VOID), (96, true, GONE)] {
        let waits = User {
            phone_pending: phone(B),
            phone_pending_until: Some(START),
            ..by_hand(&format!("w{i}"), i)
        };
        act(f, &waits, 0, AuditAct::UserAdd).await.unwrap();
        equip(f, &waits, i).await;
        let after = User {
            phone: phone(B),
            phone_pending: None,
            phone_pending_until: None,
            ..later(&waits)
        };
        let messages = MessageContext {
            revoke_at_once: at_once,
            ..f.ctx()
        };
        f.store
            .act(&[], &after, waits.version, &[], &messages)
            .await
            .unwrap();
        assert_eq!(left(f, &waits).await, expected);
    }
    // Whoever is removed keeps nothing but the void link.
    let user = by_hand("h97", 97);
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    equip(f, &user, 97).await;
    act(f, &removed(&user), 1, AuditAct::UserRemove)
        .await
        .unwrap();
    assert_eq!(left(f, &user).await, "void 0");
}

/// An entry that only has the name gets nothing of the user who had it.
pub(super) async fn another_person_of_the_name_gets_no_factors(f: &Fixture) {
    ready(f).await;
    let user = by_hand("n1", 31);
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    equip(f, &user, 31).await;
    let reason = JobReason::Adopted;
    let given = User {
        directory_id: Some(DirectoryId([31; 16])),
        ..later(&user)
    };
    note(f, &user).await;
    pass(f, 31, &[(given, 1, vec![Intent::Forget { reason }])], false).await;
    assert_eq!(left(f, &user).await, "void 0 revoked revoked");
    assert_eq!(noted(f, &user).await, 0, "nor what was counted");
    let mut tx = f.store.db.begin().await.unwrap();
    let all = crate::store::factors::all_authenticators(&mut tx).await;
    let token = all
        .unwrap()
        .into_iter()
        .find(|a| a.authenticator.user.is_none());
    let token = token.expect("the hard token").authenticator;
    assert_eq!(
        (token.state, token.two_codes),
        (AuthenticatorState::Pending, true)
    );
}

/// Failures that were counted.
async fn note(f: &Fixture, user: &User) {
    const SQL: &str = "INSERT INTO user_factors (user_id, in_a_row) VALUES ($1, 7)";
    let mut tx = f.store.db.begin().await.unwrap();
    let id = user.id.0.as_bytes().to_vec();
    crate::store::db::on!(tx, c => sqlx::query(SQL).bind(id).execute(&mut *c).await.map(|_| ()))
        .unwrap();
    tx.commit().await.unwrap();
}

async fn noted(f: &Fixture, user: &User) -> i64 {
    const SQL: &str = "SELECT COUNT(*) FROM user_factors WHERE user_id = $1";
    let mut link = f.store.db.read().await.unwrap();
    let id = user.id.0.as_bytes().to_vec();
    crate::store::db::on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(id).fetch_one(&mut *c).await)
        .unwrap()
}

/// Verifications need no lock of the user, so that one may note something while the user is removed.
pub(super) async fn what_is_noted_in_the_moment_of_a_removal_goes_later(f: &Fixture) {
    ready(f).await;
    let (gone, stays) = (by_hand("m1", 81), by_hand("m2", 82));
    for user in [&gone, &stays] {
        act(f, user, 0, AuditAct::UserAdd).await.unwrap();
    }
    act(f, &removed(&gone), 1, AuditAct::UserRemove)
        .await
        .unwrap();
    note(f, &gone).await;
    note(f, &stays).await;
    let mut tx = f.store.db.begin().await.unwrap();
    for user in [&gone, &stays] {
        crate::store::notices::note(&mut tx, user.id, JobReason::Activated, START)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let due = f.store.notices_to_tell(0).await.unwrap();
    assert_eq!(due.len(), 1, "who is removed is told nothing");
    assert_eq!(due[0].user, stays.id);
    f.store.forget_removed().await.unwrap();
    assert_eq!((noted(f, &gone).await, noted(f, &stays).await), (0, 1));
    let mut tx = f.store.verifying().await.unwrap();
    let known = tx.lock_factors(&[gone.id]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(known.is_empty(), "and nothing is noted afterwards");
    assert_eq!(noted(f, &gone).await, 0);
}

/// The message about a changed number goes out all the same, without the link.
pub(super) async fn a_link_that_is_withdrawn_takes_no_number_with_it(f: &Fixture) {
    ready(f).await;
    let user = User {
        phone_provisioned: phone(A),
        ..given(person("w1", 91))
    };
    make(f, 91, std::slice::from_ref(&user)).await;
    let changed = User {
        phone: phone(B),
        ..later(&user)
    };
    let say = Intent::Say {
        r#type: JobType::Reprovision,
        reason: JobReason::PhoneChanged,
        previous_phone: phone(A),
        previous_username: None,
    };
    pass(f, 92, &[(changed, 1, vec![say])], false).await;
    let key = AuditKey::of(&f.key);
    let withdraw = super::by_hand::entry(AuditAct::EnrolmentWithdraw, Some(&user));
    let withdrawn = f
        .store
        .withdraw_enrolments(user.id, (&withdraw, &key))
        .await;
    assert_eq!(withdrawn.unwrap().len(), 1);
    let jobs = f.jobs().await;
    let job = jobs.iter().find(|job| job.user == user.id).unwrap();
    assert_eq!(
        (job.r#type, job.state, job.enrolment),
        (JobType::Reprovision, JobState::Waiting, None)
    );
    let body = job.body.as_deref().unwrap();
    let read: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(read["data"]["user"]["phone"], B);
    assert!(read["data"]["enrolment_url"].is_null() && read["data"]["expires_at"].is_null());
    assert!(body.contains("\"enrolment_url\":null"), "{body}");
}
