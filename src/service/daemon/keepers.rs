//! The daemon's keepers: one for each realm that may live by deltas, started, heard and stopped by the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Daemon, chance};
use crate::config::ChangesWay;
use crate::directory::Way;
use crate::model::{ErrorCode, Mode, Outcome, RealmId, Run, Trigger};
use crate::service::follow::keeper_status::Seen;
use crate::service::follow::{Keeper, News, SILENCE, State, Turn};
use crate::service::summary::tell;

/// A keeper that broke off is not started again at once.
const START_AGAIN: Duration = Duration::from_mins(1);

/// More than the loop ever finds waiting: a keeper sends one at a time.
const WAITING: usize = 256;

/// All keepers.
pub(super) struct Keepers {
    kept: BTreeMap<RealmId, Kept>,
    tasks: JoinSet<RealmId>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    /// Realms whose polls fail, and why: said once.
    failing: BTreeMap<RealmId, Option<ErrorCode>>,
    not_before: Option<Instant>,
}

struct Kept {
    task: tokio::task::Id,
    cancel: CancellationToken,
    turns: watch::Sender<Turn>,
    seen: Arc<watch::Sender<Seen>>,
}

/// What became of a keeper or what it says.
#[derive(Debug)]
pub(super) enum Heard {
    News(News),
    Ended,
}

impl Default for Keepers {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            tasks: JoinSet::new(),
            news: mpsc::channel(WAITING),
            failing: BTreeMap::new(),
            not_before: None,
        }
    }
}

impl Keepers {
    /// What a realm's keeper has seen.
    pub(super) fn seen(&self, realm: &RealmId) -> Seen {
        self.kept
            .get(realm)
            .map(|kept| kept.seen.borrow().clone())
            .unwrap_or_default()
    }

    /// Realms that live by push and are not connected.
    pub(super) fn away(&self) -> Vec<&RealmId> {
        let is_away = |kept: &Kept| {
            let seen = kept.seen.borrow();
            seen.push
                .as_ref()
                .is_some_and(|push| !push.connected && push.error.is_some())
        };
        self.kept
            .iter()
            .filter(|(_, kept)| is_away(kept))
            .map(|(realm, _)| realm)
            .collect()
    }

    /// Tells all of them to end.
    pub(super) fn stop(&self) {
        self.kept.values().for_each(|kept| kept.cancel.cancel());
    }

    /// Whether none is left.
    pub(super) fn are_gone(&self) -> bool {
        self.kept.is_empty()
    }

    /// A run of the realm ended, or something else makes it worth looking again.
    pub(super) fn turn(&self, realm: &RealmId, run: Option<&Run>) {
        if let Some(kept) = self.kept.get(realm) {
            kept.turns.send_modify(|turn| {
                turn.count = turn.count.wrapping_add(1);
                if let Some(run) = run {
                    turn.server = run.server.clone().or(turn.server.take());
                    turn.failed = run.error_code.filter(|_| run.outcome == Outcome::Failed);
                }
            });
            // The directory was asked, and answered.
            if let Some(run) =
                run.filter(|run| matches!(run.outcome, Outcome::Applied | Outcome::Unchanged))
            {
                kept.seen.send_modify(|seen| seen.heard_at = run.decided_at);
            }
        }
    }

    /// Cancel-safe.
    pub(super) async fn hear(&mut self) -> Heard {
        tokio::select! {
            // The sender is ours too: it never closes.
            Some(news) = self.news.1.recv() => Heard::News(news),
            Some(ended) = self.tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, _)) => id,
                    Err(error) => {
                        tracing::error!(%error, "what keeps a realm up to date broke off: {error}; it is started again in a minute. This is a fault of realmsync: please report it with the log");
                        self.not_before = Some(Instant::now() + START_AGAIN);
                        error.id()
                    }
                };
                self.kept.retain(|_, kept| kept.task != id);
                Heard::Ended
            }
            else => std::future::pending().await,
        }
    }

    /// Waits until all are gone, at most until `end`; whoever is not is cut off, and what it was doing is rolled back.
    pub(super) async fn farewell(&mut self, end: Instant) {
        self.stop();
        while !self.tasks.is_empty()
            && tokio::time::timeout_at(end, self.tasks.join_next())
                .await
                .is_ok()
        {}
        self.tasks.shutdown().await;
        self.kept.clear();
    }
}

