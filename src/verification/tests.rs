//! Verifications on both stores, with the time in the test's hand.

use std::sync::Arc;

use super::names::{Named, named};
use super::queue::{Answered, AskKey, NotVerified, VerifyAsk};
use super::refusals::Refusals;
use super::round::round;
use super::setting::{RealmNames, VerifySetting};
use crate::clock::Timestamp;
use crate::factors::keys::{KeyRing, RootKey};
use crate::factors::otp::Generator;
use crate::factors::recovery::digest;
use crate::factors::sealed::{NONCE, seal};
use crate::factors::typed::read;
use crate::model::{
    ApiToken, ApiTokenId, AuditAct, AuditEntry, Authenticator, AuthenticatorId, AuthenticatorKind,
    AuthenticatorState, OtpHash, RealmId, Scope, State, StateReason, User, UserFilter, UserId,
    Verdict, VerifyMethod, VerifyReason,
};
use crate::store::outbox_tests::{DAY_MS, Fixture, START, postgres, sqlite, user};
use crate::store::{AuditKey, KeptAuthenticator, UserPage, VerificationFilter};

const SEED: [u8; 20] = *b"12345678901234567890";

fn setting(f: &Fixture) -> VerifySetting {
    VerifySetting {
        names: Arc::new(RealmNames::of(
            vec!["example.org".into(), "other".into()],
            vec![],
            |realm| match realm.as_str() {
                "example.org" => vec!["EXAMPLE".into()],
                _ => vec![],
            },
        )),
        keys: KeyRing::of(f.key.root()),
    }
}

fn service(realm: Option<&str>) -> Arc<ApiToken> {
    Arc::new(ApiToken {
        id: ApiTokenId(uuid::Uuid::from_u128(77)),
        name: "vpn".into(),
        scopes: vec![Scope::Verify],
        realm: realm.map(RealmId::from),
        by: None,
        created_at: START,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    })
}

fn ask(username: &str, code: &str) -> VerifyAsk {
    VerifyAsk {
        token: service(None),
        username: username.into(),
        realm: None,
        code: read(code),
        key: None,
    }
}

/// Answers one request at a time.
async fn answered(f: &Fixture, ask: &VerifyAsk, now: Timestamp) -> Result<Answered, NotVerified> {
    let setting = setting(f);
    let meant = named(&f.store, &setting.names, &[ask.typed()])
        .await
        .unwrap()
        .remove(0);
    let tx = f.store.verifying().await.unwrap();
    round(tx, &setting, &[(ask, meant)], now, &mut Refusals::default())
        .await
        .unwrap()
        .remove(0)
}

async fn verdict(f: &Fixture, ask: &VerifyAsk, now: Timestamp) -> Verdict {
    let answered = answered(f, ask, now).await.unwrap();
    assert_eq!(answered.status, 200);
    serde_json::from_str(&answered.body).unwrap()
}

async fn reason(f: &Fixture, username: &str, code: &str, now: Timestamp) -> Option<VerifyReason> {
    verdict(f, &ask(username, code), now).await.reason
}

fn code(at: i64) -> String {
    let generator = Generator::new(zeroize::Zeroizing::new(SEED.to_vec()), OtpHash::Sha1, 6);
    format!("{:06}", generator.code(at.try_into().unwrap()))
}

fn step(now: Timestamp) -> i64 {
    now.0 / 30_000
}

/// A user with both methods, and an authenticator of a kind.
async fn enrolled(f: &Fixture, name: &str, kind: AuthenticatorKind) -> (User, AuthenticatorId) {
    f.sql("UPDATE realms SET orphaned = (1 = 0)").await;
    let someone = user(name, "+421905123456");
    f.change(&someone, &[]).await;
    f.sql("UPDATE users SET two_factor = 'app-otp,hard-token'")
        .await;
    let id = AuthenticatorId(someone.id.0);
    let owner = Authenticator::owner(Some(someone.id), id);
    f.store
        .keep_authenticator(&KeptAuthenticator {
            authenticator: Authenticator {
                id,
                user: Some(someone.id),
                kind,
                state: AuthenticatorState::Active,
                serial: None,
                issuer: None,
                hash: OtpHash::Sha1,
                digits: 6,
                period: 30,
                next: 0,
                drift: 0,
                two_codes: false,
                valid_from: None,
                valid_until: None,
                expires_at: None,
                created_at: START,
                activated_at: Some(START),
                last_used_at: None,
                ended_at: None,
            },
            bound_to: Some(someone.id),
            secret: seal(&f.key.root(), &owner, &SEED, [1; NONCE]),
            enrolment: None,
            browser: None,
        })
        .await;
    (someone, id)
}

