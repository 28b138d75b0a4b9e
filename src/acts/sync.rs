//! `sync`: one run now.

use serde::{Deserialize, Serialize};

use super::context::ActContext;
use super::failure::ActFailure;
use super::in_realm::{AgendaTurn, InRealm};
use crate::model::{AuditAct, AuditEntry, RealmId, Run, Trigger};
use crate::sync::RunRequest;

/// `POST /api/v1/realms/{realm}/sync`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncRequest {
    /// Read everything, whatever the cursor says.
    pub full: bool,
    /// One person by name; `None`: the realm.
    pub user: Option<String>,
    /// Take a server that is behind, this once.
    pub accept_older: bool,
}

/// One run now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sync {
    /// In this realm.
    pub realm: RealmId,
    /// What makes it.
    pub trigger: Trigger,
    /// How.
    pub request: SyncRequest,
}

impl Sync {
    /// A run that a person or a program asks for.
    pub fn asked(realm: RealmId, request: SyncRequest) -> Self {
        Self {
            realm,
            trigger: Trigger::Command,
            request,
        }
    }

    /// A run of the realm for this reason.
    pub fn of(realm: RealmId, trigger: Trigger) -> Self {
        Self {
            realm,
            trigger,
            request: SyncRequest::default(),
        }
    }
}

impl Sync {
    /// What the audit says of whoever asked. Not which name was typed: nobody may have it, and it would stay when its user goes.
    fn entry(&self, at: &ActContext) -> AuditEntry {
        let entry = at.entry(AuditAct::RunSync);
        let asked = [
            ("full", self.request.full),
            ("one_user", self.request.user.is_some()),
            ("accept_older", self.request.accept_older),
        ];
        let said = asked.into_iter().filter(|(_, asked)| *asked);
        said.fold(entry, |entry, (what, _)| entry.is(what, true))
    }
}

impl InRealm for Sync {
    type Output = Run;

    async fn place(self, at: &ActContext) -> Result<(RealmId, Self), ActFailure> {
        at.configured(&self.realm).await?;
        Ok((self.realm.clone(), self))
    }

    async fn act(&self, at: &ActContext, turn: &AgendaTurn) -> Result<Run, ActFailure> {
        let ask = RunRequest {
            audit: at.by().is_some().then(|| self.entry(at)),
            full: self.request.full,
            user: self.request.user.clone(),
            accept_older: self.request.accept_older,
            cancel: turn.cancel.clone(),
            progress: turn.progress.clone(),
            ..RunRequest::new(self.trigger, at.caller.name.clone())
        };
        Ok(Box::pin(at.engine.sync(&self.realm, ask)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<SyncRequest>(r#"{"ful":true}"#).is_err());
        assert_eq!(
            serde_json::from_str::<SyncRequest>("{}").expect("json"),
            SyncRequest::default()
        );
    }
}
