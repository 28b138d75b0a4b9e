//! `pause` and `resume`: no passes of a realm, and passes again.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::ActFailure;
use crate::model::{AuditAct, RealmId};

/// `POST /api/v1/realms/{realm}/pause`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PauseRequest {
    /// How long, in milliseconds; `None`: until resumed.
    pub for_ms: Option<i64>,
}

/// No passes, for a while or until resumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    /// Of this realm.
    pub realm: RealmId,
    /// How long.
    pub request: PauseRequest,
}

impl Act for Pause {
    type Output = ();

    async fn act(self, at: &ActContext) -> Result<(), ActFailure> {
        let Self { realm, request } = self;
        at.known(&realm).await?;
        let now = at.now();
        let until = request.for_ms.map(|ms| now.plus_ms(ms));
        let entry = at.entry(AuditAct::RealmPause).in_realm(&realm);
        let noting = at.noting(entry.is("until", json!(until))).await?;
        noting.pause(&realm, until, at.by(), now).await?;
        let end = until.map(|at| format!(" until {at}")).unwrap_or_default();
        tracing::info!(%realm, by = at.by(), from = at.caller.door.as_str(), "{realm}: paused{end}");
        Ok(())
    }
}

/// Passes again: ends every pause, also an undo's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Of this realm.
    pub realm: RealmId,
}

impl Act for Resume {
    type Output = ();

    async fn act(self, at: &ActContext) -> Result<(), ActFailure> {
        let realm = self.realm;
        at.known(&realm).await?;
        let entry = at.entry(AuditAct::RealmResume).in_realm(&realm);
        at.noting(entry).await?.resume(&realm, at.now()).await?;
        tracing::info!(%realm, by = at.by(), from = at.caller.door.as_str(), "{realm}: resumed");
        Ok(())
    }

    fn then(&self) -> AfterAct {
        AfterAct::Look(self.realm.clone())
    }
}
