//! One thing done in one realm: a scheduled pass, or what somebody asked for; and the line back to who asked.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::pulses::Pulse;
use super::summary::tell;
use crate::acts::{
    ActContext, ActFailure, AgendaTurn, Caller, Door, FailureKind, ImportReport, InRealm, RealmAct,
    Sync,
};
use crate::api::types::{AnswerLine, ProgressLine};
use crate::clock::Timestamp;
use crate::model::{ErrorCode, Mode, Outcome, RealmId, Run, Trigger};
use crate::runs::{Lines, RunError};
use crate::sync::{Engine, Imported, Progress, RunRequest};

/// A delta of a thousand people takes a second; a first load in another daemon takes longer, and then it is said who has the realm.
const OTHERS: Duration = Duration::from_mins(2);

/// How often it is looked whether a realm is free.
const LOOK: Duration = Duration::from_millis(20);

/// Something that was asked for.
#[derive(Debug)]
pub struct Work {
    /// What.
    pub act: RealmAct,
    /// Who asked.
    pub caller: Caller,
    /// How far it is, for all who listen.
    pub track: Track,
    /// Who waits for the end.
    pub tickets: Vec<oneshot::Sender<WorkAnswer>>,
    /// Of a dry plan: by a configuration that is not in force yet. `None`: by the one that is when it begins.
    pub ahead: Option<Engine>,
}

/// The end of a work, for who waits for it.
#[derive(Debug)]
pub enum WorkAnswer {
    /// The last line of the answer.
    Line(AnswerLine),
    /// A plan, whose lines are read while they are passed on.
    Plan(Box<Run>, Lines),
    /// A file, and whether it was only looked what would come of it.
    Import(Box<Imported>, bool),
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
    pub fn new(act: RealmAct, caller: Caller) -> Self {
        Self {
            act,
            caller,
            track: Track::default(),
            tickets: Vec::new(),
            ahead: None,
        }
    }

    /// A run that nobody asked for: a signal, the interval or the directory did.
    pub fn unasked(act: Sync) -> Self {
        Self::new(RealmAct::Sync(act), Caller::new(None, Door::Socket))
    }

    /// Someone listens: the returned future passes progress and the end on.
    pub fn listen(
        &mut self,
        lines: mpsc::Sender<AnswerLine>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (ticket, end) = oneshot::channel();
        self.tickets.push(ticket);
        relay(lines, self.track.clone(), end)
    }

    /// Whether the interval between deltas asks for it.
    pub fn is_poll(&self) -> bool {
        self.act.is_poll()
    }

    /// Whether one run answers both: it has not begun, and asks for the same in the same name.
    pub fn joins(&self, act: &RealmAct, caller: &Caller) -> bool {
        self.act.joins(act) && (self.caller.name == caller.name || self.tickets.is_empty())
    }

    /// Ends it without doing it.
    pub fn refuse(self, failure: &ActFailure) {
        for ticket in self.tickets {
            let _gone = ticket.send(WorkAnswer::Line(AnswerLine::Error(failure.clone())));
        }
    }
}

/// Passes progress on (five times a second at most, once in two seconds at least) and the end at last.
async fn relay(
    lines: mpsc::Sender<AnswerLine>,
    track: Track,
    mut end: oneshot::Receiver<WorkAnswer>,
) {
    let mut told = (Progress::default(), Instant::now());
    let mut beat = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            biased;
            last = &mut end => {
                let stopped = |_| AnswerLine::Error(ActFailure::new(FailureKind::Stopping, "the daemon stopped before this was done; nothing was applied"));
                match last {
                    Ok(WorkAnswer::Plan(run, planned)) => pass_on(&lines, run, planned, Value::Null).await,
                    Ok(WorkAnswer::Import(imported, dry)) => pass_import_on(&lines, *imported, dry).await,
                    Ok(WorkAnswer::Line(line)) => drop(lines.send(line).await),
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
                    let _full = lines.try_send(AnswerLine::Progress(line));
                    told = (now, Instant::now());
                }
            }
        }
    }
}

/// Passes a plan on as it is read. Who went away ends it, and with it what was staged for it.
async fn pass_on(lines: &mpsc::Sender<AnswerLine>, run: Box<Run>, planned: Lines, result: Value) {
    if lines.send(AnswerLine::Run(run)).await.is_ok() {
        pass_lines_on(lines, planned, result).await;
    }
}

/// Passes on what came of a file.
async fn pass_import_on(lines: &mpsc::Sender<AnswerLine>, imported: Imported, dry: bool) {
    let report = ImportReport::of(&imported, dry);
    let Imported {
        run,
        mut refused,
        lines: planned,
        ..
    } = imported;
    let result = json!(report);
    let first = [
        AnswerLine::Run(Box::new(run)),
        AnswerLine::Operation(Box::new(report)),
    ];
    for line in first {
        if lines.send(line).await.is_err() {
            return;
        }
    }
    loop {
        let line = match refused.page() {
            Ok(page) if page.is_empty() => break,
            Ok(page) => AnswerLine::Refused(page),
            Err(error) => AnswerLine::Error(ActFailure::new(
                FailureKind::Run(ErrorCode::Store),
                format!("done, but the refused lines cannot be read any more: {error}"),
            )),
        };
        let over = matches!(line, AnswerLine::Error(_));
        if lines.send(line).await.is_err() || over {
            return;
        }
    }
    pass_lines_on(lines, planned, result).await;
}

