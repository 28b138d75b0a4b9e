//! What a pass gives to the frame of its run.

use super::found::Found;
use super::setting::Setting;
use super::under_way::Pass;
use crate::model::{ChangeKind, RealmRow};
use crate::runs::weigh::{Reason, Users};
use crate::runs::{PlanBuilder, window};
use crate::store::RefusedDiff;
use crate::sync::realm::prepare::mapping_of;
use crate::sync::realm::session::PreparedSession;

/// What a pass gives to the frame of its run: everything is read and decided, and nothing weighed.
pub(in crate::sync) struct PassOutcome {
    /// With the session, for the next run.
    pub prepared: PreparedSession,
    pub plan: PlanBuilder,
    /// What refusals become; `None`: they stay as they are.
    pub refused: Option<RefusedDiff>,
    /// The realm's users before the pass.
    pub users: Users,
    /// What holds the plan beside the limits.
    pub reasons: Vec<Reason>,
    /// The realm's last mapping that was decided is another one.
    pub other_mapping: bool,
    /// The realm's own clock, milliseconds.
    pub clock_ms: i64,
    /// Other realms are of the same directory.
    pub has_neighbours: bool,
}

impl Pass<'_> {
    /// Ends the pass. `refused` as [`Self::refused_diff`] gives it.
    pub fn end(self, refused: Option<RefusedDiff>) -> PassOutcome {
        let (setting, prepared, found) = (self.setting, self.reading.prepared, self.found);
        let other_mapping = is_of_another_mapping(setting.row, &prepared.mapping_hash);
        PassOutcome {
            refused,
            users: found.users(),
            reasons: reasons(&setting, &found, other_mapping),
            other_mapping,
            clock_ms: setting.clock_ms,
            has_neighbours: !setting.neighbours.is_empty(),
            plan: found.plan,
            prepared,
        }
    }
}

/// Whether the realm's last mapping that was decided is another one than this.
fn is_of_another_mapping(row: &RealmRow, mapping_hash: &str) -> bool {
    let decided = row.mapping_hash.as_ref();
    decided.is_some_and(|hash| mapping_of(hash) != mapping_of(mapping_hash))
}

/// What holds the plan beside the limits.
fn reasons(setting: &Setting<'_>, found: &Found, other_mapping: bool) -> Vec<Reason> {
    let (row, realm, plan) = (setting.row, setting.realm, &found.plan);
    let reason = |word, count, allowed| Reason {
        word,
        count,
        allowed,
    };
    let gone = found.gone_containers.iter();
    let mut reasons: Vec<Reason> = gone.map(|(_, n)| reason("container", *n, 2)).collect();
    if other_mapping && plan.touched() > 0 {
        reasons.push(reason("mapping", plan.touched(), 0));
    }
    let moved = plan.counts.of(ChangeKind::Moved);
    if moved > 0 && !window::took_over_before(row) {
        reasons.push(reason("moved", moved, 0));
    }
    if !found.matched.is_empty() {
        let matched = i64::try_from(found.matched.len()).unwrap_or(i64::MAX);
        reasons.push(reason("matched", matched, 0));
    }
    let delivers = realm.delivery.is_some();
    reasons.extend(Reason::messages(plan, &realm.brake, delivers));
    if realm.approve {
        reasons.push(Reason::approve(plan));
    }
    reasons
}
