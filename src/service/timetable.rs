//! A realm's ticks: its schedule, and the one by which everything is read although deltas work. Both are one sequence, so that
//! two ticks of one instant, or a night of missed ones, are one run: a full one if any of them asks for that.

use jiff::tz::TimeZone;

use super::schedule::Schedule;
use crate::clock::Timestamp;
use crate::config::{ChangesWay, RealmConfig};

/// When a realm's runs are due, and which of them read everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timetable {
    schedule: Schedule,
    /// `None`: each tick reads everything anyway.
    full: Option<Schedule>,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// The newest tick that a run makes up for.
    pub at: Timestamp,
    /// One of them was of `full-schedule`.
    pub full: bool,
}

impl From<Schedule> for Timetable {
    fn from(schedule: Schedule) -> Self {
        Self {
            schedule,
            full: None,
        }
    }
}

impl Timetable {
    /// Reads the crontab lines of a realm (checked by the configuration already).
    pub fn of(realm: &RealmConfig) -> Result<Self, String> {
        let line = |text: &str, zone: &TimeZone, key: &str| {
            Schedule::new(text, zone.clone()).map_err(|why| format!("{}: {key}: {why}", realm.id))
        };
        let full = match realm.directory.changes {
            ChangesWay::Full => None,
            _ => Some(line(
                &realm.full_schedule,
                &realm.time_zone,
                "full-schedule",
            )?),
        };
        Ok(Self {
            schedule: line(&realm.schedule, &realm.time_zone, "schedule")?,
            full,
        })
    }

    /// The first tick after an instant; `None`: there is none within forty years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let full = self.full.as_ref().and_then(|full| full.next_after(after));
        [self.schedule.next_after(after), full]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is due in (`last`, `now`], however many ticks there were.
    pub fn missed(&self, last: Timestamp, now: Timestamp) -> Option<Tick> {
        let often = self.schedule.missed(last, now);
        let full = self.full.as_ref().and_then(|full| full.missed(last, now));
        Some(Tick {
            at: often.max(full)?,
            full: full.is_some(),
        })
    }

    /// How long to wait after a tick, in milliseconds: up to 30 s, and up to a tenth of the interval; `chance` is in [0, 1).
    pub fn spread_ms(&self, tick: Timestamp, chance: f64) -> i64 {
        let interval = self
            .next_after(tick)
            .map_or(i64::MAX, |next| next.since_ms(tick));
        super::schedule::spread(interval, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn start() -> Timestamp {
        // 2026-11-24T00:00:00Z
        Timestamp(1_795_478_400_000)
    }

    fn at(minutes: i64) -> Timestamp {
        start().plus_ms(minutes * MINUTE)
    }

    fn table() -> Timetable {
        let line = |text| Schedule::new(text, jiff::tz::TimeZone::UTC).expect("a line");
        Timetable {
            schedule: line("*/15 * * * *"),
            full: Some(line("30 2 * * *")),
        }
    }

    #[test]
    fn two_ticks_of_one_instant_are_one_full_run() {
        assert_eq!(table().next_after(at(136)), Some(at(150)));
        let due = table().missed(at(136), at(150));
        assert_eq!(
            due,
            Some(Tick {
                at: at(150),
                full: true
            })
        );
        assert_eq!(
            table().missed(at(150), at(165)),
            Some(Tick {
                at: at(165),
                full: false
            })
        );
        assert_eq!(table().missed(at(150), at(164)), None);
    }

    #[test]
    fn a_night_of_missed_ticks_is_one_full_run_and_its_tick_is_the_newest() {
        let due = table().missed(at(0), at(8 * 60 + 2));
        assert_eq!(
            due,
            Some(Tick {
                at: at(8 * 60),
                full: true
            })
        );
    }

    #[test]
    fn a_realm_may_live_on_its_full_schedule_alone() {
        let line = |text| Schedule::new(text, jiff::tz::TimeZone::UTC).expect("a line");
        let rarely = Timetable {
            schedule: line("0 0 29 2 *"),
            full: Some(line("30 2 * * *")),
        };
        assert_eq!(rarely.next_after(at(0)), Some(at(150)));
        assert_eq!(rarely.missed(at(0), at(149)), None);
        assert!(rarely.missed(at(0), at(151)).is_some_and(|due| due.full));
    }
}
