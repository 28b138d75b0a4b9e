//! Programs that may call the API, and what each may do.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{ApiTokenId, RealmId};
use crate::clock::Timestamp;

words! {
    /// What a program may do.
    Scope {
        /// Look at realms, users, runs and messages.
        Read = "read",
        /// Change users and realms.
        Users = "users",
        /// Send applications.
        Send = "send",
        /// Decide about held plans.
        Decide = "decide",
        /// Have codes verified.
        Verify = "verify",
        /// Report logons.
        Logons = "logons",
        /// Write users by SCIM.
        Scim = "scim",
        /// Read the audit.
        Audit = "audit",
        /// Tokens, administrators, and everything else.
        Admin = "admin",
    }
}

/// An API token as it is shown: everything but the token itself, which only its owner has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApiToken {
    /// Own id, never changes.
    pub id: ApiTokenId,
    /// What people call it; unique among those that are not revoked.
    pub name: String,
    /// What it may do, in the order of [`Scope::ALL`].
    pub scopes: Vec<Scope>,
    /// The only realm that it may see or change; `None`: all.
    pub realm: Option<RealmId>,
    /// Who made it.
    pub by: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiToken {
    /// Why it is not accepted at this time; `None`: it is.
    pub fn refused(&self, now: Timestamp) -> Option<&'static str> {
        if self.revoked_at.is_some() {
            Some("the token was revoked")
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Some("the token has expired")
        } else {
            None
        }
    }

    /// Whether it may do this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether it may see and change this realm.
    pub fn may_in(&self, realm: &RealmId) -> bool {
        self.realm.as_ref().is_none_or(|own| own == realm)
    }
}
