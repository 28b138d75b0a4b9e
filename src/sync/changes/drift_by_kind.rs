//! Drift by kind: of what people changed whom deltas did not tell.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::model::{ChangeKind, UserId};

/// What deltas are to tell. Grace runs by the clock, and who moves to another realm is told to that one.
pub(in crate::sync) const TOLD: [ChangeKind; 7] = [
    ChangeKind::Created,
    ChangeKind::Updated,
    ChangeKind::Renamed,
    ChangeKind::PhoneChanged,
    ChangeKind::PhoneLost,
    ChangeKind::Suspended,
    ChangeKind::Restored,
];

/// How heavily a change weighs, the heaviest first: somebody who changed in several ways counts under one of them, so that the
/// kinds add up to people.
const BY_WEIGHT: [ChangeKind; 7] = [
    ChangeKind::Suspended,
    ChangeKind::Restored,
    ChangeKind::Created,
    ChangeKind::PhoneLost,
    ChangeKind::PhoneChanged,
    ChangeKind::Renamed,
    ChangeKind::Updated,
];

/// People by the word of the kind.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByKind(BTreeMap<String, i64>);

impl ByKind {
    /// Adds people with all kinds of changes that they have.
    pub(in crate::sync) fn add(&mut self, changes: Vec<(UserId, ChangeKind)>) {
        let weight = |kind: ChangeKind| BY_WEIGHT.iter().position(|k| *k == kind);
        let mut people: HashMap<UserId, usize> = HashMap::new();
        for (user, kind) in changes {
            let Some(weight) = weight(kind) else { continue };
            let heaviest = people.entry(user).or_insert(weight);
            *heaviest = weight.min(*heaviest);
        }
        for weight in people.into_values() {
            let kind = BY_WEIGHT[weight].as_str().to_owned();
            *self.0.entry(kind).or_default() += 1;
        }
    }

    /// Every kind that deltas tell, with how many people: their sum is the drift of the pass.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, i64)> {
        TOLD.iter().map(|kind| {
            (
                kind.as_str(),
                self.0.get(kind.as_str()).copied().unwrap_or(0),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn whoever_changed_in_several_ways_counts_once() {
        let (one, two) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let mut kinds = ByKind::default();
        kinds.add(vec![
            (one, ChangeKind::Updated),
            (two, ChangeKind::Renamed),
            (one, ChangeKind::PhoneLost),
            (one, ChangeKind::Moved),
        ]);
        kinds.add(vec![(UserId(Uuid::from_u128(3)), ChangeKind::Renamed)]);
        let counted: Vec<_> = kinds.each().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("renamed", 2), ("phone_lost", 1)]);
        assert_eq!(
            kinds.each().count(),
            TOLD.len(),
            "a kind without anybody is 0"
        );
        assert!(BY_WEIGHT.iter().all(|kind| TOLD.contains(kind)));
    }
}
