//! One line of a plan; the same row is the audit trail afterwards.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::user::words;
use super::{Field, IdForm, RealmId, RunId, User, UserId};
use crate::clock::Timestamp;

words! {
    /// What happened to a user.
    ChangeKind {
        /// New.
        Created = "created",
        /// Any other change: a DN, an e-mail, a state's reason, a waiting number that took effect.
        Updated = "updated",
        /// Another user name.
        Renamed = "renamed",
        /// Another number, or a first one (`before` null).
        PhoneChanged = "phone_changed",
        /// The number is gone.
        PhoneLost = "phone_lost",
        /// Must not log on any more.
        Suspended = "suspended",
        /// Active again.
        Restored = "restored",
        /// Gone after the grace period.
        Removed = "removed",
        /// Taken over from another realm.
        Moved = "moved",
        /// Blocked by an administrator.
        Blocked = "blocked",
        /// The block was lifted.
        Unblocked = "unblocked",
    }
}

words! {
    /// A limit of the brake, by its name in `[realm.brake]`.
    Limit {
        /// Changes of kind `suspended`.
        Suspended = "suspended",
        /// Changes of kind `restored`.
        Restored = "restored",
        /// Changes of kind `phone_changed`.
        PhoneChanged = "phone-changed",
        /// Changes of kind `phone_lost`.
        PhoneLost = "phone-lost",
        /// Changes of kind `renamed`.
        Renamed = "renamed",
        /// Changes of kind `created`.
        Created = "created",
        /// Changes of kind `removed`.
        Removed = "removed",
    }
}

impl Limit {
    /// The kind of change that this limit counts.
    pub fn kind(self) -> ChangeKind {
        match self {
            Self::Suspended => ChangeKind::Suspended,
            Self::Restored => ChangeKind::Restored,
            Self::PhoneChanged => ChangeKind::PhoneChanged,
            Self::PhoneLost => ChangeKind::PhoneLost,
            Self::Renamed => ChangeKind::Renamed,
            Self::Created => ChangeKind::Created,
            Self::Removed => ChangeKind::Removed,
        }
    }
}

/// One change of one user, with the fields and the order of the design's JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 5 names each field")]
pub struct Change {
    /// `None`: an administrator's own act, or a timer.
    pub run: Option<RunId>,
    /// Order within the run, from 1.
    pub seq: i64,
    pub realm: RealmId,
    pub user: UserId,
    /// The name after the change (`None` once the user is removed).
    pub username: Option<String>,
    pub by: Option<String>,
    pub kind: ChangeKind,
    /// The changed fields as they were, by the names of the user's JSON. Empty for `created`.
    pub before: Map<String, Value>,
    /// The changed fields as they are; empty for `removed`, and for a `created` of a first pass once applied.
    pub after: Map<String, Value>,
    pub at: Timestamp,
}

/// What a line has in `after`, beside its fields, where an entry is given by its name to a user who may be somebody else.
pub const ANOTHER_PERSON: &str = "another_person";

/// The fields that the `created` row of a plan shows.
pub fn created_fields(user: &User, form: IdForm) -> Map<String, Value> {
    const SHOWN: [Field; 10] = [
        Field::Username,
        Field::DisplayName,
        Field::Email,
        Field::Phone,
        Field::PhoneRaw,
        Field::PhoneSource,
        Field::DirectoryId,
        Field::Dn,
        Field::State,
        Field::StateReason,
    ];
    SHOWN
        .iter()
        .map(|field| (field.as_str().to_owned(), field.get(user, form)))
        .collect()
}