async fn spare(f: &Fixture, user: UserId, letters: &str, kind: &'static str, uses: i64) {
    let key = f.key.root();
    let digest = (key.id(), digest(&key, user, letters));
    f.store.keep_spare_code(user, digest, kind, uses).await;
}

async fn a_code_is_accepted_once_and_all_of_it_is_written(f: &Fixture) {
    let (jan, id) = enrolled(f, "jan", AuthenticatorKind::App).await;
    let right = code(step(START));
    let found = verdict(f, &ask("JAN", &right), START).await;
    assert_eq!(found, Verdict::accepted(VerifyMethod::AppOtp, id));
    let kept = f.store.authenticators(jan.id).await.unwrap().remove(0);
    assert_eq!(kept.authenticator.next, step(START) + 1);
    assert_eq!(kept.authenticator.last_used_at, Some(START));
    // Every spelling of it is used, also a minute later, and each is one attempt.
    for spelling in [
        right.clone(),
        format!("{} {}", &right[..3], &right[3..]),
        format!("{right}\n"),
    ] {
        let found = reason(f, "jan", &spelling, START.plus_ms(20_000)).await;
        assert_eq!(found, Some(VerifyReason::Replayed));
    }
    let known = "SELECT CAST(in_a_row AS TEXT) FROM user_factors";
    assert_eq!(f.text(known).await.as_deref(), Some("3"));
    let next = code(step(START) + 1);
    assert_eq!(reason(f, "jan", &next, START.plus_ms(30_000)).await, None);
    assert_eq!(f.text(known).await.as_deref(), Some("0"));
    let used = "SELECT CAST(proved_at - last_used_at AS TEXT) FROM user_factors";
    assert_eq!(f.text(used).await.as_deref(), Some("0"));
    let rows = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications WHERE service = 'vpn' AND realm = 'example.org'";
    assert_eq!(f.text(rows).await.as_deref(), Some("5"));
}

async fn trap_62_no_spelling_of_a_used_code_is_a_new_one(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::Hotp).await;
    let right = code(3);
    assert_eq!(reason(f, "jan", &right, START).await, None);
    let persian: String = right
        .chars()
        .map(|c| char::from_u32(u32::from(c) - 48 + 0x6f0).unwrap())
        .collect();
    for spelling in [&persian, &format!("{}-{}", &right[..3], &right[3..])] {
        let found = reason(f, "jan", spelling, START).await;
        assert_eq!(found, Some(VerifyReason::Replayed), "{spelling}");
    }
}

/// Names are kept without invisible marks, and composed.
async fn a_name_is_found_however_it_was_typed(f: &Fixture) {
    enrolled(f, "j\u{e1}n", AuthenticatorKind::App).await;
    for (n, typed) in [
        "j\u{e1}n",
        "ja\u{301}n",
        "j\u{e1}\u{200e}n",
        "EXAMPLE\\\u{2066}J\u{c1}N\u{2069}",
    ]
    .into_iter()
    .enumerate()
    {
        let now = START.plus_ms(i64::try_from(n).unwrap() * 60_000);
        let found = reason(f, typed, &code(step(now)), now).await;
        assert_eq!(found, None, "{typed:?}");
    }
}

