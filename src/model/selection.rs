//! Which users: the filters of a list, which select for what is done to many as well.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{RealmId, State, TwoFactor, UserId, UserOrigin};

words! {
    /// How far a user is with two factors.
    UserStatus {
        /// No method.
        Off = "off",
        /// Has a method, and never proved a second factor.
        Enabled = "enabled",
        /// Proved a second factor at least once.
        Used = "used",
    }
}

words! {
    /// How a user's newest enrolment stands that was not withdrawn.
    EnrolmentFilter {
        /// There is none.
        None = "none",
        /// Its link can still be used.
        Open = "open",
        /// Its link was not used in time.
        Expired = "expired",
        /// Its link was used.
        Active = "active",
    }
}

words! {
    /// How a user's number stands.
    PhoneFilter {
        /// There is none that can be used.
        None = "none",
        /// The directory gives one that cannot be used.
        Refused = "refused",
        /// A new one waits.
        Waiting = "waiting",
    }
}

words! {
    /// The order of a list.
    UserSort {
        /// By realm and name.
        Name = "name",
        /// The same backwards.
        NameDown = "-name",
        /// The oldest first.
        Created = "created",
        /// The newest first.
        CreatedDown = "-created",
    }
}

impl UserSort {
    /// Whether it goes backwards.
    pub fn is_down(self) -> bool {
        matches!(self, Self::NameDown | Self::CreatedDown)
    }

    /// Whether it goes by realm and name.
    pub fn is_by_name(self) -> bool {
        matches!(self, Self::Name | Self::NameDown)
    }
}

/// Which users: those that fit every condition.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserFilter {
    /// Of this realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<RealmId>,
    /// In this state; `None`: all but removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// So far with two factors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<UserStatus>,
    /// With this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<TwoFactor>,
    /// Whose enrolment stands so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<EnrolmentFilter>,
    /// Whose number stands so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<PhoneFilter>,
    /// Who came from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<UserOrigin>,
    /// Whom an administrator blocked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    /// Whose codes are held back: locked, or so many wrong ones in a row that a delay follows each.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
    /// A part of the name, display name, e-mail or phone, without case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

impl UserFilter {
    /// Whether it selects everybody who is not removed.
    pub fn is_everybody(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a page of a list ended; the next begins behind it. The user need not be there any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserPlace {
    /// The realm of the last one.
    pub realm: RealmId,
    /// Their folded name; empty for who is removed.
    pub name: String,
    /// Their id.
    pub id: UserId,
}

impl UserPlace {
    /// The place of a user.
    pub fn of(user: &super::User) -> Self {
        Self {
            realm: user.realm.clone(),
            name: user.username_key.clone(),
            id: user.id,
        }
    }
}
