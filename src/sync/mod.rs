//! The order of the stages: directory ─▶ normalise ─▶ plan ─▶ brake ─▶ apply. One engine for daemon and command line.

mod absent;
mod adopt;
mod approve;
mod asked;
mod computed;
mod contest;
mod delta;
mod doubles;
mod drift;
mod drift_by_kind;
mod evidence;
mod follow;
mod following;
mod index;
mod look;
mod look_again;
mod losses;
mod moved_containers;
mod pass;
mod prepare;
mod refusals;
mod run;
mod settle;
mod siblings;
mod stale;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Environment, RealmConfig};
use crate::model::{Outcome, RealmId, Run, Trigger};
use crate::runs::undo::UndoAsk;
pub use crate::runs::{Decided, Lines, RunError as EngineError};
use crate::runs::{Runs, Turn};
use crate::store::Store;
pub use drift_by_kind::ByKind;
pub use follow::{Follower, Unfollowed};
pub use following::Following;
use run::Ending;

/// How far a pass has come, for progress bars and the watchdog.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Entries read so far.
    pub seen: u64,
    /// Users of the realm before the pass, as an estimate of the whole; 0: unknown.
    pub expected: u64,
}

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Read everything, whatever the cursor says.
    pub full: bool,
    /// One person by name.
    pub user: Option<String>,
    /// Read a held plan as a rebuilt directory; see [`Engine::adopt`].
    pub adopt: bool,
    /// Take a server that is behind, this once.
    pub accept_older: bool,
    /// What started it.
    pub trigger: Trigger,
    /// The newest tick of the schedule that it makes up for; `None`: it was not the schedule.
    pub tick: Option<Timestamp>,
    /// Who asked.
    pub by: Option<String>,
    /// Stops the run: it commits or rolls back.
    pub cancel: CancellationToken,
    /// Where progress is told.
    pub progress: tokio::sync::watch::Sender<Progress>,
}

impl Ask {
    /// A run for this trigger: a delta where there is a cursor to go on from, else a full pass.
    pub fn new(trigger: Trigger, by: Option<String>) -> Self {
        Self {
            full: false,
            user: None,
            adopt: false,
            accept_older: false,
            trigger,
            tick: None,
            by,
            cancel: CancellationToken::new(),
            progress: tokio::sync::watch::Sender::new(Progress::default()),
        }
    }
}

/// How a decision on a run is made.
#[derive(Clone, Default, Debug)]
pub struct Asking {
    /// Who asked.
    pub by: Option<String>,
    /// Take a server that is behind, this once.
    pub accept_older: bool,
    /// Stops what was begun: it commits or rolls back.
    pub cancel: CancellationToken,
}

impl From<Option<String>> for Asking {
    fn from(by: Option<String>) -> Self {
        Self {
            by,
            ..Self::default()
        }
    }
}

impl Asking {
    /// The same for a run that the decision needs.
    fn ask(&self) -> Ask {
        Ask {
            accept_older: self.accept_older,
            cancel: self.cancel.clone(),
            ..Ask::new(Trigger::Command, self.by.clone())
        }
    }
}

/// Everything that a run needs. Cheap to clone; one run a realm at a time.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The configuration that runs use; a reload makes a new engine.
    pub config: Arc<Config>,
    /// The store.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where secrets are resolved.
    pub env: Arc<Environment>,
}

impl Engine {
    /// An engine over an open store.
    pub fn new(config: Arc<Config>, store: Store, clock: Clock, env: Arc<Environment>) -> Self {
        Self {
            config,
            store,
            clock,
            env,
        }
    }

    /// The same engine in a realm's turn: what it writes is written under the lock or not at all.
    fn within(&self, turn: &Turn) -> Self {
        Self {
            store: turn.store.clone(),
            ..self.clone()
        }
    }

    fn runs(&self) -> Runs {
        Runs {
            store: self.store.clone(),
            clock: self.clock.clone(),
        }
    }

