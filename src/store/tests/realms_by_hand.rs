//! Realms by hand that enter a file and leave it, that two change at once, and that are removed in steps.

use serde_json::Map;

use super::by_hand::{act, by_hand, entry, ready, removed};
use super::*;
use crate::model::{
    ApiToken, ApiTokenId, AuditAct, AuditEntry, RealmKind, RealmRow, RealmSettings, Refusal, Scope,
};

const FIRMS: &str = "Firms";

fn firms() -> RealmRow {
    RealmRow {
        kind: RealmKind::Custom,
        ..RealmRow::new(RealmId::from(FIRMS), "Partner firms")
    }
}

/// The realm by hand, with a user in it.
async fn made(f: &Fixture) -> User {
    ready(f).await;
    let key = AuditKey::of(&f.key);
    let line = entry(AuditAct::RealmCreate, None);
    f.store.make_realm(&firms(), (&line, &key)).await.unwrap();
    let jan = User {
        realm: RealmId::from(FIRMS),
        ..by_hand("jan", 1)
    };
    act(f, &jan, 0, AuditAct::UserAdd).await.unwrap();
    jan
}

async fn clean(f: &Fixture) {
    for sql in [
        "UPDATE realms SET held = NULL",
        "DELETE FROM adoptions",
        "DELETE FROM refused",
        "DELETE FROM changes",
        "DELETE FROM staged_users",
        "DELETE FROM users",
        "DELETE FROM runs",
        "DELETE FROM realms WHERE id = 'Firms'",
    ] {
        f.sql(sql).await;
    }
}

/// Declares the realms of a file that has this one too, or not.
async fn declare(f: &Fixture, with: bool) -> Declared {
    let ids = ["example.org", FIRMS];
    let realms: Vec<RealmDecl> = ids[..=usize::from(with)]
        .iter()
        .map(|id| RealmDecl {
            id: RealmId::from(*id),
            name: "By file".into(),
        })
        .collect();
    f.store.declare_realms(&realms, START).await.unwrap()
}

async fn is(f: &Fixture) -> RealmRow {
    f.store
        .realm(&RealmId::from(FIRMS))
        .await
        .unwrap()
        .expect("the realm")
}

pub(super) async fn what_leaves_the_file_before_its_first_pass_is_by_hand_again(f: &Fixture) {
    let jan = made(f).await;
    let marks = async || f.store.adopting(&[jan.id], true).await.unwrap().len();
    declare(f, true).await;
    let row = is(f).await;
    assert_eq!(
        (row.kind, row.name.as_str(), marks().await),
        (RealmKind::Directory, "By file", 1)
    );
    let left = declare(f, false).await;
    assert_eq!(
        (left.by_hand_again, left.orphaned),
        (vec![RealmId::from(FIRMS)], vec![])
    );
    assert_eq!(is(f).await, firms(), "as it was made");
    assert_eq!(marks().await, 0);

    // Its plan is held: it is by hand again once that is decided.
    declare(f, true).await;
    let mut run = Run {
        realm: RealmId::from(FIRMS),
        ..run_of(5)
    };
    f.store.begin_run(&run, true, None).await.unwrap();
    run.outcome = Outcome::Held;
    f.store
        .hold(
            &run,
            Staged::default(),
            RunFacts::default(),
            None,
            None,
            &[],
        )
        .await
        .unwrap();
    let left = declare(f, false).await;
    assert_eq!(
        (left.by_hand_again, left.orphaned),
        (vec![], vec![RealmId::from(FIRMS)])
    );
    f.store
        .decide_held(run.run, Outcome::Rejected, None, None, START)
        .await
        .unwrap();
    assert_eq!(is(f).await, firms());
    act(f, &later(&jan), 1, AuditAct::UserEdit).await.unwrap();

    // A plan that was made before that, and is applied after it, has the realm all the same.
    let update = RealmUpdate {
        first_applied_at: Some(START),
        ..RealmUpdate::default()
    };
    let mut run = Run {
        realm: RealmId::from(FIRMS),
        ..run_of(6)
    };
    f.store.begin_run(&run, true, None).await.unwrap();
    run.outcome = Outcome::Applied;
    let messages = f.ctx();
    let applied = Application {
        run: &run,
        facts: RunFacts::default(),
        realm: update,
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit: None,
    };
    f.store.apply(applied).await.unwrap();
    assert_eq!(is(f).await.kind, RealmKind::Directory);
    let left = declare(f, false).await;
    assert_eq!(
        (left.by_hand_again, left.orphaned),
        (vec![], vec![RealmId::from(FIRMS)]),
        "a directory's for good"
    );
    clean(f).await;
}

