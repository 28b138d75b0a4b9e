//! Enrolment keys that change, and one that is lost.

use sqlx::AssertSqlSafe;

use super::by_hand::{act, by_hand, entry, ready};
use super::endings::{equip, left};
use super::*;
use crate::factors::keys::{KeyId, RootKey};
use crate::factors::sealed::{NONCE, Sealed, seal};
use crate::model::{AuditAct, AuthenticatorState};
use crate::store::db::on;
use crate::store::{AuditNote, GivenUp, LockedOut};

fn canary(key: &RootKey) -> Sealed {
    seal(key, b"canary", b"canary", [7; NONCE]).unwrap()
}

async fn run(f: &Fixture, sql: String) {
    let mut tx = f.store.db.begin().await.unwrap();
    on!(tx, c => sqlx::query(AssertSqlSafe(sql)).execute(&mut *c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
}

/// Jan, whose factors are kept with this key, and eva, whose are kept with the test's own.
async fn jan_and_eva(f: &Fixture, key: KeyId) -> [User; 2] {
    ready(f).await;
    f.sql("DELETE FROM meta WHERE key = 'canary' OR key LIKE 'retired-key %'")
        .await;
    let both = [by_hand("jan", 51), by_hand("eva", 52)];
    for (user, n) in both.iter().zip([51, 52]) {
        act(f, user, 0, AuditAct::UserAdd).await.unwrap();
        equip(f, user, n).await;
    }
    run(
        f,
        format!("UPDATE recovery_codes SET key_id = '{}'", f.key.root().id()),
    )
    .await;
    for table in ["authenticators", "recovery_codes"] {
        run(
            f,
            format!(
                "UPDATE {table} SET key_id = '{key}' WHERE user_id = (SELECT id FROM users WHERE username = 'jan')"
            ),
        )
        .await;
    }
    both
}

fn note(f: &Fixture) -> AuditNote {
    AuditNote {
        entry: entry(AuditAct::KeyGiveUp, None),
        key: AuditKey::of(&f.key),
    }
}

/// Whoever has recovery codes only is asked for one of them by an open link: it would do alone without them.
pub(super) async fn trap_79_links_that_lost_recovery_codes_guarded_are_void(f: &Fixture) {
    let (lost, own) = (RootKey::new(&[8; 32]), f.key.root());
    let [jan, eva] = jan_and_eva(f, lost.id()).await;
    run(
        f,
        "UPDATE authenticators SET state = 'revoked', secret = NULL, ended_at = 1 WHERE user_id IN (SELECT id FROM users WHERE username = 'jan')"
            .into(),
    )
    .await;
    let was = canary(&lost);
    f.store.keep_canary(&was, &[]).await.unwrap();
    let ids = [own.id()];
    let out = f.store.locked_out(&ids, &ids).await.unwrap();
    assert_eq!((out.secrets, out.codes), (0, 1));
    let given_up = GivenUp {
        was: Some(was),
        canary: canary(&own),
        keys: ids.to_vec(),
        digests: ids.to_vec(),
        retired: vec![],
        out,
    };
    assert!(f.store.give_up_key(&given_up, &note(f)).await.unwrap());
    assert!(left(f, &jan).await.starts_with("void 0"));
    assert!(left(f, &eva).await.starts_with("open 1"));
}

pub(super) async fn trap_79_what_a_lost_key_kept_is_given_up_by_its_number_and_nothing_else(
    f: &Fixture,
) {
    let (lost, own, former) = (
        RootKey::new(&[8; 32]),
        f.key.root(),
        RootKey::new(&[9; 32]).id(),
    );
    let [jan, eva] = jan_and_eva(f, lost.id()).await;
    let was = canary(&lost);
    f.store
        .keep_canary(&was, &[(former, canary(&lost))])
        .await
        .unwrap();
    let ids = [own.id()];
    let out = f.store.locked_out(&ids, &ids).await.unwrap();
    assert_eq!(
        out,
        LockedOut {
            secrets: 3,
            codes: 1
        }
    );
    let right = GivenUp {
        was: Some(was.clone()),
        canary: canary(&own),
        keys: ids.to_vec(),
        digests: ids.to_vec(),
        retired: vec![],
        out,
    };
    let all = "open 1 pending active active";
    let mut wrong = vec![right.clone(), right.clone(), right.clone()];
    wrong[0].out.secrets = 2;
    wrong[1].out.codes = 2;
    // Another daemon was first, or there was no canary when it was looked at.
    wrong[2].was = Some(canary(&own));
    for wrong in &wrong {
        assert!(!f.store.give_up_key(wrong, &note(f)).await.unwrap());
        assert_eq!((left(f, &jan).await.as_str(), all), (all, all));
    }
    assert_eq!(f.store.key_keeping().await.unwrap().canary, Some(was));

    assert!(f.store.give_up_key(&right, &note(f)).await.unwrap());
    assert_eq!(left(f, &jan).await, "void 0 revoked revoked");
    assert_eq!(left(f, &eva).await, all);
    let keeping = f.store.key_keeping().await.unwrap();
    assert_eq!(keeping.canary, Some(canary(&own)));
    // Nobody can read what was left of a former key, under the lost one.
    assert!(keeping.retired.is_empty());
    assert_eq!(
        f.store.locked_out(&ids, &ids).await.unwrap(),
        LockedOut::default()
    );
    let found = f
        .store
        .verify_audit(&[AuditKey::of(&f.key)])
        .await
        .unwrap()
        .faults;
    assert_eq!(found, Vec::<String>::new());
    assert!(
        !f.store.give_up_key(&right, &note(f)).await.unwrap(),
        "once"
    );
}

/// The token is jan's still, and its counter where it was, when a file gives its seed back; one that ended before stays so.
pub(super) async fn trap_70_a_seed_that_was_given_up_comes_back_to_where_its_counter_stood(
    f: &Fixture,
) {
    let lost = RootKey::new(&[8; 32]);
    let [jan, _] = jan_and_eva(f, lost.id()).await;
    let ids = [f.key.root().id()];
    let out = f.store.locked_out(&ids, &ids).await.unwrap();
    let given_up = GivenUp {
        was: None,
        canary: canary(&f.key.root()),
        keys: ids.to_vec(),
        digests: ids.to_vec(),
        retired: vec![],
        out,
    };
    assert!(f.store.give_up_key(&given_up, &note(f)).await.unwrap());
    let known = f.store.known_tokens(&["S512"], &[]).await.unwrap();
    assert_eq!(known.len(), 1);
    assert!(known[0].given_up && known[0].fingerprint.is_none());

    let there = f.store.hard_token("S512").await.unwrap().unwrap().kept;
    assert_eq!(there.authenticator.next, 7);
    let mut kept = there.clone();
    kept.authenticator.state = AuthenticatorState::Active;
    kept.authenticator.next = 0;
    kept.authenticator.ended_at = None;
    kept.secret = seal(&f.key.root(), &kept.owner(), b"its seed again", [4; NONCE]);
    let again = crate::store::NewHardToken {
        again: true,
        kept,
        fingerprint: [77; 32],
    };
    let import = entry(AuditAct::HardTokensImport, None);
    let key = AuditKey::of(&f.key);
    f.store
        .keep_tokens(std::slice::from_ref(&again), (&import, &key))
        .await
        .unwrap();
    let back = f.store.hard_token("S512").await.unwrap().unwrap().kept;
    assert_eq!(
        (
            back.authenticator.user,
            back.authenticator.state,
            back.authenticator.next
        ),
        (Some(jan.id), AuthenticatorState::Active, 7)
    );
    assert_eq!(back.secret, again.kept.secret);
    // It is there: whoever imports it at the same time is told.
    let twice = f.store.keep_tokens(&[again], (&import, &key)).await;
    assert!(matches!(twice, Err(StoreError::Conflict(1))), "{twice:?}");
}
