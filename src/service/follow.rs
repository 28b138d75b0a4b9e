//! One task for each realm that lives by deltas: it holds the push, or asks for a poll when it is time.
//!
//! ```text
//!              full passes only ─▶ waits until a run of the realm has ended
//! look ─▶ way ┼ polled ─▶ `poll` after the last run's end ─▶ asks the loop for a run, waits for its end
//!              └ push ─▶ connect ─▶ told ─▶ run ─▶ told …
//!                  ▲        │ failed            │ failed                │ a pass first: asks the loop, waits for its end
//!                  └─ backoff 1 s … 60 s ◀──────┘
//! ```
//!
//! It decides nothing and writes nothing: the engine knows what a held plan, a pause or a cursor mean. Idle, it sleeps.

pub mod backoff;
mod hear;
pub mod preferred_server;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use super::pulses::Pulse;
use crate::config::RealmConfig;
use crate::directory::Way;
use crate::model::{ErrorCode, RealmId, Run, Trigger};
use crate::store::StoreError;
use crate::story::realms::KeeperStatus;
use crate::story::status::PushStatus;
use crate::sync::{Engine, Following};

/// How often a keeper shows that it lives.
const BEAT: Duration = Duration::from_secs(15);
/// Without a sign of life for so long it hangs: a minute of connecting to servers that do not answer is none.
pub(super) const SILENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether a held plan was decided or a pause is over, should nobody say so.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A server that does not push after all may have been set up since.
const NOT_OFFERED: Duration = Duration::from_mins(5);

/// What a keeper tells the daemon's loop.
#[derive(Debug)]
pub(super) enum KeeperNews {
    /// What was told became a run.
    Ran(Box<Run>),
    /// A run of the realm is wanted, unless there is one.
    Wants(RealmId, Trigger),
}

/// The newest thing that the loop says of a realm.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct RealmNotice {
    /// Rises with each run that ended, and with whatever else makes it worth looking again.
    pub(super) count: u64,
    /// The server of the last run.
    pub(super) server: Option<String>,
    /// Why the last run failed; `None`: it did not.
    pub(super) failed: Option<ErrorCode>,
}

/// Keeps one realm up to date.
pub(super) struct Keeper {
    pub(super) engine: Engine,
    pub(super) realm: RealmConfig,
    pub(super) turns: watch::Receiver<RealmNotice>,
    pub(super) news: mpsc::Sender<KeeperNews>,
    /// There may be messages for the outbox.
    pub(super) wake: Arc<Notify>,
    pub(super) seen: Arc<watch::Sender<KeeperStatus>>,
    pub(super) cancel: CancellationToken,
    pub(super) pulse: Pulse,
    pub(super) chance: fn() -> f64,
    pub(super) state: KeeperMemory,
}

/// What a keeper remembers from one attempt to the next.
#[derive(Debug, Default)]
pub(super) struct KeeperMemory {
    backoff: Backoff,
    /// Passes in a row that came before push, and after which push asked for another one.
    passes: Backoff,
    asked_for_pass: bool,
    /// Until then the server is not asked for push.
    not_before: Option<Instant>,
    /// The log knows that the push is away.
    told_away: bool,
    /// When a preferred server that is not used was last looked at.
    looked_home: Option<Instant>,
}

/// What a realm lives by.
enum ChangeSource {
    Push,
    Poll(Duration),
    /// Nothing is to be done before the schedule's next run has ended, or that time is over.
    Schedule(Option<Duration>),
}

/// Why a rest is over.
#[derive(PartialEq, Eq, Debug)]
enum WakeReason {
    Cancelled,
    /// A run of the realm ended, or it was resumed.
    Turn,
    Time,
}

impl Keeper {
    /// Works until cancelled.
    pub(super) async fn keep(mut self) {
        loop {
            self.pulse.beat();
            let woke = match self.lives().await {
                Ok(ChangeSource::Push) => Box::pin(self.push()).await,
                Ok(ChangeSource::Poll(every)) => Box::pin(self.poll(every)).await,
                Ok(ChangeSource::Schedule(look)) => self.rest(look).await,
                Err(error) => {
                    tracing::error!(realm = %self.realm.id, %error, "{}: cannot look how changes are heard of: {error}", self.realm.id);
                    self.rest(Some(LOOK_AGAIN)).await
                }
            };
            if woke == WakeReason::Cancelled {
                return;
            }
        }
    }

