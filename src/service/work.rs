//! One thing done in one realm: a scheduled pass, or what somebody asked for; and the line back to who asked.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::life::Pulse;
use super::summary::tell;
use crate::api::types::{
    DecideRequest, Decision, Failure, Line, PlanRequest, ProgressLine, SyncRequest,
};
use crate::clock::Timestamp;
use crate::model::{ErrorCode, Mode, Outcome, RealmId, Run, Trigger};
use crate::sync::{Ask, Asking, Decided, Engine, EngineError, Lines, Progress};

/// A delta of a thousand people takes a second; a first load in another daemon takes longer, and then it is said who has the realm.
const OTHERS: Duration = Duration::from_mins(2);

/// How often it is looked whether a realm is free.
const LOOK: Duration = Duration::from_millis(20);

/// Something that was asked for.
#[derive(Debug)]
pub struct Work {
    /// What.
    pub task: Task,
    /// Who asked.
    pub by: Option<String>,
    /// How far it is, for all who listen.
    pub track: Track,
    /// Who waits for the end.
    pub tickets: Vec<oneshot::Sender<End>>,
}

/// The end of a work, for who waits for it.
#[derive(Debug)]
pub enum End {
    /// The last line of the answer.
    Line(Line),
    /// A plan, whose lines are read while they are passed on.
    Plan(Box<Run>, Lines),
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// A pass.
    Pass(Trigger, SyncRequest),
    /// A dry run.
    Plan(PlanRequest),
    /// A decision on a run of the realm.
    Decide(Decision, String, DecideRequest),
}

/// How far a work is.
#[derive(Clone, Debug)]
pub struct Track {
    /// The engine's progress.
    pub progress: watch::Sender<Progress>,
    /// It is under way.
    pub begun: watch::Sender<bool>,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            progress: watch::Sender::new(Progress::default()),
            begun: watch::Sender::new(false),
        }
    }
}

impl Work {
    /// A work that nobody listens to yet.
    pub fn new(task: Task, by: Option<String>) -> Self {
        Self {
            task,
            by,
            track: Track::default(),
            tickets: Vec::new(),
        }
    }

    /// Someone listens: the returned future passes progress and the end on.
    pub fn listen(
        &mut self,
        lines: mpsc::Sender<Line>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (ticket, end) = oneshot::channel();
        self.tickets.push(ticket);
        relay(lines, self.track.clone(), end)
    }

    /// Whether the interval between deltas asks for it.
    pub fn is_poll(&self) -> bool {
        matches!(self.task, Task::Pass(Trigger::Poll, _))
    }

    /// Whether one pass answers both: it has not begun, and asks for the same in the same name.
    pub fn joins(&self, task: &Task, by: Option<&str>) -> bool {
        matches!((&self.task, task), (Task::Pass(_, ours), Task::Pass(_, theirs)) if ours == theirs)
            && (self.by.as_deref() == by || self.tickets.is_empty())
    }

    /// Ends it without doing it.
    pub fn refuse(self, failure: &Failure) {
        for ticket in self.tickets {
            let _gone = ticket.send(End::Line(Line::Error(failure.clone())));
        }
    }
}

/// Passes progress on (five times a second at most, once in two seconds at least) and the end at last.
async fn relay(lines: mpsc::Sender<Line>, track: Track, mut end: oneshot::Receiver<End>) {
    let mut told = (Progress::default(), Instant::now());
    let mut beat = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            biased;
            last = &mut end => {
                let stopped = |_| Line::Error(Failure::new("stopping", 1, "the daemon stopped before this was done; nothing was applied"));
                match last {
                    Ok(End::Plan(run, planned)) => pass_on(&lines, run, planned).await,
                    Ok(End::Line(line)) => drop(lines.send(line).await),
                    Err(gone) => drop(lines.send(stopped(gone)).await),
                }
                return;
            }
            // Nobody listens any more; what was asked for is done all the same, but for a dry run.
            () = lines.closed() => return,
            _tick = beat.tick() => {
                let now = *track.progress.borrow();
                if now != told.0 || told.1.elapsed() >= Duration::from_secs(2) {
                    let line = ProgressLine { waiting: !*track.begun.borrow(), ..now.into() };
                    let _full = lines.try_send(Line::Progress(line));
                    told = (now, Instant::now());
                }
            }
        }
    }
}

