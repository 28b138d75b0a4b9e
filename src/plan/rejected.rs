//! What an administrator rejected for a time: changes of a user that plans leave out until then, while the rest goes on.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::brake::PlanHash;
use super::decide::Decision;
use crate::clock::Timestamp;
use crate::model::message_rules::count_said;
use crate::model::{ChangeKind, Intent, User};

/// One line of a plan: its kind, and its fields as they were and will be.
pub type PlanLine<'a> = (ChangeKind, &'a Map<String, Value>, &'a Map<String, Value>);

/// The changes that are rejected for now.
#[derive(Clone, Default, Debug)]
pub struct Rejected {
    /// By their keys; see [`keys`].
    pub changes: HashSet<i64>,
    /// When the last of them may come again.
    pub until: Option<Timestamp>,
}

/// The keys of what a plan does to one user: each change by user, kind, before and after, as the hash of the plan takes them; what is
/// only said by how much.
pub fn keys<'a>(
    after: &User,
    lines: impl Iterator<Item = PlanLine<'a>>,
    intents: &[Intent],
) -> Vec<i64> {
    let mut keys: Vec<i64> = lines
        .map(|(kind, before, is)| key(after, kind, before, is))
        .collect();
    if keys.is_empty() {
        let said = count_said(intents);
        if said > 0 {
            keys.push(PlanHash::key_said(after.origin(), said));
        }
    }
    keys
}

fn key(
    user: &User,
    kind: ChangeKind,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> i64 {
    if kind == ChangeKind::Created {
        return PlanHash::key_created(user);
    }
    PlanHash::key(user.origin(), kind, before, after)
}

impl Rejected {
    /// Whether a user is left out: one of their changes is rejected. All of them then wait, since they are one decision; but who is
    /// to be suspended now, which nobody rejected, is suspended.
    pub fn leaves_out(&self, decision: &Decision) -> bool {
        if self.changes.is_empty() {
            return false;
        }
        let lines = || {
            decision
                .changes
                .iter()
                .map(|d| (d.kind, &d.before, &d.after))
        };
        let rejected = |key: &i64| self.changes.contains(key);
        let suspends = lines()
            .filter(|(kind, ..)| *kind == ChangeKind::Suspended)
            .any(|(kind, before, after)| !rejected(&key(&decision.after, kind, before, after)));
        !suspends
            && keys(&decision.after, lines(), &decision.intents)
                .iter()
                .any(rejected)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::DirectoryId;
    use crate::plan::decide::Draft;
    use crate::store::outbox_tests::user;

    fn decision(lines: &[(ChangeKind, &str, &str)]) -> Decision {
        let mut after = user("jan", "+421905123456");
        after.directory_id = Some(DirectoryId([7; 16]));
        let side = |field: &str, value: &str| Map::from_iter([(field.to_owned(), json!(value))]);
        Decision {
            base_version: 1,
            after,
            changes: lines
                .iter()
                .map(|(kind, field, value)| Draft {
                    kind: *kind,
                    before: side(field, "was"),
                    after: side(field, value),
                })
                .collect(),
            intents: vec![],
        }
    }

    fn rejecting(decision: &Decision) -> Rejected {
        let lines = decision
            .changes
            .iter()
            .map(|d| (d.kind, &d.before, &d.after));
        Rejected {
            changes: keys(&decision.after, lines, &[]).into_iter().collect(),
            until: None,
        }
    }

    #[test]
    fn the_same_change_is_left_out_and_another_one_is_not() {
        let number = decision(&[(ChangeKind::PhoneChanged, "phone", "+421905000001")]);
        let rejected = rejecting(&number);
        assert!(rejected.leaves_out(&number));
        let other = decision(&[(ChangeKind::PhoneChanged, "phone", "+421905000002")]);
        assert!(!rejected.leaves_out(&other));
        let mut somebody_else = number.clone();
        somebody_else.after.directory_id = Some(DirectoryId([8; 16]));
        assert!(!rejected.leaves_out(&somebody_else));
        assert!(!Rejected::default().leaves_out(&number));
    }

    #[test]
    fn whoever_is_to_be_suspended_is_suspended_unless_that_was_rejected() {
        let number = (ChangeKind::PhoneChanged, "phone", "+421905000001");
        let leaves = (ChangeKind::Suspended, "state", "suspended");
        let both = decision(&[leaves, number]);
        assert!(!rejecting(&decision(&[number])).leaves_out(&both));
        assert!(rejecting(&both).leaves_out(&both));
        assert!(rejecting(&both).leaves_out(&decision(&[number])));
        // Why somebody is gone is no part of it.
        let mut gone = decision(&[leaves]);
        let rejected = rejecting(&gone);
        gone.changes[0]
            .after
            .insert("state_reason".into(), json!("deleted"));
        assert!(rejected.leaves_out(&gone));
    }
}
