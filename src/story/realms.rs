//! How every realm stands: read from the store, with what only a daemon knows added.

use std::collections::BTreeMap;

use super::status::{
    AwayStatus, FollowingStatus, GuessesStatus, HolderStatus, PushStatus, RealmStatus,
    RunningStatus,
};
use crate::clock::Timestamp;
use crate::config::{ChangesWay, Config, RealmConfig};
use crate::directory::Way;
use crate::model::{RealmId, RealmKind, RealmRow, State};
use crate::store::{Store, StoreError};
use crate::sync::{ByKind, Following};

/// How far back an alarm about guesses looks, in milliseconds.
const HOUR: i64 = 3_600_000;

/// Users that are named beside an alarm.
const NAMED: i64 = 5;

/// What only the daemon knows of a realm.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Live {
    /// When the next scheduled run starts.
    pub next_run_at: Option<Timestamp>,
    /// The run under way.
    pub running: Option<RunningStatus>,
    /// What keeps it up to date has seen that.
    pub seen: KeeperStatus,
}

/// What a realm's keeper has seen: how it hears of changes now.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct KeeperStatus {
    /// The way that is in use; `None`: full passes only, or not looked yet.
    pub way: Option<Way>,
    /// Whether the push is connected; `None`: the realm does not live by push.
    pub push: Option<PushStatus>,
    /// Why the realm is polled although its last full pass found push.
    pub not_pushed: Option<String>,
    /// When the directory was last asked, or told something by itself, and all went well.
    pub heard_at: Option<Timestamp>,
    /// Preferred servers that could not be used when they were last looked at.
    pub away: Vec<AwayStatus>,
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
    let refused = store.refused_counts().await?;
    let guesses = store.guesses(now).await?;
    let beside = store.held_beside().await?;
    let mut realms = Vec::with_capacity(rows.len());
    for row in rows {
        let alarm = guesses.iter().find(|one| one.realm == row.id && one.alarm);
        let told = match alarm {
            Some(one) => Some(GuessesStatus {
                locked: one.locked,
                delayed: one.delayed,
                users: store.guessed_at(&row.id, now.plus_ms(-HOUR), NAMED).await?,
            }),
            None => None,
        };
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
        let paused = row.is_paused(now);
        let live = live.get(&row.id).cloned().unwrap_or_default();
        let following = match configured {
            Some(realm) => follows(store, realm, &row, &live.seen).await?,
            None => None,
        };
        let pushed_by = live.seen.push.and_then(|push| push.server);
        let server = pushed_by.or_else(|| last.as_ref().and_then(|run| run.server.clone()));
        // A pass's plan, which the passes wait for, or else a file's, which waits beside them.
        let of_a_file = beside.iter().find(|(realm, _)| *realm == row.id);
        let held = row.held.or(of_a_file.map(|(_, run)| *run));
        let rejected_before = match held {
            Some(held) => store.rejected_before(held).await?.map(Into::into),
            None => None,
        };
        let held_by = match held {
            Some(held) => store.run(&held.to_string()).await?.held_by,
            None => vec![],
        };
        realms.push(RealmStatus {
            rejected_before,
            left_out_until: row.left_out_until,
            paused_by_undo: row.paused_by_undo.filter(|_| paused),
            paused_by_administrator: row
                .own_pause
                .filter(|own| own.until.is_none_or(|until| until > now)),
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
            held,
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
                .map(|realm| used(realm, following.as_ref()))
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
            following: following.map(|(_, status)| status),
            server,
            away: live.seen.away,
            guesses: told,
            reload_refused: None,
            held_by,
            refused: refused
                .iter()
                .find(|(realm, ..)| *realm == row.id)
                .map(|(_, entries, phones)| counts(*entries, *phones))
                .unwrap_or_default(),
            time_zones: configured.map(|_| config.zone_data.clone()),
            realm: row.id,
        });
    }
    Ok(realms)
}

/// What is refused, by kind and without zeros.
fn counts(entries: i64, phones: i64) -> BTreeMap<String, i64> {
    [("entries", entries), ("phones", phones)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.to_owned(), count))
        .collect()
}

