//! Whether an entry itself changed since everybody was read: its own marker, against where its server stood before that. What a
//! role, a class of service, a collective attribute, an overlay or an access rule changes moves no marker, and no way tells of it.
//!
//! | server | marker of an entry | where the server stood |
//! |---|---|---|
//! | OpenLDAP | `entryCSN` | `contextCSN` of the same server id |
//! | 389-ds | `modifyTimestamp` | `currentTime` of `cn=monitor`: the same clock |
//! | Active Directory | `uSNChanged` | `highestCommittedUSN` of the same `invocationId` |

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::look_up::Sighting;
use super::read::Scope;
use super::session::Session;
use super::state::{ServerState, server_id};
use super::timestamp::seconds;
use crate::config::DirectoryKind;
use crate::model::dn::is_within;
use crate::model::{DirectoryId, RawEntry};

/// Where a server stood before everybody was read. Kept by the store as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// OpenLDAP: server id → change sequence number, as in [`ServerState::OpenLdap`].
    Csn(BTreeMap<String, String>),
    /// Active Directory: the USN of one domain controller.
    Usn {
        /// Its `invocationId`.
        invocation: String,
        /// Its `highestCommittedUSN`.
        usn: u64,
    },
    /// 389-ds: the time of one server, whose seconds of before are over.
    Time {
        /// Its URL.
        server: String,
        /// Seconds since 1970.
        at: i64,
    },
}

impl Mark {
    /// The attribute of an entry that is compared.
    fn attribute(&self) -> &'static str {
        match self {
            Self::Csn(_) => "entryCSN",
            Self::Usn { .. } => "uSNChanged",
            Self::Time { .. } => "modifyTimestamp",
        }
    }

    /// Whether an entry with this marker is as it was at the mark; `of`: what its database adds to a server id. Where that cannot
    /// be said it is not.
    fn covers(&self, of: &str, marker: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(marker) else {
            return false;
        };
        match self {
            Self::Csn(csn) => server_id(text)
                .and_then(|sid| csn.get(&format!("{sid}{of}")))
                .is_some_and(|then| text <= then.as_str()),
            Self::Usn { usn, .. } => text
                .trim()
                .parse()
                .is_ok_and(|changed: u64| changed <= *usn),
            // Within its own second an entry may have changed after it was read.
            Self::Time { at, .. } => seconds(marker).is_some_and(|changed| changed < *at),
        }
    }
}

impl Session {
    /// Where the server stands, to compare entries with later; `None`: it does not say, or has no marker in its entries.
    pub async fn mark(&mut self) -> Option<Mark> {
        match (&self.state, self.kind) {
            (ServerState::OpenLdap { csn }, _) => Some(Mark::Csn(csn.clone())),
            (
                ServerState::ActiveDirectory {
                    invocation, usn, ..
                },
                _,
            ) => usn.get(invocation).map(|usn| Mark::Usn {
                invocation: invocation.clone(),
                usn: *usn,
            }),
            // A clock that cannot be read only means that nothing is compared.
            (ServerState::Unknown, DirectoryKind::Ds389) => {
                let at = self.clock_of_389().await.ok().flatten()?;
                Some(Mark::Time {
                    server: self.server.clone(),
                    at,
                })
            }
            (ServerState::Unknown, _) => None,
        }
    }

    /// Whether entries of this server can be compared with a mark.
    fn knows(&self, mark: &Mark) -> bool {
        match (mark, &self.state) {
            (Mark::Csn(_), ServerState::OpenLdap { .. }) => true,
            (Mark::Usn { invocation, .. }, ServerState::ActiveDirectory { .. }) => {
                *invocation == self.invocation()
            }
            (Mark::Time { server, .. }, ServerState::Unknown) => {
                self.kind == DirectoryKind::Ds389 && *server == self.server
            }
            _ => false,
        }
    }