async fn names_are_read_whole_then_split_and_two_are_ambiguous(f: &Fixture) {
    let (jan, _) = enrolled(f, "jan", AuthenticatorKind::App).await;
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('other', 'custom', 'Other') ON CONFLICT DO NOTHING")
        .await;
    let mut all = vec![jan.clone()];
    for (name, realm) in [
        ("eva@example.org", "other"),
        ("eva", "example.org"),
        ("ota", "example.org"),
        ("ota", "other"),
    ] {
        let someone = User {
            realm: realm.into(),
            ..user(name, "+421905123457")
        };
        let someone = User {
            id: UserId(uuid::Uuid::now_v7()),
            ..someone
        };
        f.change(&someone, &[]).await;
        all.push(someone);
    }
    let gone = User {
        id: UserId(uuid::Uuid::now_v7()),
        state: State::Suspended,
        state_reason: Some(StateReason::Deleted),
        ..user("ida", "+421905123458")
    };
    f.change(&gone, &[]).await;
    let setting = setting(f);
    for (typed, realm, token, wanted) in [
        ("jan", None, None, Named::User(jan.id)),
        (r"EXAMPLE.ORG\Jan", None, None, Named::User(jan.id)),
        (r"EXAMPLE\jan", None, None, Named::User(jan.id)),
        ("jan", Some("EXAMPLE"), None, Named::User(jan.id)),
        ("jan@example.org", None, None, Named::User(jan.id)),
        ("jan@nowhere", None, None, Named::Nobody(None)),
        ("jan", Some("Example.Org"), None, Named::User(jan.id)),
        (
            "jan",
            Some("other"),
            None,
            Named::Nobody(Some("other".into())),
        ),
        ("jan", Some("nowhere"), None, Named::Nobody(None)),
        // The whole name is somebody's, and the split one another's.
        ("eva@example.org", None, None, Named::User(all[1].id)),
        (
            "eva@example.org",
            Some("example.org"),
            None,
            Named::User(all[2].id),
        ),
        ("ota", None, None, Named::Several),
        ("ota", Some("other"), None, Named::User(all[4].id)),
        (r"other\ota", None, None, Named::User(all[4].id)),
        // A token of one realm sees no other.
        ("ota", None, Some("other"), Named::User(all[4].id)),
        ("jan", Some("example.org"), Some("other"), Named::OtherRealm),
        (r"example.org\jan", None, Some("other"), Named::Nobody(None)),
        // Nobody present has the name.
        ("ida", None, None, Named::User(gone.id)),
    ] {
        let asked = VerifyAsk {
            token: service(token),
            realm: realm.map(str::to_owned),
            ..ask(typed, "1")
        };
        let found = named(&f.store, &setting.names, &[asked.typed()])
            .await
            .unwrap();
        assert_eq!(found, [wanted], "{typed} in {realm:?} by {token:?}");
    }
    assert_eq!(
        reason(f, "ida", "123456", START).await,
        Some(VerifyReason::Suspended)
    );
    assert_eq!(
        reason(f, "ota", "123456", START).await,
        Some(VerifyReason::Ambiguous)
    );
    assert_eq!(
        reason(f, "x y\u{fffd}", "123456", START).await,
        Some(VerifyReason::UnknownUser)
    );
}

async fn trap_64_guesses_are_counted_per_user_whoever_asks_and_by_whatever(f: &Fixture) {
    let (jan, _) = enrolled(f, "jan", AuthenticatorKind::App).await;
    let mut now = START;
    let mut counted = 0;
    // Two hundred, as fast as anybody likes: five at once, then one after each delay.
    for n in 0..200 {
        let wrong = format!("{n:07}");
        if reason(f, "jan", &wrong, now).await == Some(VerifyReason::WrongCode) {
            counted += 1;
        }
        now = now.plus_ms(1000);
    }
    assert!((9..=13).contains(&counted), "{counted} guesses in 200 s");
    // The right code waits like any other, and is accepted when the delay is over.
    let held = verdict(f, &ask("jan", &code(step(now))), now).await;
    assert_eq!(held.reason, Some(VerifyReason::Locked));
    let later = now.plus_ms(held.retry_after.unwrap() * 1000);
    assert_eq!(reason(f, "jan", &code(step(later)), later).await, None);
    let failed = "SELECT CAST(in_a_row AS TEXT) FROM user_factors";
    assert_eq!(f.text(failed).await.as_deref(), Some("0"));
    assert_eq!(f.store.authenticators(jan.id).await.unwrap().len(), 1);
}

