//! What `status`, the metrics and readiness say of the realms: read from the store, with what only the daemon knows added.

use std::collections::BTreeMap;

use crate::api::types::{HolderStatus, RealmStatus, RunningStatus};
use crate::clock::Timestamp;
use crate::config::{ChangesWay, Config};
use crate::model::{RealmId, State};
use crate::store::{Store, StoreError};

/// What only the daemon knows of a realm.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Live {
    /// When the next scheduled run starts.
    pub next_run_at: Option<Timestamp>,
    /// The run under way.
    pub running: Option<RunningStatus>,
}

/// Every realm of the store, the configuration's first and in its order. Without a daemon `live` is empty.
pub async fn gather(
    store: &Store,
    config: &Config,
    live: &BTreeMap<RealmId, Live>,
    now: Timestamp,
) -> Result<Vec<RealmStatus>, StoreError> {
    let mut rows = store.realms().await?;
    let place = |id: &RealmId| {
        config
            .realms
            .iter()
            .position(|realm| realm.id == *id)
            .unwrap_or(usize::MAX)
    };
    rows.sort_by_key(|row| (place(&row.id), row.id.clone()));
    let holders = store.lease_holders().await?;
    let senders = store.senders().await?;
    let mut realms = Vec::with_capacity(rows.len());
    for row in rows {
        let last = store.last_run(&row.id).await?;
        let last_success_at = store.last_success(&row.id).await?;
        let mut users: BTreeMap<String, i64> = State::ALL
            .iter()
            .map(|state| (state.to_string(), 0))
            .collect();
        users.extend(
            store
                .count_by_state(&row.id)
                .await?
                .into_iter()
                .map(|(state, count)| (state.to_string(), count)),
        );
        let outbox = store.outbox_counts(Some(&row.id)).await?;
        let configured = config.realms.iter().find(|realm| realm.id == row.id);
        let paused = row.paused && row.paused_until.is_none_or(|until| until > now);
        let live = live.get(&row.id).copied().unwrap_or_default();
        realms.push(RealmStatus {
            kind: row.kind,
            paused,
            paused_until: row.paused_until.filter(|_| paused),
            orphaned: row.orphaned,
            due: row.due,
            last_success_at,
            last_outcome: last.as_ref().map(|run| run.outcome),
            last_error: last.and_then(|run| run.error),
            next_run_at: live.next_run_at.filter(|_| !paused && !row.orphaned),
            users,
            held: row.held,
            servers: configured
                .map(|realm| {
                    realm
                        .directory
                        .servers
                        .iter()
                        .map(ToString::to_string)
                        .collect()
                })
                .unwrap_or_default(),
            changes: configured
                .map(|realm| word(realm.directory.changes))
                .unwrap_or_default()
                .to_owned(),
            outbox: outbox
                .into_iter()
                .map(|(state, count)| (state.to_string(), count))
                .collect(),
            running: live.running,
            holder: holders
                .iter()
                .find(|holder| holder.realm == row.id)
                .map(|holder| HolderStatus {
                    name: holder.name.clone(),
                    since: holder.since,
                    until: holder.until,
                }),
            sending_by: senders
                .iter()
                .filter(|(realm, ..)| *realm == row.id)
                .map(|(_, name, jobs)| (name.clone(), *jobs))
                .collect(),
            realm: row.id,
        });
    }
    Ok(realms)
}

/// The configuration's word. Only full passes exist so far, so `auto` is `full`.
fn word(changes: ChangesWay) -> &'static str {
    match changes {
        ChangesWay::Auto | ChangesWay::Full => "full",
        ChangesWay::Syncrepl => "syncrepl",
        ChangesWay::Push => "push",
        ChangesWay::DirSync => "dirsync",
        ChangesWay::Timestamp => "timestamp",
    }
}
