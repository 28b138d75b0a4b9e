//! When a realm's next pass is due: crontab meaning in the realm's time zone, right through changes of the clocks.
//!
//! A line bound to the wall clock (`30 2 * * *`) runs once a day: a time that the spring gap swallows runs right after
//! the gap, one that autumn repeats runs the first time only. A line with `*` in minutes or hours follows real time:
//! nothing extra after the gap, and both of the repeated hours. This is what cronie does.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Span, Timestamp as Instant, ToSpan as _};

use crate::clock::Timestamp;
use crate::config::crontab::{Crontab, CrontabError};

/// A thousand daemons must not start in the same second, and no tick is late by more than people notice.
const WIDEST_SPREAD_MS: i64 = 30_000;

/// Leap days on a given week day come back within 28 years, or 40 around a century without one; `0 0 30 2 *` never comes.
const FAR_ENOUGH_DAYS: i64 = 40 * 366;

/// A realm's schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    crontab: Crontab,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a crontab line (checked by the configuration already).
    pub fn new(crontab: &str, zone: TimeZone) -> Result<Self, CrontabError> {
        Ok(Self {
            crontab: crontab.parse()?,
            zone,
        })
    }

    /// The first tick after an instant; `None`: there is none within forty years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // A tick is a whole second.
        let after = Instant::from_second(after.0.div_euclid(1000)).ok()?;
        let next = if self.crontab.follows_real_time {
            self.next_in_real_time(after)
        } else {
            self.next_on_the_wall(after)
        };
        next.map(Timestamp::from)
    }

    /// What is due: the newest tick in (`last`, `now`], however many there were. A `last` that lies in the future (the
    /// clock was set back) counts as now.
    pub fn missed(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let last = last.min(now);
        let due = |after| self.next_after(after).filter(|tick| *tick <= now);
        let mut newest = due(last)?;
        // One pass makes up for all of them. A look at the last hour finds the newest of a busy schedule cheaply, longer looks
        // that of others.
        let mut back = 3_600_000;
        while now.since_ms(last) > back {
            if let Some(tick) = due(now.plus_ms(-back)) {
                newest = tick;
                break;
            }
            back = back.saturating_mul(4);
        }
        while let Some(later) = due(newest) {
            newest = later;
        }
        Some(newest)
    }

    fn date_matches(&self, date: Date) -> bool {
        let number = |n: i8| u32::try_from(n).unwrap_or_default();
        self.crontab.day_matches(
            number(date.month()),
            number(date.day()),
            number(date.weekday().to_sunday_zero_offset()),
        )
    }

    fn hour_matches(&self, wall: DateTime) -> bool {
        u32::try_from(wall.hour()).is_ok_and(|hour| self.crontab.hour_matches(hour))
    }

    fn time_matches(&self, wall: DateTime) -> bool {
        match (u32::try_from(wall.hour()), u32::try_from(wall.minute())) {
            (Ok(hour), Ok(minute)) => self.crontab.time_matches(hour, minute),
            _ => false,
        }
    }

    /// Walks real time, minute by minute where hour and day match.
    fn next_in_real_time(&self, after: Instant) -> Option<Instant> {
        let minute = 1.minute();
        let mut at = Instant::from_second(after.as_second().div_euclid(60).checked_mul(60)?)
            .ok()?
            .checked_add(minute)
            .ok()?;
        let end = after
            .checked_add(Span::new().try_hours(24 * FAR_ENOUGH_DAYS).ok()?)
            .ok()?;
        while at <= end {
            let local = self.zone.to_datetime(at);
            // Zones of the past have offsets in seconds; a tick is on a whole minute of the wall.
            let off = local.second();
            if off != 0 {
                at = at.checked_sub(off.seconds()).ok()?;
                if at <= after {
                    at = at.checked_add(minute).ok()?;
                }
                continue;
            }
            let next = at.checked_add(minute).ok()?;
            if !self.date_matches(local.date()) {
                let tomorrow = local.date().tomorrow().ok()?.to_datetime(Time::midnight());
                at = self
                    .instant_of(tomorrow)
                    .filter(|t| *t > at)
                    .unwrap_or(next);
            } else if !self.hour_matches(local) {
                at = at.checked_add((60 - local.minute()).minutes()).ok()?;
            } else if self.time_matches(local) {
                return Some(at);
            } else {
                at = next;
            }
        }
        None
    }

    /// Walks the wall clock's days and asks when each matching time is.
    fn next_on_the_wall(&self, after: Instant) -> Option<Instant> {
        // A day earlier, for a time that the gap moved onto the next day or that the autumn repeats.
        let mut date = self.zone.to_datetime(after).date().yesterday().ok()?;
        for _ in 0..FAR_ENOUGH_DAYS {
            if self.date_matches(date) {
                let walls = (0..24)
                    .flat_map(|hour| (0..60).map(move |minute| date.at(hour, minute, 0, 0)))
                    .filter(|wall| self.time_matches(*wall));
                for wall in walls {
                    if let Some(found) = self.instant_of(wall).filter(|found| *found > after) {
                        return Some(found);
                    }
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// When the wall clock shows this: the first time where it does so twice; right after the gap where it never does.
    fn instant_of(&self, wall: DateTime) -> Option<Instant> {
        let by = |offset: Offset| offset.to_timestamp(wall).ok();
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => by(offset),
            AmbiguousOffset::Fold { before, .. } => by(before),
            AmbiguousOffset::Gap { before, .. } => {
                // By the offset from before the gap this is less than the gap's length after its beginning.
                let within = by(before)?.checked_add(1.second()).ok()?;
                let began = self.zone.preceding(within).next()?;
                Some(began.timestamp())
            }
        }
    }
}

/// How long to wait after a tick, in milliseconds: up to 30 s, and up to a tenth of the interval to the next one (milliseconds);
/// `chance` is in [0, 1).
pub(super) fn spread(interval: i64, chance: f64) -> i64 {
    let widest = (interval / 10).clamp(0, WIDEST_SPREAD_MS);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "at most 30,000"
    )]
    let ms = (widest as f64 * chance.clamp(0.0, 1.0)) as i64;
    ms
}

#[cfg(test)]
mod tests;
