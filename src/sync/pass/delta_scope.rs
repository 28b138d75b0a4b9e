//! How far a delta spreads: from those who were told to those whose names they touch.

use std::collections::{BTreeSet, HashSet};

use crate::model::{ChangeKind, DirectoryId};
use crate::plan::decide::Decision;

/// What a delta keeps while it spreads from those who were told to those whose names they touch.
#[derive(Debug, Default)]
pub(in crate::sync) struct DeltaScope {
    /// Everybody who is looked at.
    pub ids: BTreeSet<DirectoryId>,
    /// Names (folded) that somebody looked at has, had or wants.
    pub names: HashSet<String>,
    /// Who holds a name that somebody looked at wants.
    pub holders: BTreeSet<DirectoryId>,
    /// Who would be suspended, or lose their number.
    pub losing: BTreeSet<DirectoryId>,
    /// Who had a contested name: what becomes of them may hang on somebody who loses theirs.
    pub contested: BTreeSet<DirectoryId>,
}

impl DeltaScope {
    /// Notes what was decided about somebody.
    pub fn note(&mut self, decision: &Decision) {
        if decision.changes.iter().any(|draft| is_loss(draft.kind)) {
            self.losing.extend(decision.after.directory_id);
        }
    }

    /// Who must wait until losses are weighed; empty: nobody would lose anything.
    pub fn wait(&self) -> BTreeSet<DirectoryId> {
        if self.losing.is_empty() {
            return BTreeSet::new();
        }
        self.losing.union(&self.contested).copied().collect()
    }
}

/// What is gathered before it is weighed.
fn is_loss(kind: ChangeKind) -> bool {
    matches!(kind, ChangeKind::Suspended | ChangeKind::PhoneLost)
}
