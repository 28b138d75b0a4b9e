//! The daemon's loop: starts everything, hears signals, orders and ends, and stops everything.

mod deltas;
mod keepers;
mod reloading;
mod runs;
mod self_report;
mod siblings;
mod soft_stop;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::keepers::Keepers;
use super::agenda::Agenda;
use super::desk::FollowUp;
use super::jitter::chance;
use super::ledger::{self, Ledger};
use super::lifecycle::{Wish, Wishes};
use super::logging::{self, Logging, Surroundings};
use super::metrics::Metrics;
use super::pulses::{Life, Pulse};
use super::reload::{self, PreparedReload};
use super::takeover::{self, TickMove};
use super::web::{Ready, ToServe, Web};
use super::work::{Track, Work, WorkOutcome};
use super::{Start, housekeeping, notify, operations, searches};
use crate::acts::{ActFailure, FailureKind};
use crate::api::socket::ControlSocket;
use crate::api::{Alive, Api, Order, serve};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::model::{ErrorCode, RealmId};
use crate::outbox::{OutboxRunner, Stats};
use crate::runs::RunError;
use crate::sync::Engine;
use crate::verification::{self, Verifier, VerifyQueue};

/// The loop wakes this often to look at the clock.
const TICK: Duration = Duration::from_secs(1);
/// The loop does nothing that takes longer than an instant; after this much silence it hangs.
const LOOP_SILENCE: Duration = Duration::from_secs(20);
/// The outbox worker looks round every second; a store that is slow to write may hold it up.
const OUTBOX_SILENCE: Duration = Duration::from_mins(2);
/// Housekeeping waits for the store's writer like everybody, and a first load of a million takes its time.
const HOUSEKEEPING_SILENCE: Duration = Duration::from_hours(1);

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
) -> Result<(), ActFailure> {
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

/// What runs in a realm.
#[derive(Debug)]
struct RunningWork {
    realm: RealmId,
    cancel: CancellationToken,
    track: Track,
    since: Timestamp,
    /// A keeper asked for it, not a person or the schedule.
    polled: bool,
    /// Once it is done, a run of the realm is made at once.
    then_due: bool,
}

/// A task that lives as long as the daemon.
struct DaemonTask {
    name: &'static str,
    /// It was told to end.
    asked: CancellationToken,
}

/// What a task beside the loop brings back.
enum TaskResult {
    After(FollowUp),
    Reload(Box<Result<PreparedReload, String>>),
    Declared(Result<(), RunError>),
    /// Realms that another one let go of people for.
    Due(Vec<RealmId>),
    Nothing,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own: a reload is read, wanted again, undeclared, being declared"
)]
struct Daemon {
    start: Start,
    engine: watch::Sender<Engine>,
    config: watch::Sender<Arc<Config>>,
    metrics: Metrics,
    logging: Option<Logging>,
    stats: Arc<Stats>,
    wake: Arc<Notify>,
    /// Tells that there may be an operation to work off.
    work: Arc<Notify>,
    life: Life,
    pulse: Pulse,
    /// The outbox worker's pulse: its rounds as last seen.
    outbox: (Pulse, u64),
    agenda: Agenda<Work>,
    runs: JoinSet<WorkOutcome>,
    running: HashMap<Id, RunningWork>,
    side: JoinSet<TaskResult>,
    parts: JoinSet<DaemonTask>,
    keepers: Keepers,
    orders: mpsc::Receiver<Order>,
    /// Ticks that other daemons did, or left.
    moved: mpsc::Receiver<TickMove>,
    api: Api,
    /// How verifications stand.
    verifying: Arc<verification::Health>,
    web: Option<Web>,
    /// Runs and deliveries end; nothing new starts.
    stop: CancellationToken,
    /// The control socket closes.
    stop_answers: CancellationToken,
    held: BTreeSet<RealmId>,
    started_at: Timestamp,
    config_read_at: Timestamp,
    reload_error: Option<String>,
    reload_refused_at: Option<Timestamp>,
    reloading: bool,
    reload_again: bool,
    /// A new configuration is in force but not declared to the store: nothing new starts until it is.
    undeclared: bool,
    declaring: bool,
    /// Not before then is it tried again.
    declare_at: Instant,
    status: String,
    /// Held for its life: no other process writes.
    _ledger: Ledger,
}