impl Daemon {
    /// Starts keepers for realms that have none.
    pub(super) fn keep(&mut self) {
        if self.unsettled
            || self
                .keepers
                .not_before
                .is_some_and(|at| Instant::now() < at)
        {
            return;
        }
        let config = self.config.borrow().clone();
        for realm in &config.realms {
            if realm.directory.changes == ChangesWay::Full
                || self.keepers.kept.contains_key(&realm.id)
            {
                continue;
            }
            let (turns, seen) = (
                watch::Sender::new(Turn::default()),
                Arc::new(watch::Sender::new(Seen::default())),
            );
            let cancel = self.stop.child_token();
            let keeper = Keeper {
                engine: self.engine.borrow().clone(),
                realm: realm.clone(),
                turns: turns.subscribe(),
                news: self.keepers.news.0.clone(),
                wake: Arc::clone(&self.wake),
                seen: Arc::clone(&seen),
                cancel: cancel.clone(),
                pulse: self
                    .life
                    .part(format!("what keeps {} up to date", realm.id), SILENCE),
                chance,
                state: State::default(),
            };
            let id = realm.id.clone();
            let task = self.keepers.tasks.spawn(async move {
                Box::pin(keeper.keep()).await;
                id
            });
            let kept = Kept {
                task: task.id(),
                cancel,
                turns,
                seen,
            };
            self.keepers.kept.insert(realm.id.clone(), kept);
        }
    }

    /// What a keeper says.
    pub(super) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Ended => {}
            Heard::News(News::Ran(run)) => {
                tell(Some(&run));
                self.count(&run);
                self.keepers.turn(&run.realm, Some(&run));
                self.let_go(&run);
            }
            Heard::News(News::Wants(realm, trigger)) => self.wants(&realm, trigger),
        }
    }

    /// Counts a run, and remembers whether a plan waits.
    pub(super) fn count(&mut self, run: &Run) {
        match run.outcome {
            Outcome::Held => self.held.insert(run.realm.clone()),
            Outcome::Failed | Outcome::Cancelled | Outcome::Running => false,
            _ => self.held.remove(&run.realm),
        };
        self.metrics.run_ended(run);
        if run.mode == Mode::Delta {
            let way = match (run.trigger, self.keepers.seen(&run.realm).way) {
                (Trigger::Push, _) => "push",
                (_, way) => way.map_or("unknown", asked_by),
            };
            self.metrics.delta_ended(run, way);
        }
    }

    /// What a poll found, said where it is news: a directory that is down for a night is no line every ten seconds.
    pub(super) fn polled(&mut self, run: &Run) {
        let realm = &run.realm;
        match run.outcome {
            Outcome::Failed => {
                let before = self.keepers.failing.insert(realm.clone(), run.error_code);
                if before != Some(run.error_code) {
                    tell(Some(run));
                }
                return;
            }
            Outcome::Held if self.held.contains(realm) => {}
            Outcome::Unchanged => tracing::debug!(%realm, "{realm}: polled, nothing changed"),
            _ => tell(Some(run)),
        }
        if self.keepers.failing.remove(realm).is_some() {
            tracing::info!(%realm, "{realm}: the directory can be polled again");
        }
    }
}

/// The word for how a run that was not pushed asked for its delta.
fn asked_by(way: Way) -> &'static str {
    match way {
        // A delta of a realm that lives by push, on schedule or by command, asks as if it polled.
        Way::Push => "poll",
        Way::Syncrepl => "syncrepl",
        Way::DirSync => "dirsync",
        Way::Timestamp => "timestamp",
    }
}
