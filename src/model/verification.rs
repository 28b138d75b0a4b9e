//! What comes of a verification, in the words that services see.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{AuthenticatorId, RealmId, UserId};
use crate::clock::Timestamp;

words! {
    /// Whether a code is taken.
    VerifyResult {
        /// The user has proved who they are.
        Accepted = "accepted",
        /// They have not, whatever the reason.
        Rejected = "rejected",
    }
}

words! {
    /// Why a code is not taken. The set is closed, and each is a failure.
    VerifyReason {
        /// No authenticator of the user makes this code now.
        WrongCode = "wrong_code",
        /// It was used, or a later one was.
        Replayed = "replayed",
        /// It is right for another time, or is the first of two that are asked for: the next one is needed.
        Clock = "clock",
        /// Guesses are held back: for a while, or until an administrator unlocks the user.
        Locked = "locked",
        /// An administrator blocked the user.
        Blocked = "blocked",
        /// The user is disabled, or gone from the directory.
        Suspended = "suspended",
        /// The user said that a changed number is not theirs.
        Frozen = "frozen",
        /// The code is right, and the token or the code has expired, or does not count yet.
        Expired = "expired",
        /// The user has nothing to prove themselves with.
        NotEnrolled = "not_enrolled",
        /// Nobody has the name.
        UnknownUser = "unknown_user",
        /// Several have the name: the realm is needed.
        Ambiguous = "ambiguous",
        /// The method is not switched on for the user.
        MethodOff = "method_off",
        /// The user's methods are carried out by another system.
        Unsupported = "unsupported",
    }
}

impl VerifyReason {
    /// Whether it was a guess: what was looked at and is not right. What is held back is not counted, nor what nobody could get right.
    pub fn counts(self) -> bool {
        matches!(self, Self::WrongCode | Self::Replayed | Self::Clock)
    }
}

words! {
    /// What a code was proved with.
    VerifyMethod {
        /// A mobile application.
        AppOtp = "app-otp",
        /// A hard token.
        HardToken = "hard-token",
        /// A recovery code.
        Recovery = "recovery",
        /// A temporary code of the helpdesk.
        Bypass = "bypass",
    }
}

/// The answer to a verification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the code is taken.
    pub result: VerifyResult,
    /// Why it is not.
    pub reason: Option<VerifyReason>,
    /// What it was proved with, where that is known.
    pub method: Option<VerifyMethod>,
    /// With which authenticator, or set of recovery codes.
    pub authenticator: Option<AuthenticatorId>,
    /// Seconds after which the next attempt is looked at; `None`: at once, or not before somebody did something.
    pub retry_after: Option<i64>,
}

impl Verdict {
    /// The code is taken.
    pub fn accepted(method: VerifyMethod, authenticator: AuthenticatorId) -> Self {
        Self {
            result: VerifyResult::Accepted,
            reason: None,
            method: Some(method),
            authenticator: Some(authenticator),
            retry_after: None,
        }
    }

    /// The code is not taken.
    pub fn rejected(reason: VerifyReason) -> Self {
        Self {
            result: VerifyResult::Rejected,
            reason: Some(reason),
            method: None,
            authenticator: None,
            retry_after: None,
        }
    }

    /// The same of an authenticator that is known.
    #[must_use]
    pub fn of(self, method: VerifyMethod, authenticator: AuthenticatorId) -> Self {
        Self {
            method: Some(method),
            authenticator: Some(authenticator),
            ..self
        }
    }
}

/// What became of a code or a logon, as it is kept for 90 days.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerificationLine {
    /// When.
    pub at: Timestamp,
    /// Who asked: the name of an API token, or `enrolment` for the page.
    pub service: String,
    /// In which realm; `None`: nobody was found.
    pub realm: Option<RealmId>,
    /// Whom; `None`: nobody was found, and the name is not kept.
    pub user: Option<UserId>,
    /// What they are called now.
    pub username: Option<String>,
    /// The word of a [`VerifyResult`], or `reported`: a service told of a logon.
    pub result: String,
    /// The word of a [`VerifyReason`].
    pub reason: Option<String>,
    /// The word of a [`VerifyMethod`].
    pub method: Option<String>,
    /// With which authenticator, or set of recovery codes.
    pub authenticator: Option<AuthenticatorId>,
}
