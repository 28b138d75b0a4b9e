//! A run under way: when the store hears of it, and what is left of one that came to nothing.

use super::decided::failed;
use super::following::usable;
use super::prepare::{PassError, prepare};
use super::run::{Ending, elapsed};
use super::{Ask, Engine, EngineError};
use crate::config::RealmConfig;
use crate::directory::NoDelta;
use crate::model::{Outcome, RealmRow, Run, Trigger};
use crate::store::StoreError;

/// A run under way.
pub(super) struct Doing<'a> {
    pub config: &'a RealmConfig,
    pub row: &'a RealmRow,
    pub ask: &'a Ask,
    pub ending: Ending,
    pub started: tokio::time::Instant,
    /// Whether the store knows of it.
    pub begun: bool,
    /// Whoever would be suspended or lose their number is only named: they are gathered before they are weighed.
    pub losses_wait: bool,
}

impl Doing<'_> {
    /// Whether the run leaves no row where nothing was told: a poll every ten seconds is no history.
    pub fn quiet(&self) -> bool {
        let asked_often = matches!(self.ask.trigger, Trigger::Poll | Trigger::Push);
        self.ending == Ending::Ahead || self.ending == Ending::ByTheBrake && asked_often
    }

    /// Makes the run known, once. `false`: it is a tick's, and another daemon made that.
    pub async fn begin(&mut self, engine: &Engine, run: &Run) -> Result<bool, StoreError> {
        if self.begun || self.ending == Ending::Dry {
            return Ok(true);
        }
        let first = self.row.first_applied_at.is_none();
        let running = Run {
            outcome: Outcome::Running,
            ..run.clone()
        };
        self.begun = engine
            .store
            .begin_for_tick(&running, first, self.ask.tick)
            .await?;
        Ok(self.begun)
    }

    /// The run came to nothing.
    pub async fn failed(
        &mut self,
        engine: &Engine,
        run: &mut Run,
        error: &PassError,
    ) -> Result<(), StoreError> {
        run.outcome = if error.code.is_some() {
            Outcome::Failed
        } else {
            Outcome::Cancelled
        };
        run.error_code = error.code;
        run.error = Some(error.message.clone());
        run.elapsed_ms = elapsed(self.started);
        run.decided_at = Some(engine.clock.now());
        if self.ending != Ending::Dry && self.is_news(engine, run).await? {
            self.begin(engine, run).await?;
            // What could not be used is why there was nobody. Before the run is failed, which sweeps what it staged.
            if let Some(refused) = error.refused.clone() {
                let store = &engine.store;
                store
                    .add_refused(&self.row.id, refused, run.started_at)
                    .await?;
            }
            engine.store.fail_run(run).await?;
        }
        Ok(())
    }

    /// Whether a failure is to be kept: of a directory that is down for a night, not each poll's.
    async fn is_news(&self, engine: &Engine, run: &Run) -> Result<bool, StoreError> {
        if self.begun || !self.quiet() {
            return Ok(true);
        }
        if run.outcome == Outcome::Cancelled || self.ending == Ending::Ahead {
            return Ok(false);
        }
        let last = engine.store.last_run(&self.row.id).await?;
        Ok(last.is_none_or(|last| {
            (last.outcome, last.error_code) != (Outcome::Failed, run.error_code)
        }))
    }
}

impl Engine {
    /// While a plan is held, what the directory tells only marks the realm: asked once, until the plan is decided.
    pub(super) async fn only_due(&self, doing: &Doing<'_>) -> Result<(), EngineError> {
        let (config, row) = (doing.config, doing.row);
        if row.due {
            return Ok(());
        }
        let something = async {
            let mut prepared = prepare(self, config, row, false).await?;
            match usable(config, row, &prepared) {
                Ok(Some((since, _))) => match prepared.changes_since(&since).await {
                    Ok(delta) => Ok(!delta.is_empty()),
                    Err(NoDelta::Directory(error)) => Err(PassError::from(error)),
                    Err(_) => Ok(true),
                },
                _ => Ok(true),
            }
        };
        match something.await {
            Ok(true) => Ok(self.store.set_due(&row.id, true).await?),
            Ok(false) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}
