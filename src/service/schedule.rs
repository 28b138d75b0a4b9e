//! When a realm's next pass is due: crontab meaning in the realm's time zone, right through changes of the clocks.
//!
//! A line bound to the wall clock (`30 2 * * *`) runs once a day: a time that the spring gap swallows runs right after
//! the gap, one that autumn repeats runs the first time only. A line with `*` in minutes or hours follows real time:
//! nothing extra after the gap, and both of the repeated hours. This is what cronie does.

use chrono::{
    DateTime, Datelike, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone,
    Timelike, Utc,
};
use chrono_tz::Tz;

use super::crontab::Crontab;
use crate::clock::Timestamp;

/// A thousand daemons must not start in the same second, and no tick is late by more than people notice.
const WIDEST_SPREAD_MS: i64 = 30_000;

/// Leap days on a given week day come back within 28 years, or 40 around a century without one; `0 0 30 2 *` never comes.
const FAR_ENOUGH_DAYS: u32 = 40 * 366;

/// A realm's schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    crontab: Crontab,
    zone: Tz,
}

impl Schedule {
    /// Reads a crontab line (checked by the configuration already).
    pub fn new(crontab: &str, zone: Tz) -> Result<Self, String> {
        Ok(Self {
            crontab: crontab.parse()?,
            zone,
        })
    }

