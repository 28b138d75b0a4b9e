//! Users and realms by hand, and the chain of the audit.

use serde_json::{Map, json};

use super::*;
use crate::config::StoreUrl;
use crate::factors::keys::KeyRing;
use crate::model::{
    AuditAct, AuditEntry, RealmKind, RealmRow, RealmSettings, State, StateReason, TwoFactor,
    UserOrigin,
};
use crate::store::AuditNote;
use crate::store::db::on;

pub(super) fn entry(act: AuditAct, user: Option<&User>) -> AuditEntry {
    let mut after = Map::new();
    after.insert("phone".into(), json!("+421905123456"));
    AuditEntry {
        at: START,
        by: Some("root".into()),
        from: "command".into(),
        act,
        realm: Some(user.map_or_else(realm, |u| u.realm.clone())),
        user: user.map(|u| u.id),
        username: user
            .filter(|u| u.state != State::Removed)
            .map(|u| u.username.clone()),
        run: None,
        before: Map::new(),
        after,
    }
}

/// Whatever was done to the realm before.
pub(super) async fn ready(f: &Fixture) {
    f.sql("UPDATE realms SET orphaned = (1 = 0) WHERE id = 'example.org'")
        .await;
}

pub(super) fn by_hand(name: &str, n: u8) -> User {
    User {
        origin: UserOrigin::Manual,
        note: Some("n".into()),
        phone_source: Some(crate::model::PhoneSource::Manual),
        version: 1,
        ..user(name, &format!("+4219051234{n:02}"))
    }
}

pub(super) async fn act(
    f: &Fixture,
    user: &User,
    base: i64,
    act: AuditAct,
) -> Result<(), StoreError> {
    let run = run_of(1);
    let changes = [Change {
        run: None,
        ..line(&run, 1, user, ChangeKind::Updated)
    }];
    let key = AuditKey::of(&f.key);
    f.store
        .act_by_hand(HandAct {
            changes: &changes,
            user,
            base_version: base,
            intents: &[],
            messages: &f.ctx(),
            until: crate::model::Edit::Set(Some(START.plus_ms(user.version))),
            audit: (&entry(act, Some(user)), &key),
        })
        .await
}

async fn is(f: &Fixture, user: &User) -> User {
    f.store.users_by_id(&[user.id]).await.unwrap().remove(0)
}

pub(super) fn removed(user: &User) -> User {
    User {
        state: State::Removed,
        state_reason: None,
        username: String::new(),
        username_key: String::new(),
        display_name: None,
        email: None,
        phone: None,
        phone_source: None,
        phone_raw: None,
        phone_provisioned: None,
        note: None,
        ..later(user)
    }
}

pub(super) async fn a_user_is_made_changed_and_erased_by_hand(f: &Fixture) {
    ready(f).await;
    let jan = by_hand("jan", 1);
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    assert_eq!(is(f, &jan).await, jan, "as it was written");
    let waiting = User {
        phone_pending: jan.phone.clone(),
        phone_pending_until: Some(START),
        phone_pending_source: Some(crate::model::PhoneSource::Manual),
        note: Some("other".into()),
        ..later(&jan)
    };
    act(f, &waiting, 1, AuditAct::UserEdit).await.unwrap();
    assert_eq!(is(f, &jan).await, waiting);
    let ends = f.store.overrides(&[jan.id]).await.unwrap();
    let number = crate::store::Override {
        by: Some("root".into()),
        at: START,
        until: Some(START.plus_ms(2)),
    };
    assert_eq!(ends.get(&jan.id), Some(&number));
    for (ms, over) in [(1, 0), (2, 1)] {
        let ended = f.store.overrides_over(START.plus_ms(ms), 9).await.unwrap();
        assert_eq!(ended.len(), over);
    }
    let stale = act(f, &waiting, 1, AuditAct::UserEdit).await;
    assert!(matches!(stale, Err(StoreError::Conflict(1))), "{stale:?}");
    let filter = |origin| UserFilter {
        origin: Some(origin),
        ..UserFilter::default()
    };
    for (origin, n) in [(UserOrigin::Manual, 1), (UserOrigin::Directory, 0)] {
        let found = f
            .store
            .list_users(&filter(origin), &UserPage::first(9, START))
            .await
            .unwrap();
        assert_eq!(found.len(), n, "{origin}");
    }
    let gone = User {
        phone_pending: None,
        phone_pending_until: None,
        phone_pending_source: None,
        ..removed(&waiting)
    };
    act(f, &gone, 2, AuditAct::UserRemove).await.unwrap();
    assert_eq!(is(f, &jan).await.state, State::Removed);
    assert!(f.store.overrides(&[jan.id]).await.unwrap().is_empty());
    let lines = f.store.changes_of_user(jan.id, 9).await.unwrap();
    assert_eq!(lines.len(), 3);
    assert!(
        lines
            .iter()
            .all(|c| c.username.is_none() && c.after.is_empty()),
        "{lines:?}"
    );
    let (audit, _) = f
        .store
        .audit(&AuditFilter::default(), 0, 9)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(audit.len(), 3);
    assert!(
        audit[..2]
            .iter()
            .all(|l| l.username.is_none() && l.after.is_none()),
        "{audit:?}"
    );
    let check = f.store.verify_audit(&[AuditKey::of(&f.key)]).await.unwrap();
    assert_eq!((check.lines, check.erased, check.faults), (3, 2, vec![]));
    assert_eq!(
        f.sql("DELETE FROM staged_users").await,
        0,
        "nothing is left on the stage"
    );
}

