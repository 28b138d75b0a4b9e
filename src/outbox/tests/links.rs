//! A changed enrolment key: every link that goes out is known to the store, and no body changes under its key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::store::outbox_tests::postgres;
use crate::store::{EnrolmentKey, JobAction, JobSelection};

const OLD: [u8; 32] = [7; 32];
const NEW: [u8; 32] = [8; 32];

/// Writes the key's file as an administrator does.
fn set_key(f: &Fixture, key: [u8; 32]) {
    let file = f.dir.path().join("enrolment.key");
    std::fs::write(&file, STANDARD.encode(key)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn configured(f: &Fixture, delivery: DeliveryConfig) -> Arc<Config> {
    let mut config = (*configuration(delivery)).clone();
    config.enrolment.key = Some(Secret::File(f.dir.path().join("enrolment.key")));
    Arc::new(config)
}

fn start(f: &Fixture, receiver: &Receiver) -> RunningOutbox {
    let delivery = receiver.config();
    RunningOutbox::start_with(f, configured(f, delivery))
}

fn half(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().unwrap())
}

/// The hash of the token in a message that was sent.
fn sent(request: &Request) -> String {
    let (_, rest) = request.body.split_once("/enrol/").expect("a link");
    let token = URL_SAFE_NO_PAD.decode(&rest[..43]).expect("a token");
    let digest: [u8; 32] = Sha256::digest(token).into();
    format!("{:032X}{:032X}", half(&digest[..16]), half(&digest[16..]))
}

async fn known(f: &Fixture) -> Vec<String> {
    let hashes = if f.store.single_daemon() {
        "SELECT group_concat(hex(token_sha256)) FROM enrolments WHERE state = 'open'"
    } else {
        "SELECT string_agg(upper(encode(token_sha256, 'hex')), ',') FROM enrolments WHERE state = 'open'"
    };
    f.text(hashes)
        .await
        .unwrap_or_default()
        .split(',')
        .map(str::to_owned)
        .collect()
}

async fn no_dead_link(f: &Fixture, receiver: &Receiver) {
    for request in receiver.requests() {
        assert!(
            known(f).await.contains(&sent(&request)),
            "a dead link: {}",
            request.body
        );
    }
}

#[tokio::test]
async fn a_message_is_sent_with_the_key_that_its_run_read() {
    let (mut f, receiver) = (sqlite().await, Receiver::start().await);
    set_key(&f, OLD);
    let running = start(&f, &receiver);
    changed_numbers(&f, 1).await;
    running.wake.notify_one();
    until("the first", async || all_are(&f, JobState::Delivered).await).await;

    // A run reads the key anew, and the worker was started with the former one.
    set_key(&f, NEW);
    f.key = EnrolmentKey::new(NEW);
    f.change(&with_phone(&user("eva", A), B), &[reprovision()])
        .await;
    running.wake.notify_one();
    until("the second", async || receiver.requests().len() == 2).await;
    no_dead_link(&f, &receiver).await;
    running.stop().await;
}

#[tokio::test]
async fn a_repeated_message_keeps_its_body_while_the_process_knows_its_key() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    set_key(&f, OLD);
    changed_numbers(&f, 1).await;
    receiver.next(Behaviour::Answer(503, ""));
    let running = start(&f, &receiver);
    until("refused once", async || {
        f.jobs().await[0].last_error.is_some()
    })
    .await;
    set_key(&f, NEW);
    running.advance(DAY_MS).await;
    running
        .advance_until("delivered", 10_000, async || {
            all_are(&f, JobState::Delivered).await
        })
        .await;
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert!(known(&f).await.contains(&sent(&requests[1])));
    running.stop().await;
}

#[tokio::test]
async fn trap_69_what_waited_in_a_copy_goes_out_with_another_link() {
    for f in [sqlite().await, postgres().await] {
        let receiver = Receiver::start().await;
        set_key(&f, OLD);
        changed_numbers(&f, 1).await;
        let before = known(&f).await;
        f.sql("UPDATE enrolments SET state = 'void'").await;
        f.sql("INSERT INTO meta (key, value) VALUES ('restored-at', '4102444800000')")
            .await;
        let running = start(&f, &receiver);
        until("delivered", async || all_are(&f, JobState::Delivered).await).await;
        no_dead_link(&f, &receiver).await;
        assert_ne!(known(&f).await, before, "that one may have been used");
        running.stop().await;
    }
}