    /// The first tick after an instant; `None`: there is none within forty years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.to_utc()?;
        let next = if self.crontab.follows_real_time() {
            self.next_in_real_time(after)
        } else {
            self.next_on_the_wall(after)
        };
        next.map(Timestamp::from)
    }

    /// What is due: the newest tick in (`last`, `now`], however many there were. A `last` that lies in the future (the
    /// clock was set back) counts as now.
    pub fn missed(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let first = self.next_after(last.min(now)).filter(|tick| *tick <= now)?;
        // One pass makes up for all of them; a look at the last hour finds the newest of a busy schedule cheaply.
        let mut newest = first.max(
            self.next_after(now.plus_ms(-3_600_000))
                .filter(|tick| *tick <= now)
                .unwrap_or(first),
        );
        while let Some(later) = self
            .next_after(newest)
            .filter(|tick| *tick <= now && now.since_ms(newest) <= 3_600_000)
        {
            newest = later;
        }
        Some(newest)
    }

    fn date_matches(&self, date: NaiveDate) -> bool {
        self.crontab.day_matches(
            date.month(),
            date.day(),
            date.weekday().num_days_from_sunday(),
        )
    }

    /// Walks real time, minute by minute where hour and day match.
    fn next_in_real_time(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let minute = Duration::minutes(1);
        let mut at =
            DateTime::from_timestamp(after.timestamp().div_euclid(60).checked_mul(60)?, 0)?
                .checked_add_signed(minute)?;
        let end = after.checked_add_signed(Duration::days(i64::from(FAR_ENOUGH_DAYS)))?;
        while at <= end {
            let local = at.with_timezone(&self.zone);
            // Zones of the past have offsets in seconds; a tick is on a whole minute of the wall.
            let off = i64::from(local.second());
            if off != 0 {
                at -= Duration::seconds(off);
                at = if at <= after { at + minute } else { at };
                continue;
            }
            if !self.date_matches(local.date_naive()) {
                let tomorrow = local.date_naive().succ_opt()?.and_time(NaiveTime::MIN);
                at = self
                    .instant_of(tomorrow)
                    .filter(|t| *t > at)
                    .unwrap_or(at + minute);
            } else if !self.crontab.hour_matches(local.hour()) {
                at = at.checked_add_signed(Duration::minutes(i64::from(60 - local.minute())))?;
            } else if self.crontab.time_matches(local.hour(), local.minute()) {
                return Some(at);
            } else {
                at = at.checked_add_signed(minute)?;
            }
        }
        None
    }

    /// Walks the wall clock's days and asks when each matching time is.
    fn next_on_the_wall(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A day earlier, for a time that the gap moved onto the next day or that the autumn repeats.
        let mut date = after.with_timezone(&self.zone).date_naive().pred_opt()?;
        for _ in 0..FAR_ENOUGH_DAYS {
            if self.date_matches(date) {
                for hour in (0..24).filter(|hour| self.crontab.hour_matches(*hour)) {
                    for minute in (0..60).filter(|minute| self.crontab.time_matches(hour, *minute))
                    {
                        let found = date
                            .and_hms_opt(hour, minute, 0)
                            .and_then(|wall| self.instant_of(wall));
                        if let Some(found) = found.filter(|found| *found > after) {
                            return Some(found);
                        }
                    }
                }
            }
            date = date.succ_opt()?;
        }
        None
    }

    /// When the wall clock shows this: the first time where it does so twice; right after the gap where it never does.
    fn instant_of(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        let mut before = wall;
        for stepped in 0..=2 * 24 * 60 {
            match self.zone.from_local_datetime(&before) {
                LocalResult::Single(at) => {
                    return Some(at.to_utc() + Duration::minutes(i64::from(stepped > 0)));
                }
                LocalResult::Ambiguous(first, last) => {
                    return Some(if stepped == 0 {
                        first.to_utc()
                    } else {
                        last.to_utc() + Duration::minutes(1)
                    });
                }
                // The gap began at a whole minute: the first minute after the last one before it.
                LocalResult::None => before = before.checked_sub_signed(Duration::minutes(1))?,
            }
        }
        None
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::new(text, zone.parse().expect("zone")).expect("crontab")
    }

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text)
            .expect("time")
            .to_utc()
            .into()
    }

    /// The next `count` ticks, in the zone's own time.
    fn ticks(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        let mut last = at(after);
        (0..count)
            .map_while(|_| {
                last = schedule.next_after(last)?;
                last.to_utc().map(|t| {
                    t.with_timezone(&schedule.zone)
                        .format("%m-%d %H:%M%z")
                        .to_string()
                })
            })
            .collect()
    }

    #[test]
    fn office_hours_in_the_realms_zone() {
        let s = schedule("*/15 9-17 * * 1-5", "Europe/Bratislava");
        assert_eq!(
            ticks(&s, "2026-11-20T16:30:00Z", 3),
            ["11-20 17:45+0100", "11-23 09:00+0100", "11-23 09:15+0100"]
        );
    }

    #[test]
    fn trap_32_a_time_in_the_spring_gap_runs_once_right_after_it() {
        let s = schedule("30 2 * * *", "Europe/Bratislava");
        assert_eq!(
            ticks(&s, "2026-03-27T12:00:00Z", 3),
            ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]
        );
        let twice = schedule("10,40 2 * * *", "Europe/Bratislava");
        assert_eq!(
            ticks(&twice, "2026-03-28T12:00:00Z", 2),
            ["03-29 03:00+0200", "03-30 02:10+0200"]
        );
    }

    #[test]
    fn trap_32_a_time_that_autumn_repeats_runs_once() {
        let s = schedule("30 2 * * *", "Europe/Bratislava");
        assert_eq!(
            ticks(&s, "2026-10-24T12:00:00Z", 2),
            ["10-25 02:30+0200", "10-26 02:30+0100"]
        );
        // Asked between the two 02:30s, and after a clock that went back.
        assert_eq!(ticks(&s, "2026-10-25T00:45:00Z", 1), ["10-26 02:30+0100"]);
    }

    #[test]
    fn a_line_with_stars_follows_real_time() {
        let s = schedule("*/30 * * * *", "Europe/Bratislava");
        assert_eq!(
            ticks(&s, "2026-03-29T00:15:00Z", 3),
            ["03-29 01:30+0100", "03-29 03:00+0200", "03-29 03:30+0200"]
        );
        assert_eq!(
            ticks(&s, "2026-10-25T00:15:00Z", 4),
            [
                "10-25 02:30+0200",
                "10-25 02:00+0100",
                "10-25 02:30+0100",
                "10-25 03:00+0100"
            ]
        );
        let lord_howe = schedule("@hourly", "Australia/Lord_Howe");
        assert_eq!(
            ticks(&lord_howe, "2026-10-03T14:45:00Z", 3),
            ["10-04 03:00+1100", "10-04 04:00+1100", "10-04 05:00+1100"]
        );
    }

    #[test]
    fn a_day_that_never_was_and_a_date_that_never_comes() {
        let apia = schedule("30 2 * * *", "Pacific/Apia");
        assert_eq!(
            ticks(&apia, "2011-12-29T13:00:00Z", 2),
            ["12-31 00:00+1400", "12-31 02:30+1400"]
        );
        assert_eq!(
            schedule("0 0 30 2 *", "UTC").next_after(at("2026-01-01T00:00:00Z")),
            None
        );
        assert_eq!(
            ticks(&schedule("0 0 29 2 *", "UTC"), "2026-01-01T00:00:00Z", 1),
            ["02-29 00:00+0000"]
        );
    }

    #[test]
    fn trap_32_missed_ticks_are_one() {
        let s = schedule("*/15 * * * *", "UTC");
        assert_eq!(
            s.missed(at("2026-11-24T03:00:00Z"), at("2026-11-24T03:14:59Z")),
            None
        );
        assert_eq!(
            s.missed(at("2026-11-24T03:00:00Z"), at("2026-11-24T03:15:00Z")),
            Some(at("2026-11-24T03:15:00Z"))
        );
        assert_eq!(
            s.missed(at("2025-11-24T03:00:00Z"), at("2026-11-24T03:40:00Z")),
            Some(at("2026-11-24T03:30:00Z"))
        );
        // The clock was set back: no wait for a year, no pass at once.
        assert_eq!(
            s.missed(at("2027-11-24T03:00:00Z"), at("2026-11-24T03:40:00Z")),
            None
        );
        let nightly = schedule("30 2 * * *", "UTC");
        assert!(
            nightly
                .missed(at("2026-11-20T02:30:00Z"), at("2026-11-24T03:40:00Z"))
                .is_some()
        );
    }

    #[test]
    fn the_spread_stays_within_a_tenth_and_thirty_seconds() {
        let minute = schedule("* * * * *", "UTC");
        let day = schedule("@daily", "UTC");
        let tick = at("2026-11-24T00:00:00Z");
        let spread_ms = |schedule: &Schedule, chance| {
            spread(
                schedule.next_after(tick).expect("a tick").since_ms(tick),
                chance,
            )
        };
        assert_eq!(spread_ms(&minute, 0.0), 0);
        assert!(spread_ms(&minute, 0.9999) < 6_000);
        assert!((29_000..30_000).contains(&spread_ms(&day, 0.9999)));
    }

    const ZONES: [&str; 9] = [
        "UTC",
        "Europe/Bratislava",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "America/Santiago",
        "Africa/Casablanca",
        "Pacific/Auckland",
        "America/St_Johns",
    ];

    fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just("*".to_string()),
            2 => (2..12_u32).prop_map(|step| format!("*/{step}")),
            4 => (low..=high).prop_map(|n| n.to_string()),
            2 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    /// Both day fields: `*/2` beside a restricted one is read differently by croner (it takes only a bare `*` for unrestricted).
    fn days() -> impl Strategy<Value = (String, String)> {
        (field(1, 28), field(0, 7)).prop_filter("stars with steps", |(day, week_day)| {
            !day.contains('/') && !week_day.contains('/')
        })
    }

    /// Whether the zone's offset is the same for two days on either side.
    fn calm(zone: Tz, around: DateTime<Utc>) -> bool {
        use chrono::Offset;
        let offset = |hours: i64| {
            (around + Duration::hours(hours))
                .with_timezone(&zone)
                .offset()
                .fix()
        };
        (-50..=50).all(|hours| offset(hours) == offset(0))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// croner, which reads crontab independently, agrees on twenty ticks in a row over years and zones. It takes a line
        /// for bound to the wall clock only if minute and hour are single numbers, so lists and ranges are compared where
        /// the clocks stand still.
        #[test]
        fn croner_agrees(
            minute in field(0, 59), hour in field(0, 23), (day, week_day) in days(), month in field(1, 12),
            zone in proptest::sample::select(&ZONES[..]), start in 1_577_836_800_i64..2_050_000_000,
        ) {
            let text = format!("{minute} {hour} {day} {month} {week_day}");
            let zone: Tz = zone.parse().expect("zone");
            let ours = Schedule::new(&text, zone).expect("crontab");
            let theirs: croner::Cron = text.parse().expect("croner");
            let same_rule = ours.crontab.follows_real_time() || (minute.parse::<u32>().is_ok() && hour.parse::<u32>().is_ok());
            let mut last = DateTime::from_timestamp(start, 0).expect("time");
            for _ in 0..20 {
                let Ok(oracle) = theirs.find_next_occurrence(&last.with_timezone(&zone), false) else {
                    break;
                };
                let oracle = oracle.to_utc();
                let found = ours.next_after(last.into()).and_then(Timestamp::to_utc);
                if same_rule || (calm(zone, oracle) && found.is_none_or(|found| calm(zone, found))) {
                    prop_assert_eq!(found, Some(oracle), "`{}` in {} after {}", text, zone, last);
                }
                last = oracle;
            }
        }

        /// The next tick is later, and on the wall it is a minute that the line names, or right after a gap.
        #[test]
        fn the_next_tick_is_later_and_asked_again_the_same(
            minute in field(0, 59), hour in field(0, 23), zone in proptest::sample::select(&ZONES[..]), start in 1_577_836_800_i64..2_050_000_000,
        ) {
            let s = schedule(&format!("{minute} {hour} * * *"), zone);
            let start = Timestamp(start * 1000);
            let next = s.next_after(start).expect("a daily tick");
            prop_assert!(next > start);
            let just_before = next.plus_ms(-1).max(start);
            prop_assert_eq!(s.next_after(just_before), Some(next));
        }
    }
}
