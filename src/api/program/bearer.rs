//! Who calls: the API token of a program, in `Authorization: Bearer` and nowhere else.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio_util::task::TaskTracker;

use super::problem::Problem;
use crate::clock::Steady;
use crate::factors::token::SecretToken;
use crate::model::{ApiToken, Scope};
use crate::sync::Engine;

/// A token is looked at anew this often, in milliseconds: one that was revoked by another daemon is refused a second later.
const FRESH: i64 = 1000;

/// Its last use is told to the store when that was so long ago, in milliseconds.
const USED: i64 = 60_000;

/// Requests of a token in a second, apart from those that have no limit.
const A_SECOND: u32 = 100;

/// Tokens that are remembered.
const REMEMBERED: usize = 1000;

/// The tokens that were used a moment ago, by their hashes.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<[u8; 32], Remembered>>,
    /// Last uses on their way to the store.
    notes: TaskTracker,
}

struct Remembered {
    token: Arc<ApiToken>,
    read_at: Steady,
    second: Steady,
    in_second: u32,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 32], Remembered>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program that sent these headers, if it may do this.
    pub(super) async fn caller(
        &self,
        engine: &Engine,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Arc<ApiToken>, Problem> {
        let Some(sent) = headers.get(header::AUTHORIZATION) else {
            return Err(Problem::unauthorized(None));
        };
        let secret = sent.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| SecretToken::read(token.trim()))?
        });
        let Some(secret) = secret else {
            return Err(Problem::unauthorized(Some(
                "this is no whole API token of realmsync",
            )));
        };
        let hash = secret.sha256();
        let (now, steady) = engine.clock.both();
        let fresh = self.all().get(&hash).and_then(|known| {
            (steady.since_ms(known.read_at) < FRESH).then(|| Arc::clone(&known.token))
        });
        let token = if let Some(token) = fresh {
            token
        } else {
            let read = engine.store.api_token_of(hash).await;
            let read = read.map_err(|error| {
                tracing::error!(%error, "a token cannot be looked up: {error}");
                Problem::unavailable("the store does not answer; nothing was done")
            })?;
            let Some(token) = read else {
                return Err(Problem::unauthorized(Some("there is no such token")));
            };
            self.remember(hash, token, steady)
        };
        if let Some(why) = token.refused(now) {
            return Err(Problem::unauthorized(Some(why)));
        }
        if !token.may(scope) {
            return Err(Problem::scope_missing(scope));
        }
        if !matches!(scope, Scope::Verify | Scope::Logons) {
            self.within_limit(hash, steady)?;
        }
        let long_ago = |at| now.since_ms(at) >= USED;
        if token.last_used_at.is_none_or(long_ago) {
            self.note(hash, &token, engine);
        }
        Ok(token)
    }

    fn remember(&self, hash: [u8; 32], token: ApiToken, now: Steady) -> Arc<ApiToken> {
        let token = Arc::new(token);
        let mut all = self.all();
        if all.len() >= REMEMBERED {
            all.retain(|_, known| now.since_ms(known.read_at) < FRESH);
        }
        let known = all.entry(hash).or_insert_with(|| Remembered {
            token: Arc::clone(&token),
            read_at: now,
            second: now,
            in_second: 0,
        });
        known.token = Arc::clone(&token);
        known.read_at = now;
        token
    }

    fn within_limit(&self, hash: [u8; 32], now: Steady) -> Result<(), Problem> {
        let mut all = self.all();
        let Some(known) = all.get_mut(&hash) else {
            return Ok(());
        };
        if now.since_ms(known.second) >= 1000 {
            (known.second, known.in_second) = (now, 0);
        }
        known.in_second += 1;
        if known.in_second > A_SECOND {
            return Err(Problem::too_many(
                format!("more than {A_SECOND} requests in a second"),
                Duration::from_secs(1),
            ));
        }
        Ok(())
    }

    /// Tells the store of the use, beside the request.
    fn note(&self, hash: [u8; 32], token: &ApiToken, engine: &Engine) {
        let (now, id, store) = (engine.clock.now(), token.id, engine.store.clone());
        if let Some(known) = self.all().get_mut(&hash) {
            known.token = Arc::new(ApiToken {
                last_used_at: Some(now),
                ..token.clone()
            });
        }
        self.notes.spawn(async move {
            if let Err(error) = store.api_token_used(id, now).await {
                tracing::warn!(%error, "the last use of a token cannot be noted: {error}");
            }
        });
    }
}
