//! The worker against a real receiver and a real store; the clock is moved by hand (TRAPS 29, 39, 54).

mod clocks;
mod leases;
mod links;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::config::{
    AttributeOverrides, BrakeConfig, ChangesWay, Config, DeliveryConfig, DirectoryConfig,
    EnrolmentConfig, Environment, LogConfig, LogFormat, PhoneConfig, RealmConfig, Secret,
    StoreConfig, StoreUrl,
};
use crate::delivery::receiver::{Behaviour, Receiver, Request, SECRET, config};
use crate::delivery::signature;
use crate::model::{JobReason, JobState, JobType, Policy};
use crate::store::outbox_tests::{
    DAY_MS, Fixture, START, reprovision, say, sqlite, user, with_phone,
};

const A: &str = "+421905000001";
const B: &str = "+421905000002";

/// A worker that runs over a fixture's store.
struct RunningOutbox {
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    wake: Arc<Notify>,
    clock: Clock,
    stats: Arc<Stats>,
    config: watch::Sender<Arc<Config>>,
}

fn configuration(delivery: DeliveryConfig) -> Arc<Config> {
    Arc::new(Config {
        zone_data: crate::clock::zones::Zones::built_in().data().clone(),
        digest: crate::config::Digest::default(),
        path: PathBuf::new(),
        store: StoreConfig {
            url: StoreUrl::Sqlite(PathBuf::new()),
            password: None,
            keep_runs_ms: 0,
        },
        http: None,
        control_socket: PathBuf::new(),
        logons: crate::config::LogonsConfig::default(),
        enrolment: EnrolmentConfig {
            previous_key: None,
            valid_ms: 0,
            valid_again_ms: 0,
            reminders: vec![],
            contact: None,
            applications: vec![],
            self_enrolment: false,
            // The fixture's.
            key: Some(Secret::Inline(
                "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".into(),
            )),
        },
        delivery: Some(delivery.clone()),
        log: LogConfig {
            format: LogFormat::Text,
            level: tracing::Level::INFO,
        },
        // Only realms of the daemon's own file send.
        realms: vec![realm("example.org", delivery)],
    })
}

fn runner(f: &Fixture, delivery: DeliveryConfig) -> (OutboxRunner, watch::Sender<Arc<Config>>) {
    runner_with(f, configuration(delivery))
}

fn runner_with(
    f: &Fixture,
    configuration: Arc<Config>,
) -> (OutboxRunner, watch::Sender<Arc<Config>>) {
    let (sender, config) = watch::channel(configuration);
    let clock = Clock::fixed(f.now);
    (
        OutboxRunner {
            store: f.store.clone(),
            config,
            environment: Environment::default(),
            clock,
            stats: Arc::new(Stats::default()),
        },
        sender,
    )
}

impl RunningOutbox {
    fn start(f: &Fixture, delivery: DeliveryConfig) -> Self {
        Self::start_with(f, configuration(delivery))
    }

    fn start_with(f: &Fixture, configuration: Arc<Config>) -> Self {
        let (runner, config) = runner_with(f, configuration);
        let (cancel, wake) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (clock, stats) = (runner.clock.clone(), runner.stats.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(run(runner, cancel.clone(), wake.clone()));
        Self {
            tasks,
            cancel,
            wake,
            clock,
            stats,
            config,
        }
    }

    /// Moves the clock and lets the worker see it.
    async fn advance(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.wake.notify_one();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }

    /// Waits until it is so while the clock goes on, by so much at a time. An attempt under way may fail when the receiver works
    /// again already, and wait for its retry.
    async fn advance_until(&self, what: &str, step_ms: i64, mut so: impl AsyncFnMut() -> bool) {
        until(what, async || {
            self.advance(step_ms).await;
            so().await
        })
        .await;
    }

    /// Stops and says how long that took.
    async fn stop(mut self) -> Duration {
        let begun = Instant::now();
        self.cancel.cancel();
        self.tasks.join_next().await;
        begun.elapsed()
    }
}

/// Waits until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn all_are(f: &Fixture, state: JobState) -> bool {
    f.jobs().await.iter().all(|j| j.state == state)
}

