//! What is to be done next in which realm, as a value: one thing at a time a realm, realms side by side.
//!
//! ```text
//!               tick + spread           taken
//!   (scheduled) ─────────────▶ due ──────────────▶ busy ──ended──▶ (scheduled)
//!                 asked for ─▶ waiting ─taken─▶     │
//!                                                   └─put back (paused)─▶ due again, looked at every half minute
//! ```
//!
//! Ticks that pass while a realm is busy, paused, or the daemon down are one. No input or output here: time and chance
//! are parameters.

use std::collections::{BTreeMap, VecDeque};

use super::timetable::{Tick, Timetable};
use crate::clock::Timestamp;
use crate::model::RealmId;

/// A paused realm whose tick has come is looked at this often; `resume` looks at once.
const LOOK_AGAIN_MS: i64 = 30_000;

/// A clock that goes back by less is only being disciplined.
const SET_BACK_MS: i64 = 60_000;

/// The agenda over works of type `W`.
#[derive(Debug)]
pub struct Agenda<W> {
    realms: BTreeMap<RealmId, Slot<W>>,
    seen: Timestamp,
}

#[derive(Debug)]
struct Slot<W> {
    /// `None`: not in the configuration (an orphaned realm's held plan can still be decided).
    timetable: Option<Timetable>,
    /// Ticks up to here are done with.
    done: Timestamp,
    /// When the next scheduled run starts: its tick and the spread, or the next look at a paused realm.
    start: Option<Timestamp>,
    busy: bool,
    waiting: VecDeque<W>,
}

/// What is taken from the agenda.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next<W> {
    /// The schedule's run.
    Scheduled {
        /// The newest tick that it makes up for.
        tick: Timestamp,
        /// Where the realm stood before, for [`Agenda::put_back`].
        before: Timestamp,
        /// Everything is to be read, whatever deltas could tell.
        full: bool,
    },
    /// Something that was asked for.
    Asked(W),
}

impl<W> Agenda<W> {
    /// An empty one.
    pub fn new(now: Timestamp) -> Self {
        Self {
            realms: BTreeMap::new(),
            seen: now,
        }
    }

    /// The configuration's realms. Those that were there keep what waits, what runs, and where their schedule stands
    /// (unless it changed: then it begins now); `stood` says so for new ones, `None` being a realm that had no tick yet.
    pub fn set_realms(
        &mut self,
        realms: Vec<(RealmId, Timetable)>,
        stood: impl Fn(&RealmId) -> Option<Timestamp>,
        now: Timestamp,
        chance: &mut dyn FnMut() -> f64,
    ) {
        let listed: Vec<RealmId> = realms.iter().map(|(id, _)| id.clone()).collect();
        for (id, timetable) in realms {
            match self.realms.get_mut(&id) {
                Some(slot) if slot.timetable.as_ref() == Some(&timetable) => {}
                Some(slot) => {
                    slot.done = now;
                    slot.timetable = Some(timetable);
                    slot.plan(now, chance);
                }
                None => {
                    let done = stood(&id).unwrap_or(now).min(now);
                    let mut slot = Slot {
                        timetable: Some(timetable),
                        done,
                        start: None,
                        busy: false,
                        waiting: VecDeque::new(),
                    };
                    slot.plan(now, chance);
                    self.realms.insert(id, slot);
                }
            }
        }
        for (id, slot) in &mut self.realms {
            if !listed.contains(id) {
                slot.timetable = None;
                slot.start = None;
            }
        }
        self.sweep();
    }

    /// Something for a realm, after what is under way and what waits already.
    pub fn push(&mut self, realm: &RealmId, now: Timestamp, work: W) {
        let slot = self.realms.entry(realm.clone()).or_insert_with(|| Slot {
            timetable: None,
            done: now,
            start: None,
            busy: false,
            waiting: VecDeque::new(),
        });
        slot.waiting.push_back(work);
    }

    /// Whether something is under way or waits in a realm.
    pub fn has_work(&self, realm: &RealmId) -> bool {
        self.realms
            .get(realm)
            .is_some_and(|slot| slot.busy || !slot.waiting.is_empty())
    }

