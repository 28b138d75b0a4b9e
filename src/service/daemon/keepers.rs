//! The daemon's keepers: one for each realm that may live by deltas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::RealmConfig;
use crate::model::{ErrorCode, Outcome, RealmId, Run};
use crate::service::follow::{Keeper, KeeperMemory, KeeperNews, RealmNotice};
use crate::service::jitter::chance;
use crate::service::pulses::Pulse;
use crate::story::realms::KeeperStatus;
use crate::sync::Engine;

/// A keeper that broke off is not started again at once.
const START_AGAIN: Duration = Duration::from_mins(1);

/// More than the loop ever finds waiting: a keeper sends one at a time.
const WAITING: usize = 256;

/// All keepers.
pub(super) struct Keepers {
    kept: BTreeMap<RealmId, KeeperHandle>,
    tasks: JoinSet<RealmId>,
    news: (mpsc::Sender<KeeperNews>, mpsc::Receiver<KeeperNews>),
    /// Realms whose polls fail, and why: said once.
    failing: BTreeMap<RealmId, Option<ErrorCode>>,
    not_before: Option<Instant>,
}

struct KeeperHandle {
    task: tokio::task::Id,
    cancel: CancellationToken,
    turns: watch::Sender<RealmNotice>,
    seen: Arc<watch::Sender<KeeperStatus>>,
}

/// What became of a keeper or what it says.
#[derive(Debug)]
pub(super) enum FromKeeper {
    News(KeeperNews),
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
    pub(super) fn seen(&self, realm: &RealmId) -> KeeperStatus {
        self.kept
            .get(realm)
            .map(|kept| kept.seen.borrow().clone())
            .unwrap_or_default()
    }

    /// Realms that live by push and are not connected.
    pub(super) fn away(&self) -> Vec<&RealmId> {
        let is_away = |kept: &KeeperHandle| {
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

    /// Whether none broke off a moment ago.
    pub(super) fn may_start(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// Whether a realm has one.
    pub(super) fn has(&self, realm: &RealmId) -> bool {
        self.kept.contains_key(realm)
    }

    /// Starts the keeper of a realm that has none.
    pub(super) fn start(
        &mut self,
        engine: Engine,
        realm: &RealmConfig,
        wake: Arc<Notify>,
        pulse: Pulse,
        cancel: CancellationToken,
    ) {
        let (turns, seen) = (
            watch::Sender::new(RealmNotice::default()),
            Arc::new(watch::Sender::new(KeeperStatus::default())),
        );
        let keeper = Keeper {
            engine,
            realm: realm.clone(),
            turns: turns.subscribe(),
            news: self.news.0.clone(),
            wake,
            seen: Arc::clone(&seen),
            cancel: cancel.clone(),
            pulse,
            chance,
            state: KeeperMemory::default(),
        };
        let id = realm.id.clone();
        let task = self.tasks.spawn(async move {
            Box::pin(keeper.keep()).await;
            id
        });
        let kept = KeeperHandle {
            task: task.id(),
            cancel,
            turns,
            seen,
        };
        self.kept.insert(realm.id.clone(), kept);
    }

    /// A poll of the realm failed; whether that, or its cause, is news.
    pub(super) fn failed(&mut self, realm: &RealmId, code: Option<ErrorCode>) -> bool {
        self.failing.insert(realm.clone(), code) != Some(code)
    }

    /// A poll of the realm succeeded; whether that is news.
    pub(super) fn answers_again(&mut self, realm: &RealmId) -> bool {
        self.failing.remove(realm).is_some()
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
    pub(super) async fn hear(&mut self) -> FromKeeper {
        tokio::select! {
            // The sender is ours too: it never closes.
            Some(news) = self.news.1.recv() => FromKeeper::News(news),
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
                FromKeeper::Ended
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
