//! How the enrolment key stands, and what may have come back with a restored copy.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::runs::RunError;
use crate::store::StoreError;
use crate::sync::Engine;

/// For so long it is told that a store goes on from a copy, in milliseconds.
const TOLD: i64 = 30 * 86_400_000;

/// The enrolment key in `status` and `check`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyStatus {
    /// The name of the key in use; `None`: see `error`.
    pub id: Option<String>,
    /// Why none can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Secrets that are yet to be moved over from a key that is known.
    pub to_move: i64,
    /// Secrets that are kept with a key that nobody knows: whoever has them cannot be verified.
    pub locked_out: i64,
    /// `previous-key…` is configured, and nothing needs it any more.
    pub previous_may_go: bool,
    /// When a secret could not be decrypted, and which; the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// What may have come back with a copy of the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestoredStatus {
    /// When the store began to go on from a copy.
    pub at: Timestamp,
    /// API tokens that are good, and may have been revoked since the copy was made.
    pub api_tokens: Vec<String>,
}

/// How the enrolment key stands.
pub async fn key_status(engine: &Engine) -> Result<KeyStatus, StoreError> {
    let keeping = engine.store.key_keeping().await?;
    let none = keeping.own.is_none() && keeping.canary.is_none();
    if none && engine.config.enrolment.key.is_none() {
        // Nobody has needed one yet, and a look makes none.
        return Ok(KeyStatus::default());
    }
    let ring = match engine.key_ring().await {
        Ok(ring) => ring,
        Err(RunError::Store(error)) => return Err(error),
        Err(error) => {
            return Ok(KeyStatus {
                error: Some(error.to_string()),
                alarm: keeping.alarm,
                ..KeyStatus::default()
            });
        }
    };
    let others = engine.store.secrets_of_others(ring.current.id()).await?;
    let known = |key: &str| KeyId::parse(key).is_some_and(|key| ring.find(key).is_some());
    let sum = |is_known: bool| {
        let of = others.iter().filter(|(key, _)| known(key) == is_known);
        of.map(|(_, count)| count).sum()
    };
    let to_move = sum(true);
    // The store may still go by another key than the file's.
    let wanted = engine.wanted_key().await.ok();
    let taken = keeping
        .canary
        .is_some_and(|canary| Some(canary.key) == wanted);
    Ok(KeyStatus {
        id: Some(ring.current.id().to_string()),
        error: None,
        to_move,
        locked_out: sum(false),
        previous_may_go: engine.config.enrolment.previous_key.is_some() && taken && to_move == 0,
        alarm: keeping.alarm,
    })
}

/// What may have come back; `None`: the store never went on from a copy, or an administrator has looked.
pub async fn restored_status(engine: &Engine) -> Result<Option<RestoredStatus>, StoreError> {
    let came_back = engine.store.came_back().await?;
    Ok(came_back
        .at
        .filter(|at| !came_back.reviewed && engine.clock.now().since_ms(*at) < TOLD)
        .map(|at| RestoredStatus {
            at,
            api_tokens: came_back.api_tokens,
        }))
}
