//! The limits that a whole plan must pass before anything of it is applied (the design, § 3.3).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::config::BrakeConfig;
use crate::model::{ChangeKind, Field, HeldBy, JobType, Limit, Origin, Phone, StateReason, User};

/// How many changes of each kind a plan holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts(BTreeMap<ChangeKind, i64>);

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, kind: ChangeKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Takes back one that was counted.
    pub fn take_back(&mut self, kind: ChangeKind) {
        *self.0.entry(kind).or_default() -= 1;
    }

    /// How many of a kind.
    pub fn of(&self, kind: ChangeKind) -> i64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// Whether the plan changes anything at all.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|n| *n == 0)
    }
}

/// What the brake judges.
#[derive(Clone, Debug)]
pub struct Weighing<'a> {
    /// The realm's limits.
    pub config: &'a BrakeConfig,
    /// The plan.
    pub counts: &'a Counts,
    /// Applied within the last 24 hours and since the limit's window began.
    pub window: &'a [(Limit, i64)],
    /// The realm's users that are not removed, before the plan.
    pub of: i64,
    /// A first pass is not measured by `created`.
    pub first_pass: bool,
}

/// The limits that the plan trips, in the design's order; none: it passes.
pub fn weigh(w: &Weighing<'_>) -> Vec<HeldBy> {
    let mut held = vec![];
    for limit in Limit::ALL.iter().copied() {
        if limit == Limit::Created && w.first_pass {
            continue;
        }
        let now = w.counts.of(limit.kind());
        if now <= 0 {
            continue;
        }
        let count = now
            + w.window
                .iter()
                .find(|(l, _)| *l == limit)
                .map_or(0, |(_, n)| *n);
        let allowed = allowed(w.config, limit, w.of);
        let half = limit != Limit::Created && count >= 3 && count.saturating_mul(2) >= w.of;
        let over = count >= w.config.floor && count > share(w.config.percent_of(limit), w.of);
        if half || over {
            held.push(HeldBy {
                limit: limit.as_str().into(),
                count,
                of: w.of,
                allowed,
            });
        }
    }
    held
}

/// With more users than this no limit trips, so that a delta need not count a million for one; `None`: with any number one may.
pub fn enough(config: &BrakeConfig, counts: &Counts, window: &[(Limit, i64)]) -> Option<i64> {
    let mut enough = 0;
    for limit in Limit::ALL.iter().copied() {
        let now = counts.of(limit.kind());
        if now <= 0 {
            continue;
        }
        let before = window.iter().find(|(l, _)| *l == limit);
        let count = now.saturating_add(before.map_or(0, |(_, n)| *n));
        if limit != Limit::Created && count >= 3 {
            enough = enough.max(count.saturating_mul(2));
        }
        if count >= config.floor {
            let percent = config.percent_of(limit);
            let mut of = count.saturating_mul(100);
            while share(percent, of) < count {
                if percent <= 0.0 || of > i64::MAX / 4 {
                    return None;
                }
                of = of.saturating_mul(2);
            }
            enough = enough.max(of);
        }
    }
    Some(enough)
}

/// How many changes would have passed: below the floor or within the percentage, and below half of the realm.
fn allowed(config: &BrakeConfig, limit: Limit, of: i64) -> i64 {
    let by_share = share(config.percent_of(limit), of)
        .max(config.floor - 1)
        .max(0);
    if limit == Limit::Created {
        return by_share;
    }
    let below_half = ((of + 1) / 2 - 1).max(2);
    by_share.min(below_half)
}

/// `percent` of `of`, rounded down.
fn share(percent: f64, of: i64) -> i64 {
    // In millionths of a percent, so that 5 % of 20 is exactly 1.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a percentage is at most 100"
    )]
    let millionths = (percent * 1_000_000.0).round() as i128;
    let share = i128::from(of) * millionths / 100_000_000;
    i64::try_from(share).unwrap_or(i64::MAX)
}

/// The types of messages that wait while a limit holds the realm.
pub fn messages_of(limit: Limit) -> &'static [JobType] {
    match limit {
        Limit::Suspended => &[JobType::Suspend],
        Limit::Restored => &[JobType::Restore],
        Limit::PhoneChanged | Limit::PhoneLost => &[JobType::Reprovision, JobType::PhoneNotice],
        Limit::Renamed => &[JobType::Rename],
        Limit::Created => &[JobType::Provision],
        Limit::Removed => &[JobType::Deprovision],
    }
}