    /// What the realm's last full pass found.
    async fn lives(&mut self) -> Result<ChangeSource, StoreError> {
        let row = self.engine.store.realm(&self.realm.id).await?;
        let following = row
            .as_ref()
            .and_then(|row| row.following.as_deref())
            .and_then(|text| serde_json::from_str::<Following>(text).ok())
            .filter(|following| !following.fell_back);
        let way = following.and_then(|following| following.way);
        let not_pushed = self.state.not_before.is_some_and(|at| Instant::now() < at);
        let pushed = way == Some(Way::Push) && !not_pushed;
        let now = self.engine.clock.now();
        self.seen.send_if_modified(|seen| {
            let before = (seen.way, seen.push.is_some(), seen.not_pushed.is_some());
            seen.way = way;
            if !not_pushed {
                seen.not_pushed = None;
            }
            if pushed {
                seen.push.get_or_insert(PushStatus {
                    connected: false,
                    since: now,
                    server: None,
                    error: None,
                });
            } else {
                seen.push = None;
            }
            before != (seen.way, seen.push.is_some(), seen.not_pushed.is_some())
        });
        let Some(row) = row.filter(|row| !row.orphaned) else {
            return Ok(ChangeSource::Schedule(Some(LOOK_AGAIN)));
        };
        let paused = row.is_paused(now);
        Ok(match (way, self.realm.directory.poll_ms) {
            (Some(_), _) if pushed => ChangeSource::Push,
            (Some(_), _) if paused => ChangeSource::Schedule(Some(LOOK_AGAIN)),
            (Some(_), Some(ms)) => {
                ChangeSource::Poll(Duration::from_millis(u64::try_from(ms).unwrap_or(10_000)))
            }
            (Some(Way::Push), None) => ChangeSource::Schedule(Some(NOT_OFFERED)),
            (None, _) | (Some(_), None) => ChangeSource::Schedule(None),
        })
    }

    /// One poll, when it is time. While the directory is away they come less often.
    async fn poll(&mut self, every: Duration) -> WakeReason {
        let turn = self.turns.borrow_and_update().clone();
        let wait = if let Some(code) = turn.failed {
            every.max(self.state.backoff.after(code, (self.chance)()))
        } else {
            self.state.backoff.reset();
            every
        };
        if let Some(used) = &turn.server {
            self.look_home(used).await;
        }
        // A run that ends meanwhile is as good as a poll.
        match self.rest(Some(wait)).await {
            WakeReason::Time => self.ask(Trigger::Poll).await,
            woke => woke,
        }
    }

    /// Every run tries the preferred server first by itself; here it is only looked why it was not taken.
    async fn look_home(&mut self, used: &str) {
        let due = self
            .state
            .looked_home
            .is_none_or(|at| at.elapsed() >= preferred_server::EVERY);
        let at_home = preferred_server::before(&self.realm, used).is_empty();
        if at_home && self.seen.borrow().away.is_empty() {
            self.state.looked_home = None;
        } else if at_home || due {
            self.state.looked_home = Some(Instant::now());
            self.beating(preferred_server::look(
                &self.engine,
                &self.realm,
                used,
                &self.seen,
            ))
            .await;
        }
    }

    /// Asks the loop for a run and waits until one has ended.
    async fn ask(&mut self, trigger: Trigger) -> WakeReason {
        self.tell(KeeperNews::Wants(self.realm.id.clone(), trigger))
            .await;
        self.rest(None).await
    }

    /// Tells the loop; at the end there is nobody to tell.
    async fn tell(&self, news: KeeperNews) {
        tokio::select! {
            biased;
            _gone = self.news.send(news) => {}
            () = self.cancel.cancelled() => {}
        }
    }

    /// Awaits something, and shows that it lives meanwhile.
    async fn beating<T>(&self, doing: impl Future<Output = T>) -> T {
        let mut beat = interval(BEAT);
        tokio::pin!(doing);
        loop {
            tokio::select! {
                biased;
                done = &mut doing => return done,
                _now = beat.tick() => self.pulse.beat(),
            }
        }
    }

    /// Sleeps, and shows that it lives meanwhile. `None`: until something happens.
    async fn rest(&mut self, for_: Option<Duration>) -> WakeReason {
        let end = for_.map(|rest| Instant::now() + rest);
        loop {
            let beat = Instant::now() + BEAT;
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return WakeReason::Cancelled,
                turn = self.turns.changed() => return turn.map_or(WakeReason::Cancelled, |()| WakeReason::Turn),
                () = sleep_until(end.map_or(beat, |end| end.min(beat))) => self.pulse.beat(),
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return WakeReason::Time;
            }
        }
    }

    fn home(&self, used: String) -> impl Future<Output = ()> + Send + use<> {
        preferred_server::is_back(
            self.engine.clone(),
            self.realm.clone(),
            used,
            preferred_server::EVERY,
            Arc::clone(&self.seen),
        )
    }
}
