//! Clocks that were wrong and are mended: nothing waits for a time that never was, and nothing is given up for time that did not
//! pass (design § 6).

use super::*;

const DAYS_10: i64 = 10 * DAY_MS;

async fn a_changed_number(f: &Fixture, name: &str) {
    let someone = user(name, A);
    f.change(&someone, &[]).await;
    f.change(&with_phone(&someone, B), &[reprovision()]).await;
}

/// A worker over this store, whose clock shows this.
fn start_at(f: &mut Fixture, at: crate::clock::Timestamp, receiver: &Receiver) -> RunningOutbox {
    f.now = at;
    RunningOutbox::start(f, receiver.config())
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_wrote_is_sent_when_it_is_set_back() {
    let (mut f, receiver) = (sqlite().await, Receiver::start().await);
    receiver.always(Behaviour::Answer(503, ""));
    let running = RunningOutbox::start(&f, receiver.config());
    for (name, ahead) in [("far", DAYS_10), ("near", 1_800_000)] {
        let before = f.jobs().await.len();
        running.clock.set_forward_ms(ahead);
        f.now = running.clock.now();
        a_changed_number(&f, name).await;
        running.wake.notify_one();
        until("tried in vain", async || {
            f.jobs().await.get(before).is_some_and(|job| {
                job.state == JobState::Waiting && job.attempts > 0 && job.last_error.is_some()
            })
        })
        .await;
        running.clock.set_forward_ms(-ahead);
        // A retry is at most a second and a bit away.
        running.advance(2_000).await;
    }
    receiver.always(Behaviour::Answer(204, ""));
    // Long before the clock is where it was when the message was made.
    running
        .advance_until("sent", 500, async || all_are(&f, JobState::Delivered).await)
        .await;
    running.stop().await;
}

#[tokio::test]
async fn what_was_made_by_a_clock_that_was_ahead_while_no_daemon_ran_is_sent_at_its_start() {
    let (mut f, receiver) = (sqlite().await, Receiver::start().await);
    let right = f.now;
    for (name, ahead) in [("far", DAYS_10), ("near", 1_800_000)] {
        f.now = right.plus_ms(ahead);
        a_changed_number(&f, name).await;
    }
    let running = start_at(&mut f, right, &receiver);
    until("sent", async || all_are(&f, JobState::Delivered).await).await;
    running.stop().await;
}

#[tokio::test]
async fn a_jump_forward_with_an_open_circuit_gives_nothing_up() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 40).await;
    receiver.always(Behaviour::Answer(500, ""));
    let running = RunningOutbox::start(&f, receiver.config());
    until("open", async || {
        let stats = running.stats.snapshot();
        stats
            .targets
            .iter()
            .any(|t| matches!(t.circuit, CircuitState::Open { .. }))
    })
    .await;
    running.clock.set_forward_ms(DAYS_10);
    let turns = running.stats.turns();
    let swept = Instant::now();
    until("looked after twice", async || {
        running.wake.notify_one();
        running.stats.turns() > turns + 2 && swept.elapsed() > Duration::from_secs(5)
    })
    .await;
    assert!(
        f.jobs().await.iter().all(|j| j.state != JobState::Dead),
        "{:?}",
        f.states().await
    );
    receiver.always(Behaviour::Answer(204, ""));
    running
        .advance_until("sent", 60_000, async || {
            all_are(&f, JobState::Delivered).await
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_jump_back_does_not_keep_the_probe_waiting() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 40).await;
    receiver.always(Behaviour::Answer(500, ""));
    let running = RunningOutbox::start(&f, receiver.config());
    until("open", async || running.stats.snapshot().attempts >= 20).await;
    running.clock.set_forward_ms(-DAYS_10);
    receiver.always(Behaviour::Answer(204, ""));
    running
        .advance_until("sent", 60_000, async || {
            all_are(&f, JobState::Delivered).await
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn the_time_in_which_no_daemon_ran_does_not_count_towards_retry_for() {
    let (mut f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 2).await;
    receiver.always(Behaviour::Answer(503, ""));
    let running = RunningOutbox::start(&f, receiver.config());
    until("tried", async || running.stats.snapshot().again == 2).await;
    let at = running.clock.now();
    running.stop().await;
    // Longer than `retry-for`.
    let later = at.plus_ms(DAYS_10);
    let running = start_at(&mut f, later, &receiver);
    until("tried again", async || running.stats.snapshot().again == 2).await;
    assert!(
        all_are(&f, JobState::Waiting).await,
        "{:?}",
        f.states().await
    );
    let jobs = f.jobs().await;
    let left = jobs[0].give_up_at.since_ms(later);
    assert!(
        (3 * DAY_MS - 60_000..=3 * DAY_MS).contains(&left),
        "what was tried counts, and no more: {left}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_hold_of_a_clock_that_was_ahead_does_not_end_retry_for_when_it_is_released() {
    let f = sqlite().await;
    changed_numbers(&f, 1).await;
    let all = crate::store::JobSelection::default();
    let ahead = f.now.plus_ms(DAYS_10);
    let (hold, release) = (
        crate::store::JobAction::Hold,
        crate::store::JobAction::Release,
    );
    f.store.outbox_act(hold, &all, ahead).await.unwrap();
    f.store.outbox_act(release, &all, f.now).await.unwrap();
    let (job, _) = f.attempt(crate::store::outbox_tests::refused(f.now)).await;
    assert!(job.give_up_at >= f.now.plus_ms(3 * DAY_MS));
    assert!(all_are(&f, JobState::Waiting).await);
}

/// Noted by the clock before it was set back, and written after that.
#[tokio::test]
async fn what_ended_is_waited_for_from_when_it_is_written() {
    use crate::clock::Timestamp;
    use crate::model::message_rules::AttemptEnd;
    use crate::store::Settlement;
    let f = sqlite().await;
    changed_numbers(&f, 1).await;
    let job = f.claim(1).await.remove(0);
    let again = AttemptEnd::Again {
        why: "503".into(),
        unknown_end: false,
        next_attempt_at: Timestamp(DAYS_10 + 5_000),
    };
    let mut settlement = Settlement {
        job,
        ending: again,
        now: Timestamp(DAYS_10),
    };
    for _ in 0..2 {
        settlement.from_now(Timestamp(1_000));
        let AttemptEnd::Again {
            next_attempt_at, ..
        } = &settlement.ending
        else {
            panic!("{settlement:?}")
        };
        assert_eq!(
            (*next_attempt_at, settlement.now),
            (Timestamp(6_000), Timestamp(1_000))
        );
    }
}
