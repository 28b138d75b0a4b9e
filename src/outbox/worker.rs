//! The worker: claims in batches, sends side by side, settles in batches. It decides nothing about a message that
//! `delivery::verdict`, `backoff` or the store's rules do not say. What it does beside sending is in `upkeep`.

mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::backoff::delay_ms;
use super::begin::{SendCheck, SendDecision};
use super::stats::{Count, Stats};
use super::targets::{Targets, receiver};
use super::time::Time;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Environment};
use crate::delivery::{Attempt, Verdict};
use crate::model::message_rules::AttemptEnd;
use crate::model::{Job, JobId, RealmId};
use crate::store::{Fate, Overdue, Settlement, Store, StoreError};

/// A daemon that died is noticed after this long, and its messages are sent by another.
const LEASE_MS: i64 = 15_000;
/// How often what others left is looked for, and receivers that could not be used are tried again.
const SWEEP: Duration = Duration::from_secs(2);
/// Beyond that, so much at most, another for each daemon.
const SWEEP_APART: Duration = Duration::from_millis(300);
/// What a daemon that died was sending is with another after less than half a minute, however its looks and its turns fall.
const _: () = assert!(
    LEASE_MS as u128
        + Overdue::LOOKS as u128 * (SWEEP.as_millis() + SWEEP_APART.as_millis() + IDLE.as_millis())
        <= 25_000
);
/// Leases are moved on three times as often as they need to be.
const RENEW: Duration = Duration::from_secs(5);
/// Longest sleep: on PostgreSQL, jobs are also made by other processes, which cannot wake this one.
const IDLE: Duration = Duration::from_secs(1);
/// Shortest sleep while messages are due that cannot go yet, since older ones of the same user are under way.
const BLOCKED: Duration = Duration::from_millis(250);
/// Of the five seconds that a stop may take, those for attempts under way.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// And those for writing down how they ended.
const LAST_SETTLE: Duration = Duration::from_secs(1);
/// Meanwhile, what somebody had locked is tried again after this.
const LAST_AGAIN: Duration = Duration::from_millis(50);

/// What the worker needs.
#[derive(Clone, Debug)]
pub struct OutboxRunner {
    /// The store.
    pub store: Store,
    /// The configuration; a reload sends a new one.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where secrets are resolved.
    pub environment: Environment,
    /// The time.
    pub clock: Clock,
    /// Where the numbers go.
    pub stats: Arc<Stats>,
}

/// What [`deliver_waiting`] did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Delivered {
    /// Accepted messages.
    pub delivered: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Attempts that failed and wait to be repeated.
    pub again: u64,
    /// Messages given up.
    pub dead: u64,
}

