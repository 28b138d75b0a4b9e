//! The window of time that is asked for again and again, and when it need not be told again. Pure.
//!
//! ```text
//!            ┌────────── OVERLAP ──────────┐
//!   ─────────┼─────────────────────────────┼──────────▶ the server's time
//!            from                          at (the newest value seen, or the server's clock)
//! ```
//!
//! Everybody in the window is told again, unless it holds just what it held when it was told last, and that was long enough after it
//! was first seen for the second to be over: within one second an entry may change twice and look the same.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Timestamp;

/// Seconds by which a change may become visible after its own timestamp: a long transaction, a change that came from another
/// server with the time it has there, servers whose clocks differ. What comes later than that is for the full pass.
pub(super) const OVERLAP: i64 = 120;

/// Milliseconds after which an entry that changes again gets another timestamp, with a second to spare.
const SECOND_OVER: i64 = 2000;

/// How far the directory was followed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Window {
    /// Seconds since 1970, by the server.
    pub at: i64,
    /// Of the server's own measure of how far it is (`contextCSN`), if it has one: the same means that nothing changed.
    pub state: Option<u64>,
    /// Of who was in the window, and what they looked like.
    pub held: u64,
    /// When that was first seen, by our clock, of which only differences matter.
    pub first: Timestamp,
    /// Whether it was told after the second was over.
    pub settled: bool,
    /// Whether the server's own measure was seen to move when somebody changed. One that stands still proves nothing before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

/// What a window holds. The order of entries means nothing.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Held(u64);

impl Held {
    pub(super) fn value(self) -> u64 {
        self.0
    }

    pub(super) fn add(&mut self, id: &[u8], stamp: i64) {
        let of = xxh3_64(&[id, &stamp.to_le_bytes()].concat());
        self.0 = self.0.wrapping_add(of);
    }
}

impl Window {
    /// One of which nothing was told.
    pub(super) fn begin(at: i64, now: Timestamp) -> Self {
        Self {
            at,
            state: None,
            held: 0,
            first: now,
            settled: false,
            moved: false,
        }
    }

    pub(super) fn from(&self) -> i64 {
        self.at.saturating_sub(OVERLAP)
    }

    /// What to remember after the window was read from `now` on, and whether it is to be told.
    pub(super) fn then(
        &self,
        at: i64,
        state: Option<u64>,
        held: Held,
        now: Timestamp,
    ) -> (Self, bool) {
        let same = self.held == held.0;
        let first = if same { self.first } else { now };
        let next = Self {
            at: self.at.max(at),
            state,
            held: held.0,
            first,
            settled: same && (self.settled || now.since_ms(first) >= SECOND_OVER),
            moved: self.moved || !same && self.state.is_some() && state != self.state,
        };
        // An empty window has nobody to tell of.
        let tell = held.0 != 0 && !(same && self.settled);
        (next, tell)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(people: &[(u8, i64)]) -> Held {
        let mut held = Held::default();
        for (id, stamp) in people {
            held.add(&[*id], *stamp);
        }
        held
    }

    #[test]
    fn the_same_window_is_told_until_its_second_is_over() {
        let t = |ms: i64| Timestamp(1_000_000 + ms);
        let people = held(&[(1, 100)]);
        let begin = Window::begin(100, t(0));
        let (first, tell) = begin.then(100, None, people, t(0));
        assert!(tell && !first.settled);
        // Within the same second it may have changed again.
        let (again, tell) = first.then(100, None, people, t(900));
        assert!(tell && !again.settled);
        let (later, tell) = again.then(100, None, people, t(2100));
        assert!(tell && later.settled);
        let (idle, tell) = later.then(100, None, people, t(9000));
        assert!(!tell && idle == later);
        let (more, tell) = idle.then(105, None, held(&[(1, 100), (2, 105)]), t(10_000));
        assert!(tell && !more.settled && more.at == 105);
        // A clock of ours that is set back only tells once more.
        let (back, tell) = more.then(105, None, held(&[(1, 100), (2, 105)]), t(-5000));
        assert!(tell && !back.settled);
    }

    #[test]
    fn a_measure_is_believed_once_it_moved_with_a_change() {
        let (one, two) = (held(&[(1, 100)]), held(&[(1, 100), (2, 101)]));
        let begin = Window {
            state: Some(7),
            ..Window::begin(100, Timestamp(0))
        };
        let (still, _) = begin.then(100, Some(7), one, Timestamp(1));
        assert!(!still.moved, "somebody is met, and it stands still");
        let (elsewhere, _) = still.then(100, Some(8), one, Timestamp(2));
        assert!(!elsewhere.moved, "it moved for another reason");
        let (moved, _) = still.then(101, Some(8), two, Timestamp(3));
        assert!(moved.moved && moved.then(101, Some(8), two, Timestamp(4)).0.moved);
        // As a program of before wrote it, and reads it.
        assert!(!serde_json::to_string(&still).unwrap().contains("moved"));
    }

    #[test]
    fn nobody_is_told_of_an_empty_window_and_time_does_not_run_back() {
        let (next, tell) =
            Window::begin(100, Timestamp(0)).then(90, Some(7), Held::default(), Timestamp(1));
        assert!(!tell && next.at == 100 && next.state == Some(7));
    }

    proptest! {
        #[test]
        fn the_order_of_entries_means_nothing(mut people in prop::collection::vec((any::<u8>(), any::<i64>()), 0..20)) {
            let one = held(&people).0;
            people.reverse();
            prop_assert_eq!(one, held(&people).0);
        }

        /// Whatever changes and whenever it is asked, a change is told by a reading that came after it, if that second was over.
        #[test]
        fn no_change_is_missed(steps in prop::collection::vec((0..3000_i64, prop::option::of(0..4_u8)), 1..60)) {
            let mut now = 10_000_i64;
            let mut window = Window::begin(10, Timestamp(now));
            let mut directory = std::collections::BTreeMap::<u8, (i64, u64)>::new();
            let mut known = std::collections::BTreeMap::<u8, u64>::new();
            let mut version = 0;
            for (pause, changed) in steps.into_iter().chain([(2500, None), (2500, None), (2500, None)]) {
                now += pause;
                if let Some(id) = changed {
                    version += 1;
                    directory.insert(id, (now / 1000, version));
                    continue;
                }
                let people: Vec<(u8, i64)> = directory.iter().filter(|(_, (s, _))| *s >= window.from()).map(|(id, (s, _))| (*id, *s)).collect();
                let newest = people.iter().map(|(_, s)| *s).max().unwrap_or(0);
                let (next, tell) = window.then(newest, None, held(&people), Timestamp(now));
                if tell {
                    known.extend(people.iter().map(|(id, _)| (*id, directory[id].1)));
                }
                window = next;
            }
            let truth: std::collections::BTreeMap<u8, u64> = directory.iter().map(|(id, (_, v))| (*id, *v)).collect();
            prop_assert_eq!(known, truth);
        }
    }
}
