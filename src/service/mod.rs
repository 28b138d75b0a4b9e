//! The daemon: signals, systemd, schedules, and how the parts are put together.
//!
//! ```text
//!   signals ─┐                                      ┌─▶ a run a realm (engine) ─┐
//!   orders  ─┼─▶ daemon's loop ── agenda decides ───┤                           ├─▶ store ─▶ outbox worker
//!   clock   ─┘        │                             └─▶ short acts (desk)      ┘
//!                     └─▶ reload, stop        beside it: housekeeping, watchdog, control socket, TCP
//! ```
//!
//! One place starts and stops everything; a part that ends unasked stops the process.

mod agenda;
mod daemon;
mod desk;
pub mod follow;
mod housekeeping;
mod jitter;
mod ledger;
pub mod lifecycle;
pub mod logging;
pub mod metrics;
mod notify;
mod operations;
pub mod pulses;
mod reload;
pub mod schedule;
mod searches;
mod summary;
mod takeover;
pub mod timetable;
mod web;
mod work;

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, Environment};

pub use daemon::run;

/// What `run` starts with.
#[derive(Clone)]
pub struct Start {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// What `check` would warn of.
    pub warnings: Vec<String>,
    /// Where secrets are resolved.
    pub environment: Environment,
    /// The time.
    pub clock: Clock,
    /// Reads the same file again, for SIGHUP.
    pub reload: Reload,
}

/// The configuration with its warnings; or every fault, as text for people.
pub type LoadedFile = Result<(Config, Vec<String>), String>;

/// How the configuration is read again. It may block: it is called on a thread of its own.
pub type Reload = Arc<dyn Fn() -> LoadedFile + Send + Sync>;

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("config", &self.config.path)
            .finish_non_exhaustive()
    }
}
