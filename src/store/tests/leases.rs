//! Leases on PostgreSQL: one process runs a realm, and one whose lease was taken writes nothing (TRAPS 30).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::db::{EngineConnection, on};
use super::races::another;
use super::*;
use crate::model::{IdForm, JobType, Origin};

/// As if the holder had stood still for longer than its lease.
const LATE: &str = "UPDATE leases SET until = 0";
/// Everything that a run may write, in one line.
const ALL: &str = "SELECT CONCAT_WS('|',
    (SELECT STRING_AGG(r::TEXT, ';' ORDER BY id) FROM realms r), (SELECT STRING_AGG(u::TEXT, ';' ORDER BY pk) FROM users u),
    (SELECT STRING_AGG(r::TEXT, ';' ORDER BY id) FROM runs r), (SELECT STRING_AGG(c::TEXT, ';' ORDER BY run, seq) FROM changes c),
    (SELECT STRING_AGG(s::TEXT, ';' ORDER BY run, seq) FROM staged_users s), (SELECT STRING_AGG(j::TEXT, ';' ORDER BY seq) FROM jobs j))";

fn taken_over<T: std::fmt::Debug>(what: &str, done: &Result<T, StoreError>) {
    assert!(
        matches!(done, Err(StoreError::TakenOver)),
        "{what}: {done:?}"
    );
}

#[tokio::test]
async fn trap_30_who_lost_the_lease_writes_nothing() {
    let f = postgres().await;
    let someone = person("a", 1);
    make(&f, 1, std::slice::from_ref(&someone)).await;
    let (mut going, mut plan) = (run_of(2), run_of(3));
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    let frozen = f.store.fenced(&lock);
    let change = |run: &Run| {
        let after = User {
            email: Some("a@example.org".into()),
            ..later(&someone)
        };
        let staged = StagedUser {
            seq: 1,
            base_version: 1,
            container: None,
            intents: vec![],
            user: after.clone(),
        };
        ([staged], [line(run, 1, &after, ChangeKind::Updated)])
    };
    for run in [&going, &plan] {
        frozen.begin_run(run, false, None).await.unwrap();
        let (users, lines) = change(run);
        frozen.stage(run.run, users.to_vec(), &lines).await.unwrap();
    }
    plan.outcome = Outcome::Held;
    let facts = RunFacts::default();
    frozen
        .hold(&plan, Staged::default(), facts.clone(), None, None, &[])
        .await
        .unwrap();

    f.sql(LATE).await;
    let other = another(&f);
    let theirs = other.lock_realm(&realm()).await.unwrap();
    assert_eq!(theirs.taken_over_from(), Some(f.store.process_name()));
    let before = f.text(ALL).await;

    taken_over("begin", &frozen.begin_run(&run_of(4), false, None).await);
    let tick = Some(START);
    taken_over("tick", &frozen.begin_run(&run_of(4), false, tick).await);
    let (mut users, lines) = change(&going);
    users[0].seq = 2;
    taken_over(
        "stage",
        &frozen.stage(going.run, users.to_vec(), &lines).await,
    );
    let whom = [Origin::Directory(DirectoryId([1; 16]))];
    taken_over("unstage", &frozen.unstage(going.run, &whom).await);
    taken_over("patch", &frozen.patch_staged(plan.run, &users).await);
    going.outcome = Outcome::Applied;
    going.updated = 1;
    let messages = f.ctx();
    let application = |run, replaces| Application {
        run,
        facts: facts.clone(),
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces,
        staged: Staged::default(),
        audit: None,
    };
    let applied = frozen.apply(application(&going, None)).await;
    taken_over("apply", &applied);
    let applied = frozen.apply(application(&going, Some(plan.run))).await;
    taken_over("apply instead of another", &applied);
    let held = frozen
        .hold(
            &going,
            Staged::default(),
            facts.clone(),
            None,
            None,
            &[JobType::Suspend],
        )
        .await;
    taken_over("hold", &held);
    taken_over("confirm", &frozen.confirm_held(plan.run).await);
    let decided = frozen
        .decide_held(plan.run, Outcome::Rejected, None, None, START)
        .await;
    taken_over("decide", &decided);
    let on_hold = frozen.hold_jobs_for_undo(going.run, plan.run, START).await;
    taken_over("hold messages for an undo", &on_hold);
    let refused = frozen
        .add_refused(&realm(), RefusedDiff::default(), START)
        .await;
    taken_over("refuse", &refused);
    let form = frozen.remember_id_form(&realm(), IdForm::Guid).await;
    taken_over("remember how ids look", &form);
    taken_over("fail", &frozen.fail_run(&going).await);
    taken_over("drop", &frozen.drop_run(going.run).await);
    taken_over("sweep", &frozen.sweep(going.run).await);
    let acted = frozen.act(&[], &users[0].user, 1, &[], &messages).await;
    taken_over("act", &acted);
    taken_over("pause", &frozen.pause(&realm(), None, None, START).await);
    let ended = frozen.end_abandoned(&realm(), None, START).await;
    taken_over("end", &ended);
    assert_eq!(f.text(ALL).await, before, "nothing was written");

    // It is told, and who took over goes on.
    timeout(Duration::from_secs(10), lock.lost()).await.unwrap();
    let other = other.fenced(&theirs);
    let ended = other
        .end_abandoned(&realm(), theirs.taken_over_from(), START)
        .await
        .unwrap();
    assert_eq!(ended.len(), 1);
    let run = f.store.run(&going.run.to_string()).await.unwrap();
    assert_eq!(run.outcome, Outcome::Failed);
    let said = run.error.unwrap();
    assert!(said.contains(f.store.process_name()), "{said}");
    assert_eq!(f.store.changes(going.run, 0, 9).await.unwrap(), []);
    assert_eq!(f.store.changes(plan.run, 0, 9).await.unwrap().len(), 1);
    // Letting go of what is another's by now frees nothing.
    drop(lock);
    sleep(Duration::from_millis(300)).await;
    other.begin_run(&run_of(5), false, None).await.unwrap();
}

