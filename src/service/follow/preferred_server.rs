//! The way back to a preferred server: who was left for another one is looked at from time to time, cheaply.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::config::{DirectoryConfig, RealmConfig};
use crate::directory::{connect_one, shown};
use crate::model::RealmId;
use crate::story::realms::KeeperStatus;
use crate::story::status::AwayStatus;
use crate::sync::Engine;

/// A bind every five minutes is nothing to a server, and a change of servers costs a full pass: not for a hiccup.
pub const EVERY: Duration = Duration::from_mins(5);

/// Servers of a realm that come before the one in use.
pub fn before(realm: &RealmConfig, used: &str) -> Vec<Url> {
    let servers = &realm.directory.servers;
    let place = servers.iter().position(|url| shown(url) == used);
    servers[..place.unwrap_or(0)].to_vec()
}

/// Ends as soon as a server before the one in use can be used, though never at once. What is found goes into `seen`.
pub async fn is_back(
    engine: Engine,
    realm: RealmConfig,
    used: String,
    every: Duration,
    seen: Arc<watch::Sender<KeeperStatus>>,
) {
    look(&engine, &realm, &used, &seen).await;
    if before(&realm, &used).is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(every).await;
        if look(&engine, &realm, &used, &seen).await {
            return;
        }
    }
}

/// Whether a server before the one in use can be used. Those that cannot are kept in `seen`, with the reason; all others go.
pub async fn look(
    engine: &Engine,
    realm: &RealmConfig,
    used: &str,
    seen: &watch::Sender<KeeperStatus>,
) -> bool {
    let (config, preferred) = (&realm.directory, before(realm, used));
    seen.send_if_modified(|seen| {
        let before = seen.away.len();
        seen.away
            .retain(|away| preferred.iter().any(|url| shown(url) == away.server));
        before != seen.away.len()
    });
    let realm = &realm.id;
    for url in &preferred {
        let server = shown(url);
        match Box::pin(usable(engine, realm, config, url)).await {
            Ok(()) => {
                tracing::info!(server, "{realm}: {server} can be used again");
                seen.send_modify(|seen| seen.away.retain(|away| away.server != server));
                return true;
            }
            Err(error) => {
                let now = engine.clock.now();
                let mut known = false;
                seen.send_modify(|seen| {
                    if let Some(away) = seen.away.iter_mut().find(|away| away.server == server) {
                        known = true;
                        away.error.clone_from(&error);
                    } else {
                        seen.away.push(AwayStatus {
                            server: server.clone(),
                            since: now,
                            error: error.clone(),
                        });
                    }
                });
                if !known {
                    tracing::warn!(server, "{realm}: {server} cannot be used: {error}");
                }
            }
        }
    }
    false
}

async fn usable(
    engine: &Engine,
    realm: &RealmId,
    config: &DirectoryConfig,
    url: &Url,
) -> Result<(), String> {
    let config = config
        .with_secrets(&engine.env)
        .map_err(|e| format!("bind-password: {}", e.message))?;
    let step = u64::try_from(config.connect_timeout_ms).unwrap_or(10_000);
    let deadline = Instant::now() + Duration::from_millis(step.saturating_mul(3));
    let session = connect_one(&config, url, &engine.clock, deadline)
        .await
        .map_err(|e| e.to_string())?;
    // One that is back but behind would only make every run fail as stale.
    let row = engine.store.realm(realm).await.map_err(|e| e.to_string())?;
    let seen = row
        .and_then(|row| row.seen_state)
        .and_then(|text| serde_json::from_str(&text).ok());
    session.not_behind(seen.as_ref()).map_err(|e| e.to_string())
}