/// How a realm hears of changes, as its last full pass found and its keeper sees now; `None`: no full pass yet.
async fn follows(
    store: &Store,
    realm: &RealmConfig,
    row: &RealmRow,
    seen: &KeeperStatus,
) -> Result<Option<(Option<Way>, FollowingStatus)>, StoreError> {
    let Some(following) = row
        .following
        .as_deref()
        .and_then(|text| serde_json::from_str::<Following>(text).ok())
    else {
        return Ok(None);
    };
    let way = following.way.filter(|_| !following.fell_back);
    let pushed = way == Some(Way::Push) && seen.not_pushed.is_none();
    let told = store.delta_history(&row.id).await?;
    let status = FollowingStatus {
        ways: following
            .ways
            .iter()
            .map(|way| way.as_str().to_owned())
            .collect(),
        fell_back: following.fell_back,
        blind: following.blind,
        push: seen.push.clone().filter(|_| pushed),
        not_pushed: seen.not_pushed.clone().filter(|_| way == Some(Way::Push)),
        poll_ms: realm.directory.poll_ms.filter(|_| way.is_some() && !pushed),
        heard_at: seen.heard_at,
        last_delta_at: told.last_delta_at,
        drift: told.drift.map(|(count, _)| count),
        drift_by_kind: told
            .drift
            .map(|(count, _)| by_kind(&following.untold, count))
            .unwrap_or_default(),
        drift_at: told.drift.map(|(_, at)| at),
        computed: told.computed,
    };
    Ok(Some((way, status)))
}

/// Drift by kind; what the realm's memory does not say is `unknown`, so that the sum is right.
fn by_kind(untold: &ByKind, drift: i64) -> BTreeMap<String, i64> {
    let mut kinds: BTreeMap<String, i64> = untold
        .each()
        .map(|(kind, people)| (kind.to_owned(), people))
        .collect();
    let unknown = drift - kinds.values().sum::<i64>();
    if unknown > 0 {
        kinds.insert("unknown".to_owned(), unknown);
    }
    kinds
}

/// The word for the way that is used.
fn used(realm: &RealmConfig, following: Option<&(Option<Way>, FollowingStatus)>) -> &'static str {
    match following {
        Some((Some(Way::Push), status)) if status.not_pushed.is_some() => {
            // The second best that the server offers by the same protocol.
            match status
                .ways
                .iter()
                .find(|way| *way != "push")
                .map(String::as_str)
            {
                Some("dirsync") => "dirsync",
                Some("timestamp") => "timestamp",
                _ => "syncrepl",
            }
        }
        Some((Some(way), _)) => way.as_str(),
        Some((None, _)) => "full",
        // Nothing was tried yet: what the configuration names, if it names one.
        None => match realm.directory.changes {
            ChangesWay::Auto | ChangesWay::Full => "full",
            ChangesWay::Syncrepl => "syncrepl",
            ChangesWay::Push => "push",
            ChangesWay::DirSync => "dirsync",
            ChangesWay::Timestamp => "timestamp",
        },
    }
}

/// Every realm where no daemon answers: what the store says, and those of the file on which nobody worked yet.
pub async fn without_daemon(
    store: &Store,
    config: &Config,
    now: Timestamp,
) -> Result<Vec<RealmStatus>, StoreError> {
    let mut realms = gather(store, config, &BTreeMap::new(), now).await?;
    let known: Vec<RealmId> = realms.iter().map(|r| r.realm.clone()).collect();
    let unknown = untouched(config).into_iter();
    realms.extend(unknown.filter(|realm| !known.contains(&realm.realm)));
    Ok(realms)
}

/// The realms of the file, to which nothing happened yet.
pub fn untouched(config: &Config) -> Vec<RealmStatus> {
    let none = || {
        State::ALL
            .iter()
            .map(|state| (state.to_string(), 0))
            .collect()
    };
    let realm = |r: &RealmConfig| RealmStatus {
        realm: r.id.clone(),
        kind: RealmKind::Directory,
        paused: false,
        paused_until: None,
        orphaned: false,
        due: false,
        last_success_at: None,
        last_outcome: None,
        last_error: None,
        next_run_at: None,
        users: none(),
        held: None,
        servers: r
            .directory
            .servers
            .iter()
            .map(ToString::to_string)
            .collect(),
        changes: "full".into(),
        outbox: BTreeMap::new(),
        paused_by_undo: None,
        paused_by_administrator: None,
        rejected_before: None,
        left_out_until: None,
        running: None,
        holder: None,
        sending_by: BTreeMap::new(),
        following: None,
        server: None,
        away: vec![],
        guesses: None,
        reload_refused: None,
        held_by: vec![],
        refused: BTreeMap::new(),
        time_zones: Some(config.zone_data.clone()),
    };
    config.realms.iter().map(realm).collect()
}
