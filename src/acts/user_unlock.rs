//! `users unlock`: whoever is locked after wrong codes, or in a delay, may guess again.

use serde_json::{Map, json};

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::UserActed;
use crate::model::{AuditAct, AuditEntry, State, UserId};

/// Unlocks a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnlockUser {
    /// Whom.
    pub user: UserId,
}

impl Act for UnlockUser {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let found = at.store().users_by_id(&[self.user]).await?;
        let Some(user) = found.into_iter().find(|user| user.state != State::Removed) else {
            return Err(ActFailure::new(
                FailureKind::NotFound,
                format!("there is no user {:#}", self.user),
            ));
        };
        let mut after = Map::new();
        after.insert("locked".to_owned(), json!(false));
        let entry = AuditEntry {
            at: at.now(),
            by: at.caller.name.clone(),
            from: at.caller.door.as_str().to_owned(),
            act: AuditAct::UserUnlock,
            realm: Some(user.realm.clone()),
            user: Some(user.id),
            username: Some(user.username.clone()),
            run: None,
            before: Map::new(),
            after,
        };
        let key = at.engine.audit_key().await?;
        let store = at.store();
        let changed = store.unlock_user(user.id, entry.at, (&entry, &key)).await?;
        if changed {
            tracing::info!(realm = %user.realm, user = %user.id, by = at.by(), from = at.caller.door.as_str(), "{}: user {:#} is unlocked", user.realm, user.id);
        }
        Ok(UserActed {
            user: user.id,
            version: user.version,
            changed,
            warnings: vec![],
            sendable: false,
        })
    }
}
