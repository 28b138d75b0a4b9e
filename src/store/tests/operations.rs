//! Operations: a frozen list, batches that are written once, and what is left when one is cancelled.

use serde_json::Map;

use super::by_hand::{act, by_hand, ready};
use super::*;
use crate::model::{
    ActionVerb, AuditAct, AuditEntry, OperationId, OperationState, OperationWork, TwoFactor,
    UserFilter,
};

const WORK: OperationWork = OperationWork::Act {
    verb: ActionVerb::Enable,
    methods: vec![],
    now: false,
    lost: false,
};

fn entry() -> AuditEntry {
    AuditEntry {
        at: START,
        by: Some("root".into()),
        from: "command".into(),
        act: AuditAct::Action,
        realm: None,
        user: None,
        username: None,
        run: None,
        before: Map::new(),
        after: Map::new(),
    }
}

async fn begin(
    f: &Fixture,
    n: u128,
    users: OperationUsers<'_>,
    expect: Option<i64>,
) -> Result<OperationId, StoreError> {
    let id = OperationId(uuid::Uuid::from_u128(n));
    let key = AuditKey::of(&f.key);
    f.store
        .begin_operation(NewOperation {
            id,
            work: &WORK,
            users,
            expect,
            audit: (&entry(), &key),
        })
        .await?;
    Ok(id)
}

/// Gives the first `n` users of the batch FIDO, and refuses the others.
async fn write(
    f: &Fixture,
    batch: &crate::model::OperationBatch,
    n: usize,
) -> Result<(), StoreError> {
    let held = f.store.users_by_id(&batch.users).await.unwrap();
    let (change, rest) = held.split_at(n);
    let users: Vec<StagedUser> = (1..)
        .zip(change)
        .map(|(seq, user)| StagedUser {
            seq,
            base_version: user.version,
            user: User {
                two_factor: vec![TwoFactor::Fido],
                ..later(user)
            },
            container: None,
            intents: vec![],
        })
        .collect();
    let run = run_of(1);
    let changes = users
        .iter()
        .map(|s| Change {
            run: Some(batch.run),
            ..line(&run, 0, &s.user, ChangeKind::Updated)
        })
        .collect();
    let refused: Vec<BatchRefusal> = rest
        .iter()
        .map(|user| BatchRefusal {
            user: user.id,
            reason: "no".into(),
        })
        .collect();
    f.store
        .write_batch(BatchWrite {
            batch,
            users,
            changes,
            refused: &refused,
            mode: Mode::Action,
            by: Some("root"),
            undoes: None,
            links: BatchLinks::Stay,
            messages: &f.ctx(),
        })
        .await
}

