//! Held plans, and what stays when a run ends in any other way.

use super::by_hand::{act, by_hand, removed};
use super::*;
use crate::model::{AuditAct, HeldBy, JobReason, JobType, Limit, Origin, State, StateReason};

pub(super) async fn a_held_plan_is_decided_once(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    let hold = async |n: u128, replaces: Option<RunId>| {
        let mut run = run_of(n);
        f.store.begin_run(&run, false, None).await.unwrap();
        let after = User {
            version: 2,
            ..person("a", 1)
        };
        stage(f, &run, &[(after, 1, vec![])], ChangeKind::Updated).await;
        run.outcome = Outcome::Held;
        run.held_by = vec![HeldBy {
            limit: "suspended".into(),
            count: 9,
            of: 10,
            allowed: 2,
        }];
        f.store
            .hold(
                &run,
                Staged::default(),
                RunFacts::default(),
                None,
                replaces,
                &[JobType::Suspend],
            )
            .await
            .unwrap();
        run
    };
    let first = hold(2, None).await;
    assert_eq!(
        f.store.realm(&realm()).await.unwrap().unwrap().held,
        Some(first.run)
    );
    f.store.confirm_held(first.run).await.unwrap();
    assert_eq!(f.store.run_facts(first.run).await.unwrap().confirmed, 1);
    let second = hold(3, Some(first.run)).await;
    let old = f.store.run_facts(first.run).await.unwrap();
    assert_eq!(old.replaced_by, Some(second.run));
    assert_eq!(
        f.store.run(&first.run.to_string()).await.unwrap().outcome,
        Outcome::Replaced
    );
    // A clock that jumps a week ahead is worth a day; a week of days is a week.
    for day in 8..=14 {
        let now = START.plus_ms(day * DAY_MS);
        let expired = f.store.expired_held(now).await.unwrap();
        assert_eq!(expired.len(), usize::from(day == 14), "day {day}");
    }
    let rejected = f
        .store
        .decide_held(
            second.run,
            Outcome::Rejected,
            Some("eva".into()),
            None,
            START,
        )
        .await
        .unwrap();
    assert_eq!(
        (rejected.outcome, rejected.by.as_deref()),
        (Outcome::Rejected, Some("eva"))
    );
    let twice = f
        .store
        .decide_held(second.run, Outcome::Rejected, None, None, START)
        .await;
    assert!(matches!(twice, Err(StoreError::Refused(_))));
    assert_eq!(f.store.realm(&realm()).await.unwrap().unwrap().held, None);
}

pub(super) async fn what_was_staged_is_taken_back_and_swept(f: &Fixture) {
    let run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    let mut people: Vec<_> = (1..=10)
        .map(|n| (person(&format!("p{n}"), n), 0, vec![]))
        .collect();
    people[9].0.directory_id = None;
    stage(f, &run, &people, ChangeKind::Created).await;
    let (users, changes) = f
        .store
        .unstage(
            run.run,
            &[
                Origin::Directory(DirectoryId([3; 16])),
                Origin::Directory(DirectoryId([4; 16])),
            ],
        )
        .await
        .unwrap();
    assert_eq!((users.len(), changes.len()), (2, 2));
    let left = f
        .store
        .staged_by_kind(run.run, &[ChangeKind::Created], 0, 100)
        .await
        .unwrap();
    assert_eq!(left.len(), 8);
    // Of no directory, and so by our own id: whoever has one of a directory is not meant.
    let (other, id) = (people[0].0.id, people[9].0.id);
    let (users, changes) = f
        .store
        .unstage(run.run, &[Origin::Own(id), Origin::Own(other)])
        .await
        .unwrap();
    assert_eq!((users.len(), changes.len()), (1, 1));
    assert_eq!(users[0].user.id, id);
    assert_eq!(
        f.store
            .staged_of(run.run, &[Origin::Own(id)])
            .await
            .unwrap()
            .len(),
        0
    );
    f.store.sweep(run.run).await.unwrap();
    assert_eq!(f.store.changes(run.run, 0, 100).await.unwrap(), []);
}

pub(super) async fn the_window_sums_what_was_applied_since(f: &Fixture) {
    make(f, 1, &[person("a", 1), person("b", 2)]).await;
    let since = |at: Timestamp| [(Limit::Created, at), (Limit::Suspended, at)];
    let sums = f
        .store
        .window(&realm(), &since(START.plus_ms(-1)), START.plus_ms(60_000))
        .await
        .unwrap();
    assert_eq!(sums, [(Limit::Created, 2), (Limit::Suspended, 0)]);
    let sums = f
        .store
        .window(&realm(), &since(START), START.plus_ms(60_000))
        .await
        .unwrap();
    assert_eq!(sums, [(Limit::Created, 0), (Limit::Suspended, 0)]);
}

