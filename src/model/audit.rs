//! A line of the audit: who changed what, and from where.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::user::words;
use super::{RealmId, RunId, UserId};
use crate::clock::Timestamp;

words! {
    /// What was done.
    AuditAct {
        /// A realm was made.
        RealmCreate = "realm-create",
        /// A realm was changed.
        RealmEdit = "realm-edit",
        /// A realm was removed.
        RealmRemove = "realm-remove",
        /// A user was made.
        UserAdd = "user-add",
        /// A user was changed.
        UserEdit = "user-edit",
        /// A user was blocked.
        UserBlock = "user-block",
        /// A block was lifted.
        UserUnblock = "user-unblock",
        /// A user was removed, at once or after the grace.
        UserRemove = "user-remove",
        /// A user gets the directory's entry of the name.
        UserAdopt = "user-adopt",
        /// An API token was made.
        ApiTokenCreate = "api-token-create",
        /// An API token was revoked.
        ApiTokenRevoke = "api-token-revoke",
    }
}

/// What is to be written: the act's own words. Realm, user and time are those of the act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who; `None`: a timer.
    pub by: Option<String>,
    /// From where: the door's word.
    pub from: String,
    /// What.
    pub act: AuditAct,
    /// Where; `None`: the act concerns no realm.
    pub realm: Option<RealmId>,
    /// Whom; `None`: the act concerns no user.
    pub user: Option<UserId>,
    /// Their name after the act, or before it where none is left.
    pub username: Option<String>,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// The changed fields as they were.
    pub before: Map<String, Value>,
    /// The changed fields as they are.
    pub after: Map<String, Value>,
}

/// A line as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of `AuditEntry`")]
pub struct AuditLine {
    pub at: Timestamp,
    pub by: Option<String>,
    pub from: String,
    /// The word of an [`AuditAct`]; of a newer program perhaps another.
    pub act: String,
    pub realm: Option<RealmId>,
    pub user: Option<UserId>,
    pub username: Option<String>,
    pub run: Option<RunId>,
    /// `None`: erased with the person.
    pub before: Option<Map<String, Value>>,
    /// `None`: erased with the person.
    pub after: Option<Map<String, Value>>,
}
