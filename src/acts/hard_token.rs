//! `hard-tokens assign`, `unassign`, `resync`, `revoke`, `remove`: what administrators do to one hard token.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::clock::Timestamp;
use crate::factors::keys::KeyRing;
use crate::factors::otp::Generator;
use crate::factors::sealed::{self, NONCE, SealError};
use crate::factors::typed;
use crate::factors::window::{Moving, Progress, resync};
use crate::model::{
    AuditAct, AuditEntry, Authenticator, AuthenticatorKind, RealmId, State, User, UserId,
};
use crate::plan::tokens::{self, TokenRefusal};
use crate::store::{HardTokenRow, KeptAuthenticator, StoreError};

/// How often an act is decided anew where somebody changes the same token at the same time.
const TRIES: usize = 5;

/// What came of an act on one hard token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenActed {
    /// Which.
    pub serial: String,
    /// Whether anything was changed: everything may have been so already.
    pub changed: bool,
}

/// `POST /api/v1/hard-tokens/{serial}/assign`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignTokenRequest {
    /// To whom.
    pub user: UserId,
}

/// Gives a hard token to a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssignToken {
    /// Which.
    pub serial: String,
    /// To whom.
    pub request: AssignTokenRequest,
}

/// `POST /api/v1/hard-tokens/{serial}/resync`. `Debug` hides the codes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResyncTokenRequest {
    /// Two codes that the token showed one after the other.
    pub codes: [String; 2],
}

impl fmt::Debug for ResyncTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResyncTokenRequest(•••)")
    }
}

/// Looks for two codes in a row further away than a logon would, and sets where the token stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResyncToken {
    /// Which.
    pub serial: String,
    /// The codes.
    pub request: ResyncTokenRequest,
}

/// What is done to a hard token besides: `POST /api/v1/hard-tokens/{serial}/{verb}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the commands of the same names")]
pub enum TokenVerb {
    Unassign,
    Revoke,
    Remove,
}

impl TokenVerb {
    /// The word in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unassign => "unassign",
            Self::Revoke => "revoke",
            Self::Remove => "remove",
        }
    }
}

/// How it is done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenVerbRequest {
    /// For `revoke`: its user lost it, and it never counts again.
    pub lost: bool,
}

/// Takes a hard token back, ends it, or forgets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeToken {
    /// Which.
    pub serial: String,
    /// What.
    pub verb: TokenVerb,
    /// How.
    pub request: TokenVerbRequest,
}

impl Act for AssignToken {
    type Output = TokenActed;

