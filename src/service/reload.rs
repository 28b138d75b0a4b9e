//! SIGHUP: everything that can fail is done before anything changes.

use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::task::spawn_blocking;

use super::timetable::Timetable;
use super::web::Ready;
use super::{LoadedFile, Reload};
use crate::config::{Config, StoreUrl};
use crate::model::RealmId;
use crate::sync::Engine;

/// A new configuration with all that it needs.
#[derive(Debug)]
pub(super) struct PreparedReload {
    pub(super) config: Arc<Config>,
    pub(super) warnings: Vec<String>,
    pub(super) timetables: Vec<(RealmId, Timetable)>,
    pub(super) web: Option<Ready>,
}

/// Reads and checks the configuration again; `bound` is the TCP address that is listened on.
pub(super) async fn prepare(
    read: Reload,
    engine: Engine,
    bound: Option<SocketAddr>,
) -> Result<PreparedReload, String> {
    let (config, warnings) = read_again(read, &engine.config).await?;
    let config = Arc::new(config);
    let ahead = Engine {
        config: Arc::clone(&config),
        ..engine
    };
    // With a key that the store is not kept with, nobody could be verified.
    ahead.key_ring().await.map_err(|e| e.to_string())?;
    let timetables = timetables(&config)?;
    let web = Ready::prepare(config.http.as_ref(), bound).await?;
    Ok(PreparedReload {
        config,
        warnings,
        timetables,
        web,
    })
}

/// The same, to be looked at before it is in force.
pub(super) async fn read_ahead(read: Reload, old: &Config) -> Result<Arc<Config>, String> {
    let (config, _warnings) = read_again(read, old)
        .await
        .map_err(|why| format!("no plan by the edited file: {why}"))?;
    Ok(Arc::new(config))
}

async fn read_again(read: Reload, old: &Config) -> LoadedFile {
    let (config, warnings) = spawn_blocking(move || -> LoadedFile { read() })
        .await
        .map_err(|e| format!("reading the configuration broke off: {e}"))??;
    needs_restart(old, &config)?;
    Ok((config, warnings))
}

/// Every realm's ticks.
pub(super) fn timetables(config: &Config) -> Result<Vec<(RealmId, Timetable)>, String> {
    config
        .realms
        .iter()
        .map(|realm| Ok((realm.id.clone(), Timetable::of(realm)?)))
        .collect()
}

/// What a process cannot change under itself.
fn needs_restart(old: &Config, new: &Config) -> Result<(), String> {
    let same_store = match (&old.store.url, &new.store.url) {
        (StoreUrl::Sqlite(old), StoreUrl::Sqlite(new)) => old == new,
        (StoreUrl::Postgres { url: old, .. }, StoreUrl::Postgres { url: new, .. }) => {
            old.expose_secret() == new.expose_secret()
        }
        _ => false,
    };
    if !same_store {
        return Err(
            "store.url has changed: restart the service, a reload cannot move the store".into(),
        );
    }
    if old.control_socket != new.control_socket {
        return Err(
            "control.socket has changed: restart the service, a reload cannot move it".into(),
        );
    }
    Ok(())
}