/// A hash over the changes of a plan in no particular order: not their ids, nor times, nor why somebody is gone (which a
/// plan held by its counts does not know yet). The same changes give the same hash.
#[derive(Clone, Debug, Default)]
pub struct PlanHash([u64; 4]);

impl PlanHash {
    /// Adds one change of this person.
    pub fn add(
        &mut self,
        who: Origin,
        kind: ChangeKind,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) {
        self.mix(&Self::line(who, kind, before, after), u64::wrapping_add);
    }

    /// Adds the making of a user; what their row shows is what is hashed.
    pub fn add_created(&mut self, user: &User) {
        self.mix(&Self::created(user), u64::wrapping_add);
    }

    /// Takes the making of a user back.
    pub fn take_back_created(&mut self, user: &User) {
        self.mix(&Self::created(user), u64::wrapping_sub);
    }

    /// What tells one change from others, also in another plan.
    pub fn key(
        who: Origin,
        kind: ChangeKind,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) -> i64 {
        head(&Self::line(who, kind, before, after))
    }

    /// The same of the making of a user.
    pub fn key_created(user: &User) -> i64 {
        head(&Self::created(user))
    }

    /// The same of what is said to a person of whom nothing changes.
    pub fn key_said(who: Origin, messages: i64) -> i64 {
        head(&Self::said(who, messages))
    }

    fn created(user: &User) -> [u8; 32] {
        let mut hash = Sha256::new();
        // Our own id of somebody who is made is another one in each plan.
        if let Origin::Directory(id) = user.origin() {
            hash.update(id.0);
        }
        hash.update(ChangeKind::Created.as_str());
        let texts = [
            Some(user.username.as_str()),
            user.display_name.as_deref(),
            user.email.as_deref(),
            user.dn.as_deref(),
            user.phone.as_ref().map(Phone::as_str),
            Some(user.state.as_str()),
            user.state_reason.map(StateReason::as_str),
        ];
        for text in texts {
            // The length parts one text from the next, and none from an empty one.
            hash.update(text.map_or(u64::MAX, |t| t.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default());
        }
        hash.finalize().into()
    }

    /// Takes a change back that was added before.
    pub fn take_back(
        &mut self,
        who: Origin,
        kind: ChangeKind,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) {
        self.mix(&Self::line(who, kind, before, after), u64::wrapping_sub);
    }

    fn line(
        who: Origin,
        kind: ChangeKind,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(who.bytes());
        hash.update(kind.as_str());
        for (side, map) in [(b'<', before), (b'>', after)] {
            for (key, value) in map {
                let away = matches!(value.as_str(), Some("deleted" | "out_of_scope") | None);
                let counts = match key.parse() {
                    // How the id is shown is another matter.
                    Ok(Field::SuspendedAt | Field::PhonePendingUntil | Field::DirectoryId) => false,
                    Ok(Field::StateReason) => !away,
                    _ => true,
                };
                if counts {
                    hash.update([side]);
                    hash.update(key);
                    hash.update(value.to_string());
                }
            }
        }
        hash.finalize().into()
    }

    fn mix(&mut self, line: &[u8; 32], op: fn(u64, u64) -> u64) {
        for (sum, word) in self.0.iter_mut().zip(line.chunks_exact(8)) {
            let word = word.iter().fold(0u64, |w, b| w << 8 | u64::from(*b));
            *sum = op(*sum, word);
        }
    }

    /// Adds that so much is said to a person of whom nothing changes.
    pub fn add_said(&mut self, who: Origin, messages: i64) {
        self.mix(&Self::said(who, messages), u64::wrapping_add);
    }

    /// Takes that back.
    pub fn take_back_said(&mut self, who: Origin, messages: i64) {
        self.mix(&Self::said(who, messages), u64::wrapping_sub);
    }

    fn said(who: Origin, messages: i64) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(who.bytes());
        hash.update("said");
        hash.update(messages.to_le_bytes());
        hash.finalize().into()
    }

    /// The hash as hexadecimal text.
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, word| {
            let _infallible = write!(text, "{word:016x}");
            text
        })
    }
}

