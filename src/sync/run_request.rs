//! What is asked of a run, constant from its beginning to its end.

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::config::RealmConfig;
use crate::model::{AuditEntry, Mode, RealmRow, RunId, Trigger};
use crate::runs::{self, Frame, RunFailure, new_run};
use crate::store::{AuditNote, Store, StoreError};

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
pub struct RunRequest {
    /// Read everything, whatever the cursor says.
    pub full: bool,
    /// One person by name.
    pub user: Option<String>,
    /// Read a held plan as a rebuilt directory; see [`Engine::adopt`](super::Engine::adopt).
    pub adopt: bool,
    /// Take a server that is behind, this once.
    pub accept_older: bool,
    /// What started it.
    pub trigger: Trigger,
    /// The newest tick of the schedule that it makes up for; `None`: it was not the schedule.
    pub tick: Option<Timestamp>,
    /// Who asked.
    pub by: Option<String>,
    /// What the audit says of who asked; `None`: nobody did.
    pub audit: Option<AuditEntry>,
    /// Stops the run: it commits or rolls back.
    pub cancel: CancellationToken,
    /// Where progress is told.
    pub progress: tokio::sync::watch::Sender<Progress>,
}

impl RunRequest {
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
            audit: None,
            cancel: CancellationToken::new(),
            progress: tokio::sync::watch::Sender::new(Progress::default()),
        }
    }
}

/// How a decision on a run is made.
#[derive(Clone, Default, Debug)]
pub struct DecisionOptions {
    /// Who asked.
    pub by: Option<String>,
    /// What the audit says of who asked.
    pub audit: Option<AuditEntry>,
    /// Take a server that is behind, this once.
    pub accept_older: bool,
    /// Stops what was begun: it commits or rolls back.
    pub cancel: CancellationToken,
    /// From where, for the audit; `None`: a command.
    pub from: Option<&'static str>,
}

impl From<Option<String>> for DecisionOptions {
    fn from(by: Option<String>) -> Self {
        Self {
            by,
            ..Self::default()
        }
    }
}

impl DecisionOptions {
    /// From where somebody asks, for the audit.
    pub(super) fn door(&self) -> &'static str {
        self.from.unwrap_or("command")
    }

    /// The same for a run that the decision needs.
    ///
    /// The audit says of which plan the run is made.
    pub(super) fn ask(&self, of: RunId) -> RunRequest {
        RunRequest {
            accept_older: self.accept_older,
            audit: self
                .audit
                .clone()
                .map(|entry| entry.was("plan", of.to_string())),
            cancel: self.cancel.clone(),
            ..RunRequest::new(Trigger::Command, self.by.clone())
        }
    }
}

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RunPurpose {
    /// As the brake says.
    ByTheBrake,
    /// The same, after a delta: what is found in spite of it is counted as drift.
    Measured,
    /// That delta: nothing at all where there is no cursor to go on from.
    Ahead,
    /// Held whatever the brake says.
    Hold,
    /// Nothing is written at all: the plan is staged in a store of its own, and only looked at.
    Dry,
}

/// What a run was asked for.
#[derive(Clone, Copy)]
pub(super) struct RunContext<'a> {
    pub config: &'a RealmConfig,
    /// As it was when the run began; under the lock, unless it is a dry run.
    pub row: &'a RealmRow,
    pub ask: &'a RunRequest,
    pub ending: RunPurpose,
}

impl<'a> RunContext<'a> {
    /// The frame of the run.
    pub fn frame(&self, store: Store, clock: Clock, note: Option<AuditNote>) -> Frame<'a> {
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
            RunPurpose::ByTheBrake | RunPurpose::Measured | RunPurpose::Ahead => {
                runs::PlanDisposition::ByTheBrake
            }
            RunPurpose::Hold => runs::PlanDisposition::Hold,
            RunPurpose::Dry => runs::PlanDisposition::Dry,
        };
        Frame::new(store, clock, self.row, run, ending)
            .for_tick(ask.tick)
            .noting(note)
    }

    /// Whether the run leaves no row where nothing was told: a poll every ten seconds is no history.
    pub fn quiet(&self) -> bool {
        let asked_often = matches!(self.ask.trigger, Trigger::Poll | Trigger::Push);
        self.ending == RunPurpose::Ahead || self.ending == RunPurpose::ByTheBrake && asked_often
    }

    /// The run came to nothing. Of a directory that is down for a night not each poll's failure is kept.
    pub async fn failed(&self, frame: &mut Frame<'_>, why: &RunFailure) -> Result<(), StoreError> {
        let is_news = if !self.quiet() {
            true
        } else if frame.has_begun() || why.code.is_none() || self.ending == RunPurpose::Ahead {
            false
        } else {
            !frame.failed_so_before(why.code).await?
        };
        frame.fail(why, is_news).await
    }
}