    /// The last work that waits for a realm, to be joined by another of the same kind.
    pub fn newest_waiting(&mut self, realm: &RealmId) -> Option<&mut W> {
        self.realms.get_mut(realm)?.waiting.back_mut()
    }

    /// Everything that waits, taken away: nothing new starts.
    pub fn drain_waiting(&mut self) -> Vec<W> {
        self.realms
            .values_mut()
            .flat_map(|slot| std::mem::take(&mut slot.waiting))
            .collect()
    }

    /// What can start now, at most one a realm; the realms are busy from here on. What was asked for goes first.
    pub fn take(
        &mut self,
        now: Timestamp,
        chance: &mut dyn FnMut() -> f64,
    ) -> Vec<(RealmId, Next<W>)> {
        if self.seen.since_ms(now) > SET_BACK_MS {
            for slot in self.realms.values_mut() {
                slot.done = slot.done.min(now);
                slot.plan(now, chance);
            }
        }
        self.seen = now;
        let mut taken = Vec::new();
        for (id, slot) in &mut self.realms {
            if slot.busy {
                continue;
            }
            if let Some(work) = slot.waiting.pop_front() {
                slot.busy = true;
                taken.push((id.clone(), Next::Asked(work)));
            } else if slot.start.is_some_and(|start| start <= now) {
                let before = slot.done.min(now);
                match slot
                    .timetable
                    .as_ref()
                    .and_then(|timetable| timetable.missed(before, now))
                {
                    Some(Tick { at: tick, full }) => {
                        slot.busy = true;
                        slot.done = tick;
                        slot.plan(now, chance);
                        taken.push((id.clone(), Next::Scheduled { tick, before, full }));
                    }
                    None => slot.plan(now, chance),
                }
            }
        }
        taken
    }

    /// What was taken has ended.
    pub fn ended(&mut self, realm: &RealmId) {
        if let Some(slot) = self.realms.get_mut(realm) {
            slot.busy = false;
        }
        self.sweep();
    }

    /// A scheduled run that did not begin (the realm is paused): its tick stays due.
    pub fn put_back(&mut self, realm: &RealmId, before: Timestamp, now: Timestamp) {
        if let Some(slot) = self.realms.get_mut(realm) {
            slot.busy = false;
            slot.done = before;
            slot.start = slot.timetable.is_some().then(|| now.plus_ms(LOOK_AGAIN_MS));
        }
        self.sweep();
    }

    /// The realm was resumed: a tick that passed meanwhile is due now.
    pub fn look_now(&mut self, realm: &RealmId, now: Timestamp) {
        if let Some(slot) = self.realms.get_mut(realm)
            && slot
                .timetable
                .as_ref()
                .is_some_and(|timetable| timetable.missed(slot.done.min(now), now).is_some())
        {
            slot.start = Some(now);
        }
    }

    /// Another daemon on the same store made the pass of this tick.
    pub fn done_elsewhere(
        &mut self,
        realm: &RealmId,
        tick: Timestamp,
        now: Timestamp,
        chance: &mut dyn FnMut() -> f64,
    ) {
        if let Some(slot) = self.realms.get_mut(realm)
            && slot.done < tick
        {
            slot.done = tick.min(now);
            slot.plan(now, chance);
        }
    }

    /// The pass of a tick came to nothing in another daemon: what was missed since is due now.
    pub fn given_back(&mut self, realm: &RealmId, before: Timestamp, now: Timestamp) {
        if let Some(slot) = self.realms.get_mut(realm)
            && slot.timetable.is_some()
        {
            slot.done = slot.done.min(before);
            slot.start = Some(now);
        }
    }

    /// When the realm's next scheduled run starts; `None`: it has no schedule, or none that comes.
    pub fn next_start(&self, realm: &RealmId) -> Option<Timestamp> {
        self.realms.get(realm)?.start
    }

    /// The realm whose scheduled run comes first, and when.
    pub fn first(&self) -> Option<(&RealmId, Timestamp)> {
        self.realms
            .iter()
            .filter_map(|(id, slot)| Some((id, slot.start?)))
            .min_by_key(|(_, start)| *start)
    }

    /// Forgets realms that left the configuration and have nothing to do.
    fn sweep(&mut self) {
        self.realms
            .retain(|_, slot| slot.timetable.is_some() || slot.busy || !slot.waiting.is_empty());
    }
}

