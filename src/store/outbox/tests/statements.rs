//! Statements that change many messages at once do what the pure rules (`model::message_rules`) say of each of them, on both engines.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::model::RunId;
use crate::model::message_rules::{
    Becomes, Standing, UserEvent, becomes, counts, effect_of as rule, may_drop, may_retry,
};

const PHONE: &str = "+421905000001";
const OTHER: &str = "+421905000002";
/// Cases for each engine.
const CASES: u32 = 150;

/// A message as it may stand in the store.
#[derive(Clone, Debug)]
struct StoredJob {
    kind: JobType,
    state: JobState,
    uncertain: bool,
    body: bool,
    /// Of the run that is undone.
    of_run: bool,
}

fn row() -> impl Strategy<Value = StoredJob> {
    let kind = prop::sample::select(JobType::ALL);
    let state = prop::sample::select(JobState::ALL);
    (kind, state, any::<[bool; 3]>()).prop_map(|(kind, state, [uncertain, body, of_run])| {
        StoredJob {
            kind,
            state,
            uncertain,
            body: match state {
                JobState::Waiting | JobState::Sending | JobState::Held => true,
                JobState::Dead | JobState::Final => body,
                JobState::Delivered | JobState::Dropped => false,
            },
            of_run,
        }
    })
}

/// What is done to all messages of a user.
#[derive(Clone, Debug)]
enum StatementCase {
    Carry(Intent),
    Undo,
    Retry,
    Drop,
    /// An attempt of each ends; the flag: another one was begun since.
    Settle(AttemptEnd, bool),
}

fn act() -> impl Strategy<Value = StatementCase> {
    let reason = JobReason::Disabled;
    let later = AttemptEnd::Later {
        why: "no key".into(),
        next_attempt_at: START,
    };
    let endings = vec![
        AttemptEnd::Accepted,
        AttemptEnd::Final("410".into()),
        refused(START),
        timed_out(START),
        AttemptEnd::NotTried,
        later,
        AttemptEnd::GivenUp("no key".into()),
        AttemptEnd::Interrupted,
    ];
    prop_oneof![
        Just(StatementCase::Carry(reprovision())),
        Just(StatementCase::Carry(say(
            JobType::Provision,
            JobReason::Created
        ))),
        Just(StatementCase::Carry(Intent::Unsay)),
        Just(StatementCase::Carry(Intent::Withdraw { reason })),
        Just(StatementCase::Carry(say(
            JobType::Deprovision,
            JobReason::Removed
        ))),
        Just(StatementCase::Carry(say(JobType::Suspend, reason))),
        Just(StatementCase::Undo),
        Just(StatementCase::Retry),
        Just(StatementCase::Drop),
        (prop::sample::select(endings), any::<bool>())
            .prop_map(|(e, other)| StatementCase::Settle(e, other)),
    ]
}

const RUN: uuid::Uuid = uuid::Uuid::from_u128(7);

async fn insert(f: &Fixture, user: &User, rows: &[StoredJob]) {
    const SQL: &str = "
        INSERT INTO jobs (id, realm, user_id, username, name_key, type, body, phone, state, uncertain, attempts, next_attempt_at, give_up_at, run, created_at)
        VALUES ($1, 'example.org', $2, 'jan', 'jan', $3, $4, $5, $6, $7, 1, 0, $8, $9, 0)";
    let mut tx = f.store.db.begin().await.unwrap();
    for row in rows {
        let application = crate::model::message_rules::is_application(row.kind);
        on!(tx, c => sqlx::query(SQL)
            .bind(uuid::Uuid::now_v7().as_bytes().as_slice())
            .bind(user.id.0.as_bytes().as_slice())
            .bind(row.kind.as_str())
            .bind(row.body.then_some("{}"))
            .bind(application.then_some(PHONE))
            .bind(row.state.as_str())
            .bind(row.uncertain)
            .bind(START.plus_ms(DAY_MS).0)
            .bind(row.of_run.then(|| RUN.as_bytes().to_vec()))
            .execute(&mut *c).await.map(|_| ()))
        .unwrap();
    }
    tx.commit().await.unwrap();
}

