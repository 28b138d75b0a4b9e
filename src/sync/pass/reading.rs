//! What is being read.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::delta_scope::DeltaScope;
use super::index::Index;
use crate::directory::Sighting;
use crate::model::{DirectoryId, Person, RawEntry, User, dn};
use crate::runs::RunFailure;
use crate::store::Indexed;
use crate::sync::realm::session::PreparedSession;

/// What is being read, and what is to be remembered of it until all is read.
pub(in crate::sync) struct Reading {
    pub prepared: PreparedSession,
    pub(super) index: Index,
    /// The index is being loaded.
    pub(super) indexing: bool,
    /// Who was read and differs, until there are enough to ask the store about; and whether they are held.
    pub(super) waiting: Vec<(Person, bool)>,
    /// Whose name somebody else wants or holds.
    pub(super) contested: BTreeSet<DirectoryId>,
    /// Decided before a rival for their name came along; see `take_back_early`.
    pub(super) decided_early: HashSet<DirectoryId>,
    /// Names (hashed) that several entries of this pass have.
    pub(super) rivals: HashSet<u64>,
    /// Directory ids that came under more than one DN; see `refuse_doubles`.
    pub(super) twice: BTreeSet<DirectoryId>,
    /// Names of entries without a readable id: whoever stood there is not gone.
    pub(super) unknown: HashSet<String>,
    /// Bases without a usable entry so far.
    pub(super) empty_bases: Vec<String>,
    /// Of a delta: who is looked at; `None`: everybody is.
    pub(super) told: Option<DeltaScope>,
}

impl Reading {
    /// Nothing is read yet.
    pub(super) fn new(prepared: PreparedSession) -> Self {
        Self {
            index: Index::default(),
            indexing: false,
            waiting: vec![],
            contested: BTreeSet::new(),
            decided_early: HashSet::new(),
            rivals: HashSet::new(),
            twice: BTreeSet::new(),
            unknown: HashSet::new(),
            empty_bases: prepared.scope.bases.clone(),
            told: None,
            prepared,
        }
    }

    /// Where these ids are now, asked of the directory; a missing one was found nowhere.
    pub(super) async fn look_up(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, RunFailure> {
        self.prepared.look_up(ids).await
    }

    /// Of a delta: everybody who is looked at; `None`: everybody of the realm is.
    pub(super) fn told_ids(&self) -> Option<&BTreeSet<DirectoryId>> {
        self.told.as_ref().map(|told| &told.ids)
    }

    /// Of a delta: whoever is to be looked at because of a name, and was not yet. `refused`: folded name → who was refused it.
    pub(super) fn rivals(
        &mut self,
        refused: &HashMap<String, Vec<DirectoryId>>,
    ) -> BTreeSet<DirectoryId> {
        let told = self.told.as_mut();
        told.map(|told| told.rivals(refused)).unwrap_or_default()
    }

    /// Whose name somebody else wants or holds.
    pub(super) fn contested_ids(&self) -> Vec<DirectoryId> {
        self.contested.iter().copied().collect()
    }

    /// Nobody else wants or holds this one's name any more.
    pub(super) fn uncontest(&mut self, id: DirectoryId) {
        self.contested.remove(&id);
    }

    /// Takes a part of the index in.
    pub(super) fn hold(&mut self, users: Vec<Indexed>) {
        for (id, fingerprint, present) in users {
            self.index.hold(id, fingerprint, present);
        }
    }

    /// Parts a page into those whom the index knows already, and the others.
    pub(super) fn known(&self, page: Vec<RawEntry>) -> (Vec<RawEntry>, Vec<RawEntry>) {
        page.into_iter().partition(|entry| {
            let id = self.prepared.normaliser.directory_id(entry);
            id.is_ok_and(|id| self.index.knows(id))
        })
    }

    /// Refused is not absent: an entry without a readable id stands where this user's stood.
    pub(super) fn refused_there(&self, user: &User) -> bool {
        user.dn.as_ref().is_some_and(|dn| self.unknown.contains(dn))
    }

    /// The base of a usable entry is not empty.
    pub(super) fn usable(&mut self, entry: &RawEntry) {
        if self.empty_bases.is_empty() {
            return;
        }
        if let [_] = self.prepared.scope.bases.as_slice() {
            self.empty_bases.clear();
            return;
        }
        let dn = entry.dn_shown();
        self.empty_bases.retain(|base| !dn::is_within(&dn, base));
    }
}
