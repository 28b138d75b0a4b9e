//! Messages that wait while somebody undoes the run that caused them.

use super::*;
use crate::model::{JobReason, JobType};

pub(super) async fn what_an_undo_holds_is_let_go_by_whatever_ends_it(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let mut told = run_of(2);
    f.store.begin_run(&told, false, None).await.unwrap();
    let renamed = vec![say(JobType::Rename, JobReason::Renamed)];
    let plan = [(later(&someone), 1, renamed)];
    stage(f, &told, &plan, ChangeKind::Renamed).await;
    (told.outcome, told.renamed) = (Outcome::Applied, 1);
    let messages = MessageContext {
        run: Some(told.run),
        ..f.ctx()
    };
    let application = Application {
        run: &told,
        facts: RunFacts::default(),
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit: None,
    };
    f.store.apply(application).await.unwrap();
    let undo = async |n| {
        let undo = Run {
            mode: Mode::Undo,
            ..run_of(n)
        };
        f.store.begin_run(&undo, false, None).await.unwrap();
        let held = f.store.hold_jobs_for_undo(told.run, undo.run, START);
        held.await.unwrap();
        assert_eq!(f.states().await, ["held"]);
        undo
    };
    let mut failed = undo(3).await;
    // What another run comes to says nothing of this one.
    f.store.begin_run(&run_of(4), false, None).await.unwrap();
    let mut other = run_of(4);
    other.outcome = Outcome::Failed;
    f.store.fail_run(&other).await.unwrap();
    assert_eq!(f.states().await, ["held"]);
    failed.outcome = Outcome::Cancelled;
    f.store.fail_run(&failed).await.unwrap();
    assert_eq!(f.states().await, ["waiting"]);

    // The process died, and nobody says more than that the run is over.
    undo(5).await;
    let ended = f.store.fail_abandoned(START).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(f.states().await, ["waiting"]);
}

pub(super) async fn the_pause_of_an_undo_lasts_as_long_as_what_it_puts_back(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let mut told = run_of(2);
    f.store.begin_run(&told, false, None).await.unwrap();
    let plan = [(later(&someone), 1, vec![])];
    stage(f, &told, &plan, ChangeKind::Renamed).await;
    (told.outcome, told.renamed) = (Outcome::Applied, 1);
    let realm = told.realm.clone();
    let messages = f.ctx();
    let facts = || RunFacts {
        undoes: Some(told.run),
        ..RunFacts::default()
    };
    let paused = async || {
        let row = f.store.realm(&realm).await.unwrap().unwrap();
        (row.is_paused(START), row.held)
    };
    let apply = async |run: &Run, facts, replaces| {
        let application = Application {
            run,
            facts,
            realm: RealmUpdate::default(),
            refused: None,
            messages: &messages,
            replaces,
            staged: Staged::default(),
            audit: None,
        };
        f.store.apply(application).await.unwrap();
    };
    apply(&told, RunFacts::default(), None).await;
    let undo = async |n, outcome| {
        let mut undo = Run {
            mode: Mode::Undo,
            ..run_of(n)
        };
        f.store.begin_run(&undo, false, None).await.unwrap();
        undo.outcome = outcome;
        undo
    };
    let held = undo(3, Outcome::Held).await;
    f.store
        .hold(&held, Staged::default(), facts(), None, None, &[])
        .await
        .unwrap();
    assert_eq!(paused().await, (true, Some(held.run)));
    // By now nothing is left to put back.
    let nothing = undo(4, Outcome::Unchanged).await;
    apply(&nothing, facts(), Some(held.run)).await;
    assert_eq!(paused().await, (false, None));
    // One that does put something back pauses with its own commit.
    let applied = undo(5, Outcome::Applied).await;
    apply(&applied, facts(), None).await;
    assert_eq!(paused().await, (true, None));
}

pub(super) async fn a_pause_ends_by_its_owner_alone(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let realm = realm();
    // Another test may have left it paused.
    f.store.resume(&realm, START).await.unwrap();
    let stands = async || {
        let row = f.store.realm(&realm).await.unwrap().unwrap();
        assert_eq!(
            row.paused,
            row.paused_by_undo.is_some() || row.own_pause.is_some()
        );
        (row.paused_by_undo, row.own_pause.map(|own| own.until))
    };
    let hold = async |n, replaces| {
        let mut undo = Run {
            mode: Mode::Undo,
            ..run_of(n)
        };
        f.store.begin_run(&undo, false, None).await.unwrap();
        undo.outcome = Outcome::Held;
        let facts = RunFacts {
            undoes: Some(run_of(1).run),
            ..RunFacts::default()
        };
        f.store
            .hold(&undo, Staged::default(), facts, None, replaces, &[])
            .await
            .unwrap();
        undo.run
    };
    let end = async |run, outcome| {
        f.store
            .decide_held(run, outcome, None, None, START)
            .await
            .unwrap();
    };
    let until = Some(START.plus_ms(9));
    // An administrator's pause outlives an undo's, with its own end.
    for own in [None, until] {
        f.store
            .pause(&realm, own, Some("ann"), START)
            .await
            .unwrap();
        let undo = hold(if own.is_none() { 2 } else { 3 }, None).await;
        assert_eq!(stands().await, (Some(undo), Some(own)));
        let row = f.store.realm(&realm).await.unwrap().unwrap();
        assert!(row.is_paused(START.plus_ms(99)), "an undo's has no end");
        end(undo, Outcome::Rejected).await;
        assert_eq!(stands().await, (None, Some(own)));
        let row = f.store.realm(&realm).await.unwrap().unwrap();
        assert_eq!(row.paused_until, own);
        assert_eq!(row.own_pause.unwrap().by.as_deref(), Some("ann"));
        f.store.resume(&realm, START).await.unwrap();
    }
    // One that begins beside an undo's goes on after it too.
    let undo = hold(4, None).await;
    f.store.pause(&realm, until, None, START).await.unwrap();
    assert_eq!(stands().await, (Some(undo), Some(until)));
    assert!(!f.store.end_pause(&realm, START.plus_ms(10)).await.unwrap());
    end(undo, Outcome::Expired).await;
    assert_eq!(stands().await, (None, Some(until)));
    assert!(f.store.end_pause(&realm, START.plus_ms(10)).await.unwrap());
    assert_eq!(stands().await, (None, None));
    // An administrator's resume ends every pause, and an undo that ends later begins and ends none.
    let undo = hold(5, None).await;
    f.store.pause(&realm, None, None, START).await.unwrap();
    f.store.resume(&realm, START).await.unwrap();
    assert_eq!(stands().await, (None, None));
    f.store.pause(&realm, None, None, START).await.unwrap();
    end(undo, Outcome::Rejected).await;
    assert_eq!(stands().await, (None, Some(None)));
    f.store.resume(&realm, START).await.unwrap();
    // The pause of an undo that was applied outlives one that is rejected later; a plan that takes another's place takes its pause.
    let first = hold(6, None).await;
    let second = hold(7, Some(first)).await;
    assert_eq!(stands().await, (Some(second), None));
    let applied = Run {
        mode: Mode::Undo,
        outcome: Outcome::Applied,
        ..run_of(7)
    };
    let messages = f.ctx();
    let application = Application {
        run: &applied,
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
    f.store.apply(application).await.unwrap();
    let later = hold(8, None).await;
    end(later, Outcome::Rejected).await;
    assert_eq!(stands().await, (Some(second), None));
    f.store.resume(&realm, START).await.unwrap();
}