/// As many people with a new number each.
async fn changed_numbers(f: &Fixture, n: usize) {
    for i in 0..n {
        let someone = user(&format!("u{i}"), A);
        f.change(&someone, &[]).await;
        f.change(&with_phone(&someone, B), &[reprovision()]).await;
    }
}

fn ids(requests: &[Request]) -> std::collections::HashSet<String> {
    requests.iter().map(|r| r.id().to_owned()).collect()
}

#[tokio::test]
async fn a_changed_number_is_told_once_signed_and_with_a_link() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 1).await;
    let running = RunningOutbox::start(&f, receiver.config());
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    let request = receiver.requests().remove(0);
    let at: i64 = request.header("webhook-timestamp").parse().unwrap();
    assert_eq!(
        request.header("webhook-signature"),
        signature(SECRET, request.id(), at, &request.body).unwrap()
    );
    assert!(
        request.body.contains("https://mfa.example.org/enrol/")
            && !request.body.contains("{{token}}"),
        "{}",
        request.body
    );
    assert_eq!(receiver.requests().len(), 1);
    until("counted", async || running.stats.snapshot().delivered == 1).await;
    assert!(running.stop().await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_receiver_that_is_down_for_a_night_loses_nothing_and_is_not_flooded() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 60).await;
    let down = [
        Behaviour::Answer(503, ""),
        Behaviour::Answer(404, ""),
        Behaviour::Answer(401, ""),
        Behaviour::Close,
    ];
    receiver.always(down[0].clone());
    let running = RunningOutbox::start(&f, receiver.config());
    for minute in 0..480 {
        receiver.always(down[minute / 10 % 4].clone());
        running.advance(60_000).await;
    }
    let night = receiver.requests();
    assert!(
        night.len() < 20 + 16 + 480 + 10,
        "one probe at a time, a minute apart: {}",
        night.len()
    );
    // A probe may be on its way just now.
    until("all wait", async || all_are(&f, JobState::Waiting).await).await;
    let view = running.stats.snapshot().targets.remove(0);
    assert!(
        matches!(view.circuit, CircuitState::Open { .. }),
        "{view:?}"
    );
    assert!(!view.receiver.contains("canary"), "{view:?}");

    receiver.always(Behaviour::Answer(204, ""));
    running
        .advance_until("all delivered", 60_000, async || {
            all_are(&f, JobState::Delivered).await
        })
        .await;
    let requests = receiver.requests();
    assert_eq!(ids(&requests).len(), 60);
    for id in ids(&requests) {
        let bodies: std::collections::HashSet<&str> = requests
            .iter()
            .filter(|r| r.id() == id)
            .map(|r| r.body.as_str())
            .collect();
        assert_eq!(bodies.len(), 1, "byte for byte over all attempts");
    }
    assert_eq!(
        running.stats.snapshot().targets[0].circuit,
        CircuitState::Closed
    );
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_never_comes_back_leaves_them_dead_and_visible() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 40).await;
    receiver.always(Behaviour::Answer(500, ""));
    let running = RunningOutbox::start(&f, receiver.config());
    for _ in 0..71 {
        running.advance(3_600_000).await;
    }
    // One may just be tried; what is dead never waits again.
    until("nothing dies before retry-for is over", async || {
        all_are(&f, JobState::Waiting).await
    })
    .await;
    running.advance(3_600_000).await;
    running.advance(3_600_000).await;
    // The sweep comes by every two seconds.
    until("dead", async || {
        running.wake.notify_one();
        all_are(&f, JobState::Dead).await
    })
    .await;
    assert!(f.jobs().await.iter().all(|j| j.last_error.is_some()));
    running.stop().await;
}

