//! What a user proves the second factor with.

use super::user::words;
use super::{AuthenticatorId, UserId};
use crate::clock::Timestamp;

words! {
    /// What kind of authenticator it is.
    AuthenticatorKind {
        /// A mobile application (TOTP).
        App = "app",
        /// A hard token that counts (HOTP).
        Hotp = "hotp",
        /// A hard token with a clock (TOTP).
        Totp = "totp",
        /// The recovery codes of a user.
        Recovery = "recovery",
    }
}

words! {
    /// Where an authenticator stands. `pending → active → revoked`; a token may be lost.
    AuthenticatorState {
        /// Made on the enrolment page and not proved yet, or a hard token that is assigned to nobody: counts for nothing.
        Pending = "pending",
        /// Its codes are accepted.
        Active = "active",
        /// Its codes are accepted no more.
        Revoked = "revoked",
        /// A hard token that its user lost.
        Lost = "lost",
    }
}

words! {
    /// The hash that one-time codes are made with (RFC 6238 § 1.2).
    OtpHash {
        /// SHA-1: what every application understands.
        Sha1 = "sha1",
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-512.
        Sha512 = "sha512",
    }
}

impl AuthenticatorKind {
    /// Whether it is a hard token, which somebody else than the user may hold next.
    pub fn is_hard_token(self) -> bool {
        matches!(self, Self::Hotp | Self::Totp)
    }
}

/// An authenticator as the store holds it, without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticator {
    /// Own id, never changes.
    pub id: AuthenticatorId,
    /// Whose it is; `None`: a hard token that is assigned to nobody.
    pub user: Option<UserId>,
    /// An application or a hard token; never recovery codes, which are kept elsewhere.
    pub kind: AuthenticatorKind,
    /// Where it stands.
    pub state: AuthenticatorState,
    /// Of a hard token, as it is printed on it.
    pub serial: Option<String>,
    /// What an application shows beside the user's name; who made a hard token.
    pub issuer: Option<String>,
    /// The hash of its codes.
    pub hash: OtpHash,
    /// The digits of its codes, 6 to 8.
    pub digits: u8,
    /// Seconds of a step; 30 where it counts.
    pub period: u32,
    /// The lowest step or counter that was not used yet.
    pub next: i64,
    /// Whole steps by which its clock was ahead when its last code was accepted.
    pub drift: i64,
    /// One code is not enough the next time: two in a row are asked for.
    pub two_codes: bool,
    /// Of a hard token: from when its codes count.
    pub valid_from: Option<Timestamp>,
    /// Of a hard token: until when they count.
    pub valid_until: Option<Timestamp>,
    /// When a pending one dies.
    pub expires_at: Option<Timestamp>,
    /// When made.
    pub created_at: Timestamp,
    /// When its first code proved it, or when it was assigned.
    pub activated_at: Option<Timestamp>,
    /// When its last code was accepted.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked or lost.
    pub ended_at: Option<Timestamp>,
}

impl Authenticator {
    /// What its secret is bound to: its user (16 zero bytes for nobody) and itself. With another owner it cannot be decrypted.
    pub fn owner(user: Option<UserId>, id: AuthenticatorId) -> [u8; 32] {
        let mut owner = [0; 32];
        if let Some(user) = user {
            owner[..16].copy_from_slice(user.0.as_bytes());
        }
        owner[16..].copy_from_slice(id.0.as_bytes());
        owner
    }
}
