//! What the store holds of a realm, small enough to be in memory at a million users: directory id → fingerprint, some 25 bytes each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::model::DirectoryId;

const SEEN: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;
const FINGERPRINT: u64 = SEEN - 1;

/// Folds the id's bytes: directory ids are unique, and many are random; an attacker who chooses ids already owns the directory.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// The index of one pass. Entries of the directory that the store does not hold are added as seen, to notice one that comes twice.
#[derive(Default)]
pub(super) struct Index {
    map: HashMap<DirectoryId, u64, BuildHasherDefault<IdHasher>>,
    /// Users that the store held at the start.
    pub held: u64,
}

/// What the index says of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Met {
    /// The raw values are those of last time, and the user is at rest.
    Unchanged,
    /// Held, and to be looked at.
    Held,
    /// Not held.
    New,
    /// The second time in this pass, under the same DN.
    Again,
    /// The second time in this pass, under another DN.
    Twice,
}

impl Index {
    /// Adds a user of the store.
    pub fn hold(&mut self, id: DirectoryId, fingerprint: Option<u64>, present: bool) {
        let value = fingerprint.unwrap_or(0) & FINGERPRINT | if present { PRESENT } else { 0 };
        self.map.insert(id, value);
        self.held += 1;
    }

    /// Makes room at once, so that the table never is there twice while it grows.
    pub fn reserve(&mut self, users: usize) {
        self.map.reserve(users);
    }

    /// Meets an entry; a fingerprint of 0 never counts as unchanged. `place` is a hash of its DN, which is kept from here on
    /// in the fingerprint's place: each is asked for once.
    pub fn meet(&mut self, id: DirectoryId, fingerprint: u64, place: u64) -> Met {
        let met = SEEN | place & FINGERPRINT;
        match self.map.get_mut(&id) {
            None => {
                self.map.insert(id, met);
                Met::New
            }
            Some(value) if *value & SEEN != 0 => {
                if *value & FINGERPRINT == place & FINGERPRINT {
                    Met::Again
                } else {
                    Met::Twice
                }
            }
            Some(value) => {
                let kept = *value & FINGERPRINT;
                *value = *value & PRESENT | met;
                if kept != 0 && kept == fingerprint & FINGERPRINT {
                    Met::Unchanged
                } else {
                    Met::Held
                }
            }
        }
    }

    /// Whether this pass has met the entry.
    pub fn seen(&self, id: DirectoryId) -> bool {
        self.map.get(&id).is_some_and(|v| v & SEEN != 0)
    }

    /// Held users that were not met: present ones first, then those who were away already.
    pub fn unseen(&self) -> (Vec<DirectoryId>, Vec<DirectoryId>) {
        let unseen = self.map.iter().filter(|(_, v)| **v & SEEN == 0);
        let (present, away): (Vec<_>, Vec<_>) = unseen.partition(|(_, v)| **v & PRESENT != 0);
        let ids = |list: Vec<(&DirectoryId, &u64)>| {
            let mut ids: Vec<DirectoryId> = list.into_iter().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids
        };
        (ids(present), ids(away))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_met_once() {
        let mut index = Index::default();
        let id = |n| DirectoryId([n; 16]);
        index.hold(id(1), Some(7), true);
        index.hold(id(2), None, true);
        index.hold(id(3), Some(9), false);
        assert_eq!(index.meet(id(1), 7, 70), Met::Unchanged);
        assert_eq!(index.meet(id(1), 7, 70), Met::Again);
        assert_eq!(index.meet(id(1), 7, 71), Met::Twice);
        assert_eq!(index.meet(id(2), 0, 70), Met::Held);
        assert_eq!(index.meet(id(4), 1, 70), Met::New);
        assert_eq!(index.meet(id(4), 1, 70), Met::Again);
        assert_eq!(index.meet(id(4), 1, 71), Met::Twice);
        assert_eq!(index.unseen(), (vec![], vec![id(3)]));
    }
}
