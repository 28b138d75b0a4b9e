//! Several who write at once, and a database that goes away.

use std::time::Duration;

use super::super::answer::answered;
use super::super::changes::add_own;
use super::super::db::{Db, on};
use super::super::error::is_lost;
use super::*;
use crate::model::{AuditAct, AuditEntry, JobReason, JobType};

#[tokio::test]
async fn trap_31_writers_never_meet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8_u32 {
        let store = store.clone();
        writers.spawn(async move {
            for i in 0..25_u32 {
                let decl = RealmDecl {
                    id: RealmId::from(format!("r{n}-{i}")),
                    name: "x".into(),
                };
                store.declare_realms(&[decl], START).await?;
            }
            Ok::<(), StoreError>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(store.realms().await.unwrap().len(), 200);
}

pub(super) async fn of_many_who_change_one_user_one_wins(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (store, messages) = (f.store.clone(), f.ctx());
        let changed = User {
            email: Some(format!("{n}@example.org")),
            ..later(&someone)
        };
        writers.spawn(async move { store.act(&[], &changed, 1, &[], &messages).await });
    }
    let (mut won, mut lost) = (0, 0);
    while let Some(done) = writers.join_next().await {
        match done.unwrap() {
            Ok(()) => won += 1,
            Err(StoreError::Conflict(1)) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((won, lost), (1, 7));
    assert_eq!(held(f, 1).await.version, 2);
}

/// Another process on the same database.
pub(super) fn another(f: &Fixture) -> Store {
    Store {
        db: f.store.db.clone(),
        leases: Leases::default(),
        note: None,
    }
}

/// The chain of the audit has one end, which everybody who writes a line takes in turn: from the last statement to the commit, and not
/// while something else is waited for.
#[tokio::test]
async fn an_act_that_waits_keeps_no_other_from_its_line() {
    let f = postgres().await;
    let someone = person("a", 1);
    make(&f, 1, std::slice::from_ref(&someone)).await;
    let key = AuditKey::of(&f.key);
    let noting = |store: &Store, act| {
        let entry = AuditEntry::new(act, Some("root".into()), "socket", START).in_realm(&realm());
        let key = key.clone();
        store.noting(Some(AuditNote { entry, key }))
    };
    // As a plan does that is applied for minutes.
    let mut plan = f.store.db.begin().await.unwrap();
    on!(plan, c => sqlx::query("UPDATE users SET version = version").execute(&mut *c).await.map(|_| ())).unwrap();
    let daemon = noting(&another(&f), AuditAct::PhoneEffective);
    let (changed, messages) = (later(&someone), f.ctx());
    let mut waits = tokio::task::JoinSet::new();
    waits.spawn(async move { daemon.act(&[], &changed, 1, &[], &messages).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waits.try_join_next().is_none());
    let other = noting(&f.store, AuditAct::RealmPause);
    let realm = realm();
    let paused = other.pause(&realm, None, Some("root"), START);
    let paused = tokio::time::timeout(Duration::from_secs(5), paused).await;
    paused.expect("no wait for the act that waits").unwrap();
    plan.commit().await.unwrap();
    waits.join_next().await.unwrap().unwrap().unwrap();
    let (lines, _) = f
        .store
        .audit(&AuditFilter::default(), 0, 9)
        .await
        .unwrap()
        .unwrap();
    let acts: Vec<&str> = lines.iter().map(|line| line.act.as_str()).collect();
    assert_eq!(acts, ["realm-pause", "phone-effective"]);
    let check = f.store.verify_audit(&[key]).await.unwrap();
    assert_eq!((check.lines, check.faults.len()), (2, 0), "{check:?}");
}

#[tokio::test]
async fn trap_30_two_daemons_on_one_postgresql_run_a_realm_once() {
    let f = postgres().await;
    let other = another(&f);
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    let busy = other.lock_realm(&realm()).await;
    assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");
    other.lock_realm(&RealmId::from("other")).await.unwrap();
    // What the one runs, the start of the other does not sweep.
    let run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    assert_eq!(other.sweep_abandoned(START).await.unwrap(), 0);
    drop(lock);
    // The server notices the closed connection a moment later.
    for _ in 0..50 {
        if other.sweep_abandoned(START).await.unwrap() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the lock was never free");
}

#[tokio::test]
async fn a_postgresql_restarted_in_the_middle_leaves_nothing_half_done() {
    let f = postgres().await;
    let mut run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    stage(
        &f,
        &run,
        &[(person("a", 1), 0, vec![])],
        ChangeKind::Created,
    )
    .await;
    let mut tx = f.store.db.begin().await.unwrap();
    let half = "UPDATE realms SET name = 'half'";
    on!(tx, c => sqlx::query(half).execute(&mut *c).await.map(|_| ())).unwrap();
    f.restart();
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::Lost(_)), "{error:?}");
    assert!(
        error.to_string().contains("the next run tries again"),
        "{error}"
    );
    // One connection was found dead, so the others are asked first, and the same plan is applied.
    run.outcome = Outcome::Applied;
    run.created = 1;
    apply(&f, &run).await.unwrap();
    assert_eq!(f.store.realms().await.unwrap()[0].name, "Example");
    assert_eq!(held(&f, 1).await.username, "a");
    assert!(matches!(f.store.db, Db::Postgres { .. }));
}

#[tokio::test]
async fn a_connection_that_is_put_back_while_postgresql_restarts_is_not_trusted() {
    let f = postgres().await;
    let Db::Postgres { pool, .. } = &f.store.db else {
        panic!("a store on PostgreSQL");
    };
    let mut all = vec![];
    while pool.num_idle() > 0 || all.len() < 2 {
        all.push(pool.acquire().await.unwrap());
    }
    let (mut used, back) = (all.remove(0), all.remove(0));
    // Whoever puts a connection back asks it once more. The answer came before the restart, and is read after it.
    drop(back);
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    f.restart();
    let lost = answered(sqlx::raw_sql("SELECT 1").execute(&mut *used)).await;
    assert!(is_lost(&lost.unwrap_err()));
    for _ in 0..100 {
        if pool.num_idle() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(f.store.realms().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lost_postgresql_is_said_and_found_again() {
    let f = postgres().await;
    // Six connections, all used a moment ago.
    let Db::Postgres { pool, .. } = &f.store.db else {
        panic!("a store on PostgreSQL");
    };
    let mut six = vec![];
    for _ in 0..6 {
        six.push(pool.acquire().await.unwrap());
    }
    drop(six);
    for _ in 0..50 {
        if pool.num_idle() == 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pool.num_idle(), 6);
    f.restart();
    // Whatever was connected is found dead by one call at most, not by one after the other.
    let mut said = vec![];
    for _ in 0..30 {
        match f.store.realms().await {
            Ok(realms) => assert_eq!(realms.len(), 1),
            Err(error) => {
                assert!(matches!(error, StoreError::Lost(_)), "{error:?}");
                said.push(error.to_string());
            }
        }
    }
    assert!(said.len() <= 1, "{said:?}");
}

/// Two holds that end at once in two realms: the changes that no run made share one list.
#[tokio::test]
async fn changes_that_no_run_made_wait_for_each_others_place() {
    let f = postgres().await;
    let (one, two) = (person("a", 1), person("b", 2));
    make(&f, 1, &[one.clone(), two.clone()]).await;
    let change = |user: &User| Change {
        run: None,
        seq: 0,
        realm: realm(),
        user: user.id,
        username: Some(user.username.clone()),
        by: None,
        kind: ChangeKind::Updated,
        before: serde_json::Map::new(),
        after: serde_json::Map::new(),
        at: START,
    };
    let mut tx = f.store.db.begin().await.unwrap();
    add_own(&mut tx, &[change(&one)]).await.unwrap();
    let (other, messages, second) = (another(&f), f.ctx(), change(&two));
    let mut acting = tokio::task::JoinSet::new();
    acting.spawn(async move {
        let changed = later(&two);
        other.act(&[second], &changed, 1, &[], &messages).await
    });
    let early = tokio::time::timeout(Duration::from_millis(300), acting.join_next()).await;
    assert!(early.is_err(), "it waits for its place: {early:?}");
    tx.commit().await.unwrap();
    acting.join_next().await.unwrap().unwrap().unwrap();
    for user in [one.id, held(&f, 2).await.id] {
        let own = f.store.changes_of_user(user, 10).await.unwrap();
        assert_eq!(own.iter().filter(|c| c.run.is_none()).count(), 1);
    }
}

/// A realm of so many new people, staged.
async fn first_pass_of_many(f: &Fixture, n: u8, people: u64) -> Run {
    let realm = RealmId::from(format!("r{n}"));
    let decl = RealmDecl {
        id: realm.clone(),
        name: "Many".into(),
    };
    f.store.declare_realms(&[decl], START).await.unwrap();
    let mut run = Run {
        realm: realm.clone(),
        created: people.cast_signed(),
        ..run_of(n.into())
    };
    f.store.begin_run(&run, true, None).await.unwrap();
    let staged: Vec<_> = (0..people)
        .map(|i| {
            let mut someone = person(&format!("u{i}"), n);
            someone.realm = realm.clone();
            let mut id = [n; 16];
            id[..8].copy_from_slice(&i.to_be_bytes());
            someone.directory_id = Some(DirectoryId(id));
            StagedUser {
                seq: i.cast_signed() + 1,
                base_version: 0,
                user: someone,
                container: None,
                intents: vec![],
            }
        })
        .collect();
    f.store.stage(run.run, staged.clone(), &[]).await.unwrap();
    run.outcome = Outcome::Applied;
    run
}

/// Each would set the indexes of `users` aside, for which nobody else may be at work there.
#[tokio::test(flavor = "multi_thread")]
async fn large_first_passes_at_once_do_not_stand_in_each_others_way() {
    let f = postgres().await;
    let first = first_pass_of_many(&f, 1, 20_000).await;
    let second = first_pass_of_many(&f, 2, 20_000).await;
    let other = another(&f);
    let messages = f.ctx();
    let application = |run| Application {
        run,
        facts: RunFacts {
            first_pass: true,
            ..RunFacts::default()
        },
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit: None,
    };
    let (one, two) = tokio::join!(
        f.store.apply(application(&first)),
        other.apply(application(&second))
    );
    one.unwrap();
    two.unwrap();
    for realm in ["r1", "r2"] {
        let there = f.store.not_removed(&RealmId::from(realm)).await.unwrap();
        assert_eq!(there, 20_000);
    }
    let indexes = f.text("SELECT COUNT(*)::TEXT FROM pg_indexes WHERE indexname IN ('users_name', 'users_directory_id')");
    assert_eq!(indexes.await.as_deref(), Some("2"));
}

/// Waits until so many sessions wait for a lock, or this task is done.
async fn until_waiting<T>(f: &Fixture, sessions: i64, task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() && f.waiting_for_locks().await != sessions {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A transaction that has locked what this selects.
async fn locked(f: &Fixture, sql: &'static str) -> super::super::db::Tx {
    let mut tx = f.store.db.begin().await.unwrap();
    on!(tx, c => sqlx::query(sql).execute(&mut *c).await.map(|_| ())).unwrap();
    tx
}

fn held_for(why: &str) -> Vec<crate::model::HeldBy> {
    vec![crate::model::HeldBy {
        limit: why.into(),
        count: 1,
        of: 1,
        allowed: 0,
    }]
}

/// The approval has the realm when the expiry comes.
#[tokio::test]
async fn a_plan_that_expires_while_it_is_applied_is_applied() {
    let f = postgres().await;
    let someone = person("a", 1);
    make(&f, 1, std::slice::from_ref(&someone)).await;
    f.change(
        &later(&someone),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let after = User {
        version: 3,
        ..someone
    };
    stage(&f, &run, &[(after, 2, vec![])], ChangeKind::Updated).await;
    (run.outcome, run.held_by) = (Outcome::Held, held_for("suspended"));
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
    run.outcome = Outcome::Applied;

    let other = locked(&f, "SELECT 1 FROM jobs FOR UPDATE").await;
    let tracker = tokio_util::task::TaskTracker::new();
    let (store, messages, approved) = (f.store.clone(), f.ctx(), run.clone());
    let applying = tracker.spawn(async move {
        let application = Application {
            run: &approved,
            facts: RunFacts::default(),
            realm: RealmUpdate::default(),
            refused: None,
            messages: &messages,
            replaces: None,
            staged: Staged::default(),
            audit: None,
        };
        store.apply(application).await
    });
    until_waiting(&f, 1, &applying).await;
    let (store, id) = (another(&f), run.run);
    let expiring = tracker.spawn(async move {
        let expired = store.decide_held(id, Outcome::Expired, None, None, START);
        expired.await
    });
    until_waiting(&f, 2, &expiring).await;
    other.commit().await.unwrap();

    applying.await.unwrap().unwrap();
    let expired = expiring.await.unwrap();
    assert!(
        matches!(expired, Err(StoreError::Refused(_))),
        "{expired:?}"
    );
    let run = f.store.run(&run.run.to_string()).await.unwrap();
    assert_eq!(run.outcome, Outcome::Applied);
}

/// Of the realm's messages the later one is held for the undo, and the earlier one is only moved on when its pause ends.
#[tokio::test]
async fn the_end_of_an_undos_pause_and_an_act_on_all_messages() {
    let f = postgres().await;
    let (one, two) = (person("a", 1), person("b", 2));
    make(&f, 1, &[one.clone(), two.clone()]).await;
    let restored = [say(JobType::Restore, JobReason::Restored)];
    f.change(&later(&one), &restored).await;
    let told = run_of(2);
    f.store.begin_run(&told, false, None).await.unwrap();
    let ctx = MessageContext {
        run: Some(told.run),
        ..f.ctx()
    };
    f.change_with(&later(&two), &restored, &ctx).await;
    let begin = async |n| {
        let undo = Run {
            mode: Mode::Undo,
            ..run_of(n)
        };
        f.store.begin_run(&undo, false, None).await.unwrap();
        undo
    };
    let facts = || RunFacts {
        undoes: Some(told.run),
        ..RunFacts::default()
    };
    let mut held = begin(3).await;
    f.store
        .hold_jobs_for_undo(told.run, held.run, START)
        .await
        .unwrap();
    let back = User {
        version: 3,
        ..two.clone()
    };
    stage(&f, &held, &[(back, 2, vec![])], ChangeKind::Updated).await;
    (held.outcome, held.held_by) = (Outcome::Held, held_for("undo"));
    f.store
        .hold(&held, Staged::default(), facts(), None, None, &[])
        .await
        .unwrap();
    // By now nothing is left to put back.
    let mut nothing = begin(4).await;
    nothing.outcome = Outcome::Unchanged;

    // Where the former plan is swept: after the messages were locked, and before the pause ends.
    let other = locked(&f, "SELECT 1 FROM staged_users FOR UPDATE").await;
    let tracker = tokio_util::task::TaskTracker::new();
    let (store, messages, facts) = (f.store.clone(), f.ctx(), facts());
    let ending = tracker.spawn(async move {
        let application = Application {
            run: &nothing,
            facts,
            realm: RealmUpdate::default(),
            refused: None,
            messages: &messages,
            replaces: Some(held.run),
            staged: Staged::default(),
            audit: None,
        };
        store.apply(application).await
    });
    until_waiting(&f, 1, &ending).await;
    let store = another(&f);
    let acting = tracker.spawn(async move {
        let act = JobAction::Retry { retry_for_ms: 1 };
        store.outbox_act(act, &JobSelection::default(), START).await
    });
    until_waiting(&f, 2, &acting).await;
    other.commit().await.unwrap();

    ending.await.unwrap().unwrap();
    assert_eq!(
        acting.await.unwrap().unwrap().len(),
        1,
        "the other is dropped"
    );
}