pub(super) async fn an_edit_of_a_realm_that_is_another_by_now_is_decided_anew(f: &Fixture) {
    made(f).await;
    let key = AuditKey::of(&f.key);
    let line = entry(AuditAct::RealmEdit, None);
    let named = RealmRow {
        name: "Other".into(),
        ..firms()
    };
    let placed = RealmRow {
        settings: RealmSettings {
            region: Some("SK".into()),
            ..RealmSettings::default()
        },
        ..firms()
    };
    f.store
        .edit_realm(&firms(), &named, (&line, &key))
        .await
        .unwrap();
    let late = f.store.edit_realm(&firms(), &placed, (&line, &key)).await;
    assert!(matches!(late, Err(StoreError::Conflict(1))), "{late:?}");
    assert_eq!(is(f).await, named, "what the first one said stays");
    declare(f, true).await;
    let gone = f.store.edit_realm(&named, &placed, (&line, &key)).await;
    assert!(matches!(gone, Err(StoreError::Refused(_))), "{gone:?}");
    clean(f).await;
}

/// An orphaned realm stays one until nobody is left in it, so that nothing old is sent, and every step is in the audit.
pub(super) async fn an_orphaned_realm_is_removed_step_by_step(f: &Fixture) {
    let jan = made(f).await;
    let eva = User {
        realm: RealmId::from(FIRMS),
        ..by_hand("eva", 2)
    };
    act(f, &eva, 0, AuditAct::UserAdd).await.unwrap();
    declare(f, true).await;
    f.sql("UPDATE realms SET first_applied_at = 1 WHERE id = 'Firms'")
        .await;
    declare(f, false).await;
    let refused = act(f, &removed(&jan), 1, AuditAct::UserRemove).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    act(f, &removed(&jan), 1, AuditAct::RealmRemove)
        .await
        .unwrap();
    let row = is(f).await;
    assert_eq!((row.kind, row.orphaned), (RealmKind::Directory, true));
    let id = RealmId::from(FIRMS);
    let sending = f.store.sending_realms(&[], START).await.unwrap();
    assert!(!sending.contains(&id), "nothing goes out before the end");
    let key = AuditKey::of(&f.key);
    let line = AuditEntry {
        realm: Some(id.clone()),
        after: Map::new(),
        ..entry(AuditAct::RealmRemove, None)
    };
    let remove = async || f.store.remove_realm(&id, START, (&line, &key)).await;
    assert!(!remove().await.unwrap(), "somebody is left");

    // The file has it back in between: then it is not removed, and nobody more of it.
    declare(f, true).await;
    let refused = act(f, &removed(&eva), 1, AuditAct::RealmRemove).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    declare(f, false).await;
    // The next try counts whom the one before removed.
    act(f, &removed(&eva), 1, AuditAct::RealmRemove)
        .await
        .unwrap();
    assert_eq!(f.store.removed_with(&id).await.unwrap(), 2);
    let token = ApiToken {
        id: ApiTokenId(uuid::Uuid::from_u128(91)),
        name: "theirs".into(),
        scopes: vec![Scope::Verify],
        realm: Some(id.clone()),
        by: None,
        created_at: START,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    };
    let made = entry(AuditAct::ApiTokenCreate, None);
    f.store
        .make_api_token(&token, [9; 32], (&made, &key))
        .await
        .unwrap();
    assert!(remove().await.unwrap());
    assert_eq!(f.store.realm(&id).await.unwrap(), None);
    // A token of it opens nothing in another realm that gets the id.
    let open = "SELECT CAST(COUNT(*) AS TEXT) FROM api_tokens WHERE revoked_at IS NULL AND name = 'theirs'";
    assert_eq!(f.text(open).await.as_deref(), Some("0"));
    assert_eq!(
        f.sql("DELETE FROM api_tokens WHERE name = 'theirs'").await,
        1
    );
    assert_eq!(
        f.store.removed_with(&id).await.unwrap(),
        0,
        "of a realm of the same id that is made later"
    );
    let sending = f.store.sending_realms(&[], START).await.unwrap();
    assert!(sending.contains(&id), "that they are gone is told now");
    clean(f).await;
}

