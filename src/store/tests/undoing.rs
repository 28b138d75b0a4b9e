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