/// The state of each message afterwards, and whether it has a body.
fn by_the_rules(act: &StatementCase, user: &User, jobs: &[Job]) -> Vec<(JobState, bool)> {
    let standings: Vec<Standing> = jobs.iter().map(Standing::from).collect();
    let newer = |seq| {
        let mut later = standings.iter().filter(|n| n.seq > seq);
        later.any(Standing::may_have_arrived)
    };
    let carried = match act {
        StatementCase::Carry(intent) => {
            let provisioned = user.phone_provisioned.as_ref();
            rule(intent, user, provisioned, &standings, true).jobs
        }
        _ => Vec::new(),
    };
    let removed = matches!(act, StatementCase::Carry(Intent::Say { r#type, .. }) if *r#type == JobType::Deprovision);
    let after = |job: &Standing, run: Option<RunId>| {
        let becomes = match act {
            StatementCase::Carry(_) => carried
                .iter()
                .find(|(seq, _)| *seq == job.seq)
                .map_or(Becomes::Stays, |(_, becomes)| *becomes),
            StatementCase::Undo if run == Some(RunId(RUN)) => becomes(job, UserEvent::Undone),
            StatementCase::Drop if may_drop(job) => Becomes::Dropped,
            _ => Becomes::Stays,
        };
        match becomes {
            Becomes::Dropped => (JobState::Dropped, false),
            Becomes::Erased => (job.state, false),
            Becomes::Stays
                if matches!(act, StatementCase::Retry) && may_retry(job, newer(job.seq)) =>
            {
                (JobState::Waiting, job.body)
            }
            Becomes::Stays if removed && job.state != JobState::Sending => (job.state, false),
            Becomes::Stays => (job.state, job.body),
        }
    };
    standings
        .iter()
        .zip(jobs)
        .map(|(job, row)| after(job, row.run))
        .collect()
}

async fn compare(f: &Fixture, act: &StatementCase, rows: &[StoredJob], provisioned: &str) {
    f.sql("DELETE FROM jobs").await;
    let jan = User {
        phone_provisioned: phone(provisioned),
        ..user(&format!("jan{}", uuid::Uuid::now_v7()), PHONE)
    };
    f.change(&jan, &[]).await;
    insert(f, &jan, rows).await;
    let before = f.jobs().await;
    let expected = by_the_rules(act, &jan, &before);
    match act {
        StatementCase::Carry(intent) => {
            f.change(&jan, std::slice::from_ref(intent)).await;
        }
        StatementCase::Undo => {
            let mut tx = f.store.db.begin().await.unwrap();
            let undone = crate::store::undone::drop_jobs(&mut tx, RunId(RUN), f.now);
            undone.await.unwrap();
            tx.commit().await.unwrap();
        }
        StatementCase::Retry | StatementCase::Drop => {
            let act = match act {
                StatementCase::Retry => super::JobAction::Retry { retry_for_ms: 1000 },
                _ => super::JobAction::Drop,
            };
            let all = JobSelection::default();
            f.store.outbox_act(act, &all, f.now).await.unwrap();
        }
        StatementCase::Settle(ending, other) => {
            // One after the other, since what one is may hang on what another has become.
            for job in &before {
                let now = f.jobs().await.into_iter().find(|j| j.id == job.id).unwrap();
                let job = Job {
                    attempts: job.attempts - i64::from(*other),
                    ..job.clone()
                };
                let fate = f.settle(&job, ending.clone()).await;
                let counted = counts(ending, now.state, !other);
                assert_eq!(fate != Fate::Gone, counted, "{:?}: {fate:?}", now.state);
                let after = f.jobs().await.into_iter().find(|j| j.id == job.id).unwrap();
                assert!(counted || after == now, "{now:?} became {after:?}");
            }
            return;
        }
    }
    let after = f.jobs().await;
    // New ones stand behind.
    let states: Vec<_> = after
        .iter()
        .take(before.len())
        .map(|job| (job.state, job.body.is_some()))
        .collect();
    assert_eq!(states, expected, "{act:?} of {before:#?}");
}

fn on_store(open: impl Future<Output = Fixture>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let f = runtime.block_on(open);
    let provisioned = prop::sample::select(vec![PHONE, OTHER]);
    let cases = (act(), prop::collection::vec(row(), 1..8), provisioned);
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&cases, |(act, rows, provisioned)| {
            runtime.block_on(compare(&f, &act, &rows, provisioned));
            Ok(())
        })
        .unwrap();
}

#[test]
fn statements_of_many_messages_follow_the_rules() {
    on_store(sqlite());
}

#[test]
fn statements_of_many_messages_follow_the_rules_on_postgresql() {
    on_store(postgres());
}