/// A link that was withdrawn, or that ended with its number, opens nothing: no other one goes out in its place, and the number is told.
#[tokio::test]
async fn what_is_void_for_another_reason_than_a_copy_is_neither_renewed_nor_given_up() {
    for f in [sqlite().await, postgres().await] {
        let receiver = Receiver::start().await;
        set_key(&f, OLD);
        changed_numbers(&f, 2).await;
        receiver.next(Behaviour::Answer(503, ""));
        f.sql("UPDATE enrolments SET state = 'void'").await;
        let running = start(&f, &receiver);
        running
            .advance_until("delivered", 10_000, async || {
                all_are(&f, JobState::Delivered).await
            })
            .await;
        let states = "SELECT CAST(COUNT(*) AS TEXT) || ' ' || MIN(state) || ' ' || MAX(state) FROM enrolments";
        assert_eq!(f.text(states).await.as_deref(), Some("2 void void"));
        running.stop().await;
    }
}

#[tokio::test]
async fn trap_60_a_message_that_was_sent_once_ends_when_its_key_is_gone() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    set_key(&f, OLD);
    changed_numbers(&f, 1).await;
    receiver.next(Behaviour::Answer(503, ""));
    let running = start(&f, &receiver);
    until("refused once", async || {
        f.jobs().await[0].last_error.is_some()
    })
    .await;
    running.stop().await;

    set_key(&f, NEW);
    f.sql("UPDATE jobs SET next_attempt_at = 0").await;
    let running = start(&f, &receiver);
    until("it ends", async || {
        f.jobs().await[0].state == JobState::Dead
    })
    .await;
    assert_eq!(
        receiver.requests().len(),
        1,
        "no other body under the same key"
    );
    let why = f.jobs().await[0].last_error.clone().unwrap();
    assert!(
        why.contains("enrolment.key") && why.contains("outbox retry"),
        "{why}"
    );

    // As it says.
    set_key(&f, OLD);
    let retry = JobAction::Retry {
        retry_for_ms: DAY_MS,
    };
    f.store
        .outbox_act(retry, &JobSelection::default(), f.now)
        .await
        .unwrap();
    running.wake.notify_one();
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    let requests = receiver.requests();
    assert_eq!((requests.len(), &requests[0].body), (2, &requests[1].body));
    assert!(known(&f).await.contains(&sent(&requests[1])));
    running.stop().await;
}

#[tokio::test]
async fn trap_60_a_message_that_never_left_gets_a_link_of_the_new_key() {
    never_left(sqlite().await).await;
    never_left(postgres().await).await;
}

async fn never_left(f: Fixture) {
    let receiver = Receiver::start().await;
    set_key(&f, NEW);
    changed_numbers(&f, 3).await;
    let running = start(&f, &receiver);
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    assert_eq!(receiver.requests().len(), 3);
    no_dead_link(&f, &receiver).await;
    running.stop().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_read_costs_no_message() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    set_key(&f, OLD);
    changed_numbers(&f, 1).await;
    std::fs::write(f.dir.path().join("enrolment.key"), "half a ke").unwrap();
    let running = start(&f, &receiver);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(receiver.requests().is_empty());
    assert!(all_are(&f, JobState::Waiting).await || all_are(&f, JobState::Sending).await);
    let job = f.jobs().await.remove(0);
    assert_eq!((job.state, job.attempts), (JobState::Waiting, 0), "{job:?}");
    assert!(
        job.last_error.as_ref().unwrap().contains("enrolment.key"),
        "{job:?}"
    );
    set_key(&f, OLD);
    running
        .advance_until("delivered", 10_000, async || {
            all_are(&f, JobState::Delivered).await
        })
        .await;
    assert!(known(&f).await.contains(&sent(&receiver.requests()[0])));
    running.stop().await;
}

#[tokio::test]
async fn the_stores_own_key_is_still_there_for_what_was_made_with_it() {
    let (mut f, receiver) = (sqlite().await, Receiver::start().await);
    f.key = f.store.enrolment_key(None).await.unwrap();
    changed_numbers(&f, 1).await;
    receiver.next(Behaviour::Answer(503, ""));
    let mut config = (*configuration(receiver.config())).clone();
    config.enrolment.key = None;
    let running = RunningOutbox::start_with(&f, Arc::new(config));
    until("refused once", async || {
        f.jobs().await[0].last_error.is_some()
    })
    .await;
    running.stop().await;
    // The administrator sets one.
    set_key(&f, NEW);
    f.sql("UPDATE jobs SET next_attempt_at = 0").await;
    let running = start(&f, &receiver);
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
    running.stop().await;
}
