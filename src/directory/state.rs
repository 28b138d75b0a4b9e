//! How far a server is: read before a pass, compared with what earlier passes saw (design § 3.14).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::root_dse::fold_dn;

/// How far a server is, in its own measure. Kept by the store as JSON.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// The server has no such measure, or the account may not read it.
    #[default]
    Unknown,
    /// OpenLDAP: the newest `contextCSN` by server id (`000`…`fff`).
    OpenLdap {
        /// Server id → change sequence number; both of fixed width, so that text order is order of time.
        csn: BTreeMap<String, String>,
    },
    /// Active Directory: how much of each domain controller's own changes this one holds.
    ActiveDirectory {
        /// The `invocationId` of the server that was asked.
        invocation: String,
        /// `invocationId` → USN: its own `highestCommittedUSN`, and its up-to-dateness vector for the others.
        usn: BTreeMap<String, u64>,
        /// Whether the vector could be read; without it only the same `invocationId` can be compared.
        vector: bool,
    },
}

impl ServerState {
    /// From the values of `contextCSN`: `20241124103400.123456Z#000000#001#000000`, each with what is added to its server id
    /// (the name of the database, for all but the first).
    pub(super) fn from_context_csn<'a>(values: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut csn = BTreeMap::new();
        for (of, value) in values.filter_map(|(of, v)| Some((of, std::str::from_utf8(v).ok()?))) {
            if let Some(sid) = server_id(value) {
                newest(&mut csn, format!("{sid}{of}"), value.to_owned());
            }
        }
        if csn.is_empty() {
            Self::Unknown
        } else {
            Self::OpenLdap { csn }
        }
    }

    /// What is added to the server ids of one naming context: each database counts by itself, under the same ids.
    pub(super) fn database(at: usize, context: &str) -> String {
        if at == 0 {
            String::new()
        } else {
            format!(" of {}", fold_dn(context))
        }
    }

    /// From Active Directory's own figures; `vector` is `replUpToDateVector` of the naming context.
    pub(super) fn from_active_directory(
        invocation: &[u8],
        highest: u64,
        vector: Option<&[u8]>,
    ) -> Self {
        let Ok(own) = Uuid::from_slice_le(invocation) else {
            return Self::Unknown;
        };
        let vector = vector.and_then(up_to_date_vector);
        let known = vector.is_some();
        let mut usn: BTreeMap<String, u64> = vector.unwrap_or_default().into_iter().collect();
        newest(&mut usn, own.to_string(), highest);
        Self::ActiveDirectory {
            invocation: own.to_string(),
            usn,
            vector: known,
        }
    }

    /// Why this server is known to be older than what was `seen`; `None`: it is not known to be.
    pub fn behind(&self, seen: &Self) -> Option<String> {
        match (self, seen) {
            (Self::OpenLdap { csn }, Self::OpenLdap { csn: seen }) => seen.iter().find_map(|(sid, then)| match csn.get(sid) {
                Some(now) if now >= then => None,
                Some(now) => Some(format!("its contextCSN of server id {sid} is {now}, and {then} was seen already")),
                None => Some(format!("it has no contextCSN of server id {sid}, and {then} was seen already")),
            }),
            (Self::ActiveDirectory { usn, vector, .. }, Self::ActiveDirectory { usn: seen, .. }) => {
                seen.iter().find_map(|(invocation, then)| match usn.get(invocation) {
                    Some(now) if now >= then => None,
                    Some(now) => Some(format!("it holds changes up to USN {now} of invocationId {invocation}, and {then} was seen already")),
                    // Another server, or the same one restored under a new identity: only its vector can tell.
                    None if *vector => Some(format!("it holds no changes of invocationId {invocation}, and USN {then} was seen already")),
                    None => None,
                })
            }
            (Self::Unknown, Self::OpenLdap { .. }) => {
                Some("it shows no contextCSN (an empty replica, or one without syncprov), and one was seen already".into())
            }
            // Nothing was seen yet, or the measures cannot be compared.
            _ => None,
        }
    }

    /// What is seen once this server's pass is applied: the newest of both.
    #[must_use]
    pub fn merged(&self, seen: Option<&Self>) -> Self {
        let mut merged = self.clone();
        match (&mut merged, seen) {
            (Self::OpenLdap { csn }, Some(Self::OpenLdap { csn: seen })) => {
                for (sid, then) in seen {
                    newest(csn, sid.clone(), then.clone());
                }
            }
            (Self::ActiveDirectory { usn, .. }, Some(Self::ActiveDirectory { usn: seen, .. })) => {
                for (invocation, then) in seen {
                    newest(usn, invocation.clone(), *then);
                }
            }
            _ => {}
        }
        merged
    }
}

/// The server id of a change sequence number, in lower case; `None`: it is none.
pub(super) fn server_id(csn: &str) -> Option<String> {
    let mut fields = csn.split('#');
    match (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) {
        (Some(_), Some(_), Some(sid), Some(_), None) => Some(sid.to_lowercase()),
        _ => None,
    }
}

fn newest<V: Ord>(map: &mut BTreeMap<String, V>, key: String, value: V) {
    match map.get_mut(&key) {
        Some(held) if *held >= value => {}
        Some(held) => *held = value,
        None => {
            map.insert(key, value);
        }
    }
}

