//! How realms and the daemon stand: what `status` says, the metrics count, and the control API answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::{KeyStatus, RestoredStatus};
use crate::clock::Timestamp;
use crate::clock::zones::ZoneData;
use crate::model::{HeldBy, Operation, Outcome, OwnPause, RealmId, RealmKind, Run, RunId};

/// One realm in `status`, with the fields and the order of the design's § 5.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 5 names each field")]
pub struct RealmStatus {
    pub realm: RealmId,
    pub kind: RealmKind,
    pub paused: bool,
    pub paused_until: Option<Timestamp>,
    pub orphaned: bool,
    pub due: bool,
    pub last_success_at: Option<Timestamp>,
    pub last_outcome: Option<Outcome>,
    pub last_error: Option<String>,
    /// `None`: no daemon answers, the realm is not scheduled, or it is paused.
    pub next_run_at: Option<Timestamp>,
    /// By state, in the order of the states.
    pub users: BTreeMap<String, i64>,
    pub held: Option<RunId>,
    /// Configured servers, in order.
    pub servers: Vec<String>,
    /// How changes are really heard of: `push`, `syncrepl`, `dirsync`, `timestamp` or `full`.
    pub changes: String,
    /// By state.
    pub outbox: BTreeMap<String, i64>,
    /// The undo for which the realm is paused until it is resumed; `None`: it is not, or for another reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by_undo: Option<RunId>,
    /// The plan with the same changes as the held one that was rejected before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_before: Option<RejectedBefore>,
    /// When the first of the changes that an administrator rejected for a time may come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_until: Option<Timestamp>,
    /// An administrator's pause, also where it stands beside an undo's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by_administrator: Option<OwnPause>,
    /// How far the run under way has come; `None`: none is, or no daemon answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningStatus>,
    /// Who runs it; `None`: nobody just now, or the store is SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderStatus>,
    /// How many messages which process (host:pid) is sending; empty with SQLite.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sending_by: BTreeMap<String, i64>,
    /// More on `changes`; `None`: not a directory realm, or no full pass was applied yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub following: Option<FollowingStatus>,
    /// The server that answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Servers that come before it and cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayStatus>,
    /// Why the plan is held, by which numbers; empty: none is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<HeldBy>,
    /// What stands refused: `entries`, `phones`. Empty: nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, i64>,
    /// The rules of time zones that the schedule goes by; `None`: the realm is not in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zones: Option<ZoneData>,
    /// Guesses of codes within the last hour, if they are many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guesses: Option<GuessesStatus>,
    /// The daemon's last reload, if it was refused: the realm goes on by the configuration from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_refused: Option<RefusedReload>,
}

/// Somebody seems to guess codes in a realm.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GuessesStatus {
    /// Users who were locked within the last hour.
    pub locked: i64,
    /// Users who came into a delay within the last hour.
    pub delayed: i64,
    /// The names of some of them, the most guesses first.
    #[serde(default)]
    pub users: Vec<String>,
}

/// A reload that was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedReload {
    /// When.
    pub at: Timestamp,
    /// The first line of why.
    pub error: String,
}

/// A plan that was rejected, and whose changes came again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RejectedBefore {
    /// It.
    pub run: RunId,
    /// Who rejected it.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}

impl From<Run> for RejectedBefore {
    fn from(run: Run) -> Self {
        Self {
            run: run.run,
            by: run.by,
            at: run.decided_at,
        }
    }
}

/// The process that runs a realm, where several share one PostgreSQL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HolderStatus {
    /// host:pid.
    pub name: String,
    /// When it took the realm.
    pub since: Timestamp,
    /// Until then, unless it renews the lease; by the database's clock.
    pub until: Timestamp,
}

/// How a realm hears of changes, in `status`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowingStatus {
    /// All ways that the server offered to the account in the last full pass, best first.
    pub ways: Vec<String>,
    /// Two full passes in a row found what deltas should have told: everything is read until that is over.
    pub fell_back: bool,
    /// What this way cannot tell: `deletions are not shown to this account…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
    /// Whether the push is connected; `None`: the realm does not live by push, or no daemon answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<PushStatus>,
    /// Why the realm is polled although its last full pass found push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_pushed: Option<String>,
    /// Time between deltas in milliseconds, where they are asked for; `None`: pushed, or on schedule only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<i64>,
    /// When the directory was last asked or told something; `None`: not since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// When the last delta that changed anything was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delta_at: Option<Timestamp>,
    /// People whom the last full pass found changed and no delta had told; `None`: not counted yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<i64>,
    /// The same people by what changed, each once; `unknown` is what was counted with another configuration. Empty: not counted yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drift_by_kind: BTreeMap<String, i64>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_at: Option<Timestamp>,
    /// People whom that pass found changed although their entries did not change (roles, CoS, overlays, access rules): no delta
    /// can tell of them, and they are no drift. `None`: not counted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<i64>,
}

/// A connection on which a directory tells of changes by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PushStatus {
    /// Whether it stands.
    pub connected: bool,
    /// Since when it stands, or does not.
    pub since: Timestamp,
    /// The server at its other end; `None`: it does not stand.
    pub server: Option<String>,
    /// Why it does not stand.
    pub error: Option<String>,
}

/// A server that comes before the one in use, and cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AwayStatus {
    /// Its URL.
    pub server: String,
    /// When that was noticed.
    pub since: Timestamp,
    /// Why.
    pub error: String,
}

/// A run under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunningStatus {
    /// When it began.
    pub since: Timestamp,
    /// Entries read so far.
    pub seen: u64,
    /// Users of the realm before the pass, as an estimate of the whole; 0: unknown.
    pub expected: u64,
}

/// The daemon in `status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// What it is called among those that share the store: host:pid.
    #[serde(default)]
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The configuration file that it works by.
    pub config: PathBuf,
    /// When that was last read.
    pub config_read_at: Timestamp,
    /// Why the last reload was refused; `None`: it was not.
    pub reload_error: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_refused_at: Option<Timestamp>,
    /// The file of the command that asked says something else than what the daemon works by.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_file: bool,
    /// The store is still taking its configuration in; no run begins before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undeclared: bool,
    /// API tokens that have made as many users by logons within the last hour as they may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens_at_limit: Vec<String>,
    /// What is done to many users and is under way, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// How far the machine's clock was from the database's when codes were verified last, in milliseconds; 0: near enough.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clock_off_ms: i64,
    /// The enrolment key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_key: Option<KeyStatus>,
    /// What may have come back with a copy of the store, until somebody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredStatus>,
    /// Receivers of messages with their circuits ([`crate::outbox::TargetView`]).
    pub receivers: Value,
}

/// `GET /api/v1/status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The daemon.
    pub daemon: DaemonStatus,
    /// Every realm.
    pub realms: Vec<RealmStatus>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}
