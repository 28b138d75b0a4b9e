//! The push of one realm: connected, told, cut off, connected again.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::{BEAT, Keeper, KeeperNews, LOOK_AGAIN, NOT_OFFERED, WakeReason};
use crate::model::{ErrorCode, Trigger};
use crate::runs::RunError;
use crate::story::status::PushStatus;
use crate::sync::{Follower, Unfollowed};

/// A connection that held for so long was none that breaks at once.
const HELD: Duration = Duration::from_secs(30);

/// Passes that are asked for again and again by a server that takes none of its own cursors come ever more seldom.
const PASS_AGAIN: u32 = 15;

impl Keeper {
    /// Follows until that ends, and rests as long as the end asks for.
    pub(super) async fn push(&mut self) -> WakeReason {
        let cancel = self.cancel.child_token();
        let engine = self.engine.clone();
        let realm = self.realm.id.clone();
        let follow = engine.follow(&realm, cancel.clone());
        let ended = match Box::pin(self.beating(follow)).await {
            Ok(mut follower) => {
                let since = Instant::now();
                self.connected(&follower);
                let ended = Box::pin(self.hear(&mut follower, &cancel)).await;
                if since.elapsed() >= HELD {
                    self.recovered();
                }
                ended
            }
            Err(why) => Err(why),
        };
        match ended {
            _ if self.cancel.is_cancelled() => WakeReason::Cancelled,
            // The way to a preferred server is free.
            Ok(()) => WakeReason::Time,
            Err(Unfollowed::PassFirst(why)) => self.pass_first(why).await,
            Err(Unfollowed::NotOffered(why)) => {
                tracing::warn!(%realm, "{realm}: no push: {why}; the directory is asked from time to time instead");
                self.seen.send_modify(|seen| {
                    seen.push = None;
                    seen.not_pushed = Some(why);
                });
                self.state.not_before = Some(Instant::now() + NOT_OFFERED);
                self.state.told_away = false;
                WakeReason::Time
            }
            Err(Unfollowed::Failed(error)) => {
                let wait = self.state.backoff.after(code_of(&error), (self.chance)());
                self.away(&error.to_string());
                self.pause(wait).await
            }
        }
    }

    /// Waits for what is told, and passes on what came of it. `Ok`: cancelled, or a preferred server is back.
    async fn hear(
        &mut self,
        follower: &mut Follower,
        cancel: &tokio_util::sync::CancellationToken,
    ) -> Result<(), Unfollowed> {
        let home = self.home(follower.server().unwrap_or_default());
        tokio::pin!(home);
        let mut going_home = false;
        let mut beat = interval(BEAT);
        loop {
            let told = {
                let next = follower.next();
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        biased;
                        told = &mut next => break told,
                        // What is under way ends first; what is not applied is told again by the other server.
                        () = &mut home, if !going_home => {
                            going_home = true;
                            cancel.cancel();
                        }
                        _now = beat.tick() => self.pulse.beat(),
                    }
                }
            };
            let Some(run) = told? else { return Ok(()) };
            self.wake.notify_one();
            self.recovered();
            let now = self.engine.clock.now();
            self.seen.send_modify(|seen| seen.heard_at = Some(now));
            self.tell(KeeperNews::Ran(Box::new(run))).await;
        }
    }

    /// What came before does not count any more.
    fn recovered(&mut self) {
        self.state.backoff.reset();
        self.state.passes.reset();
        self.state.asked_for_pass = false;
    }

    /// Everything is to be read before the realm can be followed, unless that has to wait for somebody.
    async fn pass_first(&mut self, why: String) -> WakeReason {
        let realm = self.realm.id.clone();
        let in_the_way = match self.engine.store.realm(&realm).await {
            Ok(Some(row)) => row.held.is_some() || row.paused || row.orphaned,
            Ok(None) => true,
            Err(error) => {
                self.away(&error.to_string());
                return self.pause(LOOK_AGAIN).await;
            }
        };
        if in_the_way {
            self.away(&format!(
                "{why}. It waits until the held plan is decided, or the pause ends"
            ));
            return self.rest(Some(LOOK_AGAIN)).await;
        }
        if self.state.asked_for_pass {
            // Not again and again: something is wrong with this server, and a pass is dear.
            let wait = self
                .state
                .passes
                .after(ErrorCode::Incomplete, (self.chance)())
                * PASS_AGAIN;
            self.away(&why);
            match self.pause_for_success(wait).await {
                WakeReason::Time => {}
                // It was mended, or another server took its place.
                woke => return woke,
            }
        } else {
            tracing::info!(%realm, "{realm}: before changes can be pushed, a run: {why}");
        }
        self.state.asked_for_pass = true;
        self.turns.borrow_and_update();
        self.ask(Trigger::Push).await
    }

    /// A wait that no run of the realm shortens: the server is to be left alone.
    async fn pause(&mut self, wait: Duration) -> WakeReason {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.rest(Some(left)).await {
                WakeReason::Turn => {}
                woke => return woke,
            }
        }
    }

    /// The same, but a run that did not fail ends it.
    async fn pause_for_success(&mut self, wait: Duration) -> WakeReason {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.rest(Some(left)).await {
                WakeReason::Turn if self.turns.borrow().failed.is_some() => {}
                woke => return woke,
            }
        }
    }

    fn connected(&mut self, follower: &Follower) {
        let (realm, now) = (&self.realm.id, self.engine.clock.now());
        let server = follower.server();
        let name = server.clone().unwrap_or_default();
        let status = PushStatus {
            connected: true,
            since: now,
            server,
            error: None,
        };
        let mut away_since = None;
        self.seen.send_modify(|seen| {
            away_since = seen
                .push
                .replace(status)
                .filter(|push| !push.connected)
                .map(|push| push.since);
            seen.not_pushed = None;
            seen.heard_at = Some(now);
        });
        let away = away_since.map_or(0, |since| now.since_ms(since).max(0) / 1000);
        if std::mem::take(&mut self.state.told_away) {
            tracing::info!(%realm, server = name, away_seconds = away, "{realm}: changes are pushed again by {name}, after {away} s; what was missed comes now");
        } else {
            tracing::info!(%realm, server = name, "{realm}: changes are pushed by {name}");
        }
    }

    /// Says so once, not at every attempt.
    fn away(&mut self, why: &str) {
        let (realm, now) = (&self.realm.id, self.engine.clock.now());
        self.seen.send_modify(|seen| {
            let since = match &seen.push {
                Some(push) if !push.connected => push.since,
                _ => now,
            };
            seen.push = Some(PushStatus {
                connected: false,
                since,
                server: None,
                error: Some(why.to_owned()),
            });
        });
        if std::mem::replace(&mut self.state.told_away, true) {
            tracing::debug!(%realm, "{realm}: still no push: {why}");
        } else {
            tracing::warn!(%realm, "{realm}: changes are not pushed now: {why}; it is tried again, and what is missed comes then");
        }
    }
}

fn code_of(error: &RunError) -> ErrorCode {
    match error {
        RunError::Failed { code, .. } => *code,
        RunError::Store(error) => error.code(),
        RunError::TickDone => ErrorCode::Busy,
        RunError::Stopped(_) => ErrorCode::Incomplete,
        RunError::NotFound(_) | RunError::Refused(_) | RunError::Unfit(_) => ErrorCode::Config,
    }
}
