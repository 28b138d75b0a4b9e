//! The daemon's loop: starts everything, hears signals, orders and ends, and stops everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::agenda::{Agenda, Next};
use super::desk::{After, Desk, no_such_realm};
use super::ledger::{self, Ledger};
use super::life::{Life, Pulse};
use super::lifecycle::{Wish, Wishes};
use super::logging::{self, Logging, Surroundings};
use super::metrics::Metrics;
use super::reload::{self, Prepared};
use super::status::Live;
use super::web::{Ready, Web};
use super::work::{self, Ended, Task, Track, Work};
use super::{Start, housekeeping, notify};
use crate::api::socket::ControlSocket;
use crate::api::types::{DaemonStatus, Failure, Line, RunningStatus, SyncRequest};
use crate::api::{Alive, Api, Order, What, serve};
use crate::clock::Timestamp;
use crate::config::{Config, StoreUrl};
use crate::model::{Outcome, RealmId, Trigger};
use crate::outbox::{OutboxRunner, Stats};
use crate::sync::{Engine, EngineError};

/// The loop wakes this often to look at the clock.
const TICK: Duration = Duration::from_secs(1);
/// The loop does nothing that takes longer than an instant; after this much silence it hangs.
const LOOP_SILENCE: Duration = Duration::from_secs(20);
/// The outbox worker looks round every second; a store that is slow to write may hold it up.
const OUTBOX_SILENCE: Duration = Duration::from_secs(120);
/// Housekeeping waits for the store's writer like everybody, and a first load of a million takes its time.
const HOUSEKEEPING_SILENCE: Duration = Duration::from_secs(3600);
/// A run ends itself at its deadline; what then still stands still (an apply of a million is minutes) hangs.
const RUN_GRACE: Duration = Duration::from_secs(900);
/// A store that fails a reload is asked again after this.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);
/// Of the five seconds that a stop may take: for runs and deliveries to commit or roll back,
const RUNS_FAREWELL: Duration = Duration::from_millis(3_700);
/// for the store to close,
const STORE_FAREWELL: Duration = Duration::from_millis(300);
/// and for the last answers to be written.
const ANSWERS_FAREWELL: Duration = Duration::from_millis(600);

/// Runs the daemon until it is told to stop; gives the exit code.
pub async fn run(start: Start) -> u8 {
    // The first thing: from here on no signal is lost, and none kills us in the middle of something.
    let wishes = match Wishes::install() {
        Ok(wishes) => wishes,
        Err(error) => {
            tracing::error!(%error, "cannot install signal handlers: {error}");
            return 1;
        }
    };
    let metrics = Metrics::default();
    let around = Surroundings {
        journal_stream: start
            .environment
            .var("JOURNAL_STREAM")
            .and_then(|value| value.to_str())
            .map(str::to_owned),
        no_color: start
            .environment
            .var("NO_COLOR")
            .is_some_and(|value| !value.is_empty()),
    };
    // An error means that the log is installed already, which is as good.
    let logging = logging::install(&start.config.log, &around, Some(metrics.stage_timer())).ok();
    match serve_until_told(start, wishes, metrics, logging).await {
        Ok(()) => 0,
        Err(failure) => {
            tracing::error!(code = failure.code, "{}", failure.message);
            notify::stopping(&failure.message);
            failure.exit
        }
    }
}

async fn serve_until_told(
    start: Start,
    mut wishes: Wishes,
    metrics: Metrics,
    logging: Option<Logging>,
) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, config = %start.config.path.display(), "realmsync {version} starts with {}", start.config.path.display());
    warn(&start.config, &start.warnings);
    let mut daemon = tokio::select! {
        daemon = Daemon::set_up(start, metrics, logging) => daemon?,
        // A stop while the store is waited for; other wishes make no sense yet.
        () = told_to_stop(&mut wishes) => return Ok(()),
    };
    daemon.turn(&mut wishes).await
}

async fn told_to_stop(wishes: &mut Wishes) {
    while let Some(wish) = wishes.next().await {
        if wish == Wish::Stop {
            return;
        }
    }
}

/// Says loudly what the file allows at the administrator's risk.
fn warn(config: &Config, warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("configuration: {warning}");
    }
    for realm in config
        .realms
        .iter()
        .filter(|realm| realm.directory.insecure_plaintext)
    {
        tracing::warn!(realm = %realm.id, "{}: insecure-plaintext is on: the password and everybody's number cross the network readable and forgeable", realm.id);
    }
}

