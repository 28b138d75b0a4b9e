//! `bypass`: a temporary code by the helpdesk, for somebody who cannot use their factor just now.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::held;
use crate::clock::Timestamp;
use crate::factors::recovery::{digest, new_code};
use crate::model::{AuditAct, AuditEntry, AuthenticatorId, RealmId, State, UserId};
use crate::runs::uuid_v7;
use crate::store::NewBypass;

/// The longest time that a code counts: a week.
const LONGEST_MS: i64 = 7 * 86_400_000;

/// The most uses of a code.
const MOST_USES: i64 = 20;

/// `POST /api/v1/users/{user}/bypass`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BypassRequest {
    /// For how long it counts, in milliseconds.
    pub for_ms: i64,
    /// How often it counts.
    pub uses: i64,
}

/// Makes a temporary code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MakeBypass {
    /// For whom.
    pub user: UserId,
    /// How long and how often.
    pub request: BypassRequest,
}

/// A new code. It is shown once: the store has an HMAC of it alone. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BypassMade {
    /// Whose.
    pub user: UserId,
    /// Their name.
    pub username: String,
    /// Their realm.
    pub realm: RealmId,
    /// The code itself.
    pub code: String,
    /// How often it counts.
    pub uses: i64,
    /// Until when.
    pub expires_at: Timestamp,
}

impl fmt::Debug for BypassMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BypassMade")
            .field("user", &self.user)
            .field("uses", &self.uses)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Act for MakeBypass {
    type Output = BypassMade;

    async fn act(self, at: &ActContext) -> Result<BypassMade, ActFailure> {
        let BypassRequest { for_ms, uses } = self.request;
        if !(1..=LONGEST_MS).contains(&for_ms) {
            return Err(unfit("a temporary code counts for at most a week"));
        }
        if !(1..=MOST_USES).contains(&uses) {
            return Err(unfit(&format!(
                "a temporary code counts once to {MOST_USES} times"
            )));
        }
        let user = held(at, self.user, None).await?;
        if user.state == State::Removed {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!("user {:#} is removed, and nobody any more", user.id),
            ));
        }
        let now = at.now();
        let expires_at = now.plus_ms(for_ms);
        let code = new_code(|bytes| {
            rustls::crypto::ring::default_provider()
                .secure_random
                .fill(bytes)
        })
        .map_err(|_| unfit("the machine gives no randomness; try again"))?;
        let root = at.engine.enrolment_key().await?.root();
        let entry = AuditEntry {
            realm: Some(user.realm.clone()),
            user: Some(user.id),
            username: Some(user.username.clone()),
            ..at.entry(AuditAct::UserBypass)
        };
        let entry = entry.is("uses", uses).is("expires_at", json!(expires_at));
        let key = at.engine.audit_key().await?;
        at.store()
            .add_bypass(
                NewBypass {
                    user: user.id,
                    set: AuthenticatorId(uuid_v7(now)),
                    digest: digest(&root, user.id, &code.replace('-', "")),
                    key: root.id(),
                    uses,
                    expires_at,
                    now,
                },
                (&entry, &key),
            )
            .await?;
        tracing::info!(
            realm = %user.realm, user = %user.id, by = at.by(), from = at.caller.door.as_str(), uses,
            "{}: a temporary code was made for {:#}", user.realm, user.id
        );
        Ok(BypassMade {
            user: user.id,
            username: user.username,
            realm: user.realm,
            code,
            uses,
            expires_at,
        })
    }
}

fn unfit(why: &str) -> ActFailure {
    ActFailure::new(FailureKind::Unfit, format!("{why}; nothing is saved"))
}