#[tokio::test]
async fn one_message_that_is_refused_for_good_stops_nobody_and_retry_after_is_kept() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 3).await;
    receiver.next(Behaviour::Answer(410, ""));
    receiver.next(Behaviour::Answer(429, "retry-after: 1800\r\n"));
    let running = RunningOutbox::start(
        &f,
        DeliveryConfig {
            concurrency: 1,
            ..receiver.config()
        },
    );
    until("three attempts", async || {
        running.stats.snapshot().attempts == 3 && running.stats.snapshot().delivered == 1
    })
    .await;
    until("settled", async || {
        f.jobs().await[1].state == JobState::Waiting
    })
    .await;
    let jobs = f.jobs().await;
    assert_eq!(
        jobs.iter().map(|j| j.state).collect::<Vec<_>>(),
        [JobState::Final, JobState::Waiting, JobState::Delivered]
    );
    assert_eq!(jobs[1].next_attempt_at, START.plus_ms(1_800_000));
    running.advance(1_799_999).await;
    assert_eq!(receiver.requests().len(), 3);
    running.advance(1).await;
    until("delivered", async || {
        f.jobs().await[1].state == JobState::Delivered
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_process_that_dies_with_an_attempt_under_way_repeats_it_with_the_same_key() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 1).await;
    receiver.next(Behaviour::Hang);
    let patient = DeliveryConfig {
        timeout_ms: 60_000,
        ..receiver.config()
    };
    let mut killed = RunningOutbox::start(&f, patient.clone());
    until("it arrived", async || receiver.requests().len() == 1).await;
    killed.tasks.abort_all();
    while killed.tasks.join_next().await.is_some() {}
    assert_eq!(
        f.jobs().await[0].state,
        JobState::Sending,
        "nobody wrote down how it ended"
    );

    let running = RunningOutbox::start(&f, patient);
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    let requests = receiver.requests();
    assert_eq!(
        (requests.len(), ids(&requests).len()),
        (2, 1),
        "twice, with one key, so that the receiver counts it once"
    );
    assert_eq!(requests[0].body, requests[1].body);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_ends_within_five_seconds_and_notes_an_unknown_end() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    changed_numbers(&f, 12).await;
    receiver.always(Behaviour::Hang);
    let running = RunningOutbox::start(
        &f,
        DeliveryConfig {
            timeout_ms: 60_000,
            ..receiver.config()
        },
    );
    until("four under way", async || receiver.requests().len() == 4).await;
    assert!(running.stop().await < Duration::from_secs(5));
    let jobs = f.jobs().await;
    assert!(jobs.iter().all(|j| j.state == JobState::Waiting));
    assert_eq!(
        jobs.iter().filter(|j| j.uncertain).count(),
        4,
        "only what was begun"
    );
    assert_eq!(jobs.iter().filter(|j| j.attempts == 0).count(), 8);
}