/// `UPTODATE_VECTOR` (MS-ADTS 3.1.1.3.2.22, MS-DRSR 5.208): version 1 has 24 bytes a cursor, version 2 has 32. `None`: it is none.
fn up_to_date_vector(raw: &[u8]) -> Option<Vec<(String, u64)>> {
    let word = |at: usize| {
        raw.get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let size = match word(0)? {
        1 => 24,
        2 => 32,
        _ => return None,
    };
    let count = usize::try_from(word(8)?).ok()?;
    let cursors = raw.get(16..)?;
    if cursors.len() < count.checked_mul(size)? {
        return None;
    }
    let cursors = cursors.chunks_exact(size).take(count);
    cursors
        .map(|c| {
            Some((
                Uuid::from_slice_le(&c[..16]).ok()?.to_string(),
                u64::from_le_bytes(c[16..24].try_into().ok()?),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(values: &[&str]) -> ServerState {
        ServerState::from_context_csn(values.iter().map(|v| ("", v.as_bytes())))
    }

    #[test]
    fn trap_50_an_older_context_csn_of_any_server_id_is_behind() {
        let seen = open(&[
            "20261124100000.000001Z#000000#001#000000",
            "20261124090000.000000Z#000000#002#000000",
        ]);
        let newer = open(&[
            "20261124100000.000001Z#000000#001#000000",
            "20261124090000.000001Z#000000#002#000000",
        ]);
        assert_eq!(newer.behind(&seen), None);
        assert_eq!(seen.behind(&seen), None);
        assert!(seen.behind(&newer).unwrap().contains("server id 002"));
        let half = open(&["20271124100000.000001Z#000000#001#000000"]);
        assert!(
            half.behind(&seen)
                .unwrap()
                .contains("no contextCSN of server id 002")
        );
        assert_eq!(half.merged(Some(&seen)).behind(&seen), None);
        assert!(seen.behind(&half.merged(Some(&seen))).is_some());
    }

    #[test]
    fn trap_08_an_empty_replica_is_behind_whatever_was_seen() {
        assert!(
            open(&[])
                .behind(&open(&["20261124100000.000001Z#000000#001#000000"]))
                .is_some()
        );
        assert_eq!(open(&["no csn at all", "a#b#c"]), ServerState::Unknown);
        assert_eq!(
            open(&["20261124100000.000001Z#000000#001#000000"]).behind(&ServerState::Unknown),
            None
        );
    }

    fn vector(version: u32, cursors: &[(u128, u64)]) -> Vec<u8> {
        let mut raw = [
            version.to_le_bytes(),
            0u32.to_le_bytes(),
            u32::try_from(cursors.len()).unwrap().to_le_bytes(),
            0u32.to_le_bytes(),
        ]
        .concat();
        for (id, usn) in cursors {
            raw.extend(Uuid::from_u128(*id).to_bytes_le());
            raw.extend(usn.to_le_bytes());
            if version == 2 {
                raw.extend([0; 8]);
            }
        }
        raw
    }

    fn dc(own: u128, usn: u64, others: Option<&[(u128, u64)]>) -> ServerState {
        let raw = others.map(|o| vector(2, o));
        ServerState::from_active_directory(&Uuid::from_u128(own).to_bytes_le(), usn, raw.as_deref())
    }

    #[test]
    fn trap_23_usns_are_compared_within_one_invocation_only() {
        let seen = dc(1, 500, None);
        assert_eq!(dc(1, 500, None).behind(&seen), None);
        assert!(dc(1, 499, None).behind(&seen).unwrap().contains("499"));
        // Restored under a new identity, or another server whose vector nobody may read: not known to be behind.
        assert_eq!(dc(2, 10, None).behind(&seen), None);
        assert_eq!(dc(2, 10, Some(&[(1, 500)])).behind(&seen), None);
        assert!(dc(2, 10, Some(&[(1, 499)])).behind(&seen).is_some());
        assert!(dc(2, 10, Some(&[(3, 9)])).behind(&seen).is_some());
        let both = dc(2, 10, Some(&[(1, 600)])).merged(Some(&seen));
        assert!(seen.behind(&both).unwrap().contains("up to USN 500"));
    }

    #[test]
    fn vectors_of_both_versions_and_of_neither() {
        for version in [1, 2] {
            let read = up_to_date_vector(&vector(version, &[(7, 70), (8, 80)])).unwrap();
            assert_eq!(
                read,
                [
                    (Uuid::from_u128(7).to_string(), 70),
                    (Uuid::from_u128(8).to_string(), 80)
                ]
            );
        }
        assert_eq!(up_to_date_vector(&vector(3, &[])), None);
        assert_eq!(up_to_date_vector(b""), None);
        let mut huge = vector(2, &[(7, 70)]);
        huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(up_to_date_vector(&huge), None);
    }

    #[test]
    fn kept_as_json_it_stays_the_same() {
        for state in [
            ServerState::Unknown,
            open(&["20261124100000.000001Z#000000#001#000000"]),
            dc(1, 5, Some(&[(2, 6)])),
        ] {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(
                serde_json::from_str::<ServerState>(&text).unwrap(),
                state,
                "{text}"
            );
        }
    }
}
