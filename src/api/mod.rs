//! HTTP: health, readiness and metrics for whoever may see them, and the control API on a unix socket for the command line.
//!
//! Nothing here decides or knows the daemon: a request becomes an [`order::Order`] that the daemon's loop answers.

pub mod client;
pub mod control;
pub mod open;
pub mod order;
pub mod peer;
pub mod routes;
pub mod serve;
pub mod socket;
pub mod types;

pub use client::Client;
pub use order::{Order, OrderKind};
pub use types::AnswerLine;

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
    pub orders: tokio::sync::mpsc::Sender<Order>,
    /// Whether the daemon's loop has moved lately.
    pub alive: Alive,
}

/// Asks whether the daemon moves, without asking its loop.
#[derive(Clone)]
pub struct Alive(pub std::sync::Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Alive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alive")
    }
}
