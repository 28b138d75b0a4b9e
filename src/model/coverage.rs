//! Whom methods reach.

use serde::{Deserialize, Serialize};

use super::RealmId;

/// Users of a realm with numbers of one country, who are active and not blocked: whom a method reaches, and why not the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Coverage {
    /// Their realm.
    pub realm: RealmId,
    /// ISO 3166-1 of their numbers; `None`: they have none, or one of no country.
    pub country: Option<String>,
    /// How many they are.
    pub users: i64,
    /// A method works: SMS with a number, an application that is active, or a hard token. Of FIDO nothing is known here.
    pub reachable: i64,
    /// None does.
    pub unreachable: i64,
    /// No method is on.
    pub without_method: i64,
    /// A method needs a number, and there is none.
    pub phone_missing: i64,
    /// There is none, since the directory's cannot be used.
    pub phone_refused: i64,
    /// A new one waits.
    pub phone_waiting: i64,
    /// The application is on, and set up.
    pub application_active: i64,
    /// It was sent, and is not set up yet.
    pub application_sent: i64,
    /// It was sent, and was not set up in time.
    pub application_expired: i64,
    /// It was not sent.
    pub application_not_sent: i64,
    /// A hard token is on, and none is assigned.
    pub hard_token_missing: i64,
    /// A second factor was proved at least once.
    pub used: i64,
}

impl Coverage {
    /// Adds the counts of others of the same realm and country.
    pub fn add(&mut self, other: &Self) {
        for (sum, n) in [
            (&mut self.users, other.users),
            (&mut self.reachable, other.reachable),
            (&mut self.unreachable, other.unreachable),
            (&mut self.without_method, other.without_method),
            (&mut self.phone_missing, other.phone_missing),
            (&mut self.phone_refused, other.phone_refused),
            (&mut self.phone_waiting, other.phone_waiting),
            (&mut self.application_active, other.application_active),
            (&mut self.application_sent, other.application_sent),
            (&mut self.application_expired, other.application_expired),
            (&mut self.application_not_sent, other.application_not_sent),
            (&mut self.hard_token_missing, other.hard_token_missing),
            (&mut self.used, other.used),
        ] {
            *sum += n;
        }
    }
}
