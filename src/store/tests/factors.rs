//! Authenticators.

use super::by_hand::{act, by_hand, ready, removed};
use super::*;
use crate::factors::keys::KeyRing;
use crate::factors::sealed::{NONCE, open, seal};
use crate::model::{
    AuditAct, Authenticator, AuthenticatorId, AuthenticatorKind, AuthenticatorState, OtpHash,
    UserId,
};
use crate::store::KeptAuthenticator;
use crate::store::factors::insert_authenticator;
use crate::store::factors::proof::{Asked, prove};
use crate::store::{ProofOutcome, WrongCode};

/// An application of a user, with a secret that the test's key decrypts.
pub(super) fn application(
    f: &Fixture,
    user: UserId,
    kind: AuthenticatorKind,
    n: u128,
) -> KeptAuthenticator {
    let id = AuthenticatorId(uuid::Uuid::from_u128(n));
    let owner = Authenticator::owner(Some(user), id);
    KeptAuthenticator {
        authenticator: Authenticator {
            id,
            user: Some(user),
            kind,
            state: AuthenticatorState::Active,
            serial: kind.is_hard_token().then(|| format!("S{n}")),
            issuer: Some("Example".into()),
            hash: OtpHash::Sha1,
            digits: 6,
            period: 30,
            next: 7,
            drift: -2,
            two_codes: false,
            valid_from: Some(START),
            valid_until: None,
            expires_at: Some(START.plus_ms(5)),
            created_at: START.plus_ms(i64::try_from(n).unwrap()),
            activated_at: Some(START),
            last_used_at: None,
            ended_at: None,
        },
        bound_to: Some(user),
        secret: seal(&f.key.root(), &owner, b"a seed of twenty byte", [3; NONCE]),
        enrolment: None,
        browser: None,
    }
}

pub(super) async fn an_authenticator_comes_back_as_it_was_kept_and_goes_with_its_user(f: &Fixture) {
    ready(f).await;
    let user = by_hand("tok", 41);
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    let app = application(f, user.id, AuthenticatorKind::App, 1);
    let token = application(f, user.id, AuthenticatorKind::Hotp, 2);
    let mut tx = f.store.db.begin().await.unwrap();
    insert_authenticator(&mut tx, &app).await.unwrap();
    insert_authenticator(&mut tx, &token).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        f.store.authenticators(user.id).await.unwrap(),
        [app.clone(), token.clone()]
    );
    let ring = KeyRing::of(f.key.root());
    let secret = open(&ring, &app.owner(), app.secret.as_ref().unwrap()).unwrap();
    assert_eq!(&secret[..], b"a seed of twenty byte");

    // The serial is one token's.
    let mut twin = application(f, user.id, AuthenticatorKind::Hotp, 3);
    twin.authenticator
        .serial
        .clone_from(&token.authenticator.serial);
    let mut tx = f.store.db.begin().await.unwrap();
    let twice = insert_authenticator(&mut tx, &twin).await;
    assert!(matches!(twice, Err(StoreError::Conflict(1))), "{twice:?}");
    drop(tx);

    // Whoever is removed leaves the token behind, assigned to nobody, and nothing else.
    let gone = User {
        version: 2,
        ..removed(&user)
    };
    act(f, &gone, 1, AuditAct::UserRemove).await.unwrap();
    assert_eq!(f.store.authenticators(user.id).await.unwrap(), []);
    let mut tx = f.store.db.begin().await.unwrap();
    let left = crate::store::factors::all_authenticators(&mut tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let [left] = &left[..] else {
        panic!("{left:?}")
    };
    assert_eq!(
        (left.authenticator.user, left.authenticator.state),
        (None, AuthenticatorState::Pending)
    );
    assert!(left.authenticator.two_codes);
    let secret = open(&ring, &left.owner(), left.secret.as_ref().unwrap()).unwrap();
    assert_eq!(&secret[..], b"a seed of twenty byte");
}

/// A code that proves who somebody is on the page: of a token within its dates, and not one that was told to be ahead.
pub(super) async fn trap_110_a_token_out_of_its_dates_proves_nothing(f: &Fixture) {
    ready(f).await;
    let user = by_hand("tok", 42);
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    let seed = zeroize::Zeroizing::new(b"a seed of twenty byte".to_vec());
    let generator = crate::factors::otp::Generator::new(seed, OtpHash::Sha1, 6);
    let step = START.0 / 30_000;
    let typed = |at: i64| {
        let code = generator.code(at.try_into().unwrap());
        crate::factors::typed::read(&format!("{code:06}"))
    };
    let mut token = application(f, user.id, AuthenticatorKind::Totp, 5);
    token.authenticator.drift = 0;
    token.authenticator.valid_until = Some(START);
    let keys = KeyRing::of(f.key.root());
    let proved = async |code: &crate::factors::typed::Typed, now: crate::clock::Timestamp| {
        let mut tx = f.store.verifying().await.unwrap();
        let asked = Asked {
            service: "enrolment",
            realm: &realm(),
            user: user.id,
            keys: &keys,
            now,
        };
        let outcome = prove(&mut tx, asked, code).await.unwrap();
        tx.commit().await.unwrap();
        outcome
    };
    let mut tx = f.store.db.begin().await.unwrap();
    insert_authenticator(&mut tx, &token).await.unwrap();
    tx.commit().await.unwrap();
    let wrong = ProofOutcome::Wrong(WrongCode::Unknown);
    assert_eq!(proved(&typed(step), START).await, wrong);
    f.sql("UPDATE authenticators SET valid_until = NULL").await;
    // Six steps ahead: the next one is asked for, and this one is worth nothing by itself from then on.
    let ahead = ProofOutcome::Wrong(WrongCode::First);
    assert_eq!(proved(&typed(step + 6), START).await, ahead);
    let then = START.plus_ms(6 * 30_000);
    let replayed = ProofOutcome::Wrong(WrongCode::Replayed);
    assert_eq!(proved(&typed(step + 6), then).await, replayed);
    assert_eq!(proved(&typed(step + 7), then).await, ProofOutcome::Right);
}
