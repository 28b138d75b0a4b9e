//! `authenticators list` and `revoke`: what a user proves themselves with, and the end of it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::held;
use crate::clock::Timestamp;
use crate::model::{
    AuditAct, AuthenticatorId, AuthenticatorKind, AuthenticatorShown, AuthenticatorState, User,
    UserId,
};
use crate::store::{Store, StoreError};
use crate::sync::{HandAuthor, factors_entry};

/// What a user has that counts or may come to count, the oldest first, recovery codes last.
pub async fn authenticators_of(
    store: &Store,
    user: &User,
    now: Timestamp,
) -> Result<Vec<AuthenticatorShown>, StoreError> {
    let mut known = store.factor_facts(std::slice::from_ref(user), now).await?;
    let facts = known.remove(&user.id).unwrap_or_default();
    Ok(facts.authenticators)
}

/// `POST /api/v1/users/{user}/authenticators/revoke`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RevokeRequest {
    /// These; none: all applications of the user.
    pub ids: Vec<AuthenticatorId>,
    /// The recovery codes too, which stay otherwise.
    pub recovery_codes: bool,
}

/// Ends authenticators of a user: applications, and recovery codes only if they are named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokeAuthenticators {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub request: RevokeRequest,
}

impl Act for RevokeAuthenticators {
    type Output = Vec<AuthenticatorShown>;

    async fn act(self, at: &ActContext) -> Result<Vec<AuthenticatorShown>, ActFailure> {
        let held = held(at, self.user, None).await?;
        let now = at.now();
        let all = authenticators_of(at.store(), &held, now).await?;
        let counts = |a: &&AuthenticatorShown| {
            matches!(
                a.state,
                AuthenticatorState::Active | AuthenticatorState::Pending
            )
        };
        let mut ended = vec![];
        if self.request.ids.is_empty() {
            let applications = all.iter().filter(|a| a.kind == AuthenticatorKind::App);
            ended.extend(applications.filter(counts).cloned());
        }
        let is_codes = |a: &AuthenticatorShown| a.kind == AuthenticatorKind::Recovery;
        if self.request.recovery_codes {
            ended.extend(all.iter().filter(|a| is_codes(a) && counts(a)).cloned());
        }
        for id in &self.request.ids {
            // Codes may have the id of the application that they were made with, which is meant then.
            let found = all.iter().filter(|a| a.id == *id);
            match found.min_by_key(|a| is_codes(a)) {
                Some(a) if ended.contains(a) => {}
                Some(a) if a.kind.is_hard_token() => {
                    return Err(ActFailure::new(
                        FailureKind::Refused,
                        format!(
                            "{} is a hard token: `realmsync hard-tokens revoke` ends it, `hard-tokens unassign` takes it back",
                            a.serial.as_deref().unwrap_or("it")
                        ),
                    ));
                }
                Some(a) if counts(&a) => ended.push(a.clone()),
                Some(_) => {}
                None => {
                    return Err(ActFailure::new(
                        FailureKind::NotFound,
                        format!(
                            "{} has no authenticator {id:#}: `realmsync authenticators list {:#}` shows all",
                            held.username, held.id
                        ),
                    ));
                }
            }
        }
        if ended.is_empty() {
            return Ok(ended);
        }
        let author = HandAuthor {
            by: at.by(),
            from: at.caller.door.as_str(),
            act: AuditAct::AuthenticatorRevoke,
        };
        let ids = |codes: bool| -> Vec<AuthenticatorId> {
            let fitting = ended.iter().filter(|a| is_codes(a) == codes);
            fitting.map(|a| a.id).collect()
        };
        let (applications, sets) = (ids(false), ids(true));
        let mut said = json!({});
        for (what, ids) in [("authenticators", &applications), ("recovery_codes", &sets)] {
            if !ids.is_empty() {
                said[what] = json!(ids);
            }
        }
        let said = said.as_object().cloned().unwrap_or_default();
        let entry = factors_entry(author, &held, said, now);
        let key = at.engine.audit_key().await?;
        at.store()
            .revoke_authenticators(held.id, &applications, &sets, (&entry, &key))
            .await?;
        tracing::info!(
            realm = %held.realm, user = %held.id, by = at.by(), from = at.caller.door.as_str(), ended = ended.len(),
            "{}: authenticator-revoke {:#}", held.realm, held.id
        );
        for a in &mut ended {
            a.state = AuthenticatorState::Revoked;
            a.left = a.left.map(|_| 0);
        }
        Ok(ended)
    }
}