fn tripped() -> Vec<HeldBy> {
    vec![HeldBy {
        limit: "suspended".into(),
        count: 9,
        of: 10,
        allowed: 2,
    }]
}

/// Stages that `someone` changes, and holds it; waiting messages about suspensions are held with it.
async fn hold(f: &Fixture, n: u128, someone: &User, replaces: Option<RunId>) -> Run {
    let mut run = run_of(n);
    f.store.begin_run(&run, false, None).await.unwrap();
    let plan = [(later(someone), someone.version, vec![])];
    stage(f, &run, &plan, ChangeKind::Updated).await;
    run.outcome = Outcome::Held;
    run.held_by = tripped();
    let types = [JobType::Suspend];
    let held = f.store.hold(
        &run,
        Staged::default(),
        RunFacts::default(),
        None,
        replaces,
        &types,
    );
    held.await.unwrap();
    run
}

pub(super) async fn what_is_held_of_who_is_removed_goes(f: &Fixture) {
    const LEFT: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM staged_users WHERE username <> '' OR phone IS NOT NULL OR display_name IS NOT NULL";
    let (a, b) = (by_hand("a", 1), by_hand("b", 2));
    make(f, 1, &[a.clone(), b.clone()]).await;
    let run = hold(f, 2, &a, None).await;
    assert_eq!(f.text(LEFT).await.as_deref(), Some("1"));
    act(f, &removed(&b), 1, AuditAct::UserRemove).await.unwrap();
    assert_eq!(f.text(LEFT).await.as_deref(), Some("1"), "somebody else's");
    act(f, &removed(&a), 1, AuditAct::UserRemove).await.unwrap();
    assert_eq!(f.text(LEFT).await.as_deref(), Some("0"));
    assert!(!f.store.plan_fits(run.run).await.unwrap());
}

pub(super) async fn what_the_brake_holds_follows_the_plan(f: &Fixture) {
    let (a, b) = (person("a", 1), person("b", 2));
    make(f, 1, &[a.clone(), b.clone()]).await;
    let say = |r#type| Intent::Say {
        r#type,
        reason: JobReason::Deleted,
        previous_phone: None,
        previous_username: None,
    };
    let (suspend, other) = (say(JobType::Suspend), say(JobType::Restore));
    let act =
        async |user: &User, intent| f.store.act(&[], &later(user), 1, &[intent], &f.ctx()).await;
    act(&a, suspend).await.unwrap();
    act(&b, other).await.unwrap();
    assert_eq!(f.states().await, ["waiting", "waiting"]);
    // Approved: it goes on.
    let mut run = hold(f, 2, &later(&a), None).await;
    assert_eq!(f.states().await, ["held", "waiting"]);
    run.outcome = Outcome::Applied;
    run.by = Some("eva".into());
    apply(f, &run).await.unwrap();
    assert_eq!(f.states().await, ["waiting", "waiting"]);
    assert_eq!(f.store.realm(&realm()).await.unwrap().unwrap().held, None);
    assert_eq!(held(f, 1).await.version, 3);
    // Replaced by another that is held: it stays. Replaced by one that passes: it goes on.
    let first = hold(f, 3, &held(f, 1).await, None).await;
    let second = hold(f, 4, &held(f, 1).await, Some(first.run)).await;
    assert_eq!(f.states().await, ["held", "waiting"]);
    let mut passes = run_of(5);
    f.store.begin_run(&passes, false, None).await.unwrap();
    passes.outcome = Outcome::Unchanged;
    let messages = f.ctx();
    let application = Application {
        run: &passes,
        facts: RunFacts::default(),
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces: Some(second.run),
        staged: Staged::default(),
        audit: None,
    };
    f.store.apply(application).await.unwrap();
    assert_eq!(f.states().await, ["waiting", "waiting"]);
    let old = f.store.run(&second.run.to_string()).await.unwrap();
    assert_eq!(old.outcome, Outcome::Replaced);
    assert_eq!(f.store.changes(second.run, 0, 9).await.unwrap(), []);
    assert_eq!(f.store.realm(&realm()).await.unwrap().unwrap().held, None);
    // Rejected: it stays for the administrator.
    let run = hold(f, 6, &held(f, 1).await, None).await;
    let rejected = f
        .store
        .decide_held(run.run, Outcome::Rejected, None, None, START);
    rejected.await.unwrap();
    assert_eq!(f.states().await, ["held", "waiting"]);
    assert_eq!(f.sql("DELETE FROM staged_users").await, 0);
}

