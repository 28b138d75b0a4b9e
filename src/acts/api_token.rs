//! `api-tokens create`, `revoke`: programs that may call the API.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::field;
use crate::factors::token::{BYTES, SecretToken};
use crate::model::{ApiToken, ApiTokenId, AuditAct, AuditEntry, RealmId, Scope};
use crate::normalise::typed_text;
use crate::runs::uuid_v7;

/// The longest name of a token, in characters.
const LONGEST_NAME: usize = 100;

/// `POST /api/v1/api-tokens`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeApiTokenRequest {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The only realm that it may see and change; `None`: all.
    #[serde(default)]
    pub realm: Option<RealmId>,
    /// For how long it counts, in milliseconds; `None`: until it is revoked.
    #[serde(default)]
    pub expires_ms: Option<i64>,
}

/// Makes a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MakeApiToken {
    /// Which.
    pub request: MakeApiTokenRequest,
}

/// A new token. It is shown once: the store has its hash alone. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiTokenMade {
    /// What is known of it.
    #[serde(flatten)]
    pub made: ApiToken,
    /// The token itself.
    pub token: String,
}

impl fmt::Debug for ApiTokenMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenMade")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// Revokes a token: it is refused from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokeApiToken {
    /// Its name, or its id.
    pub token: String,
}

impl Act for MakeApiToken {
    type Output = ApiTokenMade;

    async fn act(self, at: &ActContext) -> Result<ApiTokenMade, ActFailure> {
        let MakeApiTokenRequest {
            name,
            mut scopes,
            realm,
            expires_ms,
        } = self.request;
        let name = field("name", typed_text(&name, LONGEST_NAME))?;
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return Err(unfit("name at least one scope"));
        }
        if expires_ms.is_some_and(|ms| ms <= 0) {
            return Err(unfit("a token counts for longer than nothing"));
        }
        if let Some(realm) = &realm {
            at.known(realm).await?;
        }
        let now = at.now();
        let made = ApiToken {
            id: ApiTokenId(uuid_v7(now)),
            name,
            scopes,
            realm,
            by: at.by().map(str::to_owned),
            created_at: now,
            expires_at: expires_ms.map(|ms| now.plus_ms(ms)),
            last_used_at: None,
            revoked_at: None,
        };
        let secret = SecretToken::new(&chance()?);
        let entry = entry(at, AuditAct::ApiTokenCreate, &made);
        let key = at.engine.audit_key().await?;
        at.store()
            .make_api_token(&made, secret.sha256(), (&entry, &key))
            .await?;
        log(at, &made, "made");
        Ok(ApiTokenMade {
            made,
            token: secret.expose().to_owned(),
        })
    }
}

impl Act for RevokeApiToken {
    type Output = ApiToken;

    async fn act(self, at: &ActContext) -> Result<ApiToken, ActFailure> {
        let all = at.store().api_tokens().await?;
        // A name that was given anew is the one that counts; an id is one's own for ever.
        let named = |token: &&ApiToken| token.name == self.token && token.revoked_at.is_none();
        let by_id = |token: &&ApiToken| self.token.parse() == Ok(token.id);
        let Some(found) = all.iter().find(named).or_else(|| all.iter().find(by_id)) else {
            return Err(ActFailure::new(
                FailureKind::NotFound,
                format!(
                    "there is no token `{}` that counts: `realmsync api-tokens list` shows them",
                    self.token
                ),
            ));
        };
        let now = at.now();
        let revoked = ApiToken {
            revoked_at: found.revoked_at.or(Some(now)),
            ..found.clone()
        };
        let entry = entry(at, AuditAct::ApiTokenRevoke, &revoked);
        let key = at.engine.audit_key().await?;
        let store = at.store();
        if store
            .revoke_api_token(found.id, now, (&entry, &key))
            .await?
        {
            log(at, &revoked, "revoked");
        }
        Ok(revoked)
    }
}

/// What only the machine knows.
fn chance() -> Result<[u8; BYTES], ActFailure> {
    let mut bytes = [0; BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| unfit("the machine gives no randomness; try again"))?;
    Ok(bytes)
}

fn unfit(why: &str) -> ActFailure {
    ActFailure::new(FailureKind::Unfit, format!("{why}; nothing is saved"))
}

fn entry(at: &ActContext, act: AuditAct, token: &ApiToken) -> AuditEntry {
    let values: Map<String, Value> = [
        ("id", json!(token.id)),
        ("name", json!(token.name)),
        ("scopes", json!(token.scopes)),
        ("expires_at", json!(token.expires_at)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    let (before, after) = match act {
        AuditAct::ApiTokenRevoke => (values, Map::new()),
        _ => (Map::new(), values),
    };
    AuditEntry {
        at: at.now(),
        by: at.caller.name.clone(),
        from: at.caller.door.as_str().to_owned(),
        act,
        realm: token.realm.clone(),
        user: None,
        username: None,
        run: None,
        before,
        after,
    }
}

fn log(at: &ActContext, token: &ApiToken, what: &str) {
    tracing::info!(
        token = token.name,
        by = at.by(),
        from = at.caller.door.as_str(),
        "API token `{}`: {what}",
        token.name
    );
}