fn head(hash: &[u8; 32]) -> i64 {
    hash.iter()
        .take(8)
        .fold(0_i64, |key, byte| key << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BrakeConfig {
        BrakeConfig {
            percent: [5.0, 5.0, 5.0, 2.0, 5.0, 50.0, 5.0],
            floor: 10,
        }
    }

    fn tripped(kind: ChangeKind, n: i64, window: i64, of: i64) -> bool {
        let mut counts = Counts::default();
        (0..n).for_each(|_| counts.add(kind));
        let limit = Limit::ALL
            .iter()
            .copied()
            .find(|l| l.kind() == kind)
            .unwrap();
        let window = [(limit, window)];
        let w = Weighing {
            config: &config(),
            counts: &counts,
            window: &window,
            of,
            first_pass: false,
        };
        let held = weigh(&w);
        for h in &held {
            assert!(h.count > h.allowed, "{h:?}");
        }
        !held.is_empty()
    }

    proptest::proptest! {
        #[test]
        fn with_more_than_enough_users_nothing_trips(
            percent in proptest::array::uniform7(0.0..20.0_f64), floor in 0..20_i64,
            changes in proptest::array::uniform7(0..30_i64), before in proptest::array::uniform7(0..100_i64), more in 1..1000_i64,
        ) {
            let config = BrakeConfig { percent, floor };
            let mut counts = Counts::default();
            for (limit, n) in Limit::ALL.iter().zip(changes) {
                (0..n).for_each(|_| counts.add(limit.kind()));
            }
            let window: Vec<(Limit, i64)> = Limit::ALL.iter().copied().zip(before).collect();
            let weighed = |of| weigh(&Weighing { config: &config, counts: &counts, window: &window, of, first_pass: false });
            if let Some(enough) = enough(&config, &counts, &window) {
                proptest::prop_assert_eq!(weighed(enough + more), vec![]);
            } else {
                proptest::prop_assert!(!weighed(i64::MAX / 1000).is_empty());
            }
        }
    }

    #[test]
    fn under_the_floor_never_trips_but_half_of_a_realm_does() {
        assert!(!tripped(ChangeKind::Suspended, 9, 0, 100));
        assert!(tripped(ChangeKind::Suspended, 10, 0, 100));
        // TRAPS 45: a firm of 12 loses 9.
        assert!(tripped(ChangeKind::Suspended, 9, 0, 12));
        assert!(tripped(ChangeKind::Suspended, 3, 0, 6));
        assert!(!tripped(ChangeKind::Suspended, 2, 0, 2));
        assert!(!tripped(ChangeKind::Created, 9, 0, 3));
    }

    #[test]
    fn percent_is_exact() {
        assert!(!tripped(ChangeKind::Suspended, 50, 0, 1000));
        assert!(tripped(ChangeKind::Suspended, 51, 0, 1000));
        assert!(!tripped(ChangeKind::PhoneLost, 20, 0, 1000));
        assert!(tripped(ChangeKind::PhoneLost, 21, 0, 1000));
    }

    #[test]
    fn trap_28_a_slow_bleed_is_counted_over_the_window() {
        assert!(!tripped(ChangeKind::PhoneChanged, 10, 40, 1000));
        assert!(tripped(ChangeKind::PhoneChanged, 10, 41, 1000));
        // What lies in the window alone holds nobody.
        assert!(!tripped(ChangeKind::PhoneChanged, 0, 500, 1000));
    }

    #[test]
    fn a_first_pass_is_not_measured_by_created() {
        let mut counts = Counts::default();
        (0..10_000).for_each(|_| counts.add(ChangeKind::Created));
        let w = Weighing {
            config: &config(),
            counts: &counts,
            window: &[],
            of: 0,
            first_pass: true,
        };
        assert_eq!(weigh(&w), []);
    }

    proptest::proptest! {
        #[test]
        fn what_passes_is_within_what_is_allowed(n in 1i64..400, window in 0i64..400, of in 0i64..2000) {
            let sum = n + window;
            let mut counts = Counts::default();
            (0..n).for_each(|_| counts.add(ChangeKind::Suspended));
            let config = config();
            let w = Weighing { config: &config, counts: &counts, window: &[(Limit::Suspended, window)], of, first_pass: false };
            let held = weigh(&w);
            proptest::prop_assert_eq!(held.is_empty(), sum <= allowed(&config, Limit::Suspended, of), "{:?}", held);
        }
    }
}