#[tokio::test]
async fn trap_30_what_a_frozen_daemon_left_open_stands_in_nobodys_way() {
    let f = postgres().await;
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    let mut open = f.store.fenced(&lock).db.begin().await.unwrap();
    let half = "UPDATE realms SET name = 'half'";
    on!(open, c => sqlx::query(half).execute(&mut *c).await.map(|_| ())).unwrap();
    f.sql(LATE).await;
    let other = another(&f);
    let asked = Instant::now();
    let theirs = other.lock_realm(&realm()).await.unwrap();
    other
        .fenced(&theirs)
        .pause(&realm(), None, None, START)
        .await
        .unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "it waited");
    assert!(open.commit().await.is_err());
    let row = f.store.realm(&realm()).await.unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.paused), ("Example", true));
}

#[tokio::test]
async fn a_lease_is_renewed_during_a_long_transaction_which_nobody_cuts_in_on() {
    let f = postgres().await;
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    let tx = f.store.fenced(&lock).db.begin().await.unwrap();
    let until = async || f.store.lease_holders().await.unwrap()[0].until;
    let first = until().await;
    sleep(Duration::from_secs(6)).await;
    assert!(until().await.since_ms(first) > 3_000, "renewed");
    let busy = another(&f).try_lock_realm(&realm()).await;
    let Err(StoreError::Busy { holder, .. }) = busy else {
        panic!("{busy:?}");
    };
    assert!(holder.contains(f.store.process_name()), "{holder}");
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn who_died_is_noticed_at_once_and_a_lease_let_go_is_free() {
    let f = postgres().await;
    let other = another(&f);
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    drop(lock);
    // The own process needs no release, another waits a moment for it.
    let lock = f.store.try_lock_realm(&realm()).await.unwrap();
    drop(lock);
    let lock = other.lock_realm(&realm()).await.unwrap();
    assert_eq!(lock.taken_over_from(), None);
    f.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        .await;
    let asked = Instant::now();
    let mine = f.store.lock_realm(&realm()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert!(mine.taken_over_from().is_some());
    timeout(Duration::from_secs(10), lock.lost()).await.unwrap();
}

#[tokio::test]
async fn an_older_program_and_this_one_run_a_realm_one_after_the_other() {
    const TAKE: &str = "SELECT pg_try_advisory_xact_lock($1)";
    let f = postgres().await;
    let key = xxhash_rust::xxh3::xxh3_64(b"realmsync realm example.org").cast_signed();
    // What the program of the first schema does for a run.
    let mut older = f.store.db.begin().await.unwrap();
    let EngineConnection::Postgres(c) = older.side() else {
        panic!("PostgreSQL");
    };
    let taken = sqlx::query_scalar::<_, bool>(TAKE).bind(key);
    assert!(taken.fetch_one(&mut *c).await.unwrap());
    let busy = f.store.try_lock_realm(&realm()).await;
    assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");
    older.commit().await.unwrap();
    let _lock = f.store.lock_realm(&realm()).await.unwrap();
    let mut older = f.store.db.begin().await.unwrap();
    let EngineConnection::Postgres(c) = older.side() else {
        panic!("PostgreSQL");
    };
    let taken = sqlx::query_scalar::<_, bool>(TAKE).bind(key);
    assert!(!taken.fetch_one(&mut *c).await.unwrap());
}

#[tokio::test]
async fn a_tick_is_done_once_and_again_if_whoever_did_it_died() {
    let f = postgres().await;
    let other = another(&f);
    f.store.first_tick(&realm(), START).await.unwrap();
    let stood = async || {
        let row = f.store.realm(&realm()).await.unwrap().unwrap();
        row.last_tick_at.unwrap()
    };
    let tick = START.plus_ms(1000);
    let begin = async |store: &Store, n, at| {
        let run = Run {
            trigger: Trigger::Schedule,
            started_at: tick.plus_ms(5),
            ..run_of(n)
        };
        store.begin_run(&run, false, Some(at)).await.unwrap()
    };
    for n in 1..=3 {
        assert!(begin(&other, n, tick).await);
        assert!(!begin(&f.store, 9, tick).await, "it is done");
        // Nobody holds the realm: whoever began it is gone.
        let ended = f.store.fail_abandoned(tick.plus_ms(9)).await.unwrap();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].trigger, Trigger::Schedule);
        let due = n < 3;
        let expected = if due { tick.plus_ms(-1) } else { tick };
        assert_eq!(
            stood().await,
            expected,
            "what kills whoever does it is left alone in the end"
        );
    }
    // What a clock of another year did is no tick of ours.
    let year = START.plus_ms(365 * DAY_MS);
    assert!(begin(&f.store, 4, year).await);
    let next = START.plus_ms(2000);
    assert!(begin(&f.store, 5, next).await);
    f.store.give_tick_back(&realm(), next, START).await.unwrap();
    assert_eq!(stood().await, START);
    f.store.give_tick_back(&realm(), next, tick).await.unwrap();
    assert_eq!(stood().await, START, "another was done since");
}
