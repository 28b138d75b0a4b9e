//! A person in exactly one realm, as the store holds them.

use std::fmt;

use super::{DirectoryId, Phone, RealmId, UserId};
use crate::clock::Timestamp;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in the order of the design.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that JSON, the store and the command line use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                match s {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("`{other}` is none of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a user stands. `active → suspended → removed`; see the design, § 1.
    State {
        /// Works.
        Active = "active",
        /// Kept with all factors, but must not log on.
        Suspended = "suspended",
        /// Gone after the grace period; personal data is erased.
        Removed = "removed",
    }
}

words! {
    /// Why a user is suspended.
    StateReason {
        /// The directory id was found nowhere. Ages towards removal.
        Deleted = "deleted",
        /// The entry exists, outside of base or filter. Ages towards removal.
        OutOfScope = "out_of_scope",
        /// The directory says disabled. Never ages.
        Disabled = "disabled",
        /// `undo` took back the creation; lifted by `approve` or an administrator only.
        Undone = "undone",
    }
}

words! {
    /// Who gave the number in use.
    PhoneSource {
        /// The realm's directory.
        Directory = "directory",
        /// An administrator.
        Manual = "manual",
        /// The user, in self-enrolment.
        Enrolment = "enrolment",
    }
}

words! {
    /// Where a user came from. A user by hand whom a directory's entry was given to comes from the directory from then on.
    UserOrigin {
        /// The realm's directory.
        Directory = "directory",
        /// An administrator.
        Manual = "manual",
        /// A file.
        Import = "import",
        /// An identity provider.
        Scim = "scim",
        /// A protected service that reported a logon.
        Logon = "logon",
    }
}

words! {
    /// A second factor that a user may use.
    TwoFactor {
        /// A code by SMS.
        SmsOtp = "sms-otp",
        /// A code of the mobile application.
        AppOtp = "app-otp",
        /// A push message to the mobile application.
        AppPush = "app-push",
        /// A code of a hard token.
        HardToken = "hard-token",
        /// A FIDO authenticator.
        Fido = "fido",
    }
}

/// A user with everything the store knows of them. A decision's outcome is a whole user too: the *post-image*.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Own id, never changes.
    pub id: UserId,
    /// The realm; changes only by `moved`.
    pub realm: RealmId,
    /// `None`: made by hand or imported, or removed.
    pub directory_id: Option<DirectoryId>,
    /// 389-ds only: `entryUUID`, kept beside `nsUniqueId`.
    pub entry_uuid: Option<DirectoryId>,
    /// As the directory writes it, NFC and trimmed; empty once removed.
    pub username: String,
    /// `username` folded for comparison; unique among the present of a realm (see [`User::present`]).
    pub username_key: String,
    /// `None`: the directory gives none.
    pub display_name: Option<String>,
    /// `None`: the directory gives none.
    pub email: Option<String>,
    /// The entry's name when it was last looked at; `None`: made by hand.
    pub dn: Option<String>,
    /// The number in use.
    pub phone: Option<Phone>,
    /// The value that `phone` was read from.
    pub phone_raw: Option<String>,
    /// The attribute that `phone_raw` came from; `None`: not from the directory.
    pub phone_attribute: Option<String>,
    /// How the value was read, for `explain`: `international`, `national, region SK from preferredLanguage`.
    pub phone_rule: Option<String>,
    /// Who gave `phone`; `None` exactly when there is none.
    pub phone_source: Option<PhoneSource>,
    /// A new number that waits (`phone-change.hold`, `phone-change.protect`).
    pub phone_pending: Option<Phone>,
    /// The value that `phone_pending` was read from.
    pub phone_pending_raw: Option<String>,
    /// When the waiting number takes effect; from `APPROVAL` on an administrator decides, see [`User::phone_waits_until`].
    pub phone_pending_until: Option<Timestamp>,
    /// Who gave the waiting number; `None`: the directory, or nothing waits.
    pub phone_pending_source: Option<PhoneSource>,
    /// The number that the outside world last knows of.
    pub phone_provisioned: Option<Phone>,
    /// The number of the newest provision or reprovision job, whatever became of that job; `None`: there was none, or a suspension or block dropped it.
    pub phone_told: Option<Phone>,
    /// A provision job was made (and not dropped by a suspension or block), also one without a number.
    pub told: bool,
    /// A provision or reprovision message was accepted at least once.
    pub provisioned: bool,
    /// Where the user stands.
    pub state: State,
    /// Why suspended; `None` unless suspended, or while a held plan has looked nobody up.
    pub state_reason: Option<StateReason>,
    /// When suspended; `None` when active.
    pub suspended_at: Option<Timestamp>,
    /// The realm's own clock (milliseconds) at the suspension; removal counts from here.
    pub suspended_clock: Option<i64>,
    /// An administrator's own mark; no run lifts it.
    pub blocked: bool,
    /// Rises by one with every change of the user.
    pub version: i64,
    /// Methods, in the order of [`TwoFactor::ALL`].
    pub two_factor: Vec<TwoFactor>,
    /// Last logon that a protected service reported.
    pub last_used_at: Option<Timestamp>,
    /// Keyed hash of the raw values; `None`: look at the entry anew in each pass.
    pub fingerprint: Option<u64>,
    /// When made.
    pub created_at: Timestamp,
    /// When last changed.
    pub updated_at: Timestamp,
    /// Where the user came from.
    pub origin: UserOrigin,
    /// An administrator's words, never sent anywhere.
    pub note: Option<String>,
}

/// A waiting number whose instant is this or later is used only after an administrator's decision. What is above it is when its hold
/// ends, in milliseconds: the later of both counts. No hold ends so late.
const APPROVAL: i64 = 1 << 52;

/// How it is kept that a number waits for an administrator's decision, and at least until its hold ends.
pub fn awaiting_approval(hold_ends: Timestamp) -> Timestamp {
    hold_ends.plus_ms(APPROVAL)
}

impl User {
    /// Whether a number waits that is used only after an administrator's decision.
    pub fn phone_awaits_approval(&self) -> bool {
        self.phone_pending.is_some() && self.phone_pending_until.is_some_and(|t| t.0 >= APPROVAL)
    }

    /// When the waiting number takes effect; `None`: nothing waits, or it waits for an administrator's decision.
    pub fn phone_waits_until(&self) -> Option<Timestamp> {
        self.phone_pending_until.filter(|t| t.0 < APPROVAL)
    }

    /// When the hold of the waiting number ends, whether or not it waits for a decision too.
    pub fn phone_hold_ends(&self) -> Option<Timestamp> {
        self.phone_pending_until
            .map(|t| Timestamp(if t.0 < APPROVAL { t.0 } else { t.0 - APPROVAL }))
    }

    /// Whether the entry is there, so that the user holds their name: active, or suspended as `disabled`.
    pub fn present(&self) -> bool {
        match self.state {
            State::Active => true,
            State::Suspended => self.state_reason == Some(StateReason::Disabled),
            State::Removed => false,
        }
    }

    /// Whether a directory's entry says who this is. Its removed users have no id any more, and count as nobody's.
    pub fn of_a_directory(&self) -> bool {
        self.directory_id.is_some()
    }

    /// Active and not blocked: may be told a number.
    pub fn usable(&self) -> bool {
        self.state == State::Active && !self.blocked
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("realm", &self.realm)
            .field("state", &self.state)
            .field("reason", &self.state_reason)
            .field("blocked", &self.blocked)
            .field("phone", &self.phone)
            .field("pending", &self.phone_pending)
            .field("provisioned", &self.phone_provisioned)
            .field("told", &self.phone_told)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
