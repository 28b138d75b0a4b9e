//! Where each act stands in the control API, for whoever calls it. `control` has the other side.

use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::acts::{
    AddUser, ApiTokenMade, Backup, BypassMade, CancelOperation, ChangeUser, Decide, DecidePhone,
    EditRealm, EditUser, EnrolmentObject, GiveUpKey, Import, LinksShown, MakeApiToken, MakeBypass,
    MakeRealm, NoteBackup, OperationShown, Outbox, OutboxAnswer, Pause, Plan, RealmRemoved,
    RemoveRealm, Restore, RestoredAnswer, Resume, RevokeApiToken, RevokeAuthenticators,
    SendApplication, ShowLinks, ShowOperation, StartAction, SwitchMethods, Sync, UnfreezeUser,
    UnlockUser, UserActed, VerifyAudit, WithdrawLinks,
};
use crate::model::{ApiToken, AuthenticatorShown, Operation, Run};
use crate::runs::Decided;
use crate::store::{AuditCheck, LockedOut};

/// What of a path segment stays as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// How an act is asked for: `POST /api/v1/PATH`.
pub trait Route {
    /// What is answered in the end.
    type Answer: DeserializeOwned;

    /// Its path below `/api/v1/`.
    fn path(&self) -> String;

    /// How.
    fn method(&self) -> Method {
        Method::POST
    }

    /// What is sent.
    fn body(&self) -> impl Serialize;
}

impl Route for Sync {
    type Answer = Run;

    fn path(&self) -> String {
        format!("realms/{}/sync", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for Plan {
    /// Its run and its changes come before, line by line.
    type Answer = ();

    fn path(&self) -> String {
        format!("realms/{}/plan", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for Decide {
    type Answer = Decided;

    fn path(&self) -> String {
        format!("runs/{}/{}", segment(&self.run), self.decision.as_str())
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for Pause {
    type Answer = ();

    fn path(&self) -> String {
        format!("realms/{}/pause", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for Resume {
    type Answer = ();

    fn path(&self) -> String {
        format!("realms/{}/resume", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for Outbox {
    type Answer = OutboxAnswer;

    fn path(&self) -> String {
        format!("outbox/{}", self.act.as_str())
    }

    fn body(&self) -> impl Serialize {
        &self.which
    }
}

impl Route for NoteBackup {
    type Answer = ();

    fn path(&self) -> String {
        "backup/note".to_owned()
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for Backup {
    type Answer = ();

    fn path(&self) -> String {
        "backup".to_owned()
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for Restore {
    type Answer = RestoredAnswer;

    fn path(&self) -> String {
        "restored".to_owned()
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for GiveUpKey {
    type Answer = LockedOut;

    fn path(&self) -> String {
        "give-up-key".to_owned()
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for VerifyAudit {
    type Answer = AuditCheck;

    fn path(&self) -> String {
        "audit/verify".to_owned()
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for MakeRealm {
    type Answer = ();

    fn path(&self) -> String {
        "realms".to_owned()
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for EditRealm {
    type Answer = ();

    fn path(&self) -> String {
        format!("realms/{}/edit", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for RemoveRealm {
    type Answer = RealmRemoved;

    fn path(&self) -> String {
        format!("realms/{}/remove", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for AddUser {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("realms/{}/users", segment(self.realm.as_str()))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for EditUser {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("users/{}/edit", self.user)
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for ChangeUser {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("users/{}/{}", self.user, self.verb.as_str())
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for UnfreezeUser {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("users/{}/unfreeze", self.user)
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for DecidePhone {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("users/{}/phone", self.user)
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for MakeApiToken {
    type Answer = ApiTokenMade;

    fn path(&self) -> String {
        "api-tokens".to_owned()
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for RevokeApiToken {
    type Answer = ApiToken;

    fn path(&self) -> String {
        format!("api-tokens/{}/revoke", segment(&self.token))
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for SendApplication {
    type Answer = EnrolmentObject;

    fn path(&self) -> String {
        format!("users/{}/enrolments", self.user)
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for WithdrawLinks {
    type Answer = Vec<EnrolmentObject>;

    fn path(&self) -> String {
        format!("users/{}/withdraw", self.user)
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for RevokeAuthenticators {
    type Answer = Vec<AuthenticatorShown>;

    fn path(&self) -> String {
        format!("users/{}/authenticators/revoke", self.user)
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for UnlockUser {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("users/{}/unlock", self.user)
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for SwitchMethods {
    type Answer = UserActed;

    fn path(&self) -> String {
        format!("users/{}/two-factor", self.user)
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for MakeBypass {
    type Answer = BypassMade;

    fn path(&self) -> String {
        format!("users/{}/bypass", self.user)
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}

impl Route for StartAction {
    type Answer = Operation;

    fn path(&self) -> String {
        "actions".to_owned()
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for ShowOperation {
    type Answer = OperationShown;

    fn path(&self) -> String {
        format!("operations/{}", self.operation)
    }

    fn method(&self) -> Method {
        Method::GET
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for ShowLinks {
    type Answer = LinksShown;

    fn path(&self) -> String {
        let path = format!("operations/{}/enrolments", self.operation);
        match self.after {
            Some(after) => format!("{path}?after={after}"),
            None => path,
        }
    }

    fn method(&self) -> Method {
        Method::GET
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

impl Route for CancelOperation {
    type Answer = Operation;

    fn path(&self) -> String {
        format!("operations/{}", self.operation)
    }

    fn method(&self) -> Method {
        Method::DELETE
    }

    fn body(&self) -> impl Serialize {
        serde_json::Map::new()
    }
}

/// Where a file of users is sent to, and how it is to be read.
pub(super) fn import_path(import: &Import) -> String {
    let request = &import.request;
    let mut path = format!(
        "realms/{}/imports?name={}&plan={}&replace={}",
        segment(import.realm.as_str()),
        segment(&request.name),
        request.plan,
        request.replace
    );
    for (key, value) in [("map", &request.map), ("encoding", &request.encoding)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", segment(value)));
        }
    }
    path
}

pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}