pub(super) async fn a_name_is_taken_once(f: &Fixture) {
    ready(f).await;
    act(f, &by_hand("jan", 1), 0, AuditAct::UserAdd)
        .await
        .unwrap();
    let twin = User {
        id: crate::model::UserId(uuid::Uuid::from_u128(77)),
        ..by_hand("jan", 2)
    };
    let taken = act(f, &twin, 0, AuditAct::UserAdd).await;
    assert!(matches!(taken, Err(StoreError::Conflict(1))), "{taken:?}");
    let elsewhere = User {
        realm: RealmId::from("nowhere"),
        ..twin
    };
    assert!(act(f, &elsewhere, 0, AuditAct::UserAdd).await.is_err());
    let check = f.store.verify_audit(&[AuditKey::of(&f.key)]).await.unwrap();
    assert_eq!(
        (check.lines, check.faults),
        (1, vec![]),
        "what was not done left no line"
    );
}

/// Of those who take one name at once one wins, and the lines of all who won are one chain.
pub(super) async fn many_at_once_make_one_chain(f: &Fixture) {
    ready(f).await;
    let users: Vec<User> = (0..12_u8)
        .map(|n| User {
            id: crate::model::UserId(uuid::Uuid::from_u128(100 + u128::from(n))),
            ..by_hand(&format!("u{}", n % 8), n)
        })
        .collect();
    let adding = users.iter().map(|u| act(f, u, 0, AuditAct::UserAdd));
    let done = futures_util::future::join_all(adding).await;
    let conflict = |r: &Result<(), StoreError>| matches!(r, Err(StoreError::Conflict(1)));
    assert!(done.iter().all(|r| r.is_ok() || conflict(r)), "{done:?}");
    assert_eq!(done.iter().filter(|r| r.is_ok()).count(), 8, "{done:?}");
    let check = f.store.verify_audit(&[AuditKey::of(&f.key)]).await.unwrap();
    assert_eq!((check.lines, check.faults), (8, vec![]));
}

