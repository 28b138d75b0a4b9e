//! One pass over one realm, and what came of it.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{RealmId, RunId};
use crate::clock::Timestamp;

words! {
    /// What kind of run it is.
    Mode {
        /// Everything is read.
        Full = "full",
        /// What changed since the cursor.
        Delta = "delta",
        /// One person, `sync --user`.
        User = "user",
        /// A file of users.
        Import = "import",
        /// An administrator's act on many users.
        Action = "action",
        /// Puts back what another run changed.
        Undo = "undo",
        /// Reads a held plan as a rebuilt directory.
        Adopt = "adopt",
    }
}

words! {
    /// What started a run.
    Trigger {
        /// The realm's schedule.
        Schedule = "schedule",
        /// The directory said that something changed.
        Push = "push",
        /// The interval between deltas.
        Poll = "poll",
        /// The command line or the API.
        Command = "command",
        /// SIGUSR1.
        Signal = "signal",
        /// The web console.
        Console = "console",
    }
}

words! {
    /// What became of a run. `running` is the only one that is not final, `held` the only one that can still be decided.
    Outcome {
        /// Under way.
        Running = "running",
        /// The plan is in the store.
        Applied = "applied",
        /// Nothing differed.
        Unchanged = "unchanged",
        /// The brake holds the plan.
        Held = "held",
        /// An error ended it; nothing was applied.
        Failed = "failed",
        /// Stopped by the administrator or the service's end.
        Cancelled = "cancelled",
        /// An administrator said no.
        Rejected = "rejected",
        /// Nobody decided within seven days.
        Expired = "expired",
        /// A later pass came to another result.
        Replaced = "replaced",
    }
}

words! {
    /// Why a run failed, in one word for programs.
    ErrorCode {
        /// No server answered.
        Unreachable = "unreachable",
        /// The bind was refused.
        Auth = "auth",
        /// The certificate or StartTLS was refused.
        Tls = "tls",
        /// Something of the base could not be read.
        Incomplete = "incomplete",
        /// No usable entry in a base.
        Empty = "empty",
        /// The server is behind what was already seen.
        Stale = "stale",
        /// The sentinel was not seen, or has no readable phone.
        Sentinel = "sentinel",
        /// Another run or process holds the realm or the store.
        Busy = "busy",
        /// The store failed.
        Store = "store",
        /// The configuration does not allow it.
        Config = "config",
    }
}

/// One limit that a plan tripped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldBy {
    /// A limit of `[realm.brake]`, or `container`, `mapping`, `messages`, `moved`, `matched`, `marked`,
    /// `nameless`, `approve`, `undo`.
    pub limit: String,
    /// How many, over the run and the window.
    pub count: i64,
    /// Of how many users that are not removed.
    pub of: i64,
    /// How many would have passed.
    pub allowed: i64,
}

/// A run, with the fields and the order of the design's JSON. The counters are counted from the committed plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 5 names each field")]
pub struct Run {
    pub run: RunId,
    pub realm: RealmId,
    pub mode: Mode,
    pub trigger: Trigger,
    /// Who asked (a system user, a console account), or who decided a held plan.
    pub by: Option<String>,
    pub outcome: Outcome,
    pub complete: bool,
    /// Entries of the directory that were read.
    pub seen: i64,
    pub created: i64,
    pub updated: i64,
    pub renamed: i64,
    pub phone_changed: i64,
    pub phone_lost: i64,
    pub suspended: i64,
    pub restored: i64,
    pub removed: i64,
    pub moved: i64,
    pub refused_entries: i64,
    pub refused_phones: i64,
    /// Messages that the run caused.
    pub jobs: i64,
    pub held_by: Vec<HeldBy>,
    pub server: Option<String>,
    pub started_at: Timestamp,
    pub decided_at: Option<Timestamp>,
    pub elapsed_ms: i64,
    pub error_code: Option<ErrorCode>,
    pub error: Option<String>,
    /// What did not go as asked although it went well, as why everything was read where a delta would have done.
    pub note: Option<String>,
    /// Changes that a full pass found and deltas should have told; `None`: not counted.
    pub drift: Option<i64>,
    /// People whom a full pass found changed although their entries did not change, of whom no delta can tell; `None`: not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<i64>,
    /// Users who were left out, since an administrator rejected what would be done with them for a time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: i64,
    /// When the last of that may come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_until: Option<Timestamp>,
}

impl Run {
    /// A run that has just begun: a full pass by a command, of which nothing is known yet.
    pub fn begun(run: RunId, realm: RealmId, at: Timestamp) -> Self {
        Self {
            run,
            realm,
            mode: Mode::Full,
            trigger: Trigger::Command,
            by: None,
            outcome: Outcome::Running,
            complete: false,
            seen: 0,
            created: 0,
            updated: 0,
            renamed: 0,
            phone_changed: 0,
            phone_lost: 0,
            suspended: 0,
            restored: 0,
            removed: 0,
            moved: 0,
            refused_entries: 0,
            refused_phones: 0,
            jobs: 0,
            held_by: vec![],
            server: None,
            started_at: at,
            decided_at: None,
            elapsed_ms: 0,
            error_code: None,
            error: None,
            note: None,
            drift: None,
            computed: None,
            left_out: 0,
            left_out_until: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}