async fn trap_65_a_hundred_in_a_row_lock_and_a_recovery_code_lets_in(f: &Fixture) {
    let (jan, id) = enrolled(f, "jan", AuthenticatorKind::App).await;
    spare(f, jan.id, "ABCDEFGHJKMNPQRS", "recovery", 1).await;
    let mut now = START;
    for _ in 0..100 {
        let found = reason(f, "jan", "0000000", now).await;
        assert_eq!(found, Some(VerifyReason::WrongCode));
        now = now.plus_ms(15 * 60 * 1000);
    }
    now = now.plus_ms(DAY_MS);
    let found = verdict(f, &ask("jan", &code(step(now))), now).await;
    assert_eq!(
        (found.reason, found.retry_after),
        (Some(VerifyReason::Locked), None)
    );
    let found = verdict(f, &ask("jan", "abcd-efgh jkmn pqrs"), now).await;
    assert_eq!(
        found,
        Verdict::accepted(VerifyMethod::Recovery, AuthenticatorId(jan.id.0))
    );
    let found = verdict(f, &ask("jan", &code(step(now))), now).await;
    assert_eq!(found, Verdict::accepted(VerifyMethod::AppOtp, id));
    let found = reason(f, "jan", "ABCDEFGHJKMNPQRS", now).await;
    assert_eq!(found, Some(VerifyReason::Replayed), "once");
}

async fn trap_66_slow_guesses_are_counted_for_thirty_days(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::App).await;
    let mut now = START;
    let mut guesses = 0;
    // A wrong one every eleven minutes, and a right one of the user each hour, which ends the short count only.
    let locked = loop {
        now = now.plus_ms(11 * 60 * 1000);
        match reason(f, "jan", "0000000", now).await {
            Some(VerifyReason::WrongCode) => guesses += 1,
            Some(VerifyReason::Locked) => break now,
            other => panic!("{other:?} after {guesses}"),
        }
        if guesses % 4 == 0 && guesses < 300 {
            now = now.plus_ms(60_000);
            assert_eq!(reason(f, "jan", &code(step(now)), now).await, None);
        }
    };
    assert_eq!(guesses, 300);
    assert!(locked.since_ms(START) < 3 * DAY_MS);
}

async fn a_key_of_a_request_gives_its_answer_again(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::Hotp).await;
    let with = |code: &str, body: u8| VerifyAsk {
        key: Some(AskKey {
            key: "k1".into(),
            body: [body; 32],
        }),
        ..ask("jan", code)
    };
    let first = answered(f, &with(&code(0), 1), START).await.unwrap();
    assert!(first.body.contains("accepted"), "{}", first.body);
    let again = answered(f, &with(&code(0), 1), START.plus_ms(599_000)).await;
    assert_eq!(again, Ok(first));
    let other = answered(f, &with(&code(1), 2), START.plus_ms(599_000)).await;
    assert_eq!(other, Err(NotVerified::OtherBody));
    // Ten minutes later it is a key like any other.
    let found = verdict(f, &with(&code(0), 1), START.plus_ms(600_001)).await;
    assert_eq!(found.reason, Some(VerifyReason::Replayed));
    // Whoever repeats it under another token has another key.
    let mut elsewhere = with(&code(1), 1);
    elsewhere.token = Arc::new(ApiToken {
        id: ApiTokenId(uuid::Uuid::from_u128(78)),
        ..(*service(None)).clone()
    });
    assert_eq!(
        verdict(f, &elsewhere, START.plus_ms(600_002)).await.reason,
        None
    );
}

async fn a_secret_that_cannot_be_decrypted_is_no_wrong_code(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::App).await;
    f.sql("UPDATE authenticators SET key_id = '0123456789abcdef'")
        .await;
    for code in [code(step(START)), "000000".into()] {
        let found = answered(f, &ask("jan", &code), START).await;
        assert!(matches!(found, Err(NotVerified::Sealed(_))), "{found:?}");
    }
    let failed = "SELECT CAST(in_a_row AS TEXT) FROM user_factors";
    assert_eq!(f.text(failed).await.as_deref(), Some("0"));
    let rows = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications";
    assert_eq!(f.text(rows).await.as_deref(), Some("0"));
}