pub(super) async fn realms_are_unique_without_their_case_and_may_come_back(f: &Fixture) {
    ready(f).await;
    let key = AuditKey::of(&f.key);
    let row = |id: &str| RealmRow {
        kind: RealmKind::Custom,
        settings: RealmSettings {
            category: Some("c".into()),
            region: Some("SK".into()),
            time_zone: None,
            two_factor: vec![TwoFactor::SmsOtp, TwoFactor::Fido],
        },
        ..RealmRow::new(RealmId::from(id), "Firms")
    };
    let made = entry(AuditAct::RealmCreate, None);
    f.store
        .make_realm(&row("Firms"), (&made, &key))
        .await
        .unwrap();
    let id = RealmId::from("Firms");
    assert_eq!(f.store.realm(&id).await.unwrap(), Some(row("Firms")));
    for taken in ["firms", "Firms", "EXAMPLE.org"] {
        let refused = f.store.make_realm(&row(taken), (&made, &key)).await;
        assert!(
            matches!(refused, Err(StoreError::Refused(_))),
            "{taken}: {refused:?}"
        );
    }
    let jan = User {
        realm: id.clone(),
        ..by_hand("jan", 1)
    };
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    assert!(
        !f.store
            .remove_realm(&id, START, (&made, &key))
            .await
            .unwrap(),
        "somebody is left"
    );
    act(f, &removed(&jan), 1, AuditAct::UserRemove)
        .await
        .unwrap();
    assert!(
        f.store
            .remove_realm(&id, START, (&made, &key))
            .await
            .unwrap()
    );
    assert_eq!(f.store.realm(&id).await.unwrap(), None);
    let late = act(
        f,
        &User {
            id: crate::model::UserId(uuid::Uuid::from_u128(78)),
            ..jan.clone()
        },
        0,
        AuditAct::UserAdd,
    )
    .await;
    assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
    // It may come back, also as a realm of the file.
    f.store
        .make_realm(&row("Firms"), (&made, &key))
        .await
        .unwrap();
    assert!(
        f.store
            .remove_realm(&id, START, (&made, &key))
            .await
            .unwrap()
    );
    let declared = RealmDecl {
        id: id.clone(),
        name: "By file".into(),
    };
    f.store.declare_realm(&declared, START).await.unwrap();
    let row = f.store.realm(&id).await.unwrap().unwrap();
    assert_eq!(
        (row.kind, row.name.as_str()),
        (RealmKind::Directory, "By file")
    );
    // One that is there becomes a directory's, and its users get the entries of their names in the first pass alone.
    f.sql("UPDATE realms SET kind = 'custom' WHERE id = 'Firms'")
        .await;
    let eva = User {
        id: crate::model::UserId(uuid::Uuid::from_u128(79)),
        realm: id.clone(),
        ..by_hand("eva", 3)
    };
    act(f, &eva, 0, AuditAct::UserAdd).await.unwrap();
    let other = RealmDecl {
        id: RealmId::from("FIRMS"),
        name: String::new(),
    };
    let refused = f.store.declare_realm(&other, START).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    f.store.declare_realm(&declared, START).await.unwrap();
    for (first, given) in [(true, vec![(eva.clone(), false)]), (false, vec![])] {
        let found = f.store.adopting(&[eva.id], first).await.unwrap();
        assert_eq!(found, given);
    }
    f.store
        .mark_adoption(&eva, Some("root"), START, (&made, &key))
        .await
        .unwrap();
    let found = f.store.adopting(&[eva.id], false).await.unwrap();
    assert_eq!(found, [(eva.clone(), true)]);
    f.sql("DELETE FROM adoptions").await;
    f.sql("DELETE FROM users").await;
    f.sql("DELETE FROM realms WHERE id = 'Firms'").await;
}

