//! What the daemon does in realms: starts it, hears its end, and takes orders for more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError};

use super::{Daemon, RunningWork, TaskResult};
use crate::acts::{ActFailure, FailureKind, Sync};
use crate::api::types::AnswerLine;
use crate::api::{Order, OrderKind};
use crate::model::words::count;
use crate::model::{ErrorCode, Outcome, RealmId, Trigger};
use crate::service::agenda::Next;
use crate::service::jitter::chance;
use crate::service::reload;
use crate::service::takeover::TickMove;
use crate::service::work::{self, Track, Work, WorkOutcome};

/// A run ends itself at its deadline; what then still stands still (an apply of a million is minutes) hangs.
const RUN_GRACE: Duration = Duration::from_mins(15);

impl Daemon {
    /// Starts what the agenda says.
    pub(super) fn start_due(&mut self) {
        if self.undeclared {
            return;
        }
        let now = self.start.clock.now();
        for (realm, next) in self.agenda.take(now, &mut chance) {
            let ahead = match &next {
                Next::Asked(work) => work.ahead.clone(),
                Next::Scheduled { .. } => None,
            };
            let engine = ahead.unwrap_or_else(|| self.engine.borrow().clone());
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
            let polled = matches!(&next, Next::Asked(work) if work.is_poll());
            let then_due = matches!(&next, Next::Asked(work) if work.act.lets_the_rest_go_on());
            let running = RunningWork {
                polled,
                then_due,
                realm: realm.clone(),
                cancel: cancel.clone(),
                track: track.clone(),
                since: now,
            };
            let handle = match next {
                Next::Asked(work) => self
                    .runs
                    .spawn(work::carry_out(engine, realm, work, cancel, pulse)),
                Next::Scheduled { tick, before, full } => {
                    let due = work::Due { tick, before, full };
                    self.runs
                        .spawn(work::scheduled(engine, realm, due, track, cancel, pulse))
                }
            };
            self.running.insert(handle.id(), running);
        }
    }

