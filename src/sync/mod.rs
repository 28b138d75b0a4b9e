//! The order of the stages: directory ─▶ normalise ─▶ plan ─▶ brake ─▶ apply. One engine for daemon and command line.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::model::{Change, ErrorCode, RealmId, Run, RunId, Trigger};
use crate::store::{Store, StoreError};

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
    /// Take a server that is behind, this once.
    pub accept_older: bool,
    /// What started it.
    pub trigger: Trigger,
    /// Who asked.
    pub by: Option<String>,
    /// Stops the run: it commits or rolls back.
    pub cancel: CancellationToken,
    /// Where progress is told.
    pub progress: tokio::sync::watch::Sender<Progress>,
}

impl Ask {
    /// A full pass for this trigger.
    pub fn new(trigger: Trigger, by: Option<String>) -> Self {
        Self {
            full: false,
            user: None,
            accept_older: false,
            trigger,
            by,
            cancel: CancellationToken::new(),
            progress: tokio::sync::watch::Sender::new(Progress::default()),
        }
    }
}

/// Why something was not done at all. A run that failed is no error here: it is a [`Run`] with its `error_code`.
#[derive(thiserror::Error, Debug)]
pub enum EngineError {
    /// No such realm, run or user; the text says what is there.
    #[error("{0}")]
    NotFound(String),
    /// Not now, or not any more: paused, decided, replaced, another mapping. Exit code 1.
    #[error("{0}")]
    Refused(String),
    /// The realm or the store is held by another. Exit code 75.
    #[error("{0}")]
    Busy(String),
    /// Anything that has an error code (exit 69 or 1).
    #[error("{message}")]
    Failed {
        /// In one word.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of a decision on a held plan.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Decided {
    /// The plan's run, applied or rejected; or the new plan that is held instead.
    pub run: Run,
    /// The plan that was named was replaced: directory or store no longer agree with it.
    pub replaced: Option<RunId>,
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
}

impl Engine {
    /// An engine over an open store.
    pub fn new(config: Arc<Config>, store: Store, clock: Clock) -> Self {
        Self { config, store, clock }
    }

    /// One run now. A failed run is `Ok` with outcome `failed`; one that confirms a held plan answers with the held run.
    pub async fn sync(&self, realm: &RealmId, ask: Ask) -> Result<Run, EngineError> {
        let _unused = (realm, ask);
        Err(EngineError::Refused("not built yet".into()))
    }

    /// A dry run through the same code; stores nothing, unless `hold`: then the plan is kept as a held one.
    pub async fn plan(&self, realm: &RealmId, ask: Ask, hold: bool) -> Result<(Run, Vec<Change>), EngineError> {
        let _unused = (realm, ask, hold);
        Err(EngineError::Refused("not built yet".into()))
    }

    /// Applies a held plan exactly as shown, after a fresh look; `run` is an id or a unique prefix.
    pub async fn approve(&self, run: &str, by: Option<String>) -> Result<Decided, EngineError> {
        let _unused = (run, by);
        Err(EngineError::Refused("not built yet".into()))
    }

    /// Says no to a held plan.
    pub async fn reject(&self, run: &str, by: Option<String>) -> Result<Decided, EngineError> {
        let _unused = (run, by);
        Err(EngineError::Refused("not built yet".into()))
    }

    /// Reads a held plan as a rebuilt directory: same name and same phone or e-mail keeps the user and takes the new id.
    pub async fn adopt(&self, run: &str, by: Option<String>) -> Result<Decided, EngineError> {
        let _unused = (run, by);
        Err(EngineError::Refused("not built yet".into()))
    }

    /// A new plan that puts back what a run changed.
    pub async fn undo(&self, run: &str, by: Option<String>) -> Result<Decided, EngineError> {
        let _unused = (run, by);
        Err(EngineError::Refused("not built yet".into()))
    }

    /// Ends the holds (`phone-change.hold`) that are over; says how many numbers took effect. Called by a timer of the daemon.
    pub async fn end_holds(&self) -> Result<u64, EngineError> {
        Ok(0)
    }

    /// Declares the configuration's realms to the store (orphans those that left the file), sweeps what a crash left.
    /// Called once after the store is opened for writing, and after each reload.
    pub async fn settle_in(&self) -> Result<(), EngineError> {
        Ok(())
    }
}
