//! What the API asks of the daemon: a value sent to its loop, with a channel for the answer.

use tokio::sync::mpsc;

use super::types::{
    BackupRequest, DecideRequest, Decision, Line, OutboxAct, OutboxRequest, PauseRequest,
    PlanRequest, SyncRequest,
};
use crate::model::RealmId;

/// One request with who asked and where the answer goes.
#[derive(Debug)]
pub struct Order {
    /// What is asked.
    pub what: What,
    /// Who asked: a system user's name.
    pub by: Option<String>,
    /// What the asking command's file says ([`crate::config::Digest`]); `None`: it does not matter.
    pub file: Option<String>,
    /// Lines of the answer: progress may be dropped when the channel is full, the last line never is.
    /// A receiver that went away ends nothing: what was begun is carried through.
    pub lines: mpsc::Sender<Line>,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// One run now; answers with [`crate::model::Run`].
    Sync(RealmId, SyncRequest),
    /// A dry run, or one whose plan is held; answers with the run, its changes and `null`.
    Plan(RealmId, PlanRequest),
    /// No passes; answers with `null`.
    Pause(RealmId, PauseRequest),
    /// Passes again; answers with `null`.
    Resume(RealmId),
    /// A decision on a run, by id or unique prefix; answers with [`crate::sync::Decided`].
    Decide(Decision, String, DecideRequest),
    /// Something for jobs; answers with [`super::types::OutboxAnswer`].
    Outbox(OutboxAct, OutboxRequest),
    /// A copy of the store; answers with `null`.
    Backup(BackupRequest),
    /// The daemon and its realms; answers with [`super::types::StatusAnswer`].
    Status,
    /// Why the daemon is not ready: a list of sentences, empty when it is.
    Ready,
    /// The metrics as text.
    Metrics,
}
