//! What is remembered of realms and users between runs, and what is forgotten.

use super::*;
use crate::model::{Refusal, State, StateReason};

pub(super) async fn refusals_are_kept_by_difference(f: &Fixture) {
    let refusal = |dn: &str| Refusal {
        dn: dn.into(),
        directory_id: None,
        username: None,
        attribute: Some("mobile".into()),
        raw: Some("n/a".into()),
        reason: "no number".into(),
        entry: false,
    };
    let diff = RefusedDiff {
        add: vec![(1, refusal("a")), (2, refusal("b"))],
        ..RefusedDiff::default()
    };
    let write = async |n: u128, diff: RefusedDiff| {
        let mut run = run_of(n);
        f.store.begin_run(&run, false, None).await.unwrap();
        run.outcome = Outcome::Unchanged;
        let messages = f.ctx();
        f.store
            .apply(Application {
                run: &run,
                facts: RunFacts::default(),
                realm: RealmUpdate::default(),
                refused: Some(diff),
                messages: &messages,
                replaces: None,
                staged: Staged::default(),
                audit: None,
            })
            .await
            .unwrap();
    };
    write(1, diff).await;
    write(
        2,
        RefusedDiff {
            add: vec![(3, refusal("c"))],
            gone: vec![1],
            staged: None,
        },
    )
    .await;
    let rows = f.refused().await;
    let dns: Vec<&str> = rows.iter().map(|r| r.refusal.dn.as_str()).collect();
    assert_eq!(dns, ["b", "c"]);
}

pub(super) async fn what_is_staged_as_refused_goes_with_its_pass_or_is_swept(f: &Fixture) {
    let refusal = |n: u8| Refusal {
        dn: format!("uid=u{n}"),
        directory_id: Some(DirectoryId([n; 16])),
        username: None,
        attribute: Some("mobile".into()),
        raw: Some("n/a".into()),
        reason: "no number".into(),
        entry: false,
    };
    let rows: Vec<(i64, Refusal)> = (1..=120).map(|n| (i64::from(n), refusal(n))).collect();
    let mut run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    f.store.stage_refused(run.run, &rows).await.unwrap();
    let back = f
        .store
        .unstage_refused(run.run, &[DirectoryId([7; 16]), DirectoryId([200; 16])])
        .await
        .unwrap();
    assert_eq!(back.iter().map(|r| r.key).collect::<Vec<_>>(), [7]);
    run.outcome = Outcome::Unchanged;
    let messages = f.ctx();
    let apply = async |run: &Run, given: i64| {
        let diff = RefusedDiff {
            staged: Some((run.run, given)),
            ..RefusedDiff::default()
        };
        f.store
            .apply(Application {
                run,
                facts: RunFacts::default(),
                realm: RealmUpdate::default(),
                refused: Some(diff),
                messages: &messages,
                replaces: None,
                staged: Staged::default(),
                audit: None,
            })
            .await
    };
    let short = apply(&run, 120).await.unwrap_err();
    assert!(
        matches!(
            short,
            StoreError::Forgotten {
                there: 119,
                given: 120
            }
        ),
        "{short}"
    );
    apply(&run, 119).await.unwrap();
    assert_eq!(f.refused().await.len(), 119);
    let of = f
        .store
        .refused_of(&realm(), &[DirectoryId([8; 16])])
        .await
        .unwrap();
    assert_eq!(of.iter().map(|r| r.key).collect::<Vec<_>>(), [8]);
    // One that failed, and one that a crash ended.
    for (n, ended) in [(2, Some(Outcome::Failed)), (3, None)] {
        let mut run = run_of(n);
        f.store.begin_run(&run, false, None).await.unwrap();
        f.store.stage_refused(run.run, &rows).await.unwrap();
        match ended {
            Some(outcome) => {
                run.outcome = outcome;
                f.store.fail_run(&run).await.unwrap();
            }
            None => {
                f.store.sweep_abandoned(START).await.unwrap();
            }
        }
        let left = f
            .store
            .unstage_refused(run.run, &[DirectoryId([9; 16])])
            .await;
        assert_eq!(left.unwrap(), []);
    }
    assert_eq!(f.refused().await.len(), 119);
}

