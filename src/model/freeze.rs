//! "This was not me": what is known of a user who objects to another number, or to what was set up.

use super::{Phone, PhoneSource, UserId};
use crate::clock::Timestamp;

/// A link in a notice to a previous number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreezeLink {
    /// Whom it freezes.
    pub user: UserId,
    /// The number that was told.
    pub previous: Phone,
    /// When another one was given.
    pub since: Timestamp,
    /// Until when it is valid; while the other number waits it is valid in any case.
    pub expires_at: Timestamp,
}

/// A user who is frozen, until an administrator decides which number counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Freeze {
    /// The number before, which is in use meanwhile.
    pub previous: Phone,
    /// The number that is not used; `None`: it was gone already.
    pub number: Option<DisputedNumber>,
    /// Authenticators that were activated from then on are void.
    pub since: Timestamp,
    /// When it was said.
    pub at: Timestamp,
}

/// A number that is not used although somebody gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DisputedNumber {
    /// The number.
    pub phone: Phone,
    /// What it was read from.
    pub raw: Option<String>,
    /// Who gave it.
    pub source: PhoneSource,
}

/// What is known of a user's numbers beside the user, for whoever decides about another number.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct NumberMark {
    /// No other number is taken.
    pub frozen: bool,
    /// This one is not taken, until another one is given.
    pub refused: Option<Phone>,
}