/// Refusals of a removed user's entry are found by its id, which the row has no more afterwards.
pub(super) async fn what_is_refused_of_who_is_removed_by_hand_goes(f: &Fixture) {
    made(f).await;
    let zoe = User {
        realm: RealmId::from(FIRMS),
        ..person("zoe", 44)
    };
    act(f, &zoe, 0, AuditAct::UserAdd).await.unwrap();
    let refusal = Refusal {
        dn: "uid=zoe".into(),
        directory_id: zoe.directory_id,
        username: Some("zoe".into()),
        attribute: Some("mobile".into()),
        raw: Some("12".into()),
        reason: "too short".into(),
        entry: false,
    };
    let diff = RefusedDiff {
        add: vec![(1, refusal)],
        staged: None,
        gone: vec![],
    };
    let mut tx = f.store.db.begin().await.unwrap();
    crate::store::refused::write(&mut tx, &zoe.realm, diff, START)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let gone = User {
        directory_id: None,
        dn: None,
        fingerprint: None,
        ..removed(&zoe)
    };
    act(f, &gone, 1, AuditAct::UserRemove).await.unwrap();
    assert_eq!(f.sql("DELETE FROM refused").await, 0);
    clean(f).await;
}

/// Whom the next delta looks at: the entry that is refused a marked user's name, and whose number by hand stands no longer.
pub(super) async fn what_is_done_by_hand_is_to_be_looked_at(f: &Fixture) {
    made(f).await;
    let looked = async || f.store.to_look_at(&RealmId::from(FIRMS)).await.unwrap();
    let due = async || is(f).await.due;
    let zoe = User {
        realm: RealmId::from(FIRMS),
        fingerprint: None,
        phone_source: Some(crate::model::PhoneSource::Manual),
        ..person("zoe", 44)
    };
    act(f, &zoe, 0, AuditAct::UserAdd).await.unwrap();
    assert_eq!(
        (looked().await, due().await),
        (vec![], false),
        "the number by hand stands"
    );
    let over = User {
        phone_source: Some(crate::model::PhoneSource::Directory),
        ..later(&zoe)
    };
    act(f, &over, 1, AuditAct::UserEdit).await.unwrap();
    assert_eq!(
        (looked().await, due().await),
        (vec![zoe.directory_id.unwrap()], true)
    );
    f.store.forget_looked_at().await.unwrap();
    assert_eq!(looked().await.len(), 1, "nobody has looked yet");
    let seen = User {
        fingerprint: Some(5),
        ..later(&over)
    };
    act(f, &seen, 2, AuditAct::UserEdit).await.unwrap();
    assert_eq!(looked().await, []);
    f.store.forget_looked_at().await.unwrap();
    assert_eq!(f.sql("DELETE FROM to_look_at").await, 0);
    clean(f).await;
}

/// An undo that takes an entry back takes the mark along, which would give it again.
pub(super) async fn the_mark_goes_with_an_entry_that_is_put_back(f: &Fixture) {
    ready(f).await;
    let zoe = person("zoe", 44);
    make(f, 1, std::slice::from_ref(&zoe)).await;
    f.sql("INSERT INTO adoptions (user_id, by_whom, at) SELECT id, 'root', 1 FROM users")
        .await;
    let back = User {
        directory_id: None,
        dn: None,
        fingerprint: None,
        ..later(&zoe)
    };
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    stage(f, &run, &[(back, 1, vec![])], ChangeKind::Updated).await;
    run.outcome = Outcome::Applied;
    let messages = f.ctx();
    let undo = Application {
        run: &run,
        facts: RunFacts {
            undoes: Some(run_of(1).run),
            ..RunFacts::default()
        },
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit: None,
    };
    f.store.apply(undo).await.unwrap();
    assert_eq!(f.store.adopting(&[zoe.id], true).await.unwrap(), []);
    assert_eq!(f.sql("DELETE FROM adoptions").await, 0);
    f.sql("UPDATE realms SET paused = (1 = 0), paused_by = NULL, paused_by_undo = NULL")
        .await;
    clean(f).await;
}
