//! Identities.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A realm's id as the configuration or an administrator gave it (`example.org`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RealmId(pub Arc<str>);

impl RealmId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RealmId {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

impl From<String> for RealmId {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl fmt::Display for RealmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RealmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digits of an id's short form, which people see and type (`{id:#}`): its end. Ids of one week begin with the same digits, while
/// the last ones are chance.
pub const SHORT: usize = 8;

/// How many digits of their ends tell ids apart, at least [`SHORT`]: what `{id:#.digits$}` shows.
pub fn telling(ids: impl IntoIterator<Item = Uuid>) -> usize {
    let backwards = |id: Uuid| id.as_u128().reverse_bits();
    let mut ends: Vec<u128> = ids.into_iter().map(backwards).collect();
    ends.sort_unstable();
    ends.dedup();
    let same = |pair: &[u128]| (pair[0] ^ pair[1]).leading_zeros() / 4;
    let longest = ends.windows(2).map(same).max();
    longest.map_or(SHORT, |same| {
        SHORT.max(usize::try_from(same).unwrap_or(0) + 1)
    })
}

/// How many digits of its end tell each of these ids from every one of `all` that is another, at least [`SHORT`].
pub fn telling_from(ids: &[Uuid], all: &[Uuid]) -> usize {
    let mut digits = SHORT;
    for id in ids {
        let same = |other: &Uuid| (id.as_u128() ^ other.as_u128()).trailing_zeros() / 4;
        let others = all.iter().filter(|other| *other != id);
        let longest = others.map(same).max().unwrap_or(0);
        digits = digits.max(usize::try_from(longest).unwrap_or(0) + 1);
    }
    digits
}

/// The last digits of an id.
pub fn ending(id: Uuid, digits: usize) -> String {
    let all = id.simple().to_string();
    all[all.len().saturating_sub(digits)..].to_owned()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if f.alternate() {
                    f.write_str(&ending(self.0, f.precision().unwrap_or(SHORT)))
                } else {
                    self.0.fmt(f)
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

uuid_id! {
    /// A user's own id (UUIDv7); it never changes.
    UserId
}
uuid_id! {
    /// A run's id (UUIDv7); a held plan is named by it.
    RunId
}
uuid_id! {
    /// A job's id (UUIDv7); the receiver's idempotency key (`webhook-id`).
    JobId
}
uuid_id! {
    /// An enrolment's id (UUIDv7); its token is an HMAC of this.
    EnrolmentId
}

uuid_id! {
    /// An authenticator's id (UUIDv7); of recovery codes, the id of the set that was shown together.
    AuthenticatorId
}
uuid_id! {
    /// An operation's id (UUIDv7).
    OperationId
}
uuid_id! {
    /// An API token's id (UUIDv7).
    ApiTokenId
}

/// The immutable id that the directory gave an entry: `entryUUID`, `objectGUID` or `nsUniqueId`, as 16 raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub [u8; 16]);

impl DirectoryId {
    /// The id as the directory's own tools print it.
    pub fn display(self, form: IdForm) -> String {
        match form {
            IdForm::Uuid => Uuid::from_bytes(self.0).to_string(),
            IdForm::Guid => Uuid::from_bytes_le(self.0).to_string(),
            IdForm::NsUniqueId => {
                let hex = Uuid::from_bytes(self.0).simple().to_string();
                format!(
                    "{}-{}-{}-{}",
                    &hex[..8],
                    &hex[8..16],
                    &hex[16..24],
                    &hex[24..]
                )
            }
        }
    }

    /// Reads the text that [`DirectoryId::display`] prints.
    pub fn parse(text: &str, form: IdForm) -> Option<Self> {
        match form {
            IdForm::Uuid => Uuid::parse_str(text.trim())
                .ok()
                .map(|u| Self(u.into_bytes())),
            IdForm::Guid => Uuid::parse_str(text.trim())
                .ok()
                .map(|u| Self(u.to_bytes_le())),
            IdForm::NsUniqueId => {
                let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
                (hex.len() == 32)
                    .then(|| Uuid::parse_str(&hex).ok().map(|u| Self(u.into_bytes())))
                    .flatten()
            }
        }
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display(IdForm::Uuid))
    }
}

super::user::words! {
    /// How a directory prints its ids.
    IdForm {
        /// `entryUUID`: RFC 4530, text in the entry.
        Uuid = "uuid",
        /// `objectGUID`: binary in the entry, first three fields little-endian in display (MS-DTYP 2.3.4.3).
        Guid = "guid",
        /// 389-ds `nsUniqueId`: text of four groups of eight hexadecimal digits.
        NsUniqueId = "ns-unique-id",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_by_as_much_of_their_ends_as_tells_them_apart() {
        let [a, b, c] = [
            "01a20dd1-f889-7f29-8663-201e37dd52ab",
            "01a20dd1-f889-77b3-888a-3b6e37dd52ab",
            "01a20dd1-f889-77b3-9ac3-a8bf542f7ced",
        ]
        .map(|id| id.parse::<RunId>().expect("an id"));
        assert_eq!(telling([]), SHORT);
        assert_eq!(telling([a.0, c.0]), SHORT);
        // The same id twice needs no more digits.
        assert_eq!(telling([a.0, a.0]), SHORT);
        let digits = telling([a.0, b.0, c.0]);
        assert_eq!(digits, 10);
        assert_eq!(
            format!("{a:#.digits$} {b:#.digits$}"),
            "1e37dd52ab 6e37dd52ab"
        );
        assert_eq!(format!("{a:#}"), "37dd52ab");
        // One id among all that there are.
        assert_eq!(telling_from(&[a.0], &[a.0, c.0]), SHORT);
        assert_eq!(telling_from(&[c.0], &[a.0, b.0, c.0]), SHORT);
        assert_eq!(telling_from(&[a.0, c.0], &[a.0, b.0, c.0]), 10);
    }
}