    pub(super) fn run_ended(&mut self, ended: Result<(Id, WorkOutcome), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(RunningWork {
            realm,
            polled,
            then_due,
            ..
        }) = self.running.remove(&id)
        else {
            return;
        };
        // Whatever it did, there may be messages.
        self.wake.notify_one();
        match ended {
            Ok(WorkOutcome::NotNow { before }) => {
                self.agenda.put_back(&realm, before, self.start.clock.now());
                self.keepers.turn(&realm, None);
            }
            Ok(WorkOutcome::Done(run)) => {
                self.agenda.ended(&realm);
                if let Some(run) = &run {
                    // The plan that was held before is no news.
                    let known = run.outcome == Outcome::Held && self.held.contains(&realm);
                    if polled {
                        self.polled(run);
                    }
                    if !(polled && known) {
                        self.count(run);
                    }
                    self.let_go(run);
                }
                self.keepers.turn(&realm, run.as_deref());
                if then_due && run.is_some_and(|run| run.outcome == Outcome::Rejected) {
                    self.run_next(&realm);
                }
            }
            Err(error) => {
                // One realm's fault must not stop the others; what it left is swept like after a crash.
                tracing::error!(%realm, %error, "{realm}: the run broke off: {error}; nothing of it was applied. This is a fault of realmsync: please report it with the log");
                self.agenda.ended(&realm);
                self.keepers.turn(&realm, None);
                let engine = self.engine.borrow().clone();
                self.side.spawn(async move {
                    let now = engine.clock.now();
                    if let Err(error) = engine.store.sweep_abandoned(now).await {
                        tracing::error!(%realm, %error, "{realm}: what the run left cannot be swept: {error}");
                    }
                    TaskResult::Nothing
                });
            }
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        let other_file = order
            .file
            .as_deref()
            .is_some_and(|sent| self.config.borrow().digest.differs_from(sent));
        if other_file && matches!(&order.what, OrderKind::InRealm(act) if act.goes_by_the_file()) {
            self.order_by_another_file(order);
            return;
        }
        let Order {
            what,
            caller,
            lines,
            ..
        } = order;
        let mut desk = self.desk();
        desk.daemon.other_file = other_file;
        self.side
            .spawn(async move { TaskResult::After(desk.answer(what, caller, lines).await) });
    }

    /// A dry plan is made by the file as it is by now, so that somebody who edits it sees what would come of that before it is in
    /// force. Nothing else is done by a file that is not.
    fn order_by_another_file(&mut self, order: Order) {
        let Order {
            what,
            caller,
            lines,
            file,
        } = order;
        let refusal = self.works_by_another_file();
        let dry = matches!(&what, OrderKind::InRealm(act) if act.is_dry());
        let (true, Some(sent)) = (dry, file) else {
            self.answer(lines, AnswerLine::Error(refusal));
            return;
        };
        let (read, old) = (Arc::clone(&self.start.reload), self.config.borrow().clone());
        let desk = self.desk();
        self.side.spawn(async move {
            match reload::read_ahead(read, &old).await {
                Ok(config) if !config.digest.differs_from(&sent) => {
                    TaskResult::After(desk.by(config).answer(what, caller, lines).await)
                }
                read => {
                    let failure = match read {
                        Ok(_) => refusal,
                        Err(why) => ActFailure::new(FailureKind::Run(ErrorCode::Config), why),
                    };
                    let _gone = lines.send(AnswerLine::Error(failure)).await;
                    TaskResult::Nothing
                }
            }
        });
    }

    /// Why a run is not made for a command whose file says something else.
    fn works_by_another_file(&self) -> ActFailure {
        let refused = self
            .reload_error
            .as_deref()
            .and_then(|why| why.lines().next())
            .map(|why| format!(", and the last reload was refused ({why})"))
            .unwrap_or_default();
        ActFailure::new(
            FailureKind::Refused,
            format!(
                "the daemon works by what {} said at {}, which is not what this command's file says now{refused}: nothing was done; `realmsync check` looks through the file, and `systemctl reload realmsync` puts it in force",
                self.start.config.path.display(),
                self.config_read_at
            ),
        )
    }

    fn answer(&mut self, lines: mpsc::Sender<AnswerLine>, line: AnswerLine) {
        self.side.spawn(async move {
            let _gone = lines.send(line).await;
            TaskResult::Nothing
        });
    }

    pub(super) fn enqueue(
        &mut self,
        realm: &RealmId,
        mut work: Work,
        lines: mpsc::Sender<AnswerLine>,
    ) {
        let relay = if let Some(waiting) = self
            .agenda
            .newest_waiting(realm)
            .filter(|waiting| waiting.joins(&work.act, &work.caller))
        {
            waiting.caller = work.caller;
            waiting.listen(lines)
        } else {
            let relay = work.listen(lines);
            self.agenda.push(realm, self.start.clock.now(), work);
            relay
        };
        self.side.spawn(async move {
            relay.await;
            TaskResult::Nothing
        });
    }

    /// What another daemon did with a tick.
    pub(super) fn tick_moved(&mut self, moved: TickMove) {
        let now = self.start.clock.now();
        match moved {
            TickMove::Due(realm) => self.is_due(&realm),
            TickMove::Done(realm, tick) => {
                self.agenda.done_elsewhere(&realm, tick, now, &mut chance);
            }
            TickMove::Back(realm, before) => {
                tracing::info!("{realm}: another daemon left a scheduled pass; it is made here");
                self.agenda.given_back(&realm, before, now);
            }
        }
    }

    /// SIGUSR1: one pass in each realm, after what is under way.
    pub(super) fn run_all(&mut self) {
        let now = self.start.clock.now();
        let realms: Vec<RealmId> = self
            .config
            .borrow()
            .realms
            .iter()
            .map(|realm| realm.id.clone())
            .collect();
        tracing::info!(
            "asked by signal: a pass of {}",
            count(realms.len(), "realm")
        );
        for realm in realms {
            let work = Work::unasked(Sync::of(realm.clone(), Trigger::Signal));
            if self
                .agenda
                .newest_waiting(&realm)
                .is_none_or(|waiting| !waiting.joins(&work.act, &work.caller))
            {
                self.agenda.push(&realm, now, work);
            }
        }
    }
}