pub(super) async fn a_run_that_was_decided_stays_as_it_was_decided(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    // The answer to the commit was lost: the caller thinks that it failed.
    let mut lost = run_of(1);
    lost.outcome = Outcome::Failed;
    f.store.fail_run(&lost).await.unwrap();
    let run = f.store.run(&lost.run.to_string()).await.unwrap();
    assert_eq!((run.outcome, run.created), (Outcome::Applied, 1));
    assert_eq!(f.store.changes(lost.run, 0, 9).await.unwrap().len(), 1);
    lost.outcome = Outcome::Applied;
    lost.created = 0;
    let twice = apply(f, &lost).await;
    assert!(matches!(twice, Err(StoreError::Refused(_))), "{twice:?}");
    // A plan that is not held any more is not swept by its successor.
    let mut next = run_of(2);
    f.store.begin_run(&next, false, None).await.unwrap();
    next.outcome = Outcome::Held;
    let held = f.store.hold(
        &next,
        Staged::default(),
        RunFacts::default(),
        None,
        Some(lost.run),
        &[],
    );
    held.await.unwrap();
    assert_eq!(f.store.changes(lost.run, 0, 9).await.unwrap().len(), 1);
}

pub(super) async fn only_what_nobody_runs_is_swept(f: &Fixture) {
    let new = |name: &str, n| [(person(name, n), 0, vec![])];
    // Of a held plan everything stays, of a run under way too.
    let (mut plan, going, over) = (run_of(1), run_of(2), run_of(3));
    for (run, name) in [(&plan, "a"), (&going, "b"), (&over, "c")] {
        f.store.begin_run(run, false, None).await.unwrap();
        stage(f, run, &new(name, 1), ChangeKind::Created).await;
    }
    plan.outcome = Outcome::Held;
    let held = f.store.hold(
        &plan,
        Staged::default(),
        RunFacts::default(),
        None,
        None,
        &[],
    );
    held.await.unwrap();
    // A crash came between the decision and its sweep.
    f.sql("UPDATE runs SET outcome = 'rejected' WHERE outcome = 'running' AND id NOT IN (SELECT id FROM runs WHERE outcome = 'running' ORDER BY id LIMIT 1)").await;
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    assert_eq!(f.store.sweep_abandoned(START).await.unwrap(), 0);
    let staged = async |run: &Run| {
        let whom = [Origin::Directory(DirectoryId([1; 16]))];
        f.store.staged_of(run.run, &whom).await.unwrap().len()
    };
    assert_eq!(
        (
            staged(&plan).await,
            staged(&going).await,
            staged(&over).await
        ),
        (1, 1, 0)
    );
    drop(lock);
    let mut ended = 0;
    while ended == 0 {
        // PostgreSQL notices a closed connection a moment later.
        ended = f.store.sweep_abandoned(START).await.unwrap();
    }
    assert_eq!(ended, 1);
    assert_eq!((staged(&plan).await, staged(&going).await), (1, 0));
    let going = f.store.run(&going.run.to_string()).await.unwrap();
    assert_eq!(going.outcome, Outcome::Failed);
}