/// A newer daemon on the same store may write a method, or a hash, that this one does not know.
async fn a_user_who_cannot_be_read_holds_nobody_else_up(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::App).await;
    enrolled(f, "eva", AuthenticatorKind::App).await;
    f.sql("UPDATE users SET two_factor = 'app-otp,telepathy' WHERE username = 'jan'")
        .await;
    let asks = [
        ask("jan", &code(step(START))),
        ask("eva", &code(step(START))),
    ];
    let setting = setting(f);
    let typed: Vec<_> = asks.iter().map(VerifyAsk::typed).collect();
    let meant = named(&f.store, &setting.names, &typed).await.unwrap();
    let together: Vec<_> = asks.iter().zip(meant).collect();
    let tx = f.store.verifying().await.unwrap();
    let all = round(tx, &setting, &together, START, &mut Refusals::default())
        .await
        .unwrap();
    assert!(
        matches!(all[0], Err(NotVerified::Unavailable(_))),
        "{all:?}"
    );
    let verdict: Verdict = serde_json::from_str(&all[1].as_ref().unwrap().body).unwrap();
    assert_eq!(verdict.reason, None);
    let counted = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications";
    assert_eq!(f.text(counted).await.as_deref(), Some("1"));
}

async fn many_are_decided_together(f: &Fixture) {
    let mut asks = vec![];
    for n in 0..37 {
        let (someone, _) = enrolled(f, &format!("user{n}"), AuthenticatorKind::App).await;
        let typed = match n % 3 {
            0 => code(step(START)),
            1 => "0000000".into(),
            _ => "ABCDEFGHJKMNPQRS".into(),
        };
        if n % 3 == 2 {
            spare(f, someone.id, &typed, "bypass", 2).await;
        }
        asks.push(VerifyAsk {
            key: (n % 2 == 0).then(|| AskKey {
                key: format!("k{n}"),
                body: [0; 32],
            }),
            ..ask(&format!("user{n}"), &typed)
        });
    }
    let setting = setting(f);
    let asks: Vec<&VerifyAsk> = asks.iter().collect();
    let typed: Vec<_> = asks.iter().map(|ask| ask.typed()).collect();
    let meant = named(&f.store, &setting.names, &typed).await.unwrap();
    let together: Vec<_> = asks.iter().copied().zip(meant).collect();
    let tx = f.store.verifying().await.unwrap();
    let all = round(tx, &setting, &together, START, &mut Refusals::default())
        .await
        .unwrap();
    for (n, outcome) in all.into_iter().enumerate() {
        let verdict: Verdict = serde_json::from_str(&outcome.unwrap().body).unwrap();
        let wanted = (n % 3 == 1).then_some(VerifyReason::WrongCode);
        assert_eq!(verdict.reason, wanted, "{n}");
    }
    let rows = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications";
    assert_eq!(f.text(rows).await.as_deref(), Some("37"));
    let kept = "SELECT CAST(COUNT(*) AS TEXT) FROM answers";
    assert_eq!(f.text(kept).await.as_deref(), Some("19"));
}

async fn what_is_dropped_before_its_commit_counts_nothing(f: &Fixture) {
    let (jan, _) = enrolled(f, "jan", AuthenticatorKind::App).await;
    let mut tx = f.store.verifying().await.unwrap();
    let known = tx.lock_factors(&[jan.id]).await.unwrap();
    assert_eq!(known.len(), 1);
    drop(tx);
    assert_eq!(reason(f, "jan", &code(step(START)), START).await, None);
}