    /// One run now: a delta, or a full pass where `ask.full` says so, a plan is held, or the directory cannot tell what changed
    /// ([`Run::note`] says which). A full pass that is asked for follows a delta of its own row, and counts drift.
    ///
    /// A poll or push in which nothing was told gives an `unchanged` run that the store does not know; while a plan is held it
    /// gives that plan, and marks the realm as due if something was told. Do not poll a realm whose
    /// [`Following::way`] is `None`: without a cursor each poll would read everything.
    ///
    /// A failed run is `Ok` with outcome `failed`; one that confirms a held plan answers with the held run.
    pub async fn sync(&self, realm: &RealmId, ask: Ask) -> Result<Run, EngineError> {
        let mut ending = Ending::ByTheBrake;
        if drift::can_be_measured(&ask, &self.row(realm).await?) {
            // The tick is the full pass's, which comes after.
            let ahead = Ask {
                full: false,
                tick: None,
                ..ask.clone()
            };
            let (run, _) = self.run(realm, &ahead, Ending::Ahead).await?;
            // What deltas tell is told: whatever the full pass still finds, they did not.
            if matches!(run.outcome, Outcome::Applied | Outcome::Unchanged) {
                ending = Ending::Measured;
            }
        }
        self.run(realm, &ask, ending).await.map(|(run, _)| run)
    }

    /// A dry run through the same code; stores nothing, unless `hold`: then the plan is kept as a held one. The lines are read
    /// after the run, page by page, and the realm is free meanwhile.
    pub async fn plan(
        &self,
        realm: &RealmId,
        ask: Ask,
        hold: bool,
    ) -> Result<(Run, Lines), EngineError> {
        if !hold {
            return self.run(realm, &ask, Ending::Dry).await;
        }
        let (run, _) = self.run(realm, &ask, Ending::Hold).await?;
        let lines = if run.outcome == Outcome::Held {
            Lines::of_kept(self.store.clone(), run.clone())
        } else {
            Lines::none()
        };
        Ok((run, lines))
    }

    /// Applies a held plan exactly as shown, after a fresh look; `run` is an id or a unique prefix.
    pub async fn approve(
        &self,
        run: &str,
        asking: impl Into<Asking>,
    ) -> Result<Decided, EngineError> {
        Box::pin(self.approve_held(run, asking.into())).await
    }

    /// Says no to a held plan.
    pub async fn reject(&self, run: &str, by: Option<String>) -> Result<Decided, EngineError> {
        self.runs().reject(run, by, None).await
    }

    /// The same; for so long its changes are left out of the realm's plans, while the rest goes on. Of a plan that was rejected so
    /// before, it moves the end; with 0 that is now.
    pub async fn reject_for(
        &self,
        run: &str,
        by: Option<String>,
        for_ms: i64,
    ) -> Result<Decided, EngineError> {
        self.runs().reject(run, by, Some(for_ms)).await
    }

    /// Reads a held plan as a rebuilt directory: same name and same phone or e-mail keeps the user and takes the new id.
    pub async fn adopt(
        &self,
        run: &str,
        asking: impl Into<Asking>,
    ) -> Result<Decided, EngineError> {
        self.adopt_held(run, asking.into()).await
    }

    /// A new plan that puts back what a run changed; pauses the realm as soon as the plan is made.
    pub async fn undo(&self, run: &str, asking: impl Into<Asking>) -> Result<Decided, EngineError> {
        let asking = asking.into();
        let target = self.store.run(run).await?;
        let config = self.realm_config(&target.realm)?;
        let ask = self.undo_ask(config, &asking).await?;
        self.runs().undo(&target, &ask).await
    }

    async fn undo_ask<'a>(
        &'a self,
        config: &'a RealmConfig,
        asking: &'a Asking,
    ) -> Result<UndoAsk<'a>, EngineError> {
        let realms = self.config.realms.iter();
        Ok(UndoAsk {
            brake: &config.brake,
            policy: &config.policy,
            policies: realms.map(|r| (&r.id, &r.policy)).collect(),
            messages: self.messages(config, self.clock.now()).await?,
            by: asking.by.as_deref(),
            cancel: &asking.cancel,
        })
    }

    /// Ends the holds (`phone-change.hold`) that are over; says how many numbers took effect. Called by a timer of the daemon.
    pub async fn end_holds(&self) -> Result<u64, EngineError> {
        self.end_holds_now().await
    }

    /// Declares the configuration's realms to the store (orphans those that no running daemon's file has), sweeps what a crash
    /// left. Called by a daemon once it has opened the store, and after each reload.
    pub async fn settle_in(&self) -> Result<(), EngineError> {
        self.declare().await
    }
}