/// Passes a plan on as it is read. Who went away ends it, and with it what was staged for it.
async fn pass_on(lines: &mpsc::Sender<Line>, run: Box<Run>, mut planned: Lines) {
    let mut line = Line::Run(run);
    while lines.send(line).await.is_ok() {
        line = match planned.next().await {
            Ok(page) if !page.is_empty() => Line::Changes(page),
            ended => {
                let last = ended.map_or_else(
                    |error| Line::Error((&error).into()),
                    |_| Line::Result(Value::Null),
                );
                let _gone = lines.send(last).await;
                return;
            }
        };
    }
}

/// What came of a work.
#[derive(Debug)]
pub enum Ended {
    /// It is over; the run, if there was one.
    Done(Option<Box<Run>>),
    /// A scheduled pass did not begin; its tick stays due.
    NotNow {
        /// Where the realm's ticks stood.
        before: Timestamp,
    },
}

/// Does what was asked for.
pub async fn carry_out(
    engine: Engine,
    realm: RealmId,
    work: Work,
    cancel: CancellationToken,
    pulse: Pulse,
) -> Ended {
    work.track.begun.send_replace(true);
    let Work {
        task,
        by,
        track,
        mut tickets,
    } = work;
    let span = tracing::info_span!("realm", realm = %realm);
    let run = async {
        let ask = |trigger| Ask {
            cancel: cancel.clone(),
            progress: track.progress.clone(),
            ..Ask::new(trigger, by.clone())
        };
        let (line, run) = match task {
            Task::Pass(trigger, asked) => {
                let ask = Ask {
                    full: asked.full,
                    user: asked.user,
                    accept_older: asked.accept_older,
                    ..ask(trigger)
                };
                let sync = || engine.sync(&realm, ask.clone()).boxed();
                let done = moving(after_others(sync, &cancel).boxed(), &track, &pulse).await;
                // What a poll finds is told where it is news.
                if trigger == Trigger::Poll {
                    leave_no_trace(&engine, done.as_ref().ok()).await;
                } else {
                    tell(done.as_ref().ok());
                }
                (answer(&realm, &done), done.ok())
            }
            Task::Plan(asked) => {
                let ask = Ask {
                    full: asked.full,
                    ..ask(Trigger::Command)
                };
                let plan = || engine.plan(&realm, ask.clone(), asked.hold).boxed();
                let planning = moving(after_others(plan, &cancel).boxed(), &track, &pulse);
                let done = if asked.hold {
                    planning.await
                } else {
                    while_heard(planning, &mut tickets, &cancel).await
                };
                let held = done.as_ref().ok().filter(|_| asked.hold);
                let held = held.map(|(run, _)| run.clone());
                tell(held.as_ref());
                let end = match done {
                    Ok((run, lines)) => End::Plan(Box::new(run), lines),
                    Err(error) => End::Line(Line::Error((&error).into())),
                };
                // A plan is nobody else's: its lines are read once.
                if let Some(ticket) = tickets.pop() {
                    let _gone = ticket.send(end);
                }
                return held;
            }
            Task::Decide(decision, run, asked) => {
                let asking = Asking {
                    by: by.clone(),
                    accept_older: asked.accept_older,
                    cancel: cancel.clone(),
                };
                let for_ms = asked.for_ms;
                let decide = || decide(&engine, decision, &run, asking.clone(), for_ms).boxed();
                let done = moving(after_others(decide, &cancel).boxed(), &track, &pulse).await;
                tell(done.as_ref().ok().map(|decided| &decided.run));
                (answer(&realm, &done), done.ok().map(|decided| decided.run))
            }
        };
        for ticket in tickets {
            let _gone = ticket.send(End::Line(line.clone()));
        }
        run
    }
    .instrument(span)
    .await;
    Ended::Done(run.map(Box::new))
}

/// Does something that is only for those who listen: when the last of them is gone, it is stopped.
async fn while_heard<T>(
    doing: impl Future<Output = T>,
    tickets: &mut [oneshot::Sender<End>],
    cancel: &CancellationToken,
) -> T {
    let mut doing = std::pin::pin!(doing);
    tokio::select! {
        done = &mut doing => return done,
        _ = futures_util::future::join_all(tickets.iter_mut().map(oneshot::Sender::closed)) => {}
    }
    cancel.cancel();
    doing.await
}

