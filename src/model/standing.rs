//! What is known of a user's second factors, beside the user: for notices and for whoever looks at them.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{AuthenticatorId, AuthenticatorKind, AuthenticatorState, EnrolmentFilter};
use crate::clock::Timestamp;

words! {
    /// What is missing, or to be known, before a user's methods work.
    NoticeCode {
        /// A method needs a number, and there is none.
        PhoneMissing = "phone_missing",
        /// A method needs the application, and it was not sent.
        ApplicationNotSent = "application_not_sent",
        /// The application was sent, and is not set up yet.
        EnrolmentPending = "enrolment_pending",
        /// The application was sent, and was not set up in time.
        EnrolmentExpired = "enrolment_expired",
        /// Somebody came with a link that was over, and asked for another one.
        LinkAsked = "link_asked",
        /// A hard token is to be used, and none is assigned.
        HardTokenMissing = "hard_token_missing",
        /// FIDO is to be used, and nothing is known to be registered.
        FidoMissing = "fido_missing",
        /// A new number waits.
        PhoneWaiting = "phone_waiting",
        /// The user said of a changed number that this was not them.
        Frozen = "frozen",
        /// Too many wrong codes: none is looked at before somebody unlocks the user.
        Locked = "locked",
        /// So many wrong codes in a row that a delay follows each.
        HeldBack = "held_back",
        /// An application or a hard token is there whose method is off.
        MethodOff = "method_off",
        /// No recovery code is left.
        RecoveryCodesUsedUp = "recovery_codes_used_up",
        /// The directory gives a number that cannot be used; the one before stays.
        PhoneRefused = "phone_refused",
    }
}

/// Something that an administrator should know of a user, for as long as it is true.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// For programs.
    pub code: NoticeCode,
    /// For people; names no number.
    pub detail: String,
}

/// An authenticator as it is shown: never its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 18 names each field")]
pub struct AuthenticatorShown {
    pub id: AuthenticatorId,
    pub kind: AuthenticatorKind,
    pub state: AuthenticatorState,
    pub serial: Option<String>,
    pub issuer: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    /// Whole steps by which its clock is ahead.
    pub drift: i64,
    /// Recovery codes that are left; `None`: it is no set of codes.
    pub left: Option<i64>,
}

/// Wrong codes of a user, over everything they have and all daemons.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WrongCodes {
    /// Since the last right one.
    pub in_a_row: u32,
    /// The last of them.
    pub last_at: Option<Timestamp>,
    /// No code is looked at before then.
    pub delayed_until: Option<Timestamp>,
    /// Since when no code is looked at, until somebody unlocks the user.
    pub locked_at: Option<Timestamp>,
}

/// What is known of a user's second factors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactorFacts {
    /// Those that count or may come to count, the oldest first; recovery codes are one.
    pub authenticators: Vec<AuthenticatorShown>,
    /// How the newest enrolment stands that was not withdrawn.
    pub enrolment: EnrolmentFilter,
    /// When its link ends, or ended.
    pub enrolment_ends: Option<Timestamp>,
    /// A link was sent that is void: withdrawn, or ended by another number, a block or a suspension.
    pub enrolment_void: bool,
    /// Wrong codes.
    pub wrong_codes: WrongCodes,
    /// When somebody came with a link that was over and asked for another one, if none was sent since.
    pub asked_at: Option<Timestamp>,
    /// A second factor was proved at least once.
    pub proved: bool,
    /// The last logon or verification.
    pub last_used_at: Option<Timestamp>,
    /// The user said of a changed number that this was not them.
    pub frozen: bool,
    /// Why the number that the directory gives cannot be used.
    pub phone_refused: Option<String>,
}

impl Default for FactorFacts {
    fn default() -> Self {
        Self {
            authenticators: vec![],
            enrolment: EnrolmentFilter::None,
            enrolment_ends: None,
            enrolment_void: false,
            wrong_codes: WrongCodes::default(),
            asked_at: None,
            proved: false,
            last_used_at: None,
            frozen: false,
            phone_refused: None,
        }
    }
}

impl FactorFacts {
    /// Whether an application of the user is active.
    pub fn has_application(&self) -> bool {
        self.has(|kind| kind == AuthenticatorKind::App)
    }

    /// Whether a hard token is assigned, and counts.
    pub fn has_hard_token(&self) -> bool {
        self.has(AuthenticatorKind::is_hard_token)
    }

    fn has(&self, kind: impl Fn(AuthenticatorKind) -> bool) -> bool {
        self.authenticators
            .iter()
            .any(|a| a.state == AuthenticatorState::Active && kind(a.kind))
    }
}