/// The rest of it: what a plan would change, and the result.
async fn pass_lines_on(lines: &mpsc::Sender<AnswerLine>, mut planned: Lines, result: Value) {
    loop {
        let (line, over) = match planned.next().await {
            Ok(page) if !page.is_empty() => (AnswerLine::Changes(page), false),
            Ok(_) => (AnswerLine::Result(result.clone()), true),
            Err(error) => (AnswerLine::Error((&error).into()), true),
        };
        if lines.send(line).await.is_err() || over {
            return;
        }
    }
}

/// What came of a work.
#[derive(Debug)]
pub enum WorkOutcome {
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
) -> WorkOutcome {
    work.track.begun.send_replace(true);
    let Work {
        act,
        caller,
        track,
        mut tickets,
        ahead: _,
    } = work;
    let span = tracing::info_span!("realm", realm = %realm);
    let at = ActContext::new(engine, caller);
    let turn = AgendaTurn {
        cancel: cancel.clone(),
        progress: track.progress.clone(),
    };
    let run = async {
        let (line, run) = match act {
            RealmAct::Sync(act) => {
                let sync = || act.act(&at, &turn).boxed();
                let done = moving(in_its_turn(sync, &cancel).boxed(), &track, &pulse).await;
                // What a poll finds is told where it is news.
                if act.trigger == Trigger::Poll {
                    leave_no_trace(&at.engine, done.as_ref().ok()).await;
                } else {
                    tell(done.as_ref().ok());
                }
                (answer(&realm, &done), done.ok())
            }
            RealmAct::Plan(act) => {
                let plan = || act.act(&at, &turn).boxed();
                let planning = moving(in_its_turn(plan, &cancel).boxed(), &track, &pulse);
                let done = if act.request.hold {
                    planning.await
                } else {
                    while_heard(planning, &mut tickets, &cancel).await
                };
                let held = done.as_ref().ok().filter(|_| act.request.hold);
                let held = held.map(|(run, _)| run.clone());
                tell(held.as_ref());
                let end = match done {
                    Ok((run, lines)) => WorkAnswer::Plan(Box::new(run), lines),
                    Err(failure) => WorkAnswer::Line(AnswerLine::Error(failure)),
                };
                // A plan is nobody else's: its lines are read once.
                if let Some(ticket) = tickets.pop() {
                    let _gone = ticket.send(end);
                }
                return held;
            }
            RealmAct::Import(act) => {
                let dry = act.request.plan;
                let import = || act.act(&at, &turn).boxed();
                let importing = moving(in_its_turn(import, &cancel).boxed(), &track, &pulse);
                let done = if dry {
                    while_heard(importing, &mut tickets, &cancel).await
                } else {
                    importing.await
                };
                let made = done.as_ref().ok().filter(|_| !dry);
                let made = made.map(|imported| imported.run.clone());
                tell(made.as_ref());
                let end = match done {
                    Ok(imported) => WorkAnswer::Import(Box::new(imported), dry),
                    Err(failure) => WorkAnswer::Line(AnswerLine::Error(failure)),
                };
                // A file is nobody else's: its refused lines are read once.
                if let Some(ticket) = tickets.pop() {
                    let _gone = ticket.send(end);
                }
                return made;
            }
            RealmAct::Decide(act) => {
                let decide = || act.act(&at, &turn).boxed();
                let done = moving(in_its_turn(decide, &cancel).boxed(), &track, &pulse).await;
                tell(done.as_ref().ok().map(|decided| &decided.run));
                (answer(&realm, &done), done.ok().map(|decided| decided.run))
            }
        };
        for ticket in tickets {
            let _gone = ticket.send(WorkAnswer::Line(line.clone()));
        }
        run
    }
    .instrument(span)
    .await;
    WorkOutcome::Done(run.map(Box::new))
}

/// Does something that is only for those who listen: when the last of them is gone, it is stopped.
async fn while_heard<T>(
    doing: impl Future<Output = T>,
    tickets: &mut [oneshot::Sender<WorkAnswer>],
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

/// An act in its turn.
async fn in_its_turn<'a, T>(
    attempt: impl FnMut() -> BoxFuture<'a, Result<T, ActFailure>>,
    cancel: &CancellationToken,
) -> Result<T, ActFailure> {
    after_others(attempt, ActFailure::is_busy, cancel).await
}

/// Whether another one has the realm or the store.
fn is_busy(error: &RunError) -> bool {
    matches!(error, RunError::Store(error) if error.code() == ErrorCode::Busy)
}

