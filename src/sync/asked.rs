//! What a run was asked for: constant from its beginning to its end.

use super::following::usable;
use super::prepare::{PassError, prepare};
use super::run::Ending;
use super::{Ask, Engine, EngineError};
use crate::clock::Clock;
use crate::config::RealmConfig;
use crate::directory::NoDelta;
use crate::model::{Mode, RealmRow, Trigger};
use crate::runs::{self, Frame, new_run};
use crate::store::{Store, StoreError};

/// What a run was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub config: &'a RealmConfig,
    /// As it was when the run began; under the lock, unless it is a dry run.
    pub row: &'a RealmRow,
    pub ask: &'a Ask,
    pub ending: Ending,
}

impl<'a> Asked<'a> {
    /// The frame of the run.
    pub fn frame(&self, store: Store, clock: Clock) -> Frame<'a> {
        let ask = self.ask;
        let mode = if ask.adopt {
            Mode::Adopt
        } else if ask.user.is_some() {
            Mode::User
        } else {
            Mode::Full
        };
        let now = clock.now();
        let run = new_run(&self.row.id, mode, ask.trigger, ask.by.clone(), now);
        let ending = match self.ending {
            Ending::ByTheBrake | Ending::Measured | Ending::Ahead => runs::Ending::ByTheBrake,
            Ending::Hold => runs::Ending::Hold,
            Ending::Dry => runs::Ending::Dry,
        };
        Frame::new(store, clock, self.row, run, ending).for_tick(ask.tick)
    }

    /// Whether the run leaves no row where nothing was told: a poll every ten seconds is no history.
    pub fn quiet(&self) -> bool {
        let asked_often = matches!(self.ask.trigger, Trigger::Poll | Trigger::Push);
        self.ending == Ending::Ahead || self.ending == Ending::ByTheBrake && asked_often
    }

    /// The run came to nothing. Of a directory that is down for a night not each poll's failure is kept.
    pub async fn failed(&self, frame: &mut Frame<'_>, why: &PassError) -> Result<(), StoreError> {
        let is_news = if !self.quiet() {
            true
        } else if frame.has_begun() || why.code.is_none() || self.ending == Ending::Ahead {
            false
        } else {
            !frame.failed_so_before(why.code).await?
        };
        frame.fail(why, is_news).await
    }
}

impl Engine {
    /// While a plan is held, what the directory tells only marks the realm: asked once, until the plan is decided.
    pub(super) async fn only_due(&self, asked: &Asked<'_>) -> Result<(), EngineError> {
        let (config, row) = (asked.config, asked.row);
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
            Err(error) => Err(error.into()),
        }
    }
}
