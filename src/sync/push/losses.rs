//! Suspensions and lost numbers that are told are gathered before they are weighed: a mass deletion comes in bursts, and the first of
//! them would pass below the limits by themselves.
//!
//! ```text
//! told ─┬─ said to be gone ───────────────────────────────────┐
//!       └─ anything else ─▶ a run ─┬─ nobody loses anything ─▶ applied at once
//!                                  └─ somebody does ──────────┤ (the others: a run without them)
//!                                                             ▼
//!                            gathered until CALM without another, at most LONGEST ─▶ one run, weighed whole
//! ```
//!
//! Meanwhile the stored cursor stays before all of it: what is gathered is in memory only, and is told again after a crash.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::directory::Delta;
use crate::model::DirectoryId;
use crate::sync::changes::gather::{CALM, LONGEST, join};

/// Losses that are gathered.
#[derive(Default, Debug)]
pub(in crate::sync) struct Losses {
    told: Delta,
    /// When the first one came, and the last.
    came: Option<(Instant, Instant)>,
}

impl Losses {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.came.is_none()
    }

    /// When they are to be weighed; `None`: nobody waits.
    pub fn due(&self) -> Option<Instant> {
        self.came
            .map(|(first, last)| (last + CALM).min(first + LONGEST))
    }

    /// Takes out of what is told whoever is said to be gone. As long as anybody waits, the cursor waits too.
    pub fn take_out(&mut self, delta: &mut Delta) {
        // Who is gone from one base and there in another has moved.
        let there: BTreeSet<DirectoryId> = delta.touched.iter().copied().collect();
        if delta.present.is_none() {
            let gone = std::mem::take(&mut delta.gone);
            let gone: Vec<DirectoryId> =
                gone.into_iter().filter(|id| !there.contains(id)).collect();
            if !gone.is_empty() {
                self.add(Delta {
                    gone,
                    ..Delta::default()
                });
            }
        }
        if !self.is_empty()
            && let Some(cursor) = delta.cursor.take()
        {
            self.told.cursor = Some(cursor);
        }
    }

    /// Adds whoever turned out to lose something. Gives what is left of what was told, which waits for nothing.
    pub fn keep(&mut self, mut delta: Delta, losing: BTreeSet<DirectoryId>) -> Delta {
        let before = delta.touched.len() + delta.gone.len();
        let mut left = delta.clone();
        for ids in [&mut left.touched, &mut left.gone] {
            ids.retain(|id| !losing.contains(id));
        }
        left.cursor = None;
        // A refresh that names everybody says of them by not naming them; and whoever was not told hangs on somebody who was.
        if delta.present.is_some() || left.touched.len() + left.gone.len() == before {
            left = Delta::default();
        } else {
            delta.touched.clear();
            delta.gone.clear();
        }
        delta.touched.extend(losing);
        self.add(delta);
        left
    }

    /// All who wait, to be weighed.
    pub fn take(&mut self) -> Delta {
        std::mem::take(self).told
    }

    fn add(&mut self, delta: Delta) {
        let now = Instant::now();
        self.came = Some((self.came.map_or(now, |(first, _)| first), now));
        join(&mut self.told, delta);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::directory::{Cursor, Way};
    use crate::model::DirectoryId;

    fn told(touched: &[u8], gone: &[u8], cookie: Option<&str>) -> Delta {
        let ids = |list: &[u8]| list.iter().map(|n| DirectoryId([*n; 16])).collect();
        Delta {
            touched: ids(touched),
            gone: ids(gone),
            present: None,
            cursor: cookie.map(|cookie| Cursor {
                way: Way::Syncrepl,
                server: "s".into(),
                cookie: cookie.into(),
                scope: 1,
            }),
            blind: None,
        }
    }

    #[test]
    fn a_burst_has_all_that_was_told_and_goes_on_from_the_last() {
        let mut all = told(&[2, 1], &[5], Some("a"));
        join(&mut all, told(&[3, 1], &[4, 5], Some("b")));
        join(&mut all, told(&[], &[6], None));
        assert_eq!(all, told(&[1, 2, 3], &[4, 5, 6], Some("b")));
        // Who is there by a refresh is who was there last.
        let present = |n| Some(vec![DirectoryId([n; 16])]);
        for (there, later, is) in [
            (None, present(7), present(7)),
            (present(7), None, present(7)),
            (present(7), present(8), present(8)),
        ] {
            all.present = there;
            join(
                &mut all,
                Delta {
                    present: later,
                    ..told(&[], &[], None)
                },
            );
            assert_eq!(all.present, is);
        }
        // Of what cannot be told, the first is said.
        for blind in ["deletions", "moves"] {
            join(
                &mut all,
                Delta {
                    blind: Some(blind.into()),
                    ..told(&[], &[], None)
                },
            );
        }
        assert_eq!(all.blind.as_deref(), Some("deletions"));
    }

    fn ids(list: &[u8]) -> BTreeSet<DirectoryId> {
        list.iter().map(|n| DirectoryId([*n; 16])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn losses_are_due_once_no_more_come_and_two_seconds_after_the_first_at_the_latest() {
        let mut losses = Losses::default();
        assert_eq!(losses.due(), None);
        let first = Instant::now();
        for n in 0..20 {
            losses.take_out(&mut told(&[], &[n], None));
            let due = losses.due().unwrap();
            assert_eq!(due, (Instant::now() + CALM).min(first + LONGEST));
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        assert_eq!(losses.take().gone.len(), 20);
        assert!(losses.is_empty());
    }

    #[test]
    fn what_waits_for_nothing_does_not_move_the_cursor_past_those_who_wait() {
        let mut losses = Losses::default();
        let mut burst = told(&[1, 2], &[3], Some("a"));
        losses.take_out(&mut burst);
        assert_eq!(burst, told(&[1, 2], &[], None));
        // One of them lost a number.
        let left = losses.keep(burst, ids(&[2]));
        assert_eq!(left, told(&[1], &[], None));
        let mut later = told(&[4], &[], Some("b"));
        losses.take_out(&mut later);
        assert_eq!(later, told(&[4], &[], None));
        assert_eq!(losses.take(), told(&[2], &[3], Some("b")));
        // Nobody waits any more.
        let mut free = told(&[5], &[], Some("c"));
        losses.take_out(&mut free);
        assert_eq!(free, told(&[5], &[], Some("c")));
    }

    #[test]
    fn who_moved_from_one_base_to_another_is_not_taken_for_gone() {
        let mut losses = Losses::default();
        let mut burst = told(&[1], &[1], Some("a"));
        losses.take_out(&mut burst);
        assert!(losses.is_empty());
        assert_eq!(burst, told(&[1], &[], Some("a")));
    }

    /// Else the same run would be tried for ever.
    #[test]
    fn who_hangs_on_somebody_who_was_not_told_waits_too() {
        let mut losses = Losses::default();
        let left = losses.keep(told(&[1], &[], Some("a")), ids(&[7]));
        assert!(left.is_empty() && left.cursor.is_none());
        assert_eq!(losses.take(), told(&[1, 7], &[], Some("a")));
        let all = Delta {
            present: Some(vec![DirectoryId([1; 16])]),
            ..told(&[2], &[], Some("b"))
        };
        let left = losses.keep(all.clone(), ids(&[3]));
        assert!(left.is_empty());
        let kept = losses.take();
        assert_eq!(
            (kept.present, kept.touched),
            (all.present, told(&[2, 3], &[], None).touched)
        );
    }
}