pub(super) async fn old_runs_are_forgotten_but_never_a_held_plan_or_the_last_success(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    for n in 2..6 {
        let mut run = run_of(n);
        f.store.begin_run(&run, false, None).await.unwrap();
        run.outcome = Outcome::Unchanged;
        apply(f, &run).await.unwrap();
    }
    let later = START.plus_ms(3 * DAY_MS);
    assert_eq!(f.store.prune(later, 400 * DAY_MS).await.unwrap(), 3);
    let left = f.store.runs(None, 10).await.unwrap();
    assert_eq!(
        left.len(),
        2,
        "the one that changed something, and the newest"
    );
    f.store
        .prune(START.plus_ms(500 * DAY_MS), 400 * DAY_MS)
        .await
        .unwrap();
    assert_eq!(f.store.runs(None, 10).await.unwrap().len(), 1);
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 1);
}

pub(super) async fn one_run_a_realm(f: &Fixture) {
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    assert!(matches!(
        f.store.lock_realm(&realm()).await,
        Err(StoreError::Busy { .. })
    ));
    f.store.lock_realm(&RealmId::from("other")).await.unwrap();
    drop(lock);
    f.store.lock_realm(&realm()).await.unwrap();
}

pub(super) async fn a_realm_stands_still_and_goes_on(f: &Fixture) {
    let row = async || f.store.realm(&realm()).await.unwrap().unwrap();
    f.store
        .pause(&realm(), Some(START.plus_ms(5)), None, START)
        .await
        .unwrap();
    assert_eq!(
        (row().await.paused, row().await.paused_until),
        (true, Some(START.plus_ms(5)))
    );
    f.store.resume(&realm(), START).await.unwrap();
    assert_eq!(
        (row().await.paused, row().await.paused_until),
        (false, None)
    );
    let nowhere = f
        .store
        .pause(&RealmId::from("nowhere"), None, None, START)
        .await;
    assert!(matches!(nowhere, Err(StoreError::NotFound(_))));
    // Out of the file, and in again under another name.
    f.store.declare_realms(&[], START).await.unwrap();
    assert!(row().await.orphaned);
    let decl = RealmDecl {
        id: realm(),
        name: "Example".into(),
    };
    f.store.declare_realms(&[decl], START).await.unwrap();
    assert!(!row().await.orphaned);
    f.store.set_due(&realm(), true).await.unwrap();
    f.store.first_tick(&realm(), START).await.unwrap();
    assert_eq!(
        (row().await.due, row().await.last_tick_at),
        (true, Some(START))
    );
}