#[tokio::test]
async fn a_reload_moves_the_receiver_and_a_broken_one_is_said() {
    let (f, old, new) = (
        sqlite().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let secret = f.dir.path().join("secret");
    let running = RunningOutbox::start(
        &f,
        DeliveryConfig {
            secret: Secret::File(secret.clone()),
            ..old.config()
        },
    );
    changed_numbers(&f, 2).await;
    running.wake.notify_one();
    until("said", async || {
        running
            .stats
            .snapshot()
            .targets
            .first()
            .is_some_and(|t| t.broken.is_some())
    })
    .await;
    assert!(all_are(&f, JobState::Waiting).await);
    // The secret comes, and nobody has to restart anything.
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    assert_eq!((old.requests().len(), new.requests().len()), (2, 0));

    running.config.send(configuration(new.config())).unwrap();
    f.change(
        &user("late", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    running.wake.notify_one();
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    assert_eq!((old.requests().len(), new.requests().len()), (2, 1));
    running.stop().await;
}

#[tokio::test]
async fn delivering_once_sends_what_is_due_in_order_and_ends() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    let jan = user("jan", A);
    f.change(
        &jan,
        &[
            say(JobType::Suspend, JobReason::Disabled),
            say(JobType::Restore, JobReason::Restored),
        ],
    )
    .await;
    changed_numbers(&f, 30).await;
    let (once, _config) = runner(&f, receiver.config());
    let sent = deliver_waiting(once, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        sent,
        Delivered {
            delivered: 32,
            ..Delivered::default()
        }
    );
    let jans: Vec<bool> = receiver
        .requests()
        .iter()
        .filter(|r| r.body.contains("\"jan\""))
        .map(|r| r.body.contains("user.suspend"))
        .collect();
    assert_eq!(jans, [true, false]);

    f.change(
        &user("late", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    receiver.always(Behaviour::Answer(503, ""));
    let (once, _config) = runner(&f, receiver.config());
    let sent = deliver_waiting(once, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        sent,
        Delivered {
            again: 1,
            ..Delivered::default()
        },
        "it does not wait for the next attempt"
    );
}

#[tokio::test]
async fn a_paused_realm_sends_nothing_until_resumed() {
    let (f, receiver) = (sqlite().await, Receiver::start().await);
    f.sql("UPDATE realms SET paused = TRUE").await;
    changed_numbers(&f, 1).await;
    let running = RunningOutbox::start(&f, receiver.config());
    running.advance(10 * DAY_MS).await;
    running.advance(0).await;
    assert!(receiver.requests().is_empty());
    f.sql("UPDATE realms SET paused = FALSE").await;
    running.wake.notify_one();
    until("delivered", async || all_are(&f, JobState::Delivered).await).await;
    running.stop().await;
}

#[tokio::test]
async fn two_realms_with_one_receiver_share_it_and_others_are_not_held_up() {
    let (f, bad, good) = (
        sqlite().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    bad.always(Behaviour::Hang);
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('other', 'custom', 'Other')")
        .await;
    changed_numbers(&f, 50).await;
    let other = crate::model::User {
        realm: "other".into(),
        ..user("eva", A)
    };
    f.change(&other, &[say(JobType::Restore, JobReason::Restored)])
        .await;
    let mut config = (*configuration(good.config())).clone();
    config.realms = vec![realm("example.org", config_of(&bad))];
    let (mut one, _sender) = runner(&f, good.config());
    let (_kept, receiver) = watch::channel(Arc::new(config));
    one.config = receiver;
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(one, cancel.clone(), Arc::new(Notify::new())));
    until("the other realm's", async || good.requests().len() == 1).await;
    cancel.cancel();
    tasks.join_next().await;
}

fn config_of(receiver: &Receiver) -> DeliveryConfig {
    DeliveryConfig {
        timeout_ms: 60_000,
        ..config(&format!("http://127.0.0.1:{}/", receiver.port))
    }
}

/// A directory realm with a delivery of its own.
fn realm(id: &str, delivery: DeliveryConfig) -> RealmConfig {
    RealmConfig {
        id: id.into(),
        aliases: vec![],
        name: id.into(),
        schedule: String::new(),
        full_schedule: String::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        issuer: "r".into(),
        revoke_at_once: false,
        approve: false,
        policy: Policy {
            send_to_new: false,
            only_provisioned: false,
            hold_ms: 0,
            notify_previous: false,
            protect: None,
            local_phones: false,
            phone_attributes: Vec::new(),
            two_factor: Vec::new(),
            grace_ms: 0,
        },
        directory: DirectoryConfig {
            kind: None,
            servers: Vec::new(),
            start_tls: false,
            ca_file: None,
            client_cert: None,
            insecure_plaintext: false,
            bind_dn: None,
            bind_password: None,
            base: Vec::new(),
            filter: None,
            page_size: 1000,
            changes: ChangesWay::Auto,
            poll_ms: None,
            connect_timeout_ms: 0,
            run_timeout_ms: 0,
            sentinel: None,
        },
        attributes: AttributeOverrides::default(),
        phone: PhoneConfig {
            region: None,
            mobile_only: true,
            allow_premium: false,
        },
        brake: BrakeConfig {
            percent: [0.0; 7],
            floor: 10,
        },
        delivery: Some(delivery),
    }
}