    async fn act(self, at: &ActContext) -> Result<TokenActed, ActFailure> {
        let Self { serial, request } = self;
        for _ in 0..TRIES {
            let held = held(at, &serial).await?;
            let user = at.store().users_by_id(&[request.user]).await?.pop();
            let user = user.filter(|user| user.state != State::Removed);
            let Some(user) = user else {
                return Err(ActFailure::new(
                    FailureKind::NotFound,
                    format!("there is no user {}", request.user),
                ));
            };
            at.known(&user.realm).await?;
            let now = at.now();
            let decided = tokens::assign(&held.kept.authenticator, user.id, now)
                .map_err(|refusal| refused(&held, refusal))?;
            let Some(to) = decided else {
                return Ok(acted(serial, false));
            };
            let keys = at.engine.key_ring().await?;
            let to = sealed_for(&held.kept, to, &keys)?;
            let entry = entry(at, AuditAct::HardTokenAssign, &held, Some(&user), &to);
            match change(at, &held, &to, &entry).await {
                Ok(()) => return Ok(acted(serial, true)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(again())
    }
}

impl Act for ChangeToken {
    type Output = TokenActed;

    async fn act(self, at: &ActContext) -> Result<TokenActed, ActFailure> {
        let Self {
            serial,
            verb,
            request,
        } = self;
        for _ in 0..TRIES {
            let held = held(at, &serial).await?;
            let token = &held.kept.authenticator;
            let user = match token.user {
                Some(user) => at.store().users_by_id(&[user]).await?.pop(),
                None => None,
            };
            let (act, decided) = match verb {
                TokenVerb::Unassign => (AuditAct::HardTokenUnassign, tokens::unassign(token)),
                TokenVerb::Revoke => (
                    AuditAct::HardTokenRevoke,
                    tokens::end(token, request.lost, at.now()),
                ),
                TokenVerb::Remove => (
                    AuditAct::HardTokenRemove,
                    tokens::may_remove(token).map(|()| None),
                ),
            };
            let decided = decided.map_err(|refusal| refused(&held, refusal))?;
            let done = match decided {
                Some(to) => {
                    let ended = to.ended_at.is_some();
                    let to = KeptAuthenticator {
                        authenticator: to,
                        // What counts no more is not kept.
                        secret: held.kept.secret.clone().filter(|_| !ended),
                        ..held.kept.clone()
                    };
                    let entry = entry(at, act, &held, user.as_ref(), &to);
                    change(at, &held, &to, &entry).await
                }
                None if verb == TokenVerb::Remove => {
                    let entry = AuditEntry {
                        after: serde_json::Map::new(),
                        ..entry(at, act, &held, user.as_ref(), &held.kept)
                    };
                    let key = at.engine.audit_key().await?;
                    let done = at.store().remove_token(&held.kept, (&entry, &key)).await;
                    tell(&entry, &held);
                    done
                }
                // Its seed would come back with a file.
                None if verb == TokenVerb::Revoke && held.given_up => {
                    let entry = entry(at, act, &held, user.as_ref(), &held.kept);
                    let key = at.engine.audit_key().await?;
                    let store = at.store();
                    let done = store.revoke_given_up(&held.kept, (&entry, &key)).await;
                    tell(&entry, &held);
                    done
                }
                None => return Ok(acted(serial, false)),
            };
            match done {
                Ok(()) => return Ok(acted(serial, true)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(again())
    }
}

impl Act for ResyncToken {
    type Output = TokenActed;

    async fn act(self, at: &ActContext) -> Result<TokenActed, ActFailure> {
        let Self { serial, request } = self;
        let held = held(at, &serial).await?;
        let token = &held.kept.authenticator;
        let keys = at.engine.key_ring().await?;
        let Some(secret) = &held.kept.secret else {
            return Err(refused(&held, TokenRefusal::Ended(token.state)));
        };
        let seed = sealed::open(&keys, &held.kept.owner(), secret)
            .map_err(|error| unreadable(&serial, error))?;
        let generator = Generator::new(seed, token.hash, token.digits);
        let (moving, reach) = match token.kind {
            AuthenticatorKind::Hotp => (Moving::Counter, "1,000 counters ahead"),
            _ => (
                Moving::Clock {
                    period: token.period,
                    drift: token.drift,
                },
                "30 steps either side",
            ),
        };
        let codes = request.codes.each_ref().map(|code| typed::read(code));
        let seconds = at.now().0.div_euclid(1000);
        let progress = Progress { next: token.next };
        let [one, two] = &codes;
        let found = resync(&generator, moving, progress, [one, two], seconds);
        let Some((used, drift)) = found else {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "token {serial}: these are not two unused codes in a row, up to {reach}: type them in the order in which the token showed them"
                ),
            ));
        };
        let user = match token.user {
            Some(user) => at.store().users_by_id(&[user]).await?.pop(),
            None => None,
        };
        let mut to = held.kept.clone();
        to.authenticator.drift = drift;
        to.authenticator.two_codes = false;
        let entry = entry(at, AuditAct::HardTokenResync, &held, user.as_ref(), &to);
        let key = at.engine.audit_key().await?;
        match at
            .store()
            .move_token(token.id, (used, drift), (&entry, &key))
            .await
        {
            Ok(()) => {
                tell(&entry, &held);
                Ok(acted(serial, true))
            }
            Err(StoreError::Conflict(_)) => Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "token {serial}: one of these codes was used meanwhile; wait for the next two"
                ),
            )),
            Err(error) => Err(error.into()),
        }
    }
}

/// A token by its serial.
async fn held(at: &ActContext, serial: &str) -> Result<HardTokenRow, ActFailure> {
    let held = at.store().hard_token(serial).await?;
    held.ok_or_else(|| {
        ActFailure::new(
            FailureKind::NotFound,
            format!("there is no hard token `{serial}`: `realmsync hard-tokens list` shows all"),
        )
    })
}