impl Daemon {
    async fn set_up(
        start: Start,
        metrics: Metrics,
        logging: Option<Logging>,
    ) -> Result<Self, ActFailure> {
        let config = Arc::clone(&start.config);
        let timetables =
            reload::timetables(&config).map_err(|why| ActFailure::coded(ErrorCode::Config, why))?;
        let ledger = ledger::open(&config.store, &start.environment, start.clock.now())
            .await
            .map_err(|e| ActFailure::from(&e))?;
        let store = ledger.store.clone();
        let engine = Engine::new(
            Arc::clone(&config),
            store.clone(),
            start.clock.clone(),
            Arc::new(start.environment.clone()),
        );
        let now = start.clock.now();
        // Whether it is the right one is better known now than when somebody's number changes.
        engine.take_key().await.map_err(|e| ActFailure::from(&e))?;
        let mut side = JoinSet::new();
        let declared = Self::declare_at_start(&engine, now, &mut side)
            .await
            .map_err(|e| ActFailure::from(&e))?;
        let rows = store.realms().await.map_err(|e| ActFailure::from(&e))?;
        let stood: BTreeMap<RealmId, Timestamp> = rows
            .iter()
            .filter_map(|row| Some((row.id.clone(), row.last_tick_at?)))
            .collect();
        let mut agenda = Agenda::new(now);
        agenda.set_realms(
            timetables,
            |realm| stood.get(realm).copied(),
            now,
            &mut chance,
        );
        let ready = Ready::prepare(config.http.as_ref(), None)
            .await
            .map_err(|why| ActFailure::new(FailureKind::NotInForce, why))?;
        let (orders_in, orders) = mpsc::channel(64);
        let (moved_in, moved) = mpsc::channel(64);
        let life = Life::default();
        let alive = life.clone();
        let engine = watch::Sender::new(engine);
        let (verifier, verifications) = Verifier::new();
        let alive = Alive(Arc::new(move || alive.silent().is_none()));
        let mut daemon = Self {
            api: Api::new(orders_in, alive, engine.subscribe(), verifier),
            engine,
            config: watch::Sender::new(Arc::clone(&config)),
            metrics,
            logging,
            stats: Arc::default(),
            wake: Arc::default(),
            work: Arc::default(),
            pulse: life.part("the daemon's loop", LOOP_SILENCE),
            outbox: (life.part("the outbox", OUTBOX_SILENCE), 0),
            agenda,
            runs: JoinSet::new(),
            running: HashMap::new(),
            declaring: !side.is_empty(),
            side,
            parts: JoinSet::new(),
            keepers: Keepers::default(),
            orders,
            moved,
            verifying: Arc::default(),
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
            reload_refused_at: None,
            reloading: false,
            reload_again: false,
            undeclared: !declared,
            declare_at: Instant::now(),
            status: String::new(),
            _ledger: ledger,
            life,
            start,
        };
        daemon.start_parts(moved_in, verifications);
        daemon.serve_web(ready);
        // Last: whoever finds the socket finds a daemon that works.
        let socket =
            ControlSocket::bind(&config.control_socket)
                .await
                .map_err(|why| match why {
                    crate::api::socket::SocketError::Taken(_) => {
                        ActFailure::coded(ErrorCode::Busy, why.to_string())
                    }
                    _ => ActFailure::new(FailureKind::NotInForce, why.to_string()),
                })?;
        let cancel = daemon.stop_answers.clone();
        daemon.part(
            "control socket",
            &cancel,
            serve::unix(socket, daemon.api.clone(), cancel.clone()),
        );
        Ok(daemon)
    }

