//! What the pages of DirSync told: ids only.

use std::collections::{BTreeMap, BTreeSet};

use super::super::entry::directory_id;
use crate::model::{DirectoryId, IdForm, RawEntry};

/// More than this in one delta is no delta: reading everybody is as quick, and needs no list.
pub(in crate::directory) const MAX_TOLD: usize = 100_000;

/// Why what is told cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::directory) enum Unfollowable {
    /// More than [`MAX_TOLD`].
    TooMany,
    /// An entry without an `objectGUID`, or one that cannot be read.
    Nobody,
}

impl Unfollowable {
    pub(in crate::directory) fn text(self) -> String {
        match self {
            Self::TooMany => format!("more than {MAX_TOLD} changes: reading everybody is as quick"),
            Self::Nobody => "an entry that does not say who it is".to_owned(),
        }
    }
}

/// Who was told of.
#[derive(Default, Debug)]
pub(super) struct DirSyncChanges {
    /// Whether each is deleted, by what was told last.
    people: BTreeMap<DirectoryId, bool>,
    /// Who was renamed or moved, and may be a container.
    moved: BTreeSet<DirectoryId>,
}

impl DirSyncChanges {
    pub(super) fn take(&mut self, entry: &RawEntry) -> Result<(), Unfollowable> {
        let id = directory_id(entry, "objectguid", IdForm::Guid).ok_or(Unfollowable::Nobody)?;
        let gone = entry
            .values("isdeleted")
            .any(|v| v.eq_ignore_ascii_case(b"TRUE"));
        // A new entry comes whole, with its classes; an old one comes with its name only if that changed, or its place did.
        let named = entry.values("name").next().is_some();
        let whole = entry.values("objectclass").next().is_some();
        if named && !whole && !gone {
            self.moved.insert(id);
        } else if gone {
            self.moved.remove(&id);
        }
        self.people.insert(id, gone);
        if self.people.len() > MAX_TOLD {
            return Err(Unfollowable::TooMany);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// Who may be a container that took people along.
    pub(super) fn moved(&self) -> Vec<DirectoryId> {
        self.moved.iter().copied().collect()
    }

    /// Somebody of whom nothing was told, but who was taken along.
    pub(super) fn along(&mut self, id: DirectoryId) -> Result<(), Unfollowable> {
        self.people.entry(id).or_insert(false);
        if self.people.len() > MAX_TOLD {
            return Err(Unfollowable::TooMany);
        }
        Ok(())
    }

    /// Touched, and gone.
    pub(super) fn lists(self) -> (Vec<DirectoryId>, Vec<DirectoryId>) {
        let (gone, touched): (Vec<_>, Vec<_>) =
            self.people.into_iter().partition(|(_, gone)| *gone);
        let ids = |list: Vec<(DirectoryId, bool)>| list.into_iter().map(|(id, _)| id).collect();
        (ids(touched), ids(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawAttribute;

    fn entry(id: u8, attributes: &[(&str, &[&str])]) -> RawEntry {
        let of = |name: &str, values: Vec<Vec<u8>>| RawAttribute {
            name: name.into(),
            options: "".into(),
            values,
        };
        let mut all = vec![of("objectguid", vec![vec![id; 16]])];
        all.extend(
            attributes
                .iter()
                .map(|(n, vs)| of(n, vs.iter().map(|v| v.as_bytes().to_vec()).collect())),
        );
        RawEntry::new(b"", &all)
    }

    fn id(id: u8) -> DirectoryId {
        DirectoryId([id; 16])
    }

    #[test]
    fn trap_22_each_is_told_once_by_what_came_last() {
        let mut told = DirSyncChanges::default();
        for e in [
            entry(1, &[("mobile", &["1"])]),
            entry(1, &[("name", &["x"]), ("isdeleted", &["TRUE"])]),
            entry(2, &[("isdeleted", &["TRUE"])]),
            // Brought back: the attribute is empty.
            entry(2, &[("isdeleted", &[]), ("name", &["y"])]),
            // New: whole.
            entry(3, &[("name", &["z"]), ("objectclass", &["top", "user"])]),
            // An empty attribute is one that was removed.
            entry(4, &[("mobile", &[])]),
        ] {
            told.take(&e).unwrap();
        }
        assert_eq!(told.moved(), [id(2)]);
        told.along(id(5)).unwrap();
        told.along(id(1)).unwrap();
        assert_eq!(
            told.lists(),
            (vec![id(2), id(3), id(4), id(5)], vec![id(1)])
        );
    }

    #[test]
    fn an_entry_without_an_id_is_nobody() {
        let mut told = DirSyncChanges::default();
        assert_eq!(told.take(&RawEntry::default()), Err(Unfollowable::Nobody));
        let mut two = entry(1, &[]).taken_apart();
        two[0].values.push(vec![2; 16]);
        assert_eq!(
            told.take(&RawEntry::new(b"", &two)),
            Err(Unfollowable::Nobody)
        );
    }
}
