//! What a user proves the second factor with.

use super::user::words;

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
        /// Made on the enrolment page, and not proved yet: counts for nothing.
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