/// A number in [0, 1) that differs between processes and calls; the spread needs no better.
fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let chance = bits as f64 / (1_u64 << 53) as f64;
    chance
}

/// What runs in a realm.
#[derive(Debug)]
struct Running {
    realm: RealmId,
    cancel: CancellationToken,
    track: Track,
    since: Timestamp,
}

/// A task that lives as long as the daemon.
struct Part {
    name: &'static str,
    /// It was told to end.
    asked: CancellationToken,
}

/// What a task beside the loop brings back.
enum Side {
    After(After),
    Reload(Box<Result<Prepared, String>>),
    Settled(Result<(), EngineError>),
    Nothing,
}

struct Daemon {
    start: Start,
    engine: watch::Sender<Engine>,
    config: watch::Sender<Arc<Config>>,
    metrics: Metrics,
    logging: Option<Logging>,
    stats: Arc<Stats>,
    wake: Arc<Notify>,
    life: Life,
    pulse: Pulse,
    /// The outbox worker's pulse: its rounds as last seen.
    outbox: (Pulse, u64),
    agenda: Agenda<Work>,
    runs: JoinSet<Ended>,
    running: HashMap<Id, Running>,
    side: JoinSet<Side>,
    parts: JoinSet<Part>,
    orders: mpsc::Receiver<Order>,
    api: Api,
    web: Option<Web>,
    /// Runs and deliveries end; nothing new starts.
    stop: CancellationToken,
    /// The control socket closes.
    stop_answers: CancellationToken,
    held: BTreeSet<RealmId>,
    started_at: Timestamp,
    config_read_at: Timestamp,
    reload_error: Option<String>,
    reloading: bool,
    reload_again: bool,
    /// A new configuration is in force but not declared to the store: nothing new starts until it is.
    unsettled: bool,
    settling: bool,
    /// Not before then is it tried again.
    settle_at: Instant,
    status: String,
    /// Held for its life: no other process writes.
    _ledger: Ledger,
}

impl Daemon {
    async fn set_up(
        start: Start,
        metrics: Metrics,
        logging: Option<Logging>,
    ) -> Result<Self, Failure> {
        let config = Arc::clone(&start.config);
        let schedules = reload::schedules(&config)
            .map_err(|why| Failure::coded(crate::model::ErrorCode::Config, why))?;
        let ledger = ledger::open(&config.store, &start.environment, start.clock.now())
            .await
            .map_err(|e| Failure::from(&e))?;
        let store = ledger.store.clone();
        let engine = Engine::new(
            Arc::clone(&config),
            store.clone(),
            start.clock.clone(),
            Arc::new(start.environment.clone()),
        );
        engine.settle_in().await.map_err(|e| Failure::from(&e))?;
        let rows = store.realms().await.map_err(|e| Failure::from(&e))?;
        let now = start.clock.now();
        let stood: BTreeMap<RealmId, Timestamp> = rows
            .iter()
            .filter_map(|row| Some((row.id.clone(), row.last_tick_at?)))
            .collect();
        let mut agenda = Agenda::new(now);
        for (realm, _) in schedules
            .iter()
            .filter(|(realm, _)| !stood.contains_key(realm))
        {
            // From here on a tick can be missed.
            store
                .set_tick(realm, now)
                .await
                .map_err(|e| Failure::from(&e))?;
        }
        agenda.set_realms(
            schedules,
            |realm| stood.get(realm).copied(),
            now,
            &mut chance,
        );
        let key = engine
            .enrolment_key()
            .await
            .map_err(|e| Failure::from(&e))?;
        let ready = Ready::prepare(config.http.as_ref(), None)
            .await
            .map_err(|why| Failure::new("config", 1, why))?;
        let (orders_in, orders) = mpsc::channel(64);
        let life = Life::default();
        let alive = life.clone();
        let mut daemon = Self {
            engine: watch::Sender::new(engine),
            config: watch::Sender::new(Arc::clone(&config)),
            metrics,
            logging,
            stats: Arc::default(),
            wake: Arc::default(),
            pulse: life.part("the daemon's loop", LOOP_SILENCE),
            outbox: (life.part("the outbox", OUTBOX_SILENCE), 0),
            agenda,
            runs: JoinSet::new(),
            running: HashMap::new(),
            side: JoinSet::new(),
            parts: JoinSet::new(),
            orders,
            api: Api {
                orders: orders_in,
                alive: Alive(Arc::new(move || alive.silent().is_none())),
            },
            web: None,
            stop: CancellationToken::new(),
            stop_answers: CancellationToken::new(),
            held: rows
                .iter()
                .filter(|row| row.held.is_some())
                .map(|row| row.id.clone())
                .collect(),
            started_at: now,
            config_read_at: now,
            reload_error: None,
            reloading: false,
            reload_again: false,
            unsettled: false,
            settling: false,
            settle_at: Instant::now(),
            status: String::new(),
            _ledger: ledger,
            life,
            start,
        };
        daemon.start_parts(key);
        daemon.serve_web(ready);
        // Last: whoever finds the socket finds a daemon that works.
        let socket =
            ControlSocket::bind(&config.control_socket)
                .await
                .map_err(|why| match why {
                    crate::api::socket::SocketError::Taken(_) => {
                        Failure::coded(crate::model::ErrorCode::Busy, why.to_string())
                    }
                    _ => Failure::new("config", 1, why.to_string()),
                })?;
        let cancel = daemon.stop_answers.clone();
        daemon.part(
            "control socket",
            &cancel,
            serve::unix(socket, daemon.api.clone(), cancel.clone()),
        );
        Ok(daemon)
    }