impl<W> Slot<W> {
    /// Finds the next start anew. A missed tick is spread too: a thousand machines boot after one power cut.
    fn plan(&mut self, now: Timestamp, chance: &mut dyn FnMut() -> f64) {
        self.start = self.timetable.as_ref().and_then(|timetable| {
            let tick = timetable.next_after(self.done.min(now))?;
            Some(tick.max(now).plus_ms(timetable.spread_ms(tick, chance())))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::schedule::Schedule;
    use super::*;

    const MINUTE: i64 = 60_000;

    fn start() -> Timestamp {
        // 2026-11-24T03:00:00Z
        Timestamp(1_795_489_200_000)
    }

    fn realm(name: &str) -> RealmId {
        name.into()
    }

    fn agenda(stood: Option<Timestamp>, line: &str) -> Agenda<u32> {
        let mut agenda = Agenda::new(start());
        let schedule = Schedule::new(line, jiff::tz::TimeZone::UTC).expect("schedule");
        agenda.set_realms(
            vec![(realm("a"), schedule.into())],
            |_| stood,
            start(),
            &mut || 0.0,
        );
        agenda
    }

    fn take(agenda: &mut Agenda<u32>, minutes: i64) -> Vec<(RealmId, Next<u32>)> {
        agenda.take(start().plus_ms(minutes * MINUTE), &mut || 0.0)
    }

    #[test]
    fn no_run_at_the_start_unless_a_tick_was_missed() {
        assert!(take(&mut agenda(None, "*/15 * * * *"), 0).is_empty());
        assert!(take(&mut agenda(Some(start().plus_ms(-10)), "1 1 * * *"), 0).is_empty());
        let mut missed = agenda(Some(start().plus_ms(-3 * 24 * 60 * MINUTE)), "30 2 * * *");
        assert_eq!(
            take(&mut missed, 0).len(),
            1,
            "three missed nights are one run"
        );
        missed.ended(&realm("a"));
        assert!(take(&mut missed, 1).is_empty());
        assert_eq!(take(&mut missed, 23 * 60 + 30).len(), 1);
    }

    #[test]
    fn ticks_during_a_run_are_one_and_wait_for_its_end() {
        let mut agenda = agenda(None, "*/15 * * * *");
        assert_eq!(take(&mut agenda, 15).len(), 1);
        assert!(take(&mut agenda, 30).is_empty());
        assert!(take(&mut agenda, 46).is_empty());
        agenda.ended(&realm("a"));
        let taken = take(&mut agenda, 47);
        assert_eq!(
            taken[0].1,
            Next::Scheduled {
                tick: start().plus_ms(45 * MINUTE),
                before: start().plus_ms(15 * MINUTE),
                full: false
            }
        );
        agenda.ended(&realm("a"));
        assert!(take(&mut agenda, 48).is_empty());
    }

    #[test]
    fn what_is_asked_for_waits_for_what_is_under_way_and_goes_first() {
        let mut agenda = agenda(None, "*/15 * * * *");
        assert_eq!(take(&mut agenda, 15).len(), 1);
        agenda.push(&realm("a"), start(), 1);
        agenda.push(&realm("a"), start(), 2);
        assert!(take(&mut agenda, 30).is_empty());
        agenda.ended(&realm("a"));
        assert_eq!(take(&mut agenda, 30), [(realm("a"), Next::Asked(1))]);
        agenda.ended(&realm("a"));
        assert_eq!(take(&mut agenda, 30), [(realm("a"), Next::Asked(2))]);
        agenda.ended(&realm("a"));
        assert!(matches!(take(&mut agenda, 30)[0].1, Next::Scheduled { .. }));
    }

    #[test]
    fn a_paused_realms_tick_stays_due() {
        let mut agenda = agenda(None, "0 * * * *");
        let Next::Scheduled { before, .. } = take(&mut agenda, 60)[0].1 else {
            panic!("scheduled")
        };
        agenda.put_back(&realm("a"), before, start().plus_ms(60 * MINUTE));
        assert!(
            agenda
                .take(start().plus_ms(60 * MINUTE + 29_000), &mut || 0.0)
                .is_empty()
        );
        agenda.look_now(&realm("a"), start().plus_ms(60 * MINUTE + 29_000));
        assert_eq!(
            agenda
                .take(start().plus_ms(60 * MINUTE + 29_000), &mut || 0.0)
                .len(),
            1
        );
    }

    #[test]
    fn a_tick_that_another_daemon_does_is_left_to_it_unless_it_dies() {
        let mut agenda = agenda(None, "*/15 * * * *");
        let tick = start().plus_ms(15 * MINUTE);
        agenda.done_elsewhere(&realm("a"), tick, tick.plus_ms(1), &mut || 0.0);
        assert!(take(&mut agenda, 16).is_empty());
        agenda.given_back(&realm("a"), tick.plus_ms(-1), tick.plus_ms(2 * MINUTE));
        let taken = take(&mut agenda, 17);
        let before = tick.plus_ms(-1);
        assert_eq!(
            taken,
            [(
                realm("a"),
                Next::Scheduled {
                    tick,
                    before,
                    full: false
                }
            )]
        );
        agenda.ended(&realm("a"));
        assert!(take(&mut agenda, 18).is_empty());
        // What is known already changes nothing.
        agenda.done_elsewhere(&realm("a"), tick, start(), &mut || 0.0);
        assert_eq!(take(&mut agenda, 30).len(), 1);
    }

    #[test]
    fn a_clock_that_was_wrong_by_a_year_does_not_stop_the_schedule() {
        let mut agenda = agenda(None, "*/15 * * * *");
        let year = 365 * 24 * 60;
        assert_eq!(take(&mut agenda, year).len(), 1);
        agenda.ended(&realm("a"));
        assert!(take(&mut agenda, 1).is_empty());
        assert_eq!(take(&mut agenda, 15).len(), 1);
    }

    #[test]
    fn a_realm_that_leaves_the_file_keeps_what_waits_and_loses_its_schedule() {
        let mut agenda = agenda(None, "*/15 * * * *");
        assert_eq!(take(&mut agenda, 15).len(), 1);
        agenda.push(&realm("a"), start(), 7);
        agenda.set_realms(Vec::new(), |_| None, start(), &mut || 0.0);
        assert_eq!(agenda.next_start(&realm("a")), None);
        agenda.ended(&realm("a"));
        assert_eq!(take(&mut agenda, 30), [(realm("a"), Next::Asked(7))]);
        agenda.ended(&realm("a"));
        assert!(agenda.realms.is_empty());
    }

    proptest! {
        /// Whatever happens in whatever order: one thing at a time a realm, and nothing that was asked for is lost or done twice.
        #[test]
        fn one_at_a_time_and_nothing_lost(steps in proptest::collection::vec((0..5_u8, 0..3_usize, 0..40_i64), 1..120)) {
            let names = ["a", "b", "c"];
            let mut agenda = Agenda::new(start());
            let realms = names.iter().map(|n| (realm(n), Schedule::new("*/7 * * * *", jiff::tz::TimeZone::UTC).expect("line").into())).collect();
            agenda.set_realms(realms, |_| None, start(), &mut || 0.5);
            let (mut now, mut asked, mut done, mut busy) = (start(), 0_u32, BTreeSet::new(), BTreeSet::new());
            for (what, which, by) in steps {
                let id = realm(names[which]);
                match what {
                    0 => { agenda.push(&id, now, asked); asked += 1; }
                    1 => if busy.remove(&id) { agenda.ended(&id) },
                    2 => if busy.remove(&id) { agenda.put_back(&id, start(), now) },
                    _ => now = now.plus_ms(by * MINUTE),
                }
                for (id, next) in agenda.take(now, &mut || 0.5) {
                    prop_assert!(busy.insert(id), "two at a time");
                    if let Next::Asked(work) = next {
                        prop_assert!(done.insert(work), "done twice");
                    }
                }
            }
            for _ in 0..=asked {
                for id in std::mem::take(&mut busy) { agenda.ended(&id); }
                for (id, next) in agenda.take(now, &mut || 0.5) {
                    busy.insert(id);
                    if let Next::Asked(work) = next { done.insert(work); }
                }
            }
            prop_assert_eq!(done.len(), asked as usize);
        }
    }
}