/// Timestamps tell of everybody who changed within their overlap again and again: a poll that found nothing new is no history.
async fn leave_no_trace(engine: &Engine, run: Option<&Run>) {
    let idle =
        |run: &&Run| run.outcome == Outcome::Unchanged && run.mode == Mode::Delta && run.seen > 0;
    if let Some(run) = run.filter(idle)
        && let Err(error) = engine.store.drop_run(run.run).await
    {
        tracing::debug!(%error, "a poll that found nothing stays in the history: {error}");
    }
}

async fn decide(
    engine: &Engine,
    decision: Decision,
    run: &str,
    asking: Asking,
    for_ms: Option<i64>,
) -> Result<Decided, EngineError> {
    match decision {
        Decision::Approve => Box::pin(engine.approve(run, asking)).await,
        Decision::Reject => match for_ms {
            Some(ms) => Box::pin(engine.reject_for(run, asking.by, ms)).await,
            None => Box::pin(engine.reject(run, asking.by)).await,
        },
        Decision::Adopt => Box::pin(engine.adopt(run, asking)).await,
        Decision::Undo => Box::pin(engine.undo(run, asking)).await,
    }
}

/// Does something that wants a realm for itself. Its push may be in the middle of a delta, and so may another daemon of the same
/// database: that is soon over, and no reason to refuse.
async fn after_others<'a, T>(
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, EngineError>>,
    cancel: &CancellationToken,
) -> Result<T, EngineError> {
    let end = Instant::now() + OTHERS;
    loop {
        let done = attempt().await;
        let busy = match &done {
            Err(EngineError::Busy(_)) => true,
            Err(EngineError::Store(error)) => error.code() == ErrorCode::Busy,
            _ => false,
        };
        if !busy || Instant::now() >= end || cancel.is_cancelled() {
            return done;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// A tick of the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// The newest tick that the run makes up for.
    pub tick: Timestamp,
    /// Where the realm's ticks stood before.
    pub before: Timestamp,
    /// Everything is to be read.
    pub full: bool,
}

/// The schedule's pass: not while the realm is paused or orphaned.
pub async fn scheduled(
    engine: Engine,
    realm: RealmId,
    Due { tick, before, full }: Due,
    track: Track,
    cancel: CancellationToken,
    pulse: Pulse,
) -> Ended {
    let span = tracing::info_span!("realm", realm = %realm);
    async {
        match may_run(&engine, &realm).await {
            Ok(true) => {}
            Ok(false) => return Ended::NotNow { before },
            Err(error) => {
                tracing::error!(%error, "{realm}: the scheduled pass cannot begin: {error}");
                return Ended::NotNow { before };
            }
        }
        let ask = Ask {
            full,
            tick: Some(tick),
            cancel: cancel.clone(),
            progress: track.progress.clone(),
            ..Ask::new(Trigger::Schedule, None)
        };
        let sync = || engine.sync(&realm, ask.clone()).boxed();
        let done = moving(after_others(sync, &cancel).boxed(), &track, &pulse).await;
        if cancel.is_cancelled() && done.as_ref().is_ok_and(|run| run.outcome == Outcome::Cancelled) {
            // A stop in mid-run: the tick counts as missed, and the next daemon makes up for it.
            if let Err(error) = engine.store.give_tick_back(&realm, tick, before).await {
                tracing::warn!(%error, "{realm}: the pass that was stopped will not be made up for: {error}");
            }
        }
        match &done {
            Ok(_) => {}
            Err(EngineError::TickDone) => {
                tracing::debug!("{realm}: another daemon made the pass of {tick}");
                return Ended::Done(None);
            }
            Err(error) => {
                tracing::warn!(%error, "{realm}: no scheduled pass, it is tried again soon: {error}");
                return Ended::NotNow { before };
            }
        }
        tell(done.as_ref().ok());
        Ended::Done(done.ok().map(Box::new))
    }
    .instrument(span)
    .await
}

/// Whether the schedule may run the realm; ends a pause that is over.
async fn may_run(engine: &Engine, realm: &RealmId) -> Result<bool, crate::store::StoreError> {
    let Some(row) = engine.store.realm(realm).await? else {
        return Ok(true);
    };
    if row.orphaned {
        return Ok(false);
    }
    if row.paused {
        let now = engine.clock.now();
        if row.is_paused(now) {
            return Ok(false);
        }
        // An undo may just have paused it anew.
        if !engine.store.end_pause(realm, now).await? {
            return Ok(false);
        }
        tracing::info!("{realm}: the pause is over");
    }
    Ok(true)
}

/// Awaits something, and passes its progress on as signs of life.
async fn moving<T>(mut doing: BoxFuture<'_, T>, track: &Track, pulse: &Pulse) -> T {
    let mut progress = track.progress.subscribe();
    loop {
        tokio::select! {
            done = &mut doing => return done,
            Ok(()) = progress.changed() => pulse.beat(),
        }
    }
}

fn answer<T: Serialize>(realm: &RealmId, done: &Result<T, EngineError>) -> Line {
    match done {
        Ok(value) => serde_json::to_value(value).map_or_else(
            |error| {
                Line::Error(Failure::new(
                    "store",
                    1,
                    format!("{realm}: done, but the answer cannot be written: {error}"),
                ))
            },
            Line::Result,
        ),
        Err(error) => Line::Error(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn passes_that_ask_for_the_same_are_one() {
        let pass = |full| {
            Task::Pass(
                Trigger::Command,
                SyncRequest {
                    full,
                    ..SyncRequest::default()
                },
            )
        };
        let mut work = Work::new(pass(false), None);
        assert!(
            work.joins(&pass(false), Some("jan")),
            "nobody's name is lost"
        );
        work.by = Some("jan".into());
        work.tickets.push(oneshot::channel().0);
        assert!(work.joins(&pass(false), Some("jan")));
        assert!(!work.joins(&pass(false), Some("eva")));
        assert!(!work.joins(&pass(true), Some("jan")));
        assert!(!work.joins(
            &Task::Decide(Decision::Approve, "1".into(), DecideRequest::default()),
            Some("jan")
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_hears_progress_a_pulse_and_the_end() {
        let mut work = Work::new(Task::Plan(PlanRequest::default()), None);
        let (lines, mut heard) = mpsc::channel(8);
        let relay = work.listen(lines);
        let Work { track, tickets, .. } = work;
        let engine = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            track.begun.send_replace(true);
            track.progress.send_replace(Progress {
                seen: 5,
                expected: 10,
            });
            tokio::time::sleep(Duration::from_secs(1)).await;
            for ticket in tickets {
                ticket
                    .send(End::Line(Line::Result(Value::Null)))
                    .expect("a listener");
            }
        };
        tokio::join!(relay, engine);
        let waiting = ProgressLine {
            waiting: true,
            ..ProgressLine::default()
        };
        assert_eq!(heard.recv().await, Some(Line::Progress(waiting)));
        assert_eq!(
            heard.recv().await,
            Some(Line::Progress(ProgressLine {
                seen: 5,
                expected: 10,
                waiting: false
            }))
        );
        assert_eq!(heard.recv().await, Some(Line::Result(Value::Null)));
        assert_eq!(heard.recv().await, None);
    }

    #[tokio::test]
    async fn a_dry_run_that_nobody_waits_for_any_more_is_stopped() {
        let mut work = Work::new(Task::Plan(PlanRequest::default()), None);
        let (lines, heard) = mpsc::channel(8);
        let mut relay = tokio::task::JoinSet::new();
        relay.spawn(work.listen(lines));
        let cancel = CancellationToken::new();
        let planning = while_heard(cancel.cancelled(), &mut work.tickets, &cancel);
        drop(heard);
        timeout(Duration::from_secs(5), planning)
            .await
            .expect("an end");
        assert!(cancel.is_cancelled());
    }

    #[tokio::test]
    async fn a_work_that_is_dropped_says_so() {
        let mut work = Work::new(Task::Plan(PlanRequest::default()), None);
        let (lines, mut heard) = mpsc::channel(8);
        let relay = work.listen(lines);
        drop(work);
        relay.await;
        assert!(
            matches!(heard.recv().await, Some(Line::Error(failure)) if failure.code == "stopping")
        );
    }
}
