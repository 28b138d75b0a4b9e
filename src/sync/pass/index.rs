//! What a pass remembers of everybody, small enough to be in memory at a million users: directory id → fingerprint, and who asked
//! for which name. Entries lie one after the other, 24 bytes each, and the tables hold their places alone, 5 bytes: a map of the
//! whole would be half empty, and twice there while it grows.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::DirectoryId;

const SEEN: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;
const FINGERPRINT: u64 = SEEN - 1;

/// A place in a list. More than four billion entries are in no directory, nor in any memory.
type RowIndex = u32;

/// So many values lie together.
const CHUNK: usize = 1 << 16;

/// A list that grows without being copied, so that nothing of it is ever there twice.
struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<T> Chunks<T> {
    /// Adds a value; gives its place.
    fn push(&mut self, value: T) -> RowIndex {
        let full = self.0.last().is_none_or(|last| last.len() == CHUNK);
        if full {
            // The first grows as it needs: most realms are small.
            let room = if self.0.is_empty() { 0 } else { CHUNK };
            self.0.push(Vec::with_capacity(room));
        }
        let before = self.0.len().saturating_sub(1) * CHUNK;
        let Some(last) = self.0.last_mut() else {
            return RowIndex::MAX;
        };
        last.push(value);
        RowIndex::try_from(before + last.len() - 1).unwrap_or(RowIndex::MAX)
    }

    fn at(&self, place: RowIndex) -> Option<&T> {
        let place = usize::try_from(place).ok()?;
        self.0.get(place / CHUNK)?.get(place % CHUNK)
    }

    fn at_mut(&mut self, place: RowIndex) -> Option<&mut T> {
        let place = usize::try_from(place).ok()?;
        self.0.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

/// A folded name as it is claimed.
pub(super) fn hash_name(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

/// The index of one pass. Entries of the directory that the store does not hold are added as seen, to notice one that comes twice.
#[derive(Default)]
pub(super) struct Index {
    entries: Chunks<(DirectoryId, u64)>,
    by_id: HashTable<RowIndex>,
    /// Folded names (hashed) that somebody asked for in this pass, and who did last.
    claims: Chunks<u64>,
    claimants: Chunks<RowIndex>,
    by_name: HashTable<RowIndex>,
    /// Users that the store held at the start.
    pub held: u64,
}

/// What the index says of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IndexMatch {
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
    fn find(&self, id: DirectoryId) -> Option<RowIndex> {
        let is_it = |p: &RowIndex| self.entries.at(*p).is_some_and(|e| e.0 == id);
        self.by_id.find(xxh3_64(&id.0), is_it).copied()
    }

    fn value(&mut self, id: DirectoryId) -> Option<&mut u64> {
        let place = self.find(id)?;
        self.entries.at_mut(place).map(|e| &mut e.1)
    }

    /// Adds an entry that is not there yet.
    fn add(&mut self, id: DirectoryId, value: u64) -> RowIndex {
        let new = self.entries.push((id, value));
        let entries = &self.entries;
        self.by_id.insert_unique(xxh3_64(&id.0), new, |p| {
            entries.at(*p).map_or(0, |e| xxh3_64(&e.0.0))
        });
        new
    }

    /// Adds a user of the store.
    pub fn hold(&mut self, id: DirectoryId, fingerprint: Option<u64>, present: bool) {
        let is = fingerprint.unwrap_or(0) & FINGERPRINT | if present { PRESENT } else { 0 };
        match self.value(id) {
            Some(value) => *value = is,
            None => {
                self.add(id, is);
            }
        }
        self.held += 1;
    }

    /// Whether an entry was held or met.
    pub fn knows(&self, id: DirectoryId) -> bool {
        self.find(id).is_some()
    }

    /// Meets an entry; a fingerprint of 0 never counts as unchanged. `place` is a hash of its DN, which is kept from here on
    /// in the fingerprint's place: each is asked for once.
    pub fn meet(&mut self, id: DirectoryId, fingerprint: u64, place: u64) -> IndexMatch {
        let met = SEEN | place & FINGERPRINT;
        match self.value(id) {
            None => {
                self.add(id, met);
                IndexMatch::New
            }
            Some(value) if *value & SEEN != 0 => {
                if *value & FINGERPRINT == place & FINGERPRINT {
                    IndexMatch::Again
                } else {
                    IndexMatch::Twice
                }
            }
            Some(value) => {
                let kept = *value & FINGERPRINT;
                *value = *value & PRESENT | met;
                if kept != 0 && kept == fingerprint & FINGERPRINT {
                    IndexMatch::Unchanged
                } else {
                    IndexMatch::Held
                }
            }
        }
    }

    /// Whether this pass has met the entry.
    pub fn seen(&self, id: DirectoryId) -> bool {
        self.find(id)
            .and_then(|p| self.entries.at(p))
            .is_some_and(|e| e.1 & SEEN != 0)
    }

    /// Held users that were not met: present ones first, then those who were away already.
    pub fn unseen(&self) -> (Vec<DirectoryId>, Vec<DirectoryId>) {
        let unseen = self.entries.iter().filter(|(_, v)| v & SEEN == 0);
        let (present, away): (Vec<_>, Vec<_>) = unseen.partition(|(_, v)| v & PRESENT != 0);
        let ids = |list: Vec<&(DirectoryId, u64)>| {
            let mut ids: Vec<DirectoryId> = list.into_iter().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids
        };
        (ids(present), ids(away))
    }

    /// An entry that was met asks for a name (hashed); gives who asked for it before.
    pub fn claim(&mut self, name: u64, id: DirectoryId) -> Option<DirectoryId> {
        let by = match self.find(id) {
            Some(by) => by,
            None => self.add(id, SEEN),
        };
        let claims = &self.claims;
        let is_it = |p: &RowIndex| claims.at(*p) == Some(&name);
        if let Some(there) = self.by_name.find(name, is_it) {
            let last = self.claimants.at_mut(*there)?;
            let before = std::mem::replace(last, by);
            return self.entries.at(before).map(|e| e.0);
        }
        let new = self.claims.push(name);
        self.claimants.push(by);
        let claims = &self.claims;
        self.by_name
            .insert_unique(name, new, |p| claims.at(*p).copied().unwrap_or(0));
        None
    }

    /// Who asked last for a name (hashed) in this pass.
    pub fn claimant(&self, name: u64) -> Option<DirectoryId> {
        let is_it = |p: &RowIndex| self.claims.at(*p) == Some(&name);
        let by = self.claimants.at(*self.by_name.find(name, is_it)?)?;
        self.entries.at(*by).map(|e| e.0)
    }

    /// These ask for nothing any more.
    pub fn unclaim(&mut self, is_one: impl Fn(DirectoryId) -> bool) {
        let (claimants, entries) = (&self.claimants, &self.entries);
        self.by_name.retain(|p| {
            claimants
                .at(*p)
                .and_then(|by| entries.at(*by))
                .is_some_and(|e| !is_one(e.0))
        });
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
        assert!(index.knows(id(1)) && !index.knows(id(4)));
        assert_eq!(index.meet(id(1), 7, 70), IndexMatch::Unchanged);
        assert_eq!(index.meet(id(1), 7, 70), IndexMatch::Again);
        assert_eq!(index.meet(id(1), 7, 71), IndexMatch::Twice);
        assert_eq!(index.meet(id(2), 0, 70), IndexMatch::Held);
        assert_eq!(index.meet(id(4), 1, 70), IndexMatch::New);
        assert_eq!(index.meet(id(4), 1, 70), IndexMatch::Again);
        assert_eq!(index.meet(id(4), 1, 71), IndexMatch::Twice);
        assert_eq!(index.unseen(), (vec![], vec![id(3)]));
    }

    #[test]
    fn a_name_is_asked_for_by_the_last_who_did() {
        let mut index = Index::default();
        let id = |n| DirectoryId([n; 16]);
        for n in 1..4 {
            index.meet(id(n), 7, 70);
        }
        assert_eq!(index.claimant(5), None);
        assert_eq!(index.claim(5, id(1)), None);
        assert_eq!(index.claim(6, id(2)), None);
        assert_eq!(index.claim(5, id(3)), Some(id(1)));
        assert_eq!(
            (index.claimant(5), index.claimant(6)),
            (Some(id(3)), Some(id(2)))
        );
        index.unclaim(|one| one == id(3));
        assert_eq!((index.claimant(5), index.claimant(6)), (None, Some(id(2))));
        assert_eq!(index.claim(5, id(1)), None);
        assert_eq!(index.claimant(5), Some(id(1)));
    }

    #[test]
    fn many_are_found_again() {
        let mut index = Index::default();
        let id = |n: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            DirectoryId(bytes)
        };
        for n in 0..200_000 {
            index.hold(id(n), Some(u64::from(n) + 1), n % 2 == 0);
        }
        for n in 0..300_000 {
            let met = index.meet(id(n), u64::from(n) + 1, 9);
            assert_eq!(
                met,
                if n < 200_000 {
                    IndexMatch::Unchanged
                } else {
                    IndexMatch::New
                }
            );
            assert_eq!(
                index.claim(u64::from(n) % 250_000, id(n)).is_some(),
                n >= 250_000
            );
        }
        assert_eq!(index.claimant(3), Some(id(250_003)));
        assert_eq!(index.unseen(), (vec![], vec![]));
        assert_eq!(index.held, 200_000);
    }
}