pub(super) async fn a_batch_is_written_once_and_a_cancelled_operation_keeps_what_it_did(
    f: &Fixture,
) {
    const DAY: i64 = 86_400_000;
    ready(f).await;
    let people: Vec<User> = (1..=3)
        .map(|n| by_hand(&format!("op{n}"), 60 + n))
        .collect();
    for user in &people {
        act(f, user, 0, AuditAct::UserAdd).await.unwrap();
    }
    let ids: Vec<_> = people.iter().map(|u| u.id).collect();
    let filter = UserFilter {
        search: Some("op".into()),
        ..UserFilter::default()
    };
    assert_eq!(f.store.count_users(&filter, START).await.unwrap(), 3);
    // Another number than expected, and nobody, make nothing.
    let other = begin(f, 900, OperationUsers::Filter(&filter), Some(2)).await;
    assert!(matches!(other, Err(StoreError::Refused(_))), "{other:?}");
    let nobody = begin(f, 900, OperationUsers::Named(&[]), None).await;
    assert!(matches!(nobody, Err(StoreError::Refused(_))), "{nobody:?}");
    assert!(f.store.open_operations().await.unwrap().is_empty());

    let id = begin(f, 901, OperationUsers::Filter(&filter), Some(3))
        .await
        .unwrap();
    assert_eq!(f.store.open_operations().await.unwrap(), [id]);
    let batch = f.store.next_batch(id).await.unwrap().expect("a batch");
    assert_eq!((batch.done, batch.users.len()), (0, 3));
    write(f, &batch, 2).await.unwrap();
    let twice = write(f, &batch, 2).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
    let is = f.store.operation(id).await.unwrap();
    assert_eq!((is.done, is.changed, is.skipped, is.refused), (3, 2, 0, 1));
    assert_eq!(is.run, Some(batch.run));
    let refusals = f.store.operation_refusals(id, 9).await.unwrap();
    assert_eq!((refusals.len(), refusals[0].reason.as_str()), (1, "no"));
    assert!(f.store.next_batch(id).await.unwrap().is_none());
    assert_eq!(f.store.operation_of_run(batch.run).await.unwrap(), Some(id));
    let ended = f
        .store
        .end_operation(id, None, START.plus_ms(5))
        .await
        .unwrap();
    assert_eq!(
        (ended.state, ended.ended_at),
        (OperationState::Done, Some(START.plus_ms(5)))
    );
    assert_eq!(f.store.operation_of_run(batch.run).await.unwrap(), None);
    let run = f.store.run(&batch.run.to_string()).await.unwrap();
    assert_eq!(
        (run.mode, run.outcome, run.updated),
        (Mode::Action, Outcome::Applied, 2)
    );
    let lines = f.store.changes(batch.run, 0, 9).await.unwrap();
    assert_eq!(lines.iter().map(|c| c.seq).collect::<Vec<_>>(), [1, 2]);

    // Somebody changes a user of the batch in between: nothing of it is written.
    let id = begin(f, 902, OperationUsers::Named(&ids), None)
        .await
        .unwrap();
    let batch = f.store.next_batch(id).await.unwrap().expect("a batch");
    let held = f.store.users_by_id(&ids).await.unwrap();
    f.sql("UPDATE users SET version = version + 7 WHERE username = 'op3'")
        .await;
    let stale: Vec<StagedUser> = (1..)
        .zip(&held)
        .map(|(seq, user)| StagedUser {
            seq,
            base_version: user.version,
            user: later(user),
            container: None,
            intents: vec![],
        })
        .collect();
    let conflict = f
        .store
        .write_batch(BatchWrite {
            batch: &batch,
            users: stale,
            changes: vec![],
            refused: &[],
            mode: Mode::Action,
            by: None,
            undoes: None,
            links: BatchLinks::Stay,
            messages: &f.ctx(),
        })
        .await;
    assert!(
        matches!(conflict, Err(StoreError::Conflict(1))),
        "{conflict:?}"
    );
    assert_eq!(f.store.operation(id).await.unwrap().done, 0);
    let key = AuditKey::of(&f.key);
    let cancelled = f
        .store
        .cancel_operation(id, Some("eva"), (&entry(), &key))
        .await;
    assert!(cancelled.unwrap());
    assert!(f.store.next_batch(id).await.unwrap().is_none());
    assert!(matches!(
        write(f, &batch, 1).await,
        Err(StoreError::Conflict(_))
    ));
    let ended = f.store.end_operation(id, None, START).await.unwrap();
    assert_eq!(
        (ended.state, ended.done, ended.run),
        (OperationState::Cancelled, 0, None)
    );
    let late = f.store.cancel_operation(id, None, (&entry(), &key)).await;
    assert!(!late.unwrap());
    let check = f.store.verify_audit(&[AuditKey::of(&f.key)]).await.unwrap();
    assert_eq!((check.lines, check.faults), (6, vec![]));

    // They are kept as long as their runs.
    let open = begin(f, 903, OperationUsers::Named(&ids), None)
        .await
        .unwrap();
    f.store
        .prune(START.plus_ms(2 * DAY), 3 * DAY)
        .await
        .unwrap();
    assert_eq!(
        f.store
            .operation_refusals(OperationId(uuid::Uuid::from_u128(901)), 9)
            .await
            .unwrap()
            .len(),
        1
    );
    f.store.prune(START.plus_ms(9 * DAY), DAY).await.unwrap();
    for n in [901, 902] {
        let gone = f
            .store
            .operation(OperationId(uuid::Uuid::from_u128(n)))
            .await;
        assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    }
    assert_eq!(f.sql("DELETE FROM operation_refused").await, 0);
    assert_eq!(
        f.sql("DELETE FROM operation_runs").await,
        1,
        "of the open one alone"
    );
    assert_eq!(f.store.open_operations().await.unwrap(), [open]);
}