/// Does something that wants a realm for itself. Its push may be in the middle of a delta, and so may another daemon of the same
/// database: that is soon over, and no reason to refuse.
async fn after_others<'a, T, E>(
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, E>>,
    is_busy: impl Fn(&E) -> bool,
    cancel: &CancellationToken,
) -> Result<T, E> {
    let end = Instant::now() + OTHERS;
    loop {
        let done = attempt().await;
        let busy = done.as_ref().is_err_and(&is_busy);
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
) -> WorkOutcome {
    let span = tracing::info_span!("realm", realm = %realm);
    async {
        match may_run(&engine, &realm).await {
            Ok(true) => {}
            Ok(false) => return WorkOutcome::NotNow { before },
            Err(error) => {
                tracing::error!(%error, "{realm}: the scheduled pass cannot begin: {error}");
                return WorkOutcome::NotNow { before };
            }
        }
        let ask = RunRequest {
            full,
            tick: Some(tick),
            cancel: cancel.clone(),
            progress: track.progress.clone(),
            ..RunRequest::new(Trigger::Schedule, None)
        };
        let sync = || engine.sync(&realm, ask.clone()).boxed();
        let done = moving(after_others(sync, is_busy, &cancel).boxed(), &track, &pulse).await;
        if cancel.is_cancelled() && done.as_ref().is_ok_and(|run| run.outcome == Outcome::Cancelled) {
            // A stop in mid-run: the tick counts as missed, and the next daemon makes up for it.
            if let Err(error) = engine.store.give_tick_back(&realm, tick, before).await {
                tracing::warn!(%error, "{realm}: the pass that was stopped will not be made up for: {error}");
            }
        }
        match &done {
            Ok(_) => {}
            Err(RunError::TickDone) => {
                tracing::debug!("{realm}: another daemon made the pass of {tick}");
                return WorkOutcome::Done(None);
            }
            Err(error) => {
                tracing::warn!(%error, "{realm}: no scheduled pass, it is tried again soon: {error}");
                return WorkOutcome::NotNow { before };
            }
        }
        tell(done.as_ref().ok());
        WorkOutcome::Done(done.ok().map(Box::new))
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

fn answer<T: Serialize>(realm: &RealmId, done: &Result<T, ActFailure>) -> AnswerLine {
    match done {
        Ok(value) => serde_json::to_value(value).map_or_else(
            |error| {
                AnswerLine::Error(ActFailure::new(
                    FailureKind::Run(ErrorCode::Store),
                    format!("{realm}: done, but the answer cannot be written: {error}"),
                ))
            },
            AnswerLine::Result,
        ),
        Err(failure) => AnswerLine::Error(failure.clone()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::acts::{Decide, DecideRequest, Plan, PlanRequest, RunDecision, SyncRequest};

    #[test]
    fn passes_that_ask_for_the_same_are_one() {
        let realm = RealmId::from("a.test");
        let pass = |full| {
            let request = SyncRequest {
                full,
                ..SyncRequest::default()
            };
            RealmAct::Sync(Sync::asked(realm.clone(), request))
        };
        let called = |name: &str| Caller::new(Some(name.to_owned()), Door::Socket);
        let mut work = Work::unasked(Sync::of(realm.clone(), Trigger::Signal));
        assert!(
            work.joins(&pass(false), &called("jan")),
            "nobody's name is lost"
        );
        work.caller = called("jan");
        work.tickets.push(oneshot::channel().0);
        assert!(work.joins(&pass(false), &called("jan")));
        assert!(!work.joins(&pass(false), &called("eva")));
        assert!(!work.joins(&pass(true), &called("jan")));
        let approve = Decide {
            decision: RunDecision::Approve,
            run: "1".into(),
            request: DecideRequest::default(),
        };
        assert!(!work.joins(&RealmAct::Decide(approve), &called("jan")));
    }

    fn planned() -> Work {
        let act = Plan {
            realm: "a.test".into(),
            request: PlanRequest::default(),
        };
        Work::new(RealmAct::Plan(act), Caller::new(None, Door::Socket))
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_hears_progress_a_pulse_and_the_end() {
        let mut work = planned();
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
                    .send(WorkAnswer::Line(AnswerLine::Result(Value::Null)))
                    .expect("a listener");
            }
        };
        tokio::join!(relay, engine);
        let waiting = ProgressLine {
            waiting: true,
            ..ProgressLine::default()
        };
        assert_eq!(heard.recv().await, Some(AnswerLine::Progress(waiting)));
        assert_eq!(
            heard.recv().await,
            Some(AnswerLine::Progress(ProgressLine {
                seen: 5,
                expected: 10,
                waiting: false
            }))
        );
        assert_eq!(heard.recv().await, Some(AnswerLine::Result(Value::Null)));
        assert_eq!(heard.recv().await, None);
    }

    #[tokio::test]
    async fn a_dry_run_that_nobody_waits_for_any_more_is_stopped() {
        let mut work = planned();
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
        let mut work = planned();
        let (lines, mut heard) = mpsc::channel(8);
        let relay = work.listen(lines);
        drop(work);
        relay.await;
        assert!(
            matches!(heard.recv().await, Some(AnswerLine::Error(failure)) if failure.code == "stopping")
        );
    }
}