async fn an_unlocked_user_guesses_anew_and_many_who_are_locked_are_an_alarm(f: &Fixture) {
    let (jan, _) = enrolled(f, "jan", AuthenticatorKind::App).await;
    for n in 0..9 {
        f.change(&user(&format!("other{n}"), "+421905123459"), &[])
            .await;
    }
    f.sql("INSERT INTO user_factors (user_id, in_a_row, failed_at, locked_at) SELECT id, 100, 1795489200000, 1795489200000 FROM users")
        .await;
    f.sql("INSERT INTO verifications (at, service, user_id, result, reason) SELECT 1795489200000, 'vpn', id, 'rejected', 'wrong_code' FROM users")
        .await;
    let soon = START.plus_ms(1000);
    let guesses = f.store.guesses(soon).await.unwrap();
    let all: Vec<_> = guesses
        .iter()
        .map(|one| (one.realm.as_str(), one.locked, one.delayed, one.alarm))
        .collect();
    assert_eq!(all, [("example.org", 10, 10, true)]);
    assert_eq!(f.store.guesses(START.plus_ms(3_700_000)).await.unwrap(), []);
    let right = code(step(soon));
    let held = reason(f, "jan", &right, soon).await;
    assert_eq!(held, Some(VerifyReason::Locked));
    let entry = AuditEntry {
        at: soon,
        by: Some("eva".into()),
        from: "command".into(),
        act: AuditAct::UserUnlock,
        realm: Some(jan.realm.clone()),
        user: Some(jan.id),
        username: Some("jan".into()),
        run: None,
        before: serde_json::Map::new(),
        after: serde_json::Map::new(),
    };
    let key = AuditKey::of(&f.key);
    let store = &f.store;
    assert!(
        store
            .unlock_user(jan.id, soon, (&entry, &key))
            .await
            .unwrap()
    );
    assert!(
        !store
            .unlock_user(jan.id, soon, (&entry, &key))
            .await
            .unwrap()
    );
    assert_eq!(f.store.guesses(soon).await.unwrap()[0].locked, 9);
    let mut tx = f.store.verifying().await.unwrap();
    let counted = tx.failed_in_long(&[jan.id], soon).await.unwrap();
    assert_eq!(counted.len(), 0, "what was before counts no more");
    drop(tx);
    assert_eq!(reason(f, "jan", &right, soon).await, None);
    // What is old goes; what is not stays.
    f.store
        .forget_verifications(soon.plus_ms(90 * DAY_MS))
        .await
        .unwrap();
    let rows = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications";
    assert_eq!(f.text(rows).await.as_deref(), Some("2"));
    f.store.forget_answers(soon).await.unwrap();
}

async fn trap_137_a_token_makes_so_many_within_an_hour(f: &Fixture) {
    f.sql("DELETE FROM made_by_tokens").await;
    let token = ApiTokenId(uuid::Uuid::from_u128(79));
    let may = async |now| f.store.may_make(token, now, 3).await.unwrap();
    let mut made = vec![];
    for n in 0..5 {
        made.push(may(START.plus_ms(n * 60_000)).await);
    }
    assert_eq!(made, [true, true, true, false, false]);
    assert_eq!(
        f.store
            .tokens_at_their_limit(START.plus_ms(300_000), 3)
            .await
            .unwrap(),
        [token]
    );
    // The first one was an hour ago.
    assert!(may(START.plus_ms(3_600_000)).await);
    assert!(!may(START.plus_ms(3_600_000)).await);
    let other = ApiTokenId(uuid::Uuid::from_u128(80));
    assert!(f.store.may_make(other, START, 3).await.unwrap());
    f.store
        .forget_answers(START.plus_ms(3 * 3_600_000))
        .await
        .unwrap();
    assert_eq!(f.store.tokens_at_their_limit(START, 1).await.unwrap(), []);
}

/// `clock` says of a guess that it will be right: whoever comes again with it at that time is let in no more easily.
async fn trap_68_a_code_that_was_told_to_be_ahead_does_not_count_when_its_time_comes(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::App).await;
    let ahead = step(START) + 5;
    let told = reason(f, "jan", &code(ahead), START).await;
    assert_eq!(told, Some(VerifyReason::Clock));
    let then = START.plus_ms(5 * 30_000);
    let again = reason(f, "jan", &code(ahead), then).await;
    assert_eq!(again, Some(VerifyReason::Replayed));
    // Their own next code counts, and one of a clock that is behind takes nothing away.
    let behind = reason(f, "jan", &code(ahead - 4), then).await;
    assert_eq!(behind, Some(VerifyReason::Clock));
    assert_eq!(reason(f, "jan", &code(ahead + 1), then).await, None);
}

