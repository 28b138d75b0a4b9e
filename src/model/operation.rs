//! What is done to many users: a frozen list, worked off in batches.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{OperationId, RealmId, RunId, TwoFactor, UserId};
use crate::clock::Timestamp;

words! {
    /// What kind of operation it is.
    OperationKind {
        /// An administrator's act on many users.
        Action = "action",
        /// Puts back what an action changed.
        Undo = "undo",
    }
}

words! {
    /// Where an operation stands. `running` is the only one that is not final.
    OperationState {
        /// Under way, or to be gone on with after a crash.
        Running = "running",
        /// Behind its last user.
        Done = "done",
        /// Ended by somebody; what it did stays.
        Cancelled = "cancelled",
        /// Ended by an error; what it did stays.
        Failed = "failed",
        /// Waits for a decision.
        Held = "held",
    }
}

words! {
    /// What is done to each user of a selection.
    ActionVerb {
        /// Methods are added.
        Enable = "enable",
        /// Methods are taken away.
        Disable = "disable",
        /// Nobody lets them in.
        Block = "block",
        /// The block is lifted.
        Unblock = "unblock",
        /// They go after the grace, or at once.
        Remove = "remove",
        /// They are sent the application by a link of their own.
        Send = "send",
        /// Their open links are taken back.
        Withdraw = "withdraw",
        /// Whoever is locked after wrong codes, or in a delay, may guess again.
        Unlock = "unlock",
    }
}

/// What is done to each user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationWork {
    /// An act.
    Act {
        /// What.
        verb: ActionVerb,
        /// Of `enable` and `disable`: which methods.
        methods: Vec<TwoFactor>,
        /// Of `remove`: at once, without the grace.
        now: bool,
        /// Of `send`: the former application is lost, and is not asked for.
        #[serde(default)]
        lost: bool,
    },
    /// What this run changed is put back.
    PutBack {
        /// Of an action.
        run: RunId,
    },
}

impl OperationWork {
    /// Its kind.
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Act { .. } => OperationKind::Action,
            Self::PutBack { .. } => OperationKind::Undo,
        }
    }
}

/// An operation, with the fields and the order of the design's JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 18 names each field")]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    pub state: OperationState,
    /// Users of the frozen list.
    pub total: i64,
    /// Of these looked at: changed, skipped and refused together.
    pub done: i64,
    pub changed: i64,
    /// It was so already.
    pub skipped: i64,
    pub refused: i64,
    /// The run that `undo` takes; `None`: nobody was changed yet, or it is about several realms, each with a run of its own.
    pub run: Option<RunId>,
    pub by: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Its runs, where it is about several realms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunId>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Operation {
    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        self.state != OperationState::Running
    }
}

/// Somebody of a selection to whom it was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperationRefusal {
    /// Whom.
    pub user: UserId,
    /// Why not, for people.
    pub reason: String,
}

/// Some of the users of an operation, all of one realm, that are its next ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationBatch {
    /// Which operation.
    pub operation: OperationId,
    /// How many of the list are behind it.
    pub done: i64,
    /// The realm of all of them when the list was made.
    pub realm: RealmId,
    /// The run that takes the changes.
    pub run: RunId,
    /// In the order of the list.
    pub users: Vec<UserId>,
}
