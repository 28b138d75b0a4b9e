//! Which time counts towards `retry-for`: time in which messages could be sent. Not the time in which no daemon ran, the store was
//! away, the machine slept or the receiver could not be used, and not what somebody set a clock forward by.
//!
//! Two clocks are compared: one that shows the time and can be set, and one that cannot be set. Where they differ, the first was
//! set. What lies between two processes only the store can say, so that it is told now and then until when messages were sent.

use std::collections::HashMap;

use crate::clock::{Steady, Timestamp};
use crate::model::RealmId;
use crate::store::Counted;

/// How often the store is told, while messages wait.
const KEEP_MS: i64 = 10_000;
/// Clocks that differ by less were not set.
const JUMP_MS: i64 = 2_000;

/// What was seen of the clocks.
#[derive(Default, Debug)]
pub(super) struct Time {
    /// At the last turn.
    seen: Option<(Steady, Timestamp)>,
    /// When the store was last told of each realm that could be sent for.
    told: HashMap<RealmId, (Steady, Timestamp)>,
}

impl Time {
    /// What the store is to be told now of these realms, for which messages can be sent, each with its `retry-for`; nothing as
    /// long as there is no news.
    pub(super) fn news(
        &mut self,
        realms: &[(RealmId, i64)],
        now: Timestamp,
        steady: Steady,
    ) -> Vec<Counted> {
        let set = self
            .seen
            .replace((steady, now))
            .is_some_and(|seen| lost((steady, now), seen).abs() >= JUMP_MS);
        self.told
            .retain(|known, _| realms.iter().any(|(realm, _)| realm == known));
        let same = realms.iter().all(|(realm, _)| {
            self.told
                .get(realm)
                .is_some_and(|(at, _)| steady.since_ms(*at) < KEEP_MS)
        });
        if same && !set {
            return Vec::new();
        }
        realms
            .iter()
            .map(|(realm, retry_for_ms)| Counted {
                realm: realm.clone(),
                retry_for_ms: *retry_for_ms,
                lost_ms: self.told.get(realm).map(|told| lost((steady, now), *told)),
            })
            .collect()
    }

    /// The store was told, except of the `busy` ones.
    pub(super) fn told(
        &mut self,
        realms: &[(RealmId, i64)],
        busy: &[RealmId],
        now: Timestamp,
        steady: Steady,
    ) {
        for (realm, _) in realms.iter().filter(|(realm, _)| !busy.contains(realm)) {
            self.told.insert(realm.clone(), (steady, now));
        }
    }

    /// The store does not answer, so that nothing can be sent: what lies between is the store's to say.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }
}

/// By how much the clock that shows the time went further than the one that cannot be set.
fn lost(now: (Steady, Timestamp), then: (Steady, Timestamp)) -> i64 {
    now.1.since_ms(then.1) - now.0.since_ms(then.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const START: Timestamp = Timestamp(1_790_000_000_000);

    #[test]
    fn the_store_is_told_at_first_now_and_then_and_when_a_clock_was_set() {
        let clock = Clock::fixed(START);
        let realms = [(RealmId::from("example.org"), 1000)];
        let mut time = Time::default();
        let mut look = |realms: &[(RealmId, i64)]| {
            let (now, steady) = (clock.now(), clock.steady());
            let news = time.news(realms, now, steady);
            if !news.is_empty() {
                time.told(realms, &[], now, steady);
            }
            news.into_iter().map(|n| n.lost_ms).collect::<Vec<_>>()
        };
        assert_eq!(
            look(&realms),
            [None],
            "only the store knows what was before"
        );
        clock.advance_ms(9_000);
        assert!(look(&realms).is_empty());
        clock.advance_ms(1_000);
        assert_eq!(look(&realms), [Some(0)]);
        clock.set_forward_ms(3_600_000);
        assert_eq!(look(&realms), [Some(3_600_000)]);
        clock.advance_ms(500);
        clock.set_forward_ms(-3_600_000);
        assert_eq!(look(&realms), [Some(-3_600_000)]);
        assert!(look(&realms).is_empty());
        // A realm that was paused, or whose receiver could not be used.
        assert!(look(&[]).is_empty());
        assert_eq!(look(&realms), [None]);
    }
}
