//! Messages that wait while somebody undoes the run that caused them.

use super::*;
use crate::model::{JobReason, JobType};

pub(super) async fn what_an_undo_holds_is_let_go_by_whatever_ends_it(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let mut told = run_of(2);
    f.store.begin_run(&told, false).await.unwrap();
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
    };
    f.store.apply(application).await.unwrap();
    let undo = async |n| {
        let undo = Run {
            mode: Mode::Undo,
            ..run_of(n)
        };
        f.store.begin_run(&undo, false).await.unwrap();
        let held = f.store.hold_jobs_for_undo(told.run, undo.run, START);
        held.await.unwrap();
        assert_eq!(f.states().await, ["held"]);
        undo
    };
    let mut failed = undo(3).await;
    // What another run comes to says nothing of this one.
    f.store.begin_run(&run_of(4), false).await.unwrap();
    let mut other = run_of(4);
    other.outcome = Outcome::Failed;
    f.store.fail_run(&other).await.unwrap();
    assert_eq!(f.states().await, ["held"]);
    failed.outcome = Outcome::Cancelled;
    f.store.fail_run(&failed).await.unwrap();
    assert_eq!(f.states().await, ["waiting"]);

    // The process died, and nobody says more than that the run is over.
    undo(5).await;
    let ended = f.store.take_over(START).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(f.states().await, ["waiting"]);
}

pub(super) async fn the_pause_of_an_undo_lasts_as_long_as_what_it_puts_back(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let mut told = run_of(2);
    f.store.begin_run(&told, false).await.unwrap();
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
        };
        f.store.apply(application).await.unwrap();
    };
    apply(&told, RunFacts::default(), None).await;
    let undo = async |n, outcome| {
        let mut undo = Run {
            mode: Mode::Undo,
            ..run_of(n)
        };
        f.store.begin_run(&undo, false).await.unwrap();
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