    fn start_parts(&mut self, moved: mpsc::Sender<TickMove>, verifications: VerifyQueue) {
        let runner = OutboxRunner {
            store: self.engine.borrow().store.clone(),
            config: self.config.subscribe(),
            environment: self.start.environment.clone(),
            clock: self.start.clock.clone(),
            stats: Arc::clone(&self.stats),
        };
        let stop = self.stop.clone();
        self.part(
            "outbox",
            &stop,
            crate::outbox::run(runner, stop.clone(), Arc::clone(&self.wake)),
        );
        self.part(
            "verification",
            &stop,
            verification::run(
                self.engine.subscribe(),
                verifications,
                Arc::clone(&self.verifying),
                stop.clone(),
            ),
        );
        let pulse = self.life.part("housekeeping", HOUSEKEEPING_SILENCE);
        self.part(
            "housekeeping",
            &stop,
            housekeeping::run(
                self.engine.subscribe(),
                Arc::clone(&self.wake),
                moved.clone(),
                Arc::clone(&self.verifying),
                pulse,
                stop.clone(),
            ),
        );
        let pulse = self.life.part("operations", HOUSEKEEPING_SILENCE);
        self.part(
            "operations",
            &stop,
            operations::run(
                self.engine.subscribe(),
                (Arc::clone(&self.work), Arc::clone(&self.wake)),
                pulse,
                stop.clone(),
            ),
        );
        let pulse = self.life.part("searches", HOUSEKEEPING_SILENCE);
        self.part(
            "searches",
            &stop,
            searches::run(self.engine.subscribe(), pulse, stop.clone()),
        );
        if !self.engine.borrow().store.single_daemon() {
            let pulse = self.life.part("takeover", HOUSEKEEPING_SILENCE);
            self.part(
                "takeover",
                &stop,
                takeover::run(self.engine.subscribe(), moved, pulse, stop.clone()),
            );
        }
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
            DaemonTask { name, asked }
        });
    }

    fn serve_web(&mut self, ready: Option<Ready>) {
        if let Some(ToServe {
            listener,
            tls,
            cancel,
        }) = Web::replace(&mut self.web, ready)
        {
            let pages = crate::console::pages(self.engine.subscribe());
            self.part(
                "TCP listener",
                &cancel,
                serve::tcp(listener, tls, self.api.clone(), pages, cancel.clone()),
            );
        }
    }

    /// The loop.
    async fn turn(&mut self, wishes: &mut Wishes) -> Result<(), ActFailure> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        notify::ready(&self.describe());
        tracing::info!("ready: {}", self.describe());
        self.look_who_is_due();
        let ended = loop {
            self.pulse.beat();
            self.feel_outbox();
            self.declare_realms();
            self.keep();
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
                    Ok(DaemonTask { asked, .. }) if asked.is_cancelled() => {}
                    Ok(DaemonTask { name, .. }) => break Err(ActFailure::new(FailureKind::Stopping, format!("{name} ended unasked: the service stops, to be started again"))),
                    Err(error) => break Err(ActFailure::new(FailureKind::Stopping, format!("a part of the service broke off ({error}): the service stops, to be started again"))),
                },
                Some(ended) = self.runs.join_next_with_id() => self.run_ended(ended),
                heard = self.keepers.hear() => self.heard(heard),
                Some(side) = self.side.join_next() => self.side_ended(side),
                Some(order) = self.orders.recv() => self.order(order),
                Some(moved) = self.moved.recv() => self.tick_moved(moved),
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

    fn side_ended(&mut self, side: Result<TaskResult, JoinError>) {
        match side {
            Ok(TaskResult::After(FollowUp::Nothing) | TaskResult::Nothing) => {}
            Ok(TaskResult::After(FollowUp::Look(realm))) => {
                self.agenda.look_now(&realm, self.start.clock.now());
                self.keepers.turn(&realm, None);
            }
            Ok(TaskResult::After(FollowUp::Enqueue(realm, work, lines))) => {
                self.enqueue(&realm, *work, lines);
            }
            Ok(TaskResult::Reload(prepared)) => self.put_in_force(*prepared),
            Ok(TaskResult::Declared(declared)) => {
                self.declared(declared);
                self.look_who_is_due();
            }
            Ok(TaskResult::Due(realms)) => realms.iter().for_each(|realm| self.is_due(realm)),
            Err(error) => {
                logging::broke_off(&error);
                // Whichever it was, nothing waits for it for ever.
                self.declaring = false;
                if std::mem::take(&mut self.reloading) {
                    notify::ready(&self.describe());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