pub(super) async fn grace_runs_on_the_realms_own_clock(f: &Fixture) {
    ready(f).await;
    f.sql("UPDATE realms SET kind = 'custom', clock_ms = 0, last_tick_at = NULL")
        .await;
    let away = User {
        state: State::Suspended,
        state_reason: Some(StateReason::Deleted),
        suspended_at: Some(START),
        suspended_clock: Some(0),
        ..by_hand("jan", 1)
    };
    act(f, &away, 0, AuditAct::UserAdd).await.unwrap();
    let clock = async || f.store.realm(&realm()).await.unwrap().unwrap().clock_ms;
    let over = async |ms| {
        f.store
            .grace_over_by_hand(&realm(), ms, 1000, 9)
            .await
            .unwrap()
            .len()
    };
    let advance = async |now: Timestamp| f.store.advance_clocks(now, 500).await.unwrap();
    if matches!(f.url(), StoreUrl::Postgres { .. }) {
        // The database's clock counts: two daemons whose clocks differ by an hour do not push the time on in turn.
        for n in 0..6 {
            advance(START.plus_ms(3_600_000 * (n % 2))).await;
        }
        assert!(clock().await < 500, "a moment of the test");
        f.sql("UPDATE realms SET clock_ms = 0, last_tick_at = last_tick_at - 300")
            .await;
        advance(START).await;
        assert!((300..=500).contains(&clock().await));
        f.sql("UPDATE realms SET clock_ms = 300, last_tick_at = last_tick_at - 1000000")
            .await;
        advance(START).await;
        f.sql("UPDATE realms SET last_tick_at = last_tick_at + 1000000")
            .await;
    } else {
        advance(START).await;
        assert_eq!(clock().await, 0, "the first look begins");
        advance(START.plus_ms(300)).await;
        assert_eq!(clock().await, 300);
        // An outage, or a clock that jumps, adds no more than that; one that goes back adds nothing.
        advance(START.plus_ms(1_000_000)).await;
    }
    advance(START).await;
    assert_eq!(clock().await, 800);
    // A paused realm ages nobody, and has nothing to make up for.
    f.sql("UPDATE realms SET paused = (1 = 1), last_tick_at = last_tick_at - 200")
        .await;
    advance(START).await;
    f.sql("UPDATE realms SET paused = (1 = 0)").await;
    assert_eq!(clock().await, 800);
    assert_eq!((over(999).await, over(1000).await), (0, 1));
    f.sql("UPDATE realms SET kind = 'directory', clock_ms = 0, last_tick_at = NULL")
        .await;
}

pub(super) async fn trap_136_what_is_changed_cut_out_or_cut_off_shows(f: &Fixture) {
    ready(f).await;
    let keys = [AuditKey::of(&f.key)];
    let jan = by_hand("jan", 1);
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    let mut held = jan.clone();
    for _ in 0..4 {
        let next = later(&held);
        act(f, &next, held.version, AuditAct::UserEdit)
            .await
            .unwrap();
        held = next;
    }
    let faults = async || f.store.verify_audit(&keys).await.unwrap().faults;
    assert_eq!(faults().await, Vec::<String>::new());
    let whole = f
        .text("SELECT value FROM meta WHERE key = 'audit'")
        .await
        .unwrap();
    for (change, back, says) in [
        (
            "UPDATE audit SET by_whom = 'eva' WHERE seq = 2",
            "UPDATE audit SET by_whom = 'root' WHERE seq = 2",
            "line 2",
        ),
        (
            "UPDATE audit SET username = 'eva' WHERE seq = 3",
            "UPDATE audit SET username = 'jan' WHERE seq = 3",
            "the values of line 3",
        ),
        (
            "UPDATE audit SET username = NULL WHERE seq = 3",
            "UPDATE audit SET username = 'jan' WHERE seq = 3",
            "the values of line 3",
        ),
        (
            "UPDATE audit SET seq = 9 WHERE seq = 3",
            "UPDATE audit SET seq = 3 WHERE seq = 9",
            "lines 3 to 3 are missing",
        ),
        (
            "UPDATE meta SET value = '4 00 00' WHERE key = 'audit'",
            "",
            "ends with line 5",
        ),
        (
            "DELETE FROM meta WHERE key = 'audit'",
            "",
            "ends with line 5",
        ),
    ] {
        f.sql(change).await;
        let found = faults().await;
        assert!(
            found.iter().any(|fault| fault.contains(says)),
            "{change}: {found:?}"
        );
        if !back.is_empty() {
            f.sql(back).await;
        }
        let mut tx = f.store.db.begin().await.unwrap();
        let sql = "INSERT INTO meta (key, value) VALUES ('audit', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        on!(tx, c => sqlx::query(sql).bind(whole.clone()).execute(&mut *c).await.map(|_| ()))
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(faults().await, Vec::<String>::new(), "{change}");
    }
    // Without the key nobody can tell, and with another one nobody can make a line.
    let other = [AuditKey::of(&EnrolmentKey::new([8; 32]))];
    let check = f.store.verify_audit(&other).await.unwrap();
    assert!(
        check
            .faults
            .iter()
            .any(|f| f.contains("another enrolment key")),
        "{check:?}"
    );
    // Cut off at the end.
    f.sql("DELETE FROM audit WHERE seq = 5").await;
    let found = faults().await;
    assert!(
        found.iter().any(|fault| fault.contains("ends with line 4")),
        "{found:?}"
    );
    // What was cut off shows ever after, also once the chain goes on.
    let next = later(&held);
    act(f, &next, held.version, AuditAct::UserEdit)
        .await
        .unwrap();
    let found = faults().await;
    assert!(
        found.iter().any(|fault| fault.contains("are missing")),
        "{found:?}"
    );
    f.sql("DELETE FROM audit").await;
    assert!(!faults().await.is_empty(), "all of it");
}

