//! Who loses something by a delta.

use std::collections::BTreeSet;

use crate::model::{ChangeKind, DirectoryId};
use crate::plan::decide::Decision;

/// Who loses something by a delta, and whom that may concern.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Who would be suspended, or lose their number.
    losing: BTreeSet<DirectoryId>,
    /// Who had a contested name: what becomes of them may hang on somebody who loses theirs.
    pub(super) contested: BTreeSet<DirectoryId>,
}

impl Losses {
    /// Notes what was decided about somebody.
    pub(super) fn note(&mut self, decision: &Decision) {
        if decision.changes.iter().any(|draft| is_loss(draft.kind)) {
            self.losing.extend(decision.after.directory_id);
        }
    }

    /// Who must wait until losses are weighed; empty: nobody would lose anything.
    pub(super) fn wait(&self) -> BTreeSet<DirectoryId> {
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