/// The daemon's worker: sends until `cancel`, then stops within five seconds. `wake` says that there are new jobs.
pub async fn run(runner: OutboxRunner, cancel: CancellationToken, wake: Arc<Notify>) {
    let mut worker = Worker::new(runner, cancel.child_token());
    let mut config = worker.runner.config.clone();
    let mut first = true;
    loop {
        worker.runner.stats.turn();
        if first || config.has_changed().unwrap_or(false) {
            let new = config.borrow_and_update().clone();
            worker.targets.reconfigure(new, &worker.runner.environment);
        }
        let wait = match worker.turn(first).await {
            Ok(turn) => {
                first = false;
                turn.wait
            }
            Err(error) => {
                worker.time.forget();
                tracing::error!(%error, "the outbox cannot use the store, and tries again: {error}");
                IDLE
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(done) = worker.tasks.join_next_with_id() => worker.note(done),
            () = wake.notified() => {}
            Ok(()) = config.changed() => config.mark_changed(),
            () = tokio::time::sleep(wait) => {}
        }
    }
    worker.stop().await;
}

/// Sends what is due now, once (`sync --deliver`): until nothing is due, or what is due cannot go. For a process that holds
/// the store's lock, and so takes over what a killed one left, for which it stays some seconds longer on PostgreSQL; not beside
/// [`run`], which is woken instead.
///
/// # Errors
/// When the store fails; what was under way is then settled by whoever comes next.
pub async fn deliver_waiting(
    runner: OutboxRunner,
    cancel: CancellationToken,
) -> Result<Delivered, StoreError> {
    let before = runner.stats.snapshot();
    let stats = runner.stats.clone();
    let mut worker = Worker::new(runner, cancel.child_token());
    let config = worker.runner.config.borrow().clone();
    worker
        .targets
        .reconfigure(config, &worker.runner.environment);
    let mut first = true;
    let result = loop {
        match worker.turn(first).await {
            Err(error) => break Err(error),
            Ok(turn) if turn.idle => break Ok(()),
            Ok(_) => first = false,
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => break Ok(()),
            Some(done) = worker.tasks.join_next_with_id() => worker.note(done),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    };
    worker.stop().await;
    let after = stats.snapshot();
    result.map(|()| Delivered {
        delivered: after.delivered - before.delivered,
        refused: after.refused - before.refused,
        again: after.again - before.again,
        dead: after.dead - before.dead,
    })
}

/// How the turn of one message ended.
enum TaskEnd {
    /// With an attempt.
    Attempt(Attempt),
    /// None was begun; and why, unless it is as it was.
    Untried(Option<SendDecision>),
    /// The task broke off; whether the message arrived is unknown.
    Broken,
}

/// What a turn came to.
struct RoundOutcome {
    /// How long nothing needs to be done, unless something happens.
    wait: Duration,
    /// Nothing is under way, nothing is to be settled, and nothing could be taken.
    idle: bool,
}

struct Worker {
    runner: OutboxRunner,
    cancel: CancellationToken,
    /// Whose leases these are.
    owner: String,
    beginning: Arc<SendCheck>,
    targets: Targets,
    tasks: JoinSet<TaskEnd>,
    /// Claimed jobs whose attempt has not ended, each by the task that has it: a job whose lease was over may have been claimed again
    /// while its first attempt is still under way.
    under_way: HashMap<Id, (u64, Job)>,
    /// Attempts that ended and are not written down yet.
    ended: Vec<Settlement>,
    renew_at: Instant,
    swept: Option<Instant>,
    sweep_every: Duration,
    overdue: Overdue,
    time: Time,
    unknown_said: HashSet<String>,
    looked_for_unknown: Option<Instant>,
}

impl Worker {
    fn new(runner: OutboxRunner, cancel: CancellationToken) -> Self {
        let id = uuid::Uuid::now_v7();
        let owner = format!("{} {id}", runner.store.process_name());
        // Two daemons that looked at the same moment each time would see each other's locks.
        let apart = SWEEP_APART.mul_f64(f64::from(id.as_bytes()[15]) / 255.0);
        let beginning = Arc::new(SendCheck::new(
            runner.store.clone(),
            runner.config.clone(),
            runner.environment.clone(),
            owner.clone(),
        ));
        Self {
            runner,
            cancel,
            owner,
            beginning,
            targets: Targets::default(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            ended: Vec::new(),
            renew_at: Instant::now() + RENEW,
            swept: None,
            sweep_every: SWEEP + apart,
            overdue: Overdue::default(),
            time: Time::default(),
            unknown_said: HashSet::new(),
            looked_for_unknown: None,
        }
    }

    /// One turn: write down what ended, look after leases, take what may go now. `start`: the first of a daemon.
    async fn turn(&mut self, start: bool) -> Result<RoundOutcome, StoreError> {
        while let Some(done) = self.tasks.try_join_next_with_id() {
            self.note(done);
        }
        let now = self.runner.clock.now();
        let ours: Vec<RealmId> = {
            let config = self.runner.config.borrow();
            config.realms.iter().map(|r| r.id.clone()).collect()
        };
        let sending = self.runner.store.sending_realms(&ours, now).await?;
        // First of all: by a clock that was just set, messages would be given up.
        self.keep_time(&sending).await?;
        self.settle().await?;
        self.renew(now).await?;
        if self.swept.is_none_or(|at| at.elapsed() > self.sweep_every) {
            self.sweep(start, &sending, now).await?;
        }
        let (taken, wait) = self.take(&sending, now).await?;
        self.runner
            .stats
            .show(self.targets.views(&sending, &self.runner.clock));
        let wait = if self.ended.is_empty() { wait } else { BLOCKED };
        Ok(RoundOutcome {
            wait,
            idle: taken == 0
                && self.under_way.is_empty()
                && self.ended.is_empty()
                && !self.overdue.waits(),
        })
    }

    /// Claims what may go now, and sends it. Gives how many, and how long to wait for the next.
    async fn take(
        &mut self,
        sending: &[RealmId],
        now: Timestamp,
    ) -> Result<(usize, Duration), StoreError> {
        let mut taken = 0;
        let mut wait = IDLE;
        for i in 0..self.targets.all.len() {
            let target = &self.targets.all[i];
            let room = target.room(self.runner.clock.steady());
            if room == 0 {
                continue;
            }
            let here = self.targets.realms_of(target, sending);
            let mut realms: Vec<RealmId> = Vec::new();
            let mut next: Option<Timestamp> = None;
            for (realm, due) in self.runner.store.next_due(&here).await? {
                if due <= now {
                    realms.push(realm);
                } else {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            if let Some(next) = next {
                wait = wait.min(Duration::from_millis(
                    u64::try_from(next.since_ms(now)).unwrap_or(0),
                ));
            }
            if realms.is_empty() {
                continue;
            }
            target.turn_of(&mut realms);
            let jobs = self
                .runner
                .store
                .claim(&self.owner, &realms, now, LEASE_MS, room)
                .await?;
            if !jobs.is_empty() {
                crate::failpoint::hit("outbox.claimed");
            }
            if jobs.len() < room {
                wait = wait.min(BLOCKED);
            }
            taken += jobs.len();
            if let Some(last) = jobs.last() {
                self.targets.all[i].last = Some(last.realm.clone());
            }
            for job in jobs {
                self.begin(i, job);
            }
        }
        Ok((taken, wait))
    }

    fn begin(&mut self, target: usize, job: Job) {
        let target = &mut self.targets.all[target];
        let (Ok(webhook), Some(body)) = (target.webhook.clone(), job.body.clone()) else {
            let ending = if job.body.is_none() {
                AttemptEnd::Final("its body was erased".into())
            } else {
                AttemptEnd::NotTried
            };
            self.ended.push(Settlement {
                job,
                ending,
                now: self.runner.clock.now(),
            });
            return;
        };
        let (id, target_id) = (job.id, target.id);
        let turns = target.turns.clone();
        let (cancel, clock) = (self.cancel.clone(), self.runner.clock.clone());
        let (beginning, claimed) = (Arc::clone(&self.beginning), job.clone());
        target.under_way += 1;
        let task = self.tasks.spawn(async move {
            crate::failpoint::hit("outbox.task");
            let permit = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                permit = turns.acquire_owned() => permit.ok(),
            };
            // Its turn may come long after it was taken.
            let go = match &permit {
                Some(_) => tokio::select! {
                    biased;
                    () = cancel.cancelled() => None,
                    go = beginning.look(&claimed, &body) => Some(go),
                },
                None => None,
            };
            match go {
                Some(SendDecision::Send(body)) => TaskEnd::Attempt(
                    webhook
                        .send(id, &body, claimed.uncertain, clock.now())
                        .await,
                ),
                other => TaskEnd::Untried(other),
            }
        });
        self.under_way.insert(task.id(), (target_id, job));
    }

    /// Notes how an attempt ended.
    fn note(&mut self, done: Result<(Id, TaskEnd), JoinError>) {
        let task = match &done {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some((target, job)) = self.under_way.remove(&task) else {
            return;
        };
        let end = match done {
            Ok((_, end)) => end,
            Err(error) => {
                tracing::error!(job = %job.id, %error, "sending a message broke off: {error}; it is sent again with the same key. This is a fault of realmsync: please report it with the log");
                TaskEnd::Broken
            }
        };
        let (now, steady) = (self.runner.clock.now(), self.runner.clock.steady());
        let chance = chance(job.id, job.attempts);
        let target = self.targets.find(target);
        let attempt = match end {
            TaskEnd::Attempt(attempt) => attempt,
            TaskEnd::Broken => {
                if let Some(target) = target {
                    target.under_way -= 1;
                }
                // Not at once: what broke it off may do so again.
                let ending = AttemptEnd::Again {
                    why: "sending it broke off; whether it arrived is unknown".to_owned(),
                    unknown_end: true,
                    next_attempt_at: now.plus_ms(delay_ms(job.attempts, chance, None)),
                };
                self.runner.stats.count(Count::UnknownEnd, 1);
                self.ended.push(Settlement { job, ending, now });
                return;
            }
            TaskEnd::Untried(go) => {
                if let Some(target) = target {
                    target.under_way -= 1;
                }
                let ending = match go {
                    Some(SendDecision::Later { why, wait_ms }) => AttemptEnd::Later {
                        why,
                        next_attempt_at: now.plus_ms(wait_ms),
                    },
                    Some(SendDecision::Never(why)) => AttemptEnd::GivenUp(why),
                    _ => AttemptEnd::NotTried,
                };
                self.ended.push(Settlement { job, ending, now });
                return;
            }
        };
        self.runner.stats.attempt(attempt.elapsed_ms);
        tracing::debug!(job = %job.id, r#type = %job.r#type, realm = %job.realm, user = %job.user, attempt = job.attempts, status = attempt.status, elapsed_ms = attempt.elapsed_ms, "attempt ended");
        if let Some(target) = target {
            target.under_way -= 1;
            let receiver = receiver(&target.config);
            match &attempt.verdict {
                Verdict::Again {
                    why,
                    retry_after_ms,
                    ..
                } => {
                    let failures = target.circuit.failed(why, *retry_after_ms, chance, steady);
                    say_failures(&receiver, failures, why);
                }
                Verdict::Accepted | Verdict::Final(_) => match target.circuit.succeeded() {
                    0 => {}
                    failures => {
                        tracing::info!(
                            receiver,
                            failures,
                            "{receiver} answers again; messages go on"
                        );
                    }
                },
            }
        }
        let ending = match attempt.verdict {
            Verdict::Accepted => AttemptEnd::Accepted,
            Verdict::Final(why) => AttemptEnd::Final(why),
            Verdict::Again {
                why,
                unknown_end,
                retry_after_ms,
            } => {
                if unknown_end {
                    self.runner.stats.count(Count::UnknownEnd, 1);
                }
                AttemptEnd::Again {
                    why,
                    unknown_end,
                    next_attempt_at: now.plus_ms(delay_ms(job.attempts, chance, retry_after_ms)),
                }
            }
        };
        self.ended.push(Settlement { job, ending, now });
    }

    /// Writes down what ended. What could not be written stays for the next turn.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if self.ended.is_empty() {
            return Ok(());
        }
        crate::failpoint::hit("outbox.sent");
        let now = self.runner.clock.now();
        for settlement in &mut self.ended {
            settlement.from_now(now);
        }
        let fates = self.runner.store.settle(&self.ended).await?;
        crate::failpoint::hit("outbox.settled");
        let ended = std::mem::take(&mut self.ended);
        for (settlement, fate) in ended.into_iter().zip(fates) {
            let job = &settlement.job;
            let stats = &self.runner.stats;
            match fate {
                Fate::Delivered => stats.count(Count::Delivered, 1),
                Fate::Again
                    if matches!(
                        settlement.ending,
                        AttemptEnd::NotTried | AttemptEnd::Later { .. }
                    ) => {}
                Fate::Again => stats.count(Count::Again, 1),
                Fate::Dropped => stats.count(Count::Dropped, 1),
                Fate::Unreadable => stats.count(Count::Dead, 1),
                Fate::Gone => {}
                Fate::Final | Fate::Dead => {
                    stats.count(
                        if fate == Fate::Final {
                            Count::Refused
                        } else {
                            Count::Dead
                        },
                        1,
                    );
                    let (AttemptEnd::Final(why)
                    | AttemptEnd::GivenUp(why)
                    | AttemptEnd::Again { why, .. }) = &settlement.ending
                    else {
                        continue;
                    };
                    tracing::error!(job = %job.id, r#type = %job.r#type, realm = %job.realm, user = %job.user, attempts = job.attempts, error = why,
                        "a message was not delivered and is given up ({} to user {}): {why}", job.r#type, job.user);
                }
                Fate::Deferred => self.ended.push(settlement),
            }
        }
        Ok(())
    }

    /// Attempts under way end, or their end is written down as unknown.
    async fn stop(mut self) {
        self.cancel.cancel();
        let deadline = Instant::now() + LAST_ATTEMPTS;
        while let Ok(Some(done)) =
            tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await
        {
            self.note(done);
        }
        self.tasks.abort_all();
        let now = self.runner.clock.now();
        let left: Vec<Settlement> = self
            .under_way
            .drain()
            .map(|(_, (_, job))| Settlement {
                job,
                ending: AttemptEnd::Interrupted,
                now,
            })
            .collect();
        self.ended.extend(left);
        let settled = async {
            loop {
                self.settle().await?;
                if self.ended.is_empty() {
                    return Ok::<(), StoreError>(());
                }
                tokio::time::sleep(LAST_AGAIN).await;
            }
        };
        match timeout(LAST_SETTLE, settled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the last attempts could not be written down; they are repeated with the same keys: {error}");
            }
            Err(_) => tracing::error!(
                "the last attempts could not be written down in time; they are repeated with the same keys"
            ),
        }
    }
}

/// A receiver that fails is a line in the log at the first failure, at the tenth, and when only probes go out: not at each attempt.
fn say_failures(receiver: &str, failures: u32, why: &str) {
    match failures {
        1 => tracing::warn!(
            receiver,
            error = why,
            "{receiver} did not take a message, which is tried again: {why}"
        ),
        10 => tracing::warn!(
            receiver,
            error = why,
            "{receiver} failed ten times in a row: {why}"
        ),
        20 => tracing::warn!(
            receiver,
            error = why,
            "{receiver} failed twenty times in a row; messages wait, and one is tried now and then: {why}"
        ),
        _ => {}
    }
}

/// The chance in a message's next wait: differs between messages and attempts, and needs no source of randomness.
fn chance(job: JobId, attempts: i64) -> f64 {
    let mut bytes = [0_u8; 24];
    bytes[..16].copy_from_slice(job.0.as_bytes());
    bytes[16..].copy_from_slice(&attempts.to_le_bytes());
    // 32 bits are plenty, and are exact in a float.
    f64::from(u32::try_from(xxh3_64(&bytes) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
