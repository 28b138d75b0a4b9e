//! What the API asks of the daemon: a value sent to its loop, with a channel for the answer.

use tokio::sync::mpsc;

use super::types::AnswerLine;
use crate::acts::{AnyAct, Caller, RealmAct};

/// One request with who asked and where the answer goes.
#[derive(Debug)]
pub struct Order {
    /// What is asked.
    pub what: OrderKind,
    /// Who asked.
    pub caller: Caller,
    /// What the asking command's file says ([`crate::config::Digest`]); `None`: it does not matter.
    pub file: Option<String>,
    /// Lines of the answer: progress may be dropped when the channel is full, the last line never is.
    /// A receiver that went away ends nothing: what was begun is carried through.
    pub lines: mpsc::Sender<AnswerLine>,
}

/// What is asked.
#[derive(Debug)]
pub enum OrderKind {
    /// Something that is done at once; answers with its output.
    Act(Box<dyn AnyAct>),
    /// Something that needs a realm for itself; answers as [`RealmAct`] says.
    InRealm(RealmAct),
    /// The daemon and its realms; answers with [`crate::story::status::StatusAnswer`].
    Status,
    /// Why the daemon is not ready: a list of sentences, empty when it is.
    Ready,
    /// The metrics as text.
    Metrics,
}
