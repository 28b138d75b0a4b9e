//! Hard tokens of files, and what administrators do to one.

use super::by_hand::{act, by_hand, ready};
use super::factors::application;
use super::*;
use crate::model::{AuditAct, AuditEntry, AuthenticatorKind, AuthenticatorState};
use crate::store::{AuditKey, HardTokenFilter, NewHardToken, TokenOfSerial};

fn entry(act: AuditAct) -> AuditEntry {
    AuditEntry {
        at: START,
        by: Some("anna".into()),
        from: "command".into(),
        act,
        realm: None,
        user: None,
        username: None,
        run: None,
        before: serde_json::Map::new(),
        after: serde_json::Map::new(),
    }
}

/// A token of nobody.
fn new(f: &Fixture, n: u128) -> NewHardToken {
    let mut kept = application(f, by_hand("x", 1).id, AuthenticatorKind::Totp, 1000 + n);
    let token = &mut kept.authenticator;
    token.user = None;
    token.state = AuthenticatorState::Pending;
    token.serial = Some(format!("S{n:04}"));
    token.expires_at = None;
    token.activated_at = None;
    token.valid_until = Some(START.plus_ms(i64::try_from(n).unwrap()));
    token.created_at = START;
    kept.bound_to = None;
    NewHardToken {
        again: false,
        kept,
        fingerprint: [u8::try_from(n % 256).unwrap(); 32],
    }
}

pub(super) async fn trap_109_a_serial_and_a_seed_are_there_once_and_a_file_is_kept_whole_or_not(
    f: &Fixture,
) {
    ready(f).await;
    let key = AuditKey::of(&f.key);
    let import = entry(AuditAct::HardTokensImport);
    let all: Vec<NewHardToken> = (0..50).map(|n| new(f, n)).collect();
    f.store.keep_tokens(&all, (&import, &key)).await.unwrap();
    let listed = f
        .store
        .hard_tokens(&HardTokenFilter::default(), "", 1000)
        .await
        .unwrap();
    let kept: Vec<_> = listed.into_iter().map(|row| row.kept).collect();
    let same: Vec<_> = all.iter().map(|token| token.kept.clone()).collect();
    assert_eq!(kept, same);

    // One that is there already, by serial or by seed, is the end of all of them.
    for (serial, print) in [("S0007", 200), ("S0200", 7)] {
        let mut more = vec![new(f, 100), new(f, 101)];
        more[1].kept.authenticator.serial = Some(serial.into());
        more[1].fingerprint = [print; 32];
        let twice = f.store.keep_tokens(&more, (&import, &key)).await;
        assert!(matches!(twice, Err(StoreError::Conflict(1))), "{twice:?}");
        assert_eq!(f.store.hard_token("S0100").await.unwrap(), None);
    }
    let mut known = f
        .store
        .known_tokens(&["S0001", "S0300"], &[[2; 32], [250; 32]])
        .await
        .unwrap();
    known.sort_by(|a, b| a.serial.cmp(&b.serial));
    let of = |serial: &str, n: u8| TokenOfSerial {
        serial: serial.into(),
        fingerprint: Some([n; 32]),
        given_up: false,
    };
    assert_eq!(known, [of("S0001", 1), of("S0002", 2)]);
    let filter = HardTokenFilter {
        state: Some(AuthenticatorState::Pending),
        over_by: Some(START.plus_ms(3)),
    };
    let over = f.store.hard_tokens(&filter, "S0001", 2).await.unwrap();
    let serials: Vec<_> = over
        .iter()
        .map(|row| row.kept.authenticator.serial.clone().unwrap())
        .collect();
    assert_eq!(serials, ["S0002", "S0003"]);
}

pub(super) async fn trap_70_a_token_changes_hands_and_its_counter_only_rises(f: &Fixture) {
    ready(f).await;
    let key = AuditKey::of(&f.key);
    let jan = by_hand("jan", 42);
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    let one = new(f, 1);
    f.store
        .keep_tokens(
            std::slice::from_ref(&one),
            (&entry(AuditAct::HardTokensImport), &key),
        )
        .await
        .unwrap();
    let free = f.store.hard_token("S0001").await.unwrap().unwrap().kept;
    let mut given = free.clone();
    given.authenticator.user = Some(jan.id);
    given.authenticator.state = AuthenticatorState::Active;
    given.authenticator.activated_at = Some(START);
    given.bound_to = Some(jan.id);
    let mut assign = entry(AuditAct::HardTokenAssign);
    assign.realm = Some(jan.realm.clone());
    f.store
        .change_token(&free, &given, (&assign, &key))
        .await
        .unwrap();
    let held = f.store.hard_token("S0001").await.unwrap().unwrap();
    assert_eq!(held.kept, given);
    assert_eq!(held.username.as_deref(), Some("jan"));
    // Who saw it free gives it to nobody else.
    let late = f.store.change_token(&free, &given, (&assign, &key)).await;
    assert!(matches!(late, Err(StoreError::Conflict(1))), "{late:?}");
    // A user who is not there gets none.
    let mut nobody = given.clone();
    nobody.authenticator.user = Some(by_hand("gone", 43).id);
    let gone = f
        .store
        .change_token(&held.kept, &nobody, (&assign, &key))
        .await;
    assert!(matches!(gone, Err(StoreError::Conflict(1))), "{gone:?}");

    let resync = entry(AuditAct::HardTokenResync);
    let id = given.authenticator.id;
    f.store
        .move_token(id, (500, 3), (&resync, &key))
        .await
        .unwrap();
    for used in [300, 499, 500] {
        let back = f.store.move_token(id, (used, 0), (&resync, &key)).await;
        assert!(matches!(back, Err(StoreError::Conflict(1))), "{back:?}");
    }
    let moved = f.store.hard_token("S0001").await.unwrap().unwrap().kept;
    assert_eq!(
        (moved.authenticator.next, moved.authenticator.drift),
        (501, 3)
    );

    let removed = f.store.remove_token(&free, (&resync, &key)).await;
    assert!(
        matches!(removed, Err(StoreError::Conflict(1))),
        "{removed:?}"
    );
    let mut ended = moved.clone();
    ended.authenticator.state = AuthenticatorState::Revoked;
    ended.authenticator.ended_at = Some(START);
    ended.secret = None;
    f.store
        .change_token(&moved, &ended, (&resync, &key))
        .await
        .unwrap();
    // Lost after all: its key is known although its seed is gone.
    let mut lost = ended.clone();
    lost.authenticator.state = AuthenticatorState::Lost;
    f.store
        .change_token(&ended, &lost, (&resync, &key))
        .await
        .unwrap();
    let late = f.store.move_token(id, (900, 0), (&resync, &key)).await;
    assert!(matches!(late, Err(StoreError::Conflict(1))), "{late:?}");
    f.store.remove_token(&lost, (&resync, &key)).await.unwrap();
    assert_eq!(f.store.hard_token("S0001").await.unwrap(), None);
    let check = f.store.verify_audit(&[key]).await.unwrap();
    assert_eq!(check.faults, Vec::<String>::new());
}