async fn what_a_service_was_answered_and_who_is_held_back_is_shown(f: &Fixture) {
    let (jan, app) = enrolled(f, "jan", AuthenticatorKind::App).await;
    let wrong = |n: i64| code(step(START) + 1000 + n);
    let at = |n: i64| START.plus_ms(n * 1000);
    for n in 0..5 {
        let said = reason(f, "jan", &wrong(n), at(n)).await;
        assert_eq!(said, Some(VerifyReason::WrongCode));
    }
    let facts = async |now| {
        let all = f.store.factor_facts(std::slice::from_ref(&jan), now).await;
        all.unwrap().remove(&jan.id).unwrap().wrong_codes
    };
    let told = facts(at(4)).await;
    assert_eq!((told.in_a_row, told.last_at), (5, Some(at(4))));
    assert_eq!((told.delayed_until, told.locked_at), (Some(at(5)), None));
    assert_eq!(facts(at(6)).await.delayed_until, None, "it is over");
    let realm = RealmId::from("example.org");
    let named = f.store.guessed_at(&realm, START, 5).await.unwrap();
    assert_eq!(named, ["jan"]);
    let held_back = UserFilter {
        held_back: true,
        ..UserFilter::default()
    };
    let listed = async || {
        let page = UserPage::first(9, at(6));
        let users = f.store.list_users(&held_back, &page).await.unwrap();
        users.iter().map(|u| u.username.clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["jan"]);
    assert_eq!(f.store.guessed_at(&realm, at(5), 5).await.unwrap(), [""; 0]);
    assert_eq!(reason(f, "jan", &code(step(at(20))), at(20)).await, None);
    assert_eq!(facts(at(20)).await.in_a_row, 0);
    let blocked = UserFilter {
        blocked: true,
        ..UserFilter::default()
    };
    let page = UserPage::first(9, at(6));
    assert_eq!(f.store.list_users(&blocked, &page).await.unwrap(), []);
    f.sql("UPDATE users SET blocked = (1 = 1)").await;
    assert_eq!(f.store.list_users(&blocked, &page).await.unwrap().len(), 1);
    assert_eq!(listed().await, [""; 0]);

    // Page by page, of somebody and since a time.
    let mut all = vec![];
    let mut place = (Timestamp(i64::MIN), 0);
    let mut filter = VerificationFilter::default();
    while let Some((lines, last)) = f.store.verifications(&filter, place, 4).await.unwrap() {
        place = last;
        all.extend(lines);
    }
    let answers: Vec<_> = all
        .iter()
        .map(|line| line.reason.as_deref().unwrap_or(&line.result))
        .collect();
    let guessed = "wrong_code";
    assert_eq!(
        answers,
        [guessed, guessed, guessed, guessed, guessed, "accepted"]
    );
    let last = all.last().unwrap();
    assert_eq!(
        (last.at, last.service.as_str(), last.username.as_deref()),
        (at(20), "vpn", Some("jan"))
    );
    assert_eq!(last.authenticator, Some(app));
    filter.user = Some(jan.id);
    filter.since = Some(at(4));
    let begin = (Timestamp(i64::MIN), 0);
    let (some, _) = f
        .store
        .verifications(&filter, begin, 9)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(some, all[4..]);
    filter.user = Some(UserId(uuid::Uuid::from_u128(404)));
    assert_eq!(
        f.store.verifications(&filter, begin, 9).await.unwrap(),
        None
    );
}

async fn what_is_refused_unread_is_written_once_in_a_while(f: &Fixture) {
    enrolled(f, "jan", AuthenticatorKind::App).await;
    let mut refusals = Refusals::default();
    let mut refused = async |name: &str, code: &str, now: Timestamp| {
        let asked = ask(name, code);
        let whom = named(&f.store, &setting(f).names, &[asked.typed()]).await;
        let whom = whom.unwrap().remove(0);
        let tx = f.store.verifying().await.unwrap();
        let all = round(tx, &setting(f), &[(&asked, whom)], now, &mut refusals).await;
        let body = all.unwrap().remove(0).unwrap().body;
        let verdict: Verdict = serde_json::from_str(&body).unwrap();
        verdict.reason.unwrap()
    };
    let rows = async || {
        let rows = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications";
        f.text(rows).await.unwrap().parse::<i64>().unwrap()
    };
    // A name that nobody has: once a minute, each spelling of it.
    for (name, after, in_all) in [
        ("x", 0, 1),
        (" X ", 59_000, 1),
        ("y", 0, 2),
        ("x", 61_000, 3),
    ] {
        let why = refused(name, "123456", START.plus_ms(after)).await;
        assert_eq!(
            (why, rows().await),
            (VerifyReason::UnknownUser, in_all),
            "{name}"
        );
    }
    // Somebody who is held back: once for each delay; wrong codes each time.
    for n in 0..5 {
        assert_eq!(
            refused("jan", "0000000", START).await,
            VerifyReason::WrongCode
        );
        assert_eq!(rows().await, 4 + n);
    }
    for _ in 0..20 {
        assert_eq!(refused("jan", "0000000", START).await, VerifyReason::Locked);
        assert_eq!(rows().await, 9);
    }
    let later = START.plus_ms(2000);
    assert_eq!(
        refused("jan", "0000000", later).await,
        VerifyReason::WrongCode
    );
    assert_eq!(refused("jan", "0000000", later).await, VerifyReason::Locked);
    assert_eq!(rows().await, 11);
}

async fn trap_79_a_recovery_code_whose_key_is_gone_is_no_wrong_code(f: &Fixture) {
    let (jan, _) = enrolled(f, "jan", AuthenticatorKind::App).await;
    let (gone, letters) = (RootKey::new(&[3; 32]), "ABCDEFGHJKMNPQRS");
    let kept = (gone.id(), digest(&gone, jan.id, letters));
    f.store.keep_spare_code(jan.id, kept, "recovery", 1).await;
    let asked = ask("jan", letters);
    let found = answered(f, &asked, START).await;
    assert!(matches!(found, Err(NotVerified::Sealed(_))), "{found:?}");
    let counted = "SELECT CAST(COUNT(*) AS TEXT) FROM verifications";
    assert_eq!(f.text(counted).await.as_deref(), Some("0"));
    // One beside it whose key is there counts, also while no secret can be read.
    let other = "BCDEFGHJKMNPQRST";
    spare(f, jan.id, other, "recovery", 1).await;
    f.sql("UPDATE authenticators SET key_id = '0000000000000000'")
        .await;
    let found = answered(f, &ask("jan", &code(step(START))), START).await;
    assert!(matches!(found, Err(NotVerified::Sealed(_))), "{found:?}");
    assert_eq!(reason(f, "jan", other, START).await, None);
}

async fn trap_69_a_recovery_code_from_before_a_copy_proves_nobody_by_itself(f: &Fixture) {
    let (jan, _) = enrolled(f, "jan", AuthenticatorKind::App).await;
    let letters = "ABCDEFGHJKMNPQRS";
    spare(f, jan.id, letters, "recovery", 1).await;
    f.sql("INSERT INTO meta (key, value) VALUES ('restored-at', '4102444800000')")
        .await;
    let before = reason(f, "jan", letters, START).await;
    assert_eq!(before, Some(VerifyReason::Replayed));
    f.sql("DELETE FROM meta WHERE key = 'restored-at'").await;
    assert_eq!(reason(f, "jan", letters, START).await, None);
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(&super::sqlite().await).await; })+
        }

        #[tokio::test]
        async fn verifications_on_postgresql() {
            let f = postgres().await;
            $(
                for sql in [
                    "DELETE FROM verifications", "DELETE FROM answers", "DELETE FROM user_factors", "DELETE FROM recovery_codes",
                    "DELETE FROM authenticators", "DELETE FROM users",
                ] {
                    f.sql(sql).await;
                }
                Box::pin($name(&f)).await;
            )+
        }
    };
}

