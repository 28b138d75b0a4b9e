//! `approve`, `reject`, `adopt`, `undo`: what is done to a held or an applied run.

use serde::{Deserialize, Serialize};

use super::context::ActContext;
use super::failure::ActFailure;
use super::in_realm::{AgendaTurn, InRealm};
use crate::model::{AuditAct, RealmId};
use crate::runs::Decided;
use crate::sync::DecisionOptions;

/// What is done to a held or an applied run: `POST /api/v1/runs/{run}/{decision}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the commands of the same names")]
pub enum RunDecision {
    Approve,
    Reject,
    Adopt,
    Undo,
}

impl RunDecision {
    /// The word in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Adopt => "adopt",
            Self::Undo => "undo",
        }
    }

    fn audited(self) -> AuditAct {
        match self {
            Self::Approve => AuditAct::RunApprove,
            Self::Reject => AuditAct::RunReject,
            Self::Adopt => AuditAct::RunAdopt,
            Self::Undo => AuditAct::RunUndo,
        }
    }
}

/// How it is done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecideRequest {
    /// Take a server that is behind, this once; for `approve` and `adopt`, which read the directory.
    pub accept_older: bool,
    /// For `reject`: for so long the plan's changes are left out, while the rest of the realm goes on; 0 ends that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<i64>,
}

/// A decision on a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decide {
    /// Which.
    pub decision: RunDecision,
    /// The run's id, or a part of it that is only its own.
    pub run: String,
    /// How.
    pub request: DecideRequest,
}

impl InRealm for Decide {
    type Output = Decided;

    async fn place(self, at: &ActContext) -> Result<(RealmId, Self), ActFailure> {
        let found = at.store().run(&self.run).await?;
        let run = found.run.to_string();
        Ok((found.realm, Self { run, ..self }))
    }

    async fn act(&self, at: &ActContext, turn: &AgendaTurn) -> Result<Decided, ActFailure> {
        let mut entry = at.entry(self.decision.audited());
        if self.request.accept_older {
            entry = entry.is("accept_older", true);
        }
        let asking = DecisionOptions {
            by: at.caller.name.clone(),
            audit: Some(entry),
            accept_older: self.request.accept_older,
            cancel: turn.cancel.clone(),
            from: Some(at.caller.door.as_str()),
        };
        let (engine, run) = (&at.engine, self.run.as_str());
        let decided = match (self.decision, self.request.for_ms) {
            (RunDecision::Approve, _) => Box::pin(engine.approve(run, asking)).await,
            (RunDecision::Reject, Some(ms)) => Box::pin(engine.reject_for(run, asking, ms)).await,
            (RunDecision::Reject, None) => Box::pin(engine.reject(run, asking)).await,
            (RunDecision::Adopt, _) => Box::pin(engine.adopt(run, asking)).await,
            (RunDecision::Undo, _) => Box::pin(engine.undo(run, asking)).await,
        };
        Ok(decided?)
    }
}
