//! How far a delta spreads: from those who were told to those whose names they touch.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::DirectoryId;

/// What a delta keeps while it spreads from those who were told to those whose names they touch.
#[derive(Debug, Default)]
pub(super) struct DeltaScope {
    /// Everybody who is looked at.
    pub(super) ids: BTreeSet<DirectoryId>,
    /// Names (folded) that somebody looked at has, had or wants.
    pub(super) names: HashSet<String>,
    /// Who holds a name that somebody looked at wants.
    pub(super) holders: BTreeSet<DirectoryId>,
}

impl DeltaScope {
    /// Whoever is to be looked at because of a name, and was not yet. `refused`: folded name → who was refused it.
    pub(super) fn rivals(
        &mut self,
        refused: &HashMap<String, Vec<DirectoryId>>,
    ) -> BTreeSet<DirectoryId> {
        let mut rivals = std::mem::take(&mut self.holders);
        for name in self.names.drain() {
            rivals.extend(refused.get(&name).into_iter().flatten());
        }
        rivals.retain(|id| !self.ids.contains(id));
        rivals
    }
}
