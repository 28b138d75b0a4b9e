//! Whom filters select, and in which order.

use super::by_hand::{act, by_hand, ready};
use super::factors::application;
use super::*;
use crate::model::{
    AuditAct, AuthenticatorKind, AuthenticatorState, EnrolmentFilter, PhoneFilter, State,
    StateReason, TwoFactor, UserFilter, UserOrigin, UserPlace, UserSort, UserStatus,
};
use crate::store::db::on;
use crate::store::factors::insert_authenticator;

async fn run(f: &Fixture, sql: String) {
    let mut tx = f.store.db.begin().await.unwrap();
    on!(tx, c => sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
}

async fn names(f: &Fixture, filter: &UserFilter, sort: UserSort, limit: i64) -> String {
    let (mut after, mut all) = (None, vec![]);
    loop {
        let page = UserPage {
            sort,
            after: after.as_ref(),
            limit,
            now: START,
        };
        let users = f.store.list_users(filter, &page).await.unwrap();
        let Some(last) = users.last() else { break };
        after = Some(UserPlace::of(last));
        all.extend(users.into_iter().map(|u| u.username));
    }
    all.join(" ")
}

/// Seven users who differ in what filters ask for.
async fn people(f: &Fixture) {
    ready(f).await;
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('aaa', 'custom', 'A') ON CONFLICT (id) DO NOTHING")
        .await;
    let mut known: Vec<User> = ["eva", "ján", "adam", "zoë"]
        .iter()
        .zip(1..)
        .map(|(name, n)| person(name, n))
        .collect();
    known[0].two_factor = vec![TwoFactor::SmsOtp, TwoFactor::AppOtp];
    known[1].two_factor = vec![TwoFactor::HardToken];
    known[2].two_factor = vec![];
    known[2].phone = None;
    known[2].phone_source = None;
    known[3].state = State::Suspended;
    known[3].state_reason = Some(StateReason::Disabled);
    make(f, 1, &known).await;
    let away = User {
        state: State::Suspended,
        state_reason: Some(StateReason::Deleted),
        ..by_hand("bob", 11)
    };
    let other = User {
        realm: RealmId::from("aaa"),
        phone_pending: Some(crate::model::Phone::from_e164("+421905123499").unwrap()),
        phone_pending_until: Some(START.plus_ms(9)),
        ..by_hand("mia", 12)
    };
    for user in [&away, &other] {
        act(f, user, 0, AuditAct::UserAdd).await.unwrap();
    }
    let gone = person("gone", 9);
    make(f, 2, std::slice::from_ref(&gone)).await;
    f.sql("UPDATE users SET state = 'removed', username = '', username_key = NULL, directory_id = NULL, dn = NULL, email = NULL,
           phone = NULL, phone_source = NULL WHERE username = 'gone'").await;
}

pub(super) async fn each_filter_selects_whom_it_says(f: &Fixture) {
    people(f).await;
    let held =
        |name: &'static str| async move { f.store.find_users(name, None).await.unwrap().remove(0) };
    let (eva, jan) = (held("eva").await, held("ján").await);
    // eva: a link that was not used in time, and one after it that was; ján: an open one, after one that was withdrawn.
    for (n, user, state, ends, made) in [
        (1, &eva, "open", -1_i64, 0),
        (2, &eva, "used", -1, 1),
        (3, &jan, "void", 5, 0),
        (4, &jan, "open", 5, 0),
    ] {
        let hex = |bytes: &[u8]| data_encoding::HEXUPPER.encode(bytes);
        let blob = |bytes: &[u8]| {
            if f.store.single_daemon() {
                format!("X'{}'", hex(bytes))
            } else {
                format!("'\\x{}'::BYTEA", hex(bytes))
            }
        };
        run(f, format!(
            "INSERT INTO enrolments (id, user_id, token_sha256, state, expires_at, created_at) VALUES ({}, {}, {}, '{state}', {}, {})",
            blob(&[n; 16]), blob(user.id.0.as_bytes()), blob(&[n; 32]), START.0 + ends, START.0 + made
        )).await;
        if n == 4 {
            run(
                f,
                format!(
                    "INSERT INTO user_factors (user_id, proved_at) VALUES ({}, 5)",
                    blob(user.id.0.as_bytes())
                ),
            )
            .await;
            run(
                f,
                format!(
                "INSERT INTO refused (realm, key, dn, directory_id, attribute, reason, entry, since)
                 VALUES ('example.org', 7, 'uid=adam', {}, 'mobile', 'too short', (1 = 0), 0)",
                blob(&[3; 16])
            ),
            )
            .await;
        }
    }
    let all = UserFilter::default;
    for (filter, expected) in [
        (all(), "mia adam bob eva ján zoë"),
        (
            UserFilter {
                realm: Some("aaa".into()),
                ..all()
            },
            "mia",
        ),
        (
            UserFilter {
                realm: Some(realm()),
                state: Some(State::Active),
                ..all()
            },
            "adam eva ján",
        ),
        (
            UserFilter {
                state: Some(State::Suspended),
                ..all()
            },
            "bob zoë",
        ),
        (
            UserFilter {
                status: Some(UserStatus::Off),
                ..all()
            },
            "mia adam bob zoë",
        ),
        (
            UserFilter {
                status: Some(UserStatus::Enabled),
                ..all()
            },
            "eva",
        ),
        (
            UserFilter {
                status: Some(UserStatus::Used),
                ..all()
            },
            "ján",
        ),
        (
            UserFilter {
                method: Some(TwoFactor::AppOtp),
                ..all()
            },
            "eva",
        ),
        (
            UserFilter {
                method: Some(TwoFactor::AppPush),
                ..all()
            },
            "",
        ),
        (
            UserFilter {
                enrolment: Some(EnrolmentFilter::None),
                ..all()
            },
            "mia adam bob zoë",
        ),
        (
            UserFilter {
                enrolment: Some(EnrolmentFilter::Open),
                ..all()
            },
            "ján",
        ),
        (
            UserFilter {
                enrolment: Some(EnrolmentFilter::Active),
                ..all()
            },
            "eva",
        ),
        (
            UserFilter {
                enrolment: Some(EnrolmentFilter::Expired),
                ..all()
            },
            "",
        ),
        (
            UserFilter {
                phone: Some(PhoneFilter::None),
                ..all()
            },
            "adam",
        ),
        (
            UserFilter {
                phone: Some(PhoneFilter::Refused),
                ..all()
            },
            "adam",
        ),
        (
            UserFilter {
                phone: Some(PhoneFilter::Waiting),
                ..all()
            },
            "mia",
        ),
        (
            UserFilter {
                origin: Some(UserOrigin::Manual),
                ..all()
            },
            "mia bob",
        ),
        (
            UserFilter {
                origin: Some(UserOrigin::Directory),
                ..all()
            },
            "adam eva ján zoë",
        ),
        (
            UserFilter {
                origin: Some(UserOrigin::Manual),
                search: Some("BO".into()),
                ..all()
            },
            "bob",
        ),
    ] {
        // However long the pages are.
        for limit in [1, 2, 100] {
            let found = names(f, &filter, UserSort::Name, limit).await;
            assert_eq!(found, expected, "{filter:?} in pages of {limit}");
        }
        let mut backwards: Vec<&str> = expected.split(' ').collect();
        backwards.reverse();
        let down = names(f, &filter, UserSort::NameDown, 2).await;
        assert_eq!(down, backwards.join(" "), "{filter:?} backwards");
        let mut by_age: Vec<String> = names(f, &filter, UserSort::Created, 2)
            .await
            .split(' ')
            .map(str::to_owned)
            .collect();
        let newest = names(f, &filter, UserSort::CreatedDown, 1).await;
        by_age.reverse();
        assert_eq!(newest, by_age.join(" "), "{filter:?} by age");
        assert_eq!(by_age.len(), backwards.len(), "{filter:?}");
    }
    let removed = UserFilter {
        state: Some(State::Removed),
        ..all()
    };
    let first = UserPage::first(9, START);
    assert_eq!(f.store.list_users(&removed, &first).await.unwrap().len(), 1);

    let known = f
        .store
        .factor_facts(&[eva.clone(), jan.clone(), held("adam").await], START)
        .await
        .unwrap();
    assert_eq!(known[&eva.id].enrolment, EnrolmentFilter::Active);
    assert_eq!(
        (known[&jan.id].enrolment, known[&jan.id].proved),
        (EnrolmentFilter::Open, true)
    );
    assert_eq!(
        known[&held("adam").await.id].phone_refused.as_deref(),
        Some("too short")
    );
}

pub(super) async fn what_is_known_of_factors_is_read_for_all_at_once(f: &Fixture) {
    ready(f).await;
    let (jan, eva) = (by_hand("jan", 31), by_hand("eva", 32));
    for user in [&jan, &eva] {
        act(f, user, 0, AuditAct::UserAdd).await.unwrap();
    }
    let mut tx = f.store.db.begin().await.unwrap();
    let mut pending = application(f, eva.id, AuthenticatorKind::App, 3);
    pending.authenticator.state = AuthenticatorState::Pending;
    let mut revoked = application(f, jan.id, AuthenticatorKind::App, 4);
    revoked.authenticator.state = AuthenticatorState::Revoked;
    for kept in [
        application(f, jan.id, AuthenticatorKind::App, 1),
        application(f, jan.id, AuthenticatorKind::Hotp, 2),
        pending,
        revoked,
    ] {
        insert_authenticator(&mut tx, &kept).await.unwrap();
    }
    tx.commit().await.unwrap();
    let at = async |ms| {
        f.store
            .factor_facts(&[jan.clone(), eva.clone()], START.plus_ms(ms))
            .await
            .unwrap()
    };
    let known = at(0).await;
    let kinds: Vec<_> = known[&jan.id]
        .authenticators
        .iter()
        .map(|a| a.kind)
        .collect();
    assert_eq!(kinds, [AuthenticatorKind::App, AuthenticatorKind::Hotp]);
    assert!(known[&jan.id].has_application() && known[&jan.id].has_hard_token());
    assert_eq!(known[&eva.id].authenticators.len(), 1);
    assert!(!known[&eva.id].has_application(), "one that waits is none");
    // The time of the one that waits is over.
    assert!(at(5).await[&eva.id].authenticators.is_empty());
}
