//! A set of users with one origin, as the store holds it.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{IdForm, RealmId, RunId, TwoFactor};
use crate::clock::Timestamp;

words! {
    /// Where a realm's users come from.
    RealmKind {
        /// Filled from LDAP, made from the configuration.
        Directory = "directory",
        /// Made by an administrator.
        Custom = "custom",
        /// Made by the first logon that a protected service reports.
        Automatic = "automatic",
    }
}

/// A pause that an administrator began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnPause {
    /// Who; `None`: not known.
    pub by: Option<String>,
    /// `None`: until somebody resumes the realm.
    pub until: Option<Timestamp>,
}

/// What an administrator says of a realm that is in no file. A directory realm has none of it: its file says so.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RealmSettings {
    /// Free text.
    pub category: Option<String>,
    /// ISO 3166-1: the country of national numbers.
    pub region: Option<String>,
    /// IANA name.
    pub time_zone: Option<String>,
    /// Methods that new users get.
    pub two_factor: Vec<TwoFactor>,
}

/// What the store remembers of a realm between runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmRow {
    /// The realm's id.
    pub id: RealmId,
    /// Where its users come from.
    pub kind: RealmKind,
    /// What people call it.
    pub name: String,
    /// No passes until resumed.
    pub paused: bool,
    /// `None`: until an administrator resumes it.
    pub paused_until: Option<Timestamp>,
    /// The undo run whose pause that is: it ends with a plan that is rejected or expires, or when an administrator resumes the realm.
    pub paused_by_undo: Option<RunId>,
    /// An administrator's pause, also where it stands beside an undo's.
    pub own_pause: Option<OwnPause>,
    /// Not in the configuration any more: nothing runs, ages or is sent.
    pub orphaned: bool,
    /// Something changed while a held plan kept the realm from following.
    pub due: bool,
    /// SHA-256 (hex) of the mapping that the last applied plan was made with, and after it what of the rules decides who is due a message
    /// (`+send`, `+provisioned`, `+undelivered`, `+local`); `None` before the first pass.
    pub mapping_hash: Option<String>,
    /// Identity of the directory (its naming context and the realm's servers), to tell whether two realms share one.
    pub directory: Option<String>,
    /// When the first pass was applied; `None`: the next pass is a first pass.
    pub first_applied_at: Option<Timestamp>,
    /// The realm's own clock in milliseconds; grace runs on it.
    pub clock_ms: i64,
    /// When the last complete pass was decided.
    pub last_complete_at: Option<Timestamp>,
    /// JSON object: limit → milliseconds; changes before that do not count in the limit's window.
    pub window_from: String,
    /// JSON object: what the servers were last seen at (`contextCSN` by server id, up-to-dateness vector).
    pub seen_state: Option<String>,
    /// How the directory prints its ids; `None`: no pass was applied yet.
    pub id_form: Option<IdForm>,
    /// JSON: how far the realm has followed its directory; `None`: the next run reads everything.
    pub cursor: Option<String>,
    /// JSON: the ways of hearing of changes that were found, and what became of them; `None`: nothing was tried yet.
    pub following: Option<String>,
    /// The plan that waits for a decision.
    pub held: Option<RunId>,
    /// When the daemon last looked at the schedule (missed ticks are coalesced from here).
    pub last_tick_at: Option<Timestamp>,
    /// When the first of the changes that an administrator rejected for a time may come again; `None`: nothing is left out.
    pub left_out_until: Option<Timestamp>,
    /// What an administrator says of it.
    pub settings: RealmSettings,
}

impl RealmRow {
    /// A directory realm of which nothing is known yet.
    pub fn new(id: RealmId, name: &str) -> Self {
        Self {
            id,
            kind: RealmKind::Directory,
            name: name.to_owned(),
            paused: false,
            paused_until: None,
            paused_by_undo: None,
            own_pause: None,
            orphaned: false,
            due: false,
            mapping_hash: None,
            directory: None,
            first_applied_at: None,
            clock_ms: 0,
            last_complete_at: None,
            window_from: "{}".to_owned(),
            seen_state: None,
            id_form: None,
            cursor: None,
            following: None,
            held: None,
            last_tick_at: None,
            left_out_until: None,
            settings: RealmSettings::default(),
        }
    }

    /// Whether no passes are made at this time: a pause that is over counts no more, whether or not anybody ended it.
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.paused && self.paused_until.is_none_or(|until| until > now)
    }
}
