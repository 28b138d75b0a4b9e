//! HTTP: health, readiness and metrics for whoever may see them, and the control API on a unix socket for the command line.
//!
//! Nothing here decides or knows the daemon: a request becomes an [`order::Order`] that the daemon's loop answers.

pub mod client;
pub mod control;
mod hard_tokens;
pub mod open;
pub mod order;
mod patience;
pub mod peer;
mod program;
pub mod routes;
mod selections;
pub mod serve;
pub mod socket;
pub mod types;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use client::Client;
pub use order::{Order, OrderKind};
use program::bearer::Tokens;
use program::look_up::LookUps;
pub use types::AnswerLine;

use crate::sync::Engine;
use crate::verification::Verifier;

/// The content type of a long answer: JSON, an object a line.
pub const NDJSON: &str = "application/x-ndjson";

/// The header by which root says for whom it acts.
pub const ACTING_FOR: &str = "realmsync-acting-for";

/// The header with which a command says what its file says ([`crate::config::Digest`]).
pub const FILE: &str = "realmsync-file";

/// What every handler needs.
#[derive(Clone, Debug)]
pub struct Api {
    /// The daemon's loop.
    pub orders: mpsc::Sender<Order>,
    /// Whether the daemon's loop has moved lately.
    pub alive: Alive,
    /// What programs need that are answered beside the loop; a reload makes another one.
    engine: watch::Receiver<Engine>,
    /// The programs that called a moment ago.
    tokens: Arc<Tokens>,
    /// Names of logons that were looked up a moment ago.
    look_ups: Arc<LookUps>,
    /// Has codes verified.
    verifier: Verifier,
}

impl Api {
    /// Of the daemon's loop.
    pub fn new(
        orders: mpsc::Sender<Order>,
        alive: Alive,
        engine: watch::Receiver<Engine>,
        verifier: Verifier,
    ) -> Self {
        Self {
            orders,
            alive,
            engine,
            tokens: Arc::default(),
            look_ups: Arc::default(),
            verifier,
        }
    }

    /// Store, clock and configuration as they are now.
    fn engine(&self) -> Engine {
        self.engine.borrow().clone()
    }
}

/// Asks whether the daemon moves, without asking its loop.
#[derive(Clone)]
pub struct Alive(pub Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Alive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alive")
    }
}