    fn start_parts(&mut self, key: crate::store::EnrolmentKey) {
        let runner = OutboxRunner {
            store: self.engine.borrow().store.clone(),
            config: self.config.subscribe(),
            environment: self.start.environment.clone(),
            clock: self.start.clock.clone(),
            key,
            stats: Arc::clone(&self.stats),
        };
        let stop = self.stop.clone();
        self.part(
            "outbox",
            &stop,
            crate::outbox::run(runner, stop.clone(), Arc::clone(&self.wake)),
        );
        let pulse = self.life.part("housekeeping", HOUSEKEEPING_SILENCE);
        self.part(
            "housekeeping",
            &stop,
            housekeeping::run(
                self.engine.subscribe(),
                Arc::clone(&self.wake),
                pulse,
                stop.clone(),
            ),
        );
        let never = CancellationToken::new();
        self.part("watchdog", &never, notify::watchdog(self.life.clone()));
    }

    fn part(
        &mut self,
        name: &'static str,
        asked: &CancellationToken,
        doing: impl Future<Output = ()> + Send + 'static,
    ) {
        let asked = asked.clone();
        self.parts.spawn(async move {
            doing.await;
            Part { name, asked }
        });
    }

    fn serve_web(&mut self, ready: Option<Ready>) {
        if let Some((listener, tls, cancel)) = Web::replace(&mut self.web, ready) {
            self.part(
                "TCP listener",
                &cancel,
                serve::tcp(listener, tls, self.api.clone(), cancel.clone()),
            );
        }
    }