pub(super) async fn a_first_pass_shows_its_lines_before_and_after(f: &Fixture) {
    let mut run = run_of(1);
    f.store.begin_run(&run, true, None).await.unwrap();
    let staged: Vec<StagedUser> = (1..=5)
        .map(|n| StagedUser {
            seq: i64::from(n),
            base_version: 0,
            user: person(&format!("p{n}"), n),
            container: None,
            intents: vec![],
        })
        .collect();
    f.store.stage(run.run, staged, &[]).await.unwrap();
    let before = f.store.changes(run.run, 1, 3).await.unwrap();
    let seqs: Vec<i64> = before.iter().map(|c| c.seq).collect();
    assert_eq!(seqs, [2, 3, 4]);
    assert_eq!(before[0].after["username"], "p2");
    run.outcome = Outcome::Applied;
    run.created = 5;
    let messages = f.ctx();
    let application = Application {
        run: &run,
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
    f.store.apply(application).await.unwrap();
    let after = f.store.changes(run.run, 1, 3).await.unwrap();
    assert_eq!(after.len(), 3);
    assert_eq!(
        (after[0].user, after[0].kind),
        (before[0].user, ChangeKind::Created)
    );
    assert!(after[0].after.is_empty(), "the user's row is it");
    the_lines_stay_as_they_were(f, &run).await;
}

/// Whatever becomes of those whom a first pass of five made.
async fn the_lines_stay_as_they_were(f: &Fixture, first: &Run) {
    let all = async || f.store.changes(first.run, 0, 9).await.unwrap();
    let made = all().await;
    let mut renamed = later(&held(f, 2).await);
    renamed.username = "other".into();
    renamed.username_key = "other".into();
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    stage(
        f,
        &run,
        &[(renamed.clone(), 1, vec![])],
        ChangeKind::Renamed,
    )
    .await;
    run.outcome = Outcome::Applied;
    apply(f, &run).await.unwrap();
    let blocked = User {
        blocked: true,
        ..later(&held(f, 3).await)
    };
    f.store.act(&[], &blocked, 1, &[], &f.ctx()).await.unwrap();
    assert_eq!(all().await, made);
    let story = f.store.changes_of_user(renamed.id, 9).await.unwrap();
    let named = |kind, name| {
        story
            .iter()
            .any(|c| c.kind == kind && c.username.as_deref() == Some(name))
    };
    assert_eq!(story.len(), 2);
    assert!(
        named(ChangeKind::Created, "p2") && named(ChangeKind::Renamed, "other"),
        "{story:?}"
    );
    let untouched = f.store.changes_of_user(made[0].user, 9).await.unwrap();
    assert_eq!(untouched, made[..1]);
    // Nothing of a name is left where somebody is removed.
    let gone = User {
        state: State::Removed,
        username: String::new(),
        username_key: String::new(),
        directory_id: None,
        phone: None,
        phone_source: None,
        email: None,
        dn: None,
        ..later(&held(f, 5).await)
    };
    let mut run = run_of(3);
    f.store.begin_run(&run, false, None).await.unwrap();
    stage(f, &run, &[(gone, 1, vec![])], ChangeKind::Removed).await;
    run.outcome = Outcome::Applied;
    run.removed = 1;
    apply(f, &run).await.unwrap();
    let names: Vec<_> = all().await.into_iter().map(|c| c.username).collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        names,
        [named("p1"), named("p2"), named("p3"), named("p4"), None]
    );
    // They go with their run, whether or not somebody has changed.
    let late = START.plus_ms(3 * DAY_MS);
    f.store.prune(late, DAY_MS).await.unwrap();
    for user in [made[0].user, renamed.id] {
        let story = f.store.changes_of_user(user, 9).await.unwrap();
        assert!(
            story.iter().all(|c| c.kind != ChangeKind::Created),
            "{story:?}"
        );
    }
}

pub(super) async fn why_somebody_is_gone_is_filled_in(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let gone = User {
        state: State::Suspended,
        suspended_at: Some(START),
        suspended_clock: Some(0),
        ..later(&someone)
    };
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    stage(f, &run, &[(gone, 1, vec![])], ChangeKind::Suspended).await;
    let kinds = [ChangeKind::Suspended];
    let mut staged = f.store.staged_by_kind(run.run, &kinds, 0, 9).await.unwrap();
    assert_eq!(
        staged[0].user.state_reason, None,
        "nobody was looked up yet"
    );
    staged[0].user.state_reason = Some(StateReason::OutOfScope);
    f.store.patch_staged(run.run, &staged).await.unwrap();
    let lines = f.store.changes(run.run, 0, 9).await.unwrap();
    assert_eq!(lines[0].after["state_reason"], "out_of_scope");
    run.outcome = Outcome::Applied;
    run.suspended = 1;
    apply(f, &run).await.unwrap();
    assert_eq!(held(f, 1).await.state_reason, Some(StateReason::OutOfScope));
    let late = f.store.patch_staged(run.run, &staged).await;
    assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
}

pub(super) async fn a_plan_is_read_page_by_page(f: &Fixture) {
    let run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    let plan = |from: u8, to: u8| {
        (from..=to).map(|n| StagedUser {
            seq: i64::from(n),
            base_version: 1,
            user: person(&format!("p{n}"), n),
            container: None,
            intents: vec![],
        })
    };
    let staged: Vec<StagedUser> = plan(1, 50).collect();
    // Only three of fifty are gone, far behind.
    let changes: Vec<Change> = staged
        .iter()
        .map(|s| match s.seq {
            41 | 42 | 49 => line(&run, s.seq, &s.user, ChangeKind::Suspended),
            _ => line(&run, s.seq, &s.user, ChangeKind::Renamed),
        })
        .collect();
    f.store.stage(run.run, staged, &changes).await.unwrap();
    let (mut after, mut seqs) = (0, vec![]);
    loop {
        let kinds = [ChangeKind::Suspended, ChangeKind::PhoneLost];
        let page = f.store.staged_by_kind(run.run, &kinds, after, 7);
        let page = page.await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        seqs.extend(page.iter().map(|s| s.seq));
    }
    assert_eq!(seqs, [41, 42, 49]);
    f.store.sweep(run.run).await.unwrap();
}