on_both!(
    a_code_is_accepted_once_and_all_of_it_is_written,
    trap_62_no_spelling_of_a_used_code_is_a_new_one,
    trap_68_a_code_that_was_told_to_be_ahead_does_not_count_when_its_time_comes,
    names_are_read_whole_then_split_and_two_are_ambiguous,
    a_name_is_found_however_it_was_typed,
    trap_64_guesses_are_counted_per_user_whoever_asks_and_by_whatever,
    trap_65_a_hundred_in_a_row_lock_and_a_recovery_code_lets_in,
    trap_66_slow_guesses_are_counted_for_thirty_days,
    a_key_of_a_request_gives_its_answer_again,
    a_secret_that_cannot_be_decrypted_is_no_wrong_code,
    trap_79_a_recovery_code_whose_key_is_gone_is_no_wrong_code,
    trap_69_a_recovery_code_from_before_a_copy_proves_nobody_by_itself,
    what_is_refused_unread_is_written_once_in_a_while,
    a_user_who_cannot_be_read_holds_nobody_else_up,
    many_are_decided_together,
    what_is_dropped_before_its_commit_counts_nothing,
    an_unlocked_user_guesses_anew_and_many_who_are_locked_are_an_alarm,
    trap_137_a_token_makes_so_many_within_an_hour,
    what_a_service_was_answered_and_who_is_held_back_is_shown,
);
