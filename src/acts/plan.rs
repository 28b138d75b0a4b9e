//! `plan`: a dry run, or one whose plan is kept.

use serde::{Deserialize, Serialize};

use super::context::ActContext;
use super::failure::ActFailure;
use super::in_realm::{AgendaTurn, InRealm};
use crate::model::{AuditAct, RealmId, Run, Trigger};
use crate::runs::Lines;
use crate::sync::RunRequest;

/// `POST /api/v1/realms/{realm}/plan`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRequest {
    /// Read everything, whatever the cursor says.
    pub full: bool,
    /// Keep the plan as a held one.
    pub hold: bool,
}

/// What a run would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// In this realm.
    pub realm: RealmId,
    /// How.
    pub request: PlanRequest,
}

impl InRealm for Plan {
    /// The run, and its changes, which are read page by page after the turn.
    type Output = (Run, Lines);

    async fn place(self, at: &ActContext) -> Result<(RealmId, Self), ActFailure> {
        at.configured(&self.realm).await?;
        Ok((self.realm.clone(), self))
    }

    async fn act(&self, at: &ActContext, turn: &AgendaTurn) -> Result<(Run, Lines), ActFailure> {
        let audit = self.request.hold.then(|| {
            let entry = at.entry(AuditAct::RunPlan);
            if self.request.full {
                entry.is("full", true)
            } else {
                entry
            }
        });
        let ask = RunRequest {
            audit,
            full: self.request.full,
            cancel: turn.cancel.clone(),
            progress: turn.progress.clone(),
            ..RunRequest::new(Trigger::Command, at.caller.name.clone())
        };
        Ok(Box::pin(at.engine.plan(&self.realm, ask, self.request.hold)).await?)
    }
}