    /// The loop.
    async fn turn(&mut self, wishes: &mut Wishes) -> Result<(), Failure> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        notify::ready(&self.describe());
        tracing::info!("ready: {}", self.describe());
        let ended = loop {
            self.pulse.beat();
            self.feel_outbox();
            self.settle();
            self.start_due();
            self.show_status();
            tokio::select! {
                biased;
                wish = wishes.next() => match wish {
                    Some(Wish::Stop) | None => break Ok(()),
                    Some(Wish::Reload) => self.begin_reload(),
                    Some(Wish::RunAll) => self.run_all(),
                },
                Some(ended) = self.parts.join_next() => match ended {
                    Ok(Part { asked, .. }) if asked.is_cancelled() => {}
                    Ok(Part { name, .. }) => break Err(Failure::new("stopping", 1, format!("{name} ended unasked: the service stops, to be started again"))),
                    Err(error) => break Err(Failure::new("stopping", 1, format!("a part of the service broke off ({error}): the service stops, to be started again"))),
                },
                Some(ended) = self.runs.join_next_with_id() => self.run_ended(ended),
                Some(side) = self.side.join_next() => self.side_ended(side),
                Some(order) = self.orders.recv() => self.order(order),
                _now = tick.tick() => {}
            }
        };
        self.farewell().await;
        ended
    }

    /// The worker's rounds are its signs of life.
    fn feel_outbox(&mut self) {
        let turns = self.stats.turns();
        if turns != self.outbox.1 {
            self.outbox.0.beat();
            self.outbox.1 = turns;
        }
    }

    /// Starts what the agenda says.
    fn start_due(&mut self) {
        if self.unsettled {
            return;
        }
        let now = self.start.clock.now();
        for (realm, next) in self.agenda.take(now, &mut chance) {
            let engine = self.engine.borrow().clone();
            let cancel = self.stop.child_token();
            let deadline = engine
                .config
                .realms
                .iter()
                .find(|r| r.id == realm)
                .map_or(3_600_000, |r| r.directory.run_timeout_ms);
            let allowed = Duration::from_millis(u64::try_from(deadline).unwrap_or(0)) + RUN_GRACE;
            let pulse = self.life.part(format!("the run in {realm}"), allowed);
            let track = match &next {
                Next::Asked(work) => work.track.clone(),
                Next::Scheduled { .. } => Track::default(),
            };
            let running = Running {
                realm: realm.clone(),
                cancel: cancel.clone(),
                track: track.clone(),
                since: now,
            };
            let handle = match next {
                Next::Asked(work) => self
                    .runs
                    .spawn(work::carry_out(engine, realm, work, cancel, pulse)),
                Next::Scheduled { tick, before } => self.runs.spawn(work::scheduled(
                    engine, realm, tick, before, track, cancel, pulse,
                )),
            };
            self.running.insert(handle.id(), running);
        }
    }

    fn run_ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(Running { realm, .. }) = self.running.remove(&id) else {
            return;
        };
        // Whatever it did, there may be messages.
        self.wake.notify_one();
        match ended {
            Ok(Ended::NotNow { before }) => {
                self.agenda.put_back(&realm, before, self.start.clock.now())
            }
            Ok(Ended::Done(run)) => {
                self.agenda.ended(&realm);
                if let Some(run) = run {
                    self.metrics.run_ended(&run);
                    match run.outcome {
                        Outcome::Held => self.held.insert(realm),
                        Outcome::Failed | Outcome::Cancelled | Outcome::Running => false,
                        _ => self.held.remove(&realm),
                    };
                }
            }
            Err(error) => {
                // One realm's fault must not stop the others; what it left is swept like after a crash.
                tracing::error!(%realm, %error, "{realm}: the run broke off: {error}; nothing of it was applied. This is a fault of realmsync: please report it with the log");
                self.agenda.ended(&realm);
            }
        }
    }

    fn side_ended(&mut self, side: Result<Side, JoinError>) {
        match side {
            Ok(Side::After(After::Nothing) | Side::Nothing) => {}
            Ok(Side::After(After::Look(realm))) => {
                self.agenda.look_now(&realm, self.start.clock.now())
            }
            Ok(Side::After(After::Enqueue(realm, work, lines))) => {
                self.enqueue(&realm, *work, lines)
            }
            Ok(Side::Reload(prepared)) => self.take_over(*prepared),
            Ok(Side::Settled(settled)) => self.settled(settled),
            Err(error) => {
                tracing::error!(%error, "a request broke off: {error}. This is a fault of realmsync: please report it with the log");
                // Whichever it was, nothing waits for it for ever.
                self.settling = false;
                if std::mem::take(&mut self.reloading) {
                    notify::ready(&self.describe());
                }
            }
        }
    }

    fn order(&mut self, order: Order) {
        let Order { what, by, lines } = order;
        match what {
            What::Sync(realm, ask) => {
                self.in_realm(&realm, Task::Pass(Trigger::Command, ask), by, lines)
            }
            What::Plan(realm, ask) => self.in_realm(&realm, Task::Plan(ask), by, lines),
            what => {
                let desk = self.desk();
                self.side.spawn(async move {
                    Side::After(desk.answer(Order { what, by, lines }).await)
                });
            }
        }
    }

    /// A work for a realm of the configuration.
    fn in_realm(
        &mut self,
        realm: &RealmId,
        task: Task,
        by: Option<String>,
        lines: mpsc::Sender<Line>,
    ) {
        let config = self.config.borrow().clone();
        if config.realms.iter().any(|known| known.id == *realm) {
            self.enqueue(realm, Work::new(task, by), lines);
        } else {
            let failure = Line::Error(no_such_realm(realm, &config));
            self.side.spawn(async move {
                let _gone = lines.send(failure).await;
                Side::Nothing
            });
        }
    }

    fn enqueue(&mut self, realm: &RealmId, mut work: Work, lines: mpsc::Sender<Line>) {
        let relay = match self
            .agenda
            .newest_waiting(realm)
            .filter(|waiting| waiting.joins(&work.task, work.by.as_deref()))
        {
            Some(waiting) => {
                waiting.by = work.by;
                waiting.listen(lines)
            }
            None => {
                let relay = work.listen(lines);
                self.agenda.push(realm, self.start.clock.now(), work);
                relay
            }
        };
        self.side.spawn(async move {
            relay.await;
            Side::Nothing
        });
    }

    /// SIGUSR1: one pass in each realm, after what is under way.
    fn run_all(&mut self) {
        let now = self.start.clock.now();
        let realms: Vec<RealmId> = self
            .config
            .borrow()
            .realms
            .iter()
            .map(|realm| realm.id.clone())
            .collect();
        tracing::info!("asked by signal: a pass in each of {} realms", realms.len());
        for realm in realms {
            let work = Work::new(Task::Pass(Trigger::Signal, SyncRequest::default()), None);
            if self
                .agenda
                .newest_waiting(&realm)
                .is_none_or(|waiting| !waiting.joins(&work.task, None))
            {
                self.agenda.push(&realm, now, work);
            }
        }
    }

    fn begin_reload(&mut self) {
        if self.reloading || self.unsettled {
            self.reload_again = true;
            return;
        }
        self.reloading = true;
        notify::reloading();
        tracing::info!("reading the configuration again");
        let (read, old, bound) = (
            Arc::clone(&self.start.reload),
            self.config.borrow().clone(),
            self.web.as_ref().map(Web::address),
        );
        self.side
            .spawn(async move { Side::Reload(Box::new(reload::prepare(read, old, bound).await)) });
    }

    /// Puts a new configuration in force, or says why not.
    fn take_over(&mut self, prepared: Result<Prepared, String>) {
        self.reloading = false;
        let Prepared {
            config,
            warnings,
            schedules,
            web,
        } = match prepared {
            Ok(prepared) => prepared,
            Err(why) => {
                tracing::error!(
                    "the new configuration is refused, the old one stays in force: {why}"
                );
                self.metrics.reloaded(false);
                self.reload_error = Some(why);
                self.reload_over();
                return;
            }
        };
        warn(&config, &warnings);
        let now = self.start.clock.now();
        if let Some(logging) = &self.logging {
            logging.set_level(config.log.level);
        }
        self.serve_web(web);
        for running in self.running.values() {
            if !config.realms.iter().any(|realm| realm.id == running.realm) {
                tracing::warn!(realm = %running.realm, "{}: left the configuration, its run is stopped", running.realm);
                running.cancel.cancel();
            }
        }
        // Realms that come back and new ones alike begin now; ticks of a former life are past.
        self.agenda
            .set_realms(schedules, |_| None, now, &mut chance);
        self.engine.send_modify(|engine| {
            *engine = Engine::new(
                Arc::clone(&config),
                engine.store.clone(),
                engine.clock.clone(),
                Arc::clone(&engine.env),
            )
        });
        self.config.send_replace(config);
        self.config_read_at = now;
        self.reload_error = None;
        self.unsettled = true;
    }

    /// Declares a new configuration to the store once no run of a realm that left is under way.
    fn settle(&mut self) {
        if !self.unsettled || self.settling || Instant::now() < self.settle_at {
            return;
        }
        let config = self.config.borrow().clone();
        let leaving = self
            .running
            .values()
            .any(|running| !config.realms.iter().any(|realm| realm.id == running.realm));
        if leaving {
            return;
        }
        self.settling = true;
        self.settle_at = Instant::now() + SETTLE_AGAIN;
        let (engine, now) = (self.engine.borrow().clone(), self.start.clock.now());
        self.side.spawn(async move {
            let settled = async {
                engine.settle_in().await?;
                for row in engine.store.realms().await? {
                    if row.last_tick_at.is_none() && !row.orphaned {
                        engine.store.set_tick(&row.id, now).await?;
                    }
                }
                Ok(())
            };
            Side::Settled(settled.await)
        });
    }

    fn settled(&mut self, settled: Result<(), EngineError>) {
        self.settling = false;
        match settled {
            Ok(()) => {
                self.unsettled = false;
                self.metrics.reloaded(true);
                tracing::info!("the new configuration is in force: {}", self.describe());
                self.reload_over();
            }
            // Tried again soon; until then nothing starts.
            Err(error) => {
                tracing::error!(%error, "the new configuration cannot be declared to the store: {error}")
            }
        }
    }

    fn reload_over(&mut self) {
        notify::ready(&self.describe());
        if std::mem::take(&mut self.reload_again) {
            self.begin_reload();
        }
    }

    fn desk(&self) -> Desk {
        let engine = self.engine.borrow().clone();
        let mut live: BTreeMap<RealmId, Live> = BTreeMap::new();
        for realm in &engine.config.realms {
            live.entry(realm.id.clone()).or_default().next_run_at =
                self.agenda.next_start(&realm.id);
        }
        for running in self.running.values() {
            let progress = *running.track.progress.borrow();
            let status = RunningStatus {
                since: running.since,
                seen: progress.seen,
                expected: progress.expected,
            };
            live.entry(running.realm.clone()).or_default().running = Some(status);
        }
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at: self.started_at,
            config: self.start.config.path.clone(),
            config_read_at: self.config_read_at,
            reload_error: self.reload_error.clone(),
            receivers: serde_json::to_value(self.stats.snapshot().targets).unwrap_or_default(),
        };
        let unscheduled = engine
            .config
            .realms
            .iter()
            .filter(|realm| self.agenda.next_start(&realm.id).is_none());
        let mut not_ready: Vec<String> = unscheduled
            .map(|realm| {
                format!(
                    "{}: the schedule `{}` never comes",
                    realm.id, realm.schedule
                )
            })
            .collect();
        if self.unsettled {
            not_ready.push("a new configuration is being put in force".into());
        }
        Desk {
            metrics: self.metrics.clone(),
            stats: Arc::clone(&self.stats),
            wake: Arc::clone(&self.wake),
            engine,
            live,
            daemon,
            not_ready,
        }
    }

    /// One line for `systemctl status`.
    fn describe(&self) -> String {
        let realms = self.config.borrow().realms.len();
        let mut said = format!("{realms} {}", if realms == 1 { "realm" } else { "realms" });
        if let Some(why) = self
            .reload_error
            .as_deref()
            .and_then(|why| why.lines().next())
        {
            said = format!("the last reload was refused ({why}); {said}");
        }
        let mut running: Vec<&str> = self
            .running
            .values()
            .map(|running| running.realm.as_str())
            .collect();
        running.sort_unstable();
        if !running.is_empty() {
            said += &format!("; running: {}", running.join(", "));
        }
        if !self.held.is_empty() {
            let held: Vec<&str> = self.held.iter().map(RealmId::as_str).collect();
            said += &format!("; a plan waits for a decision in {}", held.join(", "));
        }
        if let Some((realm, at)) = self.agenda.first() {
            said += &format!("; next: {realm} at {at}");
        }
        said
    }

    fn show_status(&mut self) {
        let now = self.describe();
        if now != self.status && !self.reloading && !self.unsettled {
            notify::status(&now);
            self.status = now;
        }
    }

    /// Nothing new starts; what runs commits or rolls back; who waits is told; all within five seconds.
    async fn farewell(&mut self) {
        let deadline = Instant::now() + RUNS_FAREWELL;
        notify::stopping(&format!(
            "stopping; {} runs under way commit or roll back",
            self.running.len()
        ));
        tracing::info!(
            running = self.running.len(),
            "stopping: {} runs under way commit or roll back",
            self.running.len()
        );
        self.orders.close();
        self.stop.cancel();
        let failure = Failure::new(
            "stopping",
            1,
            "the daemon is stopping; try again when it is back",
        );
        for work in self.agenda.drain_waiting() {
            work.refuse(&failure);
        }
        while let Ok(Some(ended)) = timeout_at(deadline, self.runs.join_next_with_id()).await {
            self.run_ended(ended);
        }
        for running in self.running.values() {
            tracing::warn!(realm = %running.realm, "{}: the run did not end in time; its transaction is rolled back", running.realm);
        }
        self.runs.shutdown().await;
        self.running.clear();
        // Answers are passed on by tasks beside the loop; those that ask the store have had their time.
        let answers = async { while self.side.join_next().await.is_some() {} };
        let _told = timeout(Duration::from_millis(300), answers).await;
        self.stop_answers.cancel();
        if let Some(web) = &self.web {
            web.cancel.cancel();
        }
        let rest = deadline.max(Instant::now()) + ANSWERS_FAREWELL;
        // The watchdog never ends; all others do.
        while self.parts.len() > 1 && timeout_at(rest, self.parts.join_next()).await.is_ok() {}
        self.parts.shutdown().await;
        // The log of the store is folded into its file, so that a copy of the file alone is whole.
        let store = self.engine.borrow().store.clone();
        let _closed = timeout(STORE_FAREWELL, store.close()).await;
        let store = match &self.start.config.store.url {
            StoreUrl::Sqlite(path) => path.display().to_string(),
            StoreUrl::Postgres { display, .. } => display.clone(),
        };
        tracing::info!(store, "stopped");
    }
}

#[cfg(test)]
mod tests;