async fn change(
    at: &ActContext,
    held: &HardTokenRow,
    to: &KeptAuthenticator,
    entry: &AuditEntry,
) -> Result<(), StoreError> {
    let key = at.engine.audit_key().await.map_err(|error| match error {
        crate::runs::RunError::Store(error) => error,
        other => StoreError::Refused(other.to_string()),
    })?;
    at.store()
        .change_token(&held.kept, to, (entry, &key))
        .await?;
    tell(entry, held);
    Ok(())
}

fn tell(entry: &AuditEntry, held: &HardTokenRow) {
    let serial = held.kept.authenticator.serial.as_deref();
    let serial = serial.unwrap_or_default();
    tracing::info!(
        serial,
        user = entry.user.map(|u| u.to_string()),
        by = entry.by,
        from = entry.from,
        "hard token {serial}: {}",
        entry.act
    );
}

/// The line of the audit: the serial, and what of the token is another.
fn entry(
    at: &ActContext,
    act: AuditAct,
    held: &HardTokenRow,
    user: Option<&User>,
    to: &KeptAuthenticator,
) -> AuditEntry {
    let side = |token: &Authenticator| {
        let said = json!({
            "serial": token.serial, "authenticator_state": token.state, "drift": token.drift,
        });
        said.as_object().cloned().unwrap_or_default()
    };
    let realm: Option<RealmId> = user.map(|user| user.realm.clone());
    AuditEntry {
        at: at.now(),
        by: at.caller.name.clone(),
        from: at.caller.door.as_str().to_owned(),
        act,
        realm,
        user: user.map(|user| user.id),
        username: user
            .filter(|user| user.state != State::Removed)
            .map(|user| user.username.clone()),
        run: None,
        before: side(&held.kept.authenticator),
        after: side(&to.authenticator),
    }
}

/// The secret of a token for another owner.
fn sealed_for(
    held: &KeptAuthenticator,
    to: Authenticator,
    keys: &KeyRing,
) -> Result<KeptAuthenticator, ActFailure> {
    let serial = to.serial.clone().unwrap_or_default();
    let Some(secret) = &held.secret else {
        return Err(ActFailure::new(
            FailureKind::Refused,
            format!("token {serial}: it has no seed any more"),
        ));
    };
    let seed =
        sealed::open(keys, &held.owner(), secret).map_err(|error| unreadable(&serial, error))?;
    let owner = Authenticator::owner(to.user, to.id);
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    let secret = sealed::seal(&keys.current, &owner, &seed, nonce);
    Ok(KeptAuthenticator {
        bound_to: to.user,
        secret: Some(secret.ok_or_else(again)?),
        authenticator: to,
        ..held.clone()
    })
}

/// Fills a buffer with the machine's randomness.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), ActFailure> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| {
            ActFailure::new(
                FailureKind::Unfit,
                "the machine gives no randomness; try again",
            )
        })
}

fn unreadable(serial: &str, error: SealError) -> ActFailure {
    ActFailure::new(
        FailureKind::Sealed,
        format!("token {serial}: its seed cannot be decrypted: {error}"),
    )
}

fn refused(held: &HardTokenRow, refusal: TokenRefusal) -> ActFailure {
    let token = &held.kept.authenticator;
    let serial = token.serial.as_deref().unwrap_or_default();
    let holder = match (&held.username, &held.realm) {
        (Some(name), Some(realm)) => format!("{name} in {realm}"),
        _ => "another user".to_owned(),
    };
    let words = match refusal {
        TokenRefusal::Ended(state) => format!("it is {state}, for good"),
        TokenRefusal::Assigned(_) => format!(
            "it is assigned to {holder}: `realmsync hard-tokens unassign {serial}` takes it back"
        ),
        TokenRefusal::Expired(until) => {
            format!("token expired: its codes count until {}", day(until))
        }
    };
    ActFailure::new(FailureKind::Refused, format!("token {serial}: {words}"))
}

fn day(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.get(..10).unwrap_or(&text).to_owned()
}

fn acted(serial: String, changed: bool) -> TokenActed {
    TokenActed { serial, changed }
}

fn again() -> ActFailure {
    ActFailure::new(
        FailureKind::Outdated,
        "the token is being changed by others: look at it, then ask again",
    )
}