pub(super) async fn users_are_listed_in_a_stable_order(f: &Fixture) {
    let names = ["Zoë", "adam", "Ján", "eva"];
    let people: Vec<User> = (1..).zip(names).map(|(n, name)| person(name, n)).collect();
    make(f, 1, &people).await;
    let mut seen: Vec<User> = vec![];
    loop {
        let after = seen.last().map(UserPlace::of);
        let page = UserPage {
            after: after.as_ref(),
            ..UserPage::first(3, START)
        };
        let page = f
            .store
            .list_users(&UserFilter::default(), &page)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    let names: Vec<&str> = seen.iter().map(|u| u.username.as_str()).collect();
    assert_eq!(names, ["adam", "eva", "Ján", "Zoë"]);
    let search = |text: &str| UserFilter {
        search: Some(text.into()),
        ..UserFilter::default()
    };
    let found = async |text| {
        f.store
            .list_users(&search(text), &UserPage::first(9, START))
            .await
            .unwrap()
            .len()
    };
    assert_eq!(found("ADA").await, 1);
    assert_eq!(found("+42190512340").await, 4);
    assert_eq!(found("nobody").await, 0);
    let by_state = f.store.count_by_state(&realm()).await.unwrap();
    assert_eq!(by_state, [(State::Active, 4)]);
}

pub(super) async fn grace_and_holds_are_found_when_they_are_over(f: &Fixture) {
    let away = |name: &str, n, reason, clock| User {
        state: State::Suspended,
        state_reason: Some(reason),
        suspended_at: Some(START),
        suspended_clock: Some(clock),
        ..person(name, n)
    };
    let mut waits = person("waits", 4);
    waits.phone_pending = crate::model::Phone::from_e164("+421905999999");
    waits.phone_pending_until = Some(START.plus_ms(10));
    let people = [
        away("long", 1, StateReason::Deleted, 100),
        away("short", 2, StateReason::OutOfScope, 101),
        away("disabled", 3, StateReason::Disabled, 0),
        waits,
    ];
    make(f, 1, &people).await;
    let over = f
        .store
        .grace_over(&realm(), 1100, 1000, None, 9)
        .await
        .unwrap();
    let names: Vec<&str> = over.iter().map(|u| u.username.as_str()).collect();
    assert_eq!(names, ["long"]);
    let here = realm();
    let rest = f.store.grace_over(&here, 1100, 1000, Some(over[0].id), 9);
    assert_eq!(rest.await.unwrap().len(), 0);
    let at = async |ms| {
        f.store
            .holds_over(START.plus_ms(ms), 9)
            .await
            .unwrap()
            .len()
    };
    assert_eq!((at(9).await, at(10).await), (0, 1));
}

pub(super) async fn each_realm_has_its_turn_where_holds_are_over(f: &Fixture) {
    let waits = |name: &str, n| User {
        phone_pending: crate::model::Phone::from_e164("+421905999999"),
        phone_pending_until: Some(START.plus_ms(i64::from(n))),
        ..person(name, n)
    };
    make(
        f,
        1,
        &[waits("a", 1), waits("b", 2), waits("c", 3), waits("d", 4)],
    )
    .await;
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('by-hand', 'custom', 'By hand')")
        .await;
    f.sql("UPDATE users SET realm = 'by-hand' WHERE username = 'd'")
        .await;
    // However many wait in one realm, and for however long: the other one comes too.
    let over = f.store.holds_over(START.plus_ms(10), 2).await.unwrap();
    let names: Vec<&str> = over.iter().map(|u| u.username.as_str()).collect();
    assert_eq!(names, ["d", "a", "b"]);
    f.sql("UPDATE users SET realm = 'example.org'").await;
    f.sql("DELETE FROM realms WHERE id = 'by-hand'").await;
}

#[tokio::test]
async fn trap_24_a_copy_holds_its_messages() {
    let f = sqlite().await;
    let someone = user("a", "+421905123401");
    let say = [super::super::outbox_tests::reprovision()];
    f.change(&someone, &say).await;
    let to = f.dir.path().join("copy.db");
    f.store.backup(&to, START).await.unwrap();
    assert_eq!(f.states().await, ["waiting"], "the original goes on");
    for _ in 0..2 {
        let copy = open(&to, Access::Write).await.unwrap();
        let jobs = copy.jobs(&JobSelection::default(), 9).await.unwrap();
        assert_eq!(jobs[0].state, crate::model::JobState::Held);
        copy.close().await;
    }
}

pub(super) async fn a_refused_value_may_hold_any_byte(f: &Fixture) {
    let refusal = Refusal {
        dn: "uid=a\u{0}b,dc=example,dc=org".into(),
        directory_id: None,
        username: Some("a\u{0}b".into()),
        attribute: Some("mobile".into()),
        raw: Some("0905\u{0}123456".into()),
        reason: "the value holds a control character".into(),
        entry: false,
    };
    let mut run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    run.outcome = Outcome::Unchanged;
    let messages = f.ctx();
    f.store
        .apply(Application {
            run: &run,
            facts: RunFacts::default(),
            realm: RealmUpdate::default(),
            refused: Some(RefusedDiff {
                add: vec![(7, refusal)],
                ..RefusedDiff::default()
            }),
            messages: &messages,
            replaces: None,
            staged: Staged::default(),
            audit: None,
        })
        .await
        .expect("one bad entry stops nobody");
    let rows = f.refused().await;
    assert_eq!(rows[0].refusal.raw.as_deref(), Some("0905\u{fffd}123456"));
}

pub(super) async fn the_newest_pass_that_succeeded_is_remembered(f: &Fixture) {
    for (n, mode) in [(1, Mode::Full), (2, Mode::User)] {
        let mut run = run_of(n);
        run.mode = mode;
        f.store.begin_run(&run, false, None).await.unwrap();
        run.outcome = Outcome::Unchanged;
        apply(f, &run).await.unwrap();
    }
    let before = f.store.last_success(&realm()).await.unwrap();
    assert_eq!(before, Some(START));
    f.store
        .prune(START.plus_ms(3 * DAY_MS), 400 * DAY_MS)
        .await
        .unwrap();
    assert_eq!(f.store.last_success(&realm()).await.unwrap(), before);
}

pub(super) async fn lines_of_what_never_happened_do_not_stay(f: &Fixture) {
    make(f, 1, &[person("kept", 9)]).await;
    let applied = run_of(1).run;
    for (n, end) in [
        (
            2,
            "UPDATE runs SET outcome = 'failed' WHERE outcome = 'running'",
        ),
        (
            3,
            "UPDATE runs SET outcome = 'rejected' WHERE outcome = 'running'",
        ),
    ] {
        let run = run_of(n);
        f.store.begin_run(&run, false, None).await.unwrap();
        let one = [(person("jana", 1), 0, vec![])];
        stage(f, &run, &one, ChangeKind::Created).await;
        // Killed after the decision was written, before the rows were swept.
        f.sql(end).await;
        f.store.sweep_abandoned(START).await.unwrap();
        assert_eq!(f.store.changes(run.run, 0, 9).await.unwrap(), []);
    }
    assert_eq!(f.store.changes(applied, 0, 9).await.unwrap().len(), 1);
}

/// A kill in the middle of the sweep, as a statement that fails there.
#[tokio::test]
async fn a_sweep_that_was_interrupted_is_finished() {
    let f = sqlite().await;
    let mut run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    let one = [(person("jana", 1), 0, vec![])];
    stage(&f, &run, &one, ChangeKind::Created).await;
    f.sql("CREATE TRIGGER stop BEFORE DELETE ON changes BEGIN SELECT RAISE(ABORT, 'stop'); END")
        .await;
    run.outcome = Outcome::Failed;
    assert!(f.store.fail_run(&run).await.is_err());
    f.sql("DROP TRIGGER stop").await;
    f.store.sweep_abandoned(START).await.unwrap();
    assert_eq!(f.store.changes(run.run, 0, 9).await.unwrap(), []);
    let left = f
        .text("SELECT CAST(COUNT(*) AS TEXT) FROM staged_users")
        .await;
    assert_eq!(left.as_deref(), Some("0"));
}

#[tokio::test]
async fn trap_24_no_copy_is_there_before_it_is_marked() {
    let f = sqlite().await;
    let to = f.dir.path().join("copy.db");
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let path = to.clone();
    let watcher = std::thread::spawn(move || {
        let mut seen = vec![];
        while stop.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            if let (true, Ok(bytes)) = (path.exists(), std::fs::read(&path)) {
                seen.push(bytes);
                if seen.len() > 200 {
                    break;
                }
            }
        }
        seen
    });
    f.store.backup(&to, START).await.unwrap();
    let whole = std::fs::read(&to).unwrap();
    drop(done);
    let seen = watcher.join().unwrap();
    assert!(
        seen.iter().all(|bytes| *bytes == whole),
        "a kill in the middle would have left a copy that sends everything again"
    );
    let left = std::fs::read_dir(f.dir.path()).unwrap().flatten();
    let left: Vec<_> = left
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|name| name.starts_with("copy"))
        .collect();
    assert_eq!(left, ["copy.db"], "nothing lies beside it");
}

#[tokio::test]
async fn words_that_a_newer_version_wrote_hide_only_their_own_rows() {
    let f = sqlite().await;
    for (id, mode) in [("01", "full"), ("02", "sideways")] {
        let sql = format!(
            "INSERT INTO runs (id, realm, mode, trigger_by, outcome, started_at) VALUES (x'{}', 'example.org', '{mode}', 'schedule', 'unchanged', 5)",
            id.repeat(16)
        );
        f.sql(Box::leak(sql.into_boxed_str())).await;
    }
    let runs = f.store.runs(None, 10).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert!(f.store.last_run(&realm()).await.unwrap().is_some());
    f.sql("UPDATE runs SET mode = 'full', outcome = 'postponed' WHERE mode = 'sideways'")
        .await;
    assert_eq!(f.store.runs(None, 10).await.unwrap().len(), 1);
    f.store.sweep_abandoned(START).await.unwrap();
}