    /// Of these people, those whose entries are as they were at the mark, wherever they are, with their DNs.
    pub async fn unmoved(
        &mut self,
        scope: &Scope,
        mark: &Mark,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, String>, DirectoryError> {
        if !self.knows(mark) {
            return Ok(HashMap::new());
        }
        let scope = Scope {
            attributes: vec![mark.attribute().to_owned()],
            ..scope.clone()
        };
        let found = Box::pin(self.look_up(&scope, ids)).await?;
        let entries = found.into_iter().map(|(id, sighting)| match sighting {
            Sighting::InScope(entry) | Sighting::OutOfScope { entry, .. } => (id, entry),
        });
        Ok(entries
            .filter(|(_, entry)| self.is_unmoved(mark, entry))
            .map(|(id, entry)| (id, entry.dn_shown()))
            .collect())
    }

    /// Whether the entry of this name is as it was at the mark. One that cannot be read is not.
    pub async fn is_unmoved_at(&mut self, mark: &Mark, dn: &str) -> Result<bool, DirectoryError> {
        if !self.knows(mark) {
            return Ok(false);
        }
        let entry = self.entry(dn, &[mark.attribute().to_owned()]).await?;
        Ok(entry.is_some_and(|entry| self.is_unmoved(mark, &entry)))
    }

    fn is_unmoved(&self, mark: &Mark, entry: &RawEntry) -> bool {
        let dn = entry.dn_shown();
        let mut contexts = self.contexts.iter().enumerate();
        let context = contexts.find(|(_, context)| is_within(&dn, context));
        let of = context.map_or_else(String::new, |(at, context)| {
            ServerState::database(at, context)
        });
        let name = mark.attribute().to_lowercase();
        let mut markers = entry.values(&name);
        markers
            .next()
            .is_some_and(|marker| mark.covers(&of, marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_openldap_is_compared_within_its_server_id_and_database() {
        let csn =
            |sid: &str, second: u32| format!("202611241000{second:02}.000001Z#000000#{sid}#000000");
        let mark = Mark::Csn(
            [
                ("001".to_owned(), csn("001", 10)),
                ("002".to_owned(), csn("002", 30)),
                ("001 of dc=other".to_owned(), csn("001", 20)),
            ]
            .into(),
        );
        for (of, entry, unmoved) in [
            ("", csn("001", 9), true),
            ("", csn("001", 10), true),
            ("", csn("001", 11), false),
            // Another server's clock says nothing of this one's changes.
            ("", csn("002", 11), true),
            ("", csn("002", 31), false),
            ("", csn("003", 1), false),
            (" of dc=other", csn("001", 15), true),
            (" of dc=other", csn("002", 15), false),
            ("", "20261124100009.000001Z".to_owned(), false),
            ("", String::new(), false),
        ] {
            assert_eq!(mark.covers(of, entry.as_bytes()), unmoved, "{of} {entry}");
        }
        assert!(!mark.covers("", &[0xff]));
    }

    #[test]
    fn an_entry_of_active_directory_is_compared_by_its_usn() {
        let mark = Mark::Usn {
            invocation: "x".into(),
            usn: 500,
        };
        for (entry, unmoved) in [
            ("499", true),
            ("500", true),
            ("501", false),
            ("", false),
            ("-1", false),
        ] {
            assert_eq!(mark.covers("", entry.as_bytes()), unmoved, "{entry}");
        }
    }

    #[test]
    fn an_entry_of_389_ds_changed_after_the_mark_or_in_its_second() {
        let mark = Mark::Time {
            server: "ldaps://a".into(),
            at: seconds(b"20261124100010Z").unwrap(),
        };
        for (entry, unmoved) in [
            ("20261124100009Z", true),
            ("20261124100010Z", false),
            ("20261124100011Z", false),
            ("yesterday", false),
        ] {
            assert_eq!(mark.covers("", entry.as_bytes()), unmoved, "{entry}");
        }
    }

    #[test]
    fn kept_as_json_it_stays_the_same() {
        for mark in [
            Mark::Csn([("000".to_owned(), "x".to_owned())].into()),
            Mark::Usn {
                invocation: "i".into(),
                usn: 7,
            },
            Mark::Time {
                server: "s".into(),
                at: 7,
            },
        ] {
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark, "{text}");
        }
    }
}
