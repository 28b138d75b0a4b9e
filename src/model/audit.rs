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
        /// A realm was removed; of a user: with the realm.
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
        /// A suspension was taken back.
        UserRestore = "user-restore",
        /// A file of users was taken.
        Import = "import",
        /// A user gets the directory's entry of the name.
        UserAdopt = "user-adopt",
        /// Whoever was locked after wrong codes may guess again.
        UserUnlock = "user-unlock",
        /// A temporary code was made for a user.
        UserBypass = "user-bypass",
        /// Something was begun that is done to many users.
        Action = "action",
        /// Such a thing was ended before its end.
        ActionCancel = "action-cancel",
        /// Somebody who was told of a change said that it was not theirs.
        UserFreeze = "user-freeze",
        /// An administrator said which number counts.
        UserUnfreeze = "user-unfreeze",
        /// A number that waited was accepted.
        PhoneAccept = "phone-accept",
        /// A number that waited was refused.
        PhoneRefuse = "phone-refuse",
        /// An API token was made.
        ApiTokenCreate = "api-token-create",
        /// An API token was revoked.
        ApiTokenRevoke = "api-token-revoke",
        /// A number that waited takes effect.
        PhoneEffective = "phone-effective",
        /// Passes of a realm wait.
        RealmPause = "realm-pause",
        /// They go on.
        RealmResume = "realm-resume",
        /// A run that somebody asked for.
        RunSync = "run-sync",
        /// The same, and its plan is kept.
        RunPlan = "run-plan",
        /// A held plan was applied, or made anew since the directory says otherwise by now.
        RunApprove = "run-approve",
        /// A held plan was refused, or for how long its changes are left out.
        RunReject = "run-reject",
        /// A held plan is read as a rebuilt directory.
        RunAdopt = "run-adopt",
        /// What a run changed is put back.
        RunUndo = "run-undo",
        /// Messages are tried again.
        OutboxRetry = "outbox-retry",
        /// Messages are not sent.
        OutboxDrop = "outbox-drop",
        /// Messages wait.
        OutboxHold = "outbox-hold",
        /// They go on.
        OutboxRelease = "outbox-release",
        /// A copy of the store was written.
        Backup = "backup",
        /// Another enrolment key is in use.
        KeyChange = "key-change",
        /// The store goes on from a copy of itself.
        Restored = "restored",
        /// The key that the store had made for itself is gone from it.
        KeyForget = "key-forget",
        /// What a lost enrolment key kept was given up.
        KeyGiveUp = "key-give-up",
        /// Somebody looked at what came back with a copy.
        RestoredReviewed = "restored-reviewed",
        /// A daemon started with another configuration than the one before.
        ConfigStart = "config-start",
        /// A daemon took another configuration while it ran.
        ConfigReload = "config-reload",
        /// The application was sent to a user.
        EnrolmentSend = "enrolment-send",
        /// A link was withdrawn.
        EnrolmentWithdraw = "enrolment-withdraw",
        /// Somebody began to set up an application by a link: a secret was shown.
        EnrolmentBegin = "enrolment-begin",
        /// A first code proved an application.
        EnrolmentUse = "enrolment-use",
        /// A user got new recovery codes.
        RecoveryCodes = "recovery-codes",
        /// An authenticator counts no more.
        AuthenticatorRevoke = "authenticator-revoke",
        /// Hard tokens came from a file.
        HardTokensImport = "hard-tokens-import",
        /// A hard token was given to a user.
        HardTokenAssign = "hard-token-assign",
        /// A hard token was taken back.
        HardTokenUnassign = "hard-token-unassign",
        /// Two codes in a row showed where a hard token stands.
        HardTokenResync = "hard-token-resync",
        /// A hard token counts no more.
        HardTokenRevoke = "hard-token-revoke",
        /// A hard token was forgotten.
        HardTokenRemove = "hard-token-remove",
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

impl AuditEntry {
    /// An act that concerns nothing yet, and of which nothing is told.
    pub fn new(act: AuditAct, by: Option<String>, from: &str, at: Timestamp) -> Self {
        Self {
            at,
            by,
            from: from.to_owned(),
            act,
            realm: None,
            user: None,
            username: None,
            run: None,
            before: Map::new(),
            after: Map::new(),
        }
    }

    /// The same in a realm.
    #[must_use]
    pub fn in_realm(mut self, realm: &RealmId) -> Self {
        self.realm = Some(realm.clone());
        self
    }

    /// The same about a run, in its realm.
    #[must_use]
    pub fn about(mut self, run: RunId, realm: &RealmId) -> Self {
        self.run = Some(run);
        self.in_realm(realm)
    }

    /// Tells how something was.
    #[must_use]
    pub fn was(mut self, what: &str, value: impl Into<Value>) -> Self {
        self.before.insert(what.to_owned(), value.into());
        self
    }

    /// Tells how something is. `null` says nothing.
    #[must_use]
    pub fn is(mut self, what: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.after.insert(what.to_owned(), value);
        }
        self
    }
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
