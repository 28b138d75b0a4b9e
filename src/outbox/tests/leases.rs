//! A worker whose leases are over begins nothing (design § 3.10).

use super::super::begin::{SendCheck, SendDecision};
use super::*;
use crate::model::RealmId;
use crate::model::message_rules::AttemptEnd;
use crate::store::outbox_tests::postgres;

/// As another daemon does once the leases of one that stood still are over.
const TAKEN: &str =
    "UPDATE jobs SET leased_by = 'two', attempts = attempts + 1 WHERE state = 'sending'";

/// So many messages, taken ahead by one worker on PostgreSQL, and the first under way to a receiver that hangs.
async fn the_first_of(messages: usize) -> (Fixture, Receiver, RunningOutbox) {
    let (f, receiver) = (postgres().await, Receiver::start().await);
    changed_numbers(&f, messages).await;
    receiver.next(Behaviour::Hang);
    let slow = DeliveryConfig {
        concurrency: 1,
        timeout_ms: 1500,
        ..receiver.config()
    };
    let running = RunningOutbox::start(&f, slow);
    until("the first is under way", async || {
        receiver.requests().len() == 1
    })
    .await;
    (f, receiver, running)
}

#[tokio::test]
async fn what_another_daemon_has_taken_is_not_begun() {
    let (f, receiver, running) = the_first_of(4).await;
    assert_eq!(f.sql(TAKEN).await, 4, "taken ahead");
    until("its attempt ended", async || {
        running.stats.snapshot().attempts == 1
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(receiver.requests().len(), 1, "no other was begun");
    assert!(
        all_are(&f, JobState::Sending).await,
        "{:?}",
        f.states().await
    );
    running.stop().await;
    assert!(
        all_are(&f, JobState::Sending).await,
        "they are another's: {:?}",
        f.states().await
    );
}

/// What `Beginning` says of the first of these jobs.
async fn look(f: &Fixture, job: &crate::model::Job) -> SendDecision {
    let (runner, _config) = runner(f, config("http://127.0.0.1:1/"));
    let (store, config, environment) = (runner.store, runner.config, runner.environment);
    let beginning = SendCheck::new(store, config, environment, "one".into());
    beginning.look(job, job.body.as_deref().unwrap()).await
}

#[tokio::test]
async fn a_lease_that_ends_soon_is_not_used() {
    let f = postgres().await;
    changed_numbers(&f, 1).await;
    let job = f.claim(1).await.remove(0);
    assert!(matches!(look(&f, &job).await, SendDecision::Send(_)));
    f.sql("UPDATE jobs SET lease_until = lease_until - 13000")
        .await;
    assert!(matches!(look(&f, &job).await, SendDecision::Back));
    f.store.renew("one", f.now, 15_000).await.unwrap();
    assert!(matches!(look(&f, &job).await, SendDecision::Send(_)));
}

#[tokio::test]
async fn a_lease_that_is_over_is_not_used_even_if_nobody_took_it() {
    let (f, _receiver, running) = the_first_of(2).await;
    f.sql("UPDATE jobs SET lease_until = lease_until - 14000 WHERE state = 'sending'")
        .await;
    until("given back, taken again, and sent", async || {
        f.jobs().await[1].state == JobState::Delivered
    })
    .await;
    let second = f.jobs().await[1].clone();
    assert_eq!(
        (second.attempts, second.uncertain),
        (1, false),
        "{second:?}"
    );
    running.stop().await;
}

/// Two machines whose clocks are a minute apart.
#[tokio::test]
async fn leases_go_by_the_databases_clock() {
    let f = postgres().await;
    changed_numbers(&f, 1).await;
    let realm = [RealmId::from("example.org")];
    let ahead = f.now.plus_ms(60_000);
    assert_eq!(f.claim(1).await.len(), 1);
    let taken = f.reclaim("two", ahead, false).await;
    assert_eq!(taken, 0, "the lease runs, whatever the other's clock says");
    f.sql("UPDATE jobs SET lease_until = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT - 1 WHERE state = 'sending'").await;
    let behind = f.now.plus_ms(-60_000);
    let taken = f.reclaim("two", behind, false).await;
    assert_eq!(taken, 1);
    let again = f
        .store
        .claim("two", &realm, ahead, 15_000, 1)
        .await
        .unwrap();
    assert_eq!(again.len(), 1);
}

/// As another daemon does that found the lease over, and gave the message back.
const GIVEN_BACK: &str = "UPDATE jobs SET state = 'waiting', uncertain = TRUE, leased_by = NULL, lease_until = NULL, next_attempt_at = 0 WHERE state = 'sending'";

#[tokio::test]
async fn an_attempt_that_outlives_its_lease_ends_beside_the_next_one() {
    let (f, receiver) = (postgres().await, Receiver::start().await);
    changed_numbers(&f, 1).await;
    for _ in 0..2 {
        receiver.next(Behaviour::Hang);
    }
    let slow = DeliveryConfig {
        concurrency: 2,
        timeout_ms: 3000,
        ..receiver.config()
    };
    let running = RunningOutbox::start(&f, slow);
    until("the first is under way", async || {
        receiver.requests().len() == 1
    })
    .await;
    assert_eq!(f.sql(GIVEN_BACK).await, 1);
    running.wake.notify_one();
    until("the second is under way beside it", async || {
        receiver.requests().len() == 2
    })
    .await;
    until("both ended", async || {
        running.stats.snapshot().attempts == 2
    })
    .await;
    until("nothing is under way", async || {
        running.wake.notify_one();
        let job = f.jobs().await.remove(0);
        running.stats.snapshot().targets[0].under_way == 0
            && (job.state, job.attempts) == (JobState::Waiting, 2)
    })
    .await;
    running.clock.advance_ms(60_000);
    until("it goes on", async || {
        running.wake.notify_one();
        all_are(&f, JobState::Delivered).await
    })
    .await;
    assert_eq!(ids(&receiver.requests()).len(), 1, "always with one key");
    running.stop().await;
}

#[tokio::test]
async fn trap_42_what_was_overtaken_before_its_turn_came_is_not_begun() {
    for f in [sqlite().await, postgres().await] {
        changed_numbers(&f, 1).await;
        let job = f.claim(1).await.remove(0);
        assert!(matches!(look(&f, &job).await, SendDecision::Send(_)));
        for (happens, back) in [
            (
                "UPDATE users SET state = 'suspended', state_reason = 'disabled'",
                "UPDATE users SET state = 'active', state_reason = NULL",
            ),
            (
                "UPDATE users SET blocked = TRUE",
                "UPDATE users SET blocked = FALSE",
            ),
            (
                "UPDATE jobs SET held_by = 'brake'",
                "UPDATE jobs SET held_by = NULL",
            ),
        ] {
            f.sql(happens).await;
            assert!(
                matches!(look(&f, &job).await, SendDecision::Back),
                "{happens}"
            );
            f.sql(back).await;
            assert!(
                matches!(look(&f, &job).await, SendDecision::Send(_)),
                "{back}"
            );
        }
        f.sql("UPDATE users SET phone = NULL, phone_source = NULL")
            .await;
        assert!(
            matches!(look(&f, &job).await, SendDecision::Back),
            "a lost number"
        );
        f.settle(&job, AttemptEnd::NotTried).await;
        assert!(
            all_are(&f, JobState::Dropped).await,
            "{:?}",
            f.states().await
        );
    }
}

/// No daemon runs, and each command is a process of its own.
#[tokio::test]
async fn a_command_takes_up_what_a_dead_process_was_sending() {
    let (f, receiver) = (postgres().await, Receiver::start().await);
    changed_numbers(&f, 1).await;
    f.claim(1).await;
    f.sql("UPDATE jobs SET lease_until = 0").await;
    let (runner, _config) = runner(&f, receiver.config());
    let sent = deliver_waiting(runner, CancellationToken::new()).await;
    assert_eq!(sent.unwrap().delivered, 1);
}