pub(super) async fn trap_136_a_line_behind_the_end_shows_also_once_others_follow(f: &Fixture) {
    ready(f).await;
    let keys = [AuditKey::of(&f.key)];
    let jan = by_hand("jan", 1);
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    let faults = async || f.store.verify_audit(&keys).await.unwrap().faults;
    assert_eq!(faults().await, Vec::<String>::new());
    f.sql(
        "INSERT INTO audit (seq, at, by_whom, door, act, key_id, digest, link)
         SELECT 2, at, 'eva', door, 'user-edit', key_id, digest, link FROM audit WHERE seq = 1",
    )
    .await;
    assert!(!faults().await.is_empty(), "a forged line");
    let next = later(&jan);
    act(f, &next, 1, AuditAct::UserEdit).await.unwrap();
    assert!(!faults().await.is_empty(), "with one behind it");
    // Without the forged line a number is missing: nobody can take it back unseen.
    f.sql("DELETE FROM audit WHERE seq = 2").await;
    assert!(!faults().await.is_empty(), "and without it");
}

/// Whoever writes to the database, without the key, cannot have the end left unlooked at by the name of another key.
pub(super) async fn trap_136_what_is_cut_off_behind_the_name_of_another_key_shows(f: &Fixture) {
    ready(f).await;
    let (first, second) = (AuditKey::of(&f.key), EnrolmentKey::new([8; 32]));
    let ring = KeyRing {
        previous: vec![f.key.root()],
        ..KeyRing::of(second.root())
    };
    let second = AuditKey::of(&second).knowing(&ring);
    let keys = [first.clone(), second.clone()];
    let faults = async || f.store.verify_audit(&keys).await.unwrap().faults;
    let line = async |key: &AuditKey| {
        let note = AuditNote {
            entry: entry(AuditAct::UserEdit, None),
            key: key.clone(),
        };
        f.store.write_note(&note).await.unwrap();
    };
    for key in [&first, &first, &first, &second, &second] {
        line(key).await;
    }
    assert_eq!(faults().await, Vec::<String>::new(), "a key that changes");
    // The key changed behind the third line.
    for sql in [
        "DELETE FROM audit WHERE seq > 3",
        "UPDATE audit SET key_id = 'ffffffffffffffff' WHERE seq = 3",
        "UPDATE meta SET value = '3 x x' WHERE key = 'audit'",
    ] {
        f.sql(sql).await;
    }
    line(&second).await;
    f.sql("UPDATE audit SET key_id = (SELECT key_id FROM audit WHERE seq = 2) WHERE seq = 3")
        .await;
    let found = faults().await;
    assert!(
        found.iter().any(|fault| fault.contains("are missing")),
        "{found:?}"
    );
}

/// A person whose row was taken out of the store is not one whose values went with a removal.
pub(super) async fn trap_136_values_go_with_a_removal_alone(f: &Fixture) {
    ready(f).await;
    let keys = [AuditKey::of(&f.key)];
    let jan = by_hand("jan", 1);
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    f.sql("UPDATE audit SET username = NULL, before = NULL, after = NULL")
        .await;
    f.sql("DELETE FROM changes").await;
    f.sql("DELETE FROM overrides").await;
    f.sql("DELETE FROM users").await;
    let check = f.store.verify_audit(&keys).await.unwrap();
    assert_eq!((check.erased, check.faults.len()), (0, 1), "{check:?}");
}
