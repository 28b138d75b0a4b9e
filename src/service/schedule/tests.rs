//! Schedules against croner, which reads crontab independently, and through every change of the clocks.

use std::fmt;

use chrono::{FixedOffset, NaiveDateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::clock::zones::Zones;

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::new(text, zone_of(zone)).expect("crontab")
}

fn zone_of(name: &str) -> TimeZone {
    Zones::built_in().get(name).expect("a zone")
}

fn at(text: &str) -> Timestamp {
    text.parse::<Instant>().expect("time").into()
}

/// The next `count` ticks, in the zone's own time.
fn ticks(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut last = at(after);
    (0..count)
        .map_while(|_| {
            last = schedule.next_after(last)?;
            let there = last.instant()?.to_zoned(schedule.zone.clone());
            Some(there.strftime("%m-%d %H:%M%z").to_string())
        })
        .collect()
}

#[test]
fn of_missed_ticks_the_newest_is_due_however_old() {
    let s = schedule("0 3 * * *", "UTC");
    // 2026-11-24T15:00:00Z, the last pass a day, a week and a year before.
    let now = Timestamp(1_795_532_400_000);
    for days in [1, 7, 365] {
        let last = now.plus_ms(-days * 86_400_000);
        let tick = s.missed(last, now).expect("a tick");
        assert_eq!(tick, now.plus_ms(-12 * 3_600_000), "{days} days");
        assert_eq!(s.missed(tick, now), None);
    }
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
    assert!(Schedule::new("0 0 30 2 *", TimeZone::UTC).is_err());
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
fn calm(zone: &TimeZone, around: Timestamp) -> bool {
    let offset = |hours: i64| {
        let at = around.plus_ms(hours * 3_600_000).instant().expect("time");
        zone.to_offset(at)
    };
    (-50..=50).all(|hours| offset(hours) == offset(0))
}

/// A zone as croner asks for it.
#[derive(Clone, Debug)]
struct ForCroner(TimeZone);

#[derive(Clone, Debug)]
struct OffsetForCroner(ForCroner, FixedOffset);

impl chrono::Offset for OffsetForCroner {
    fn fix(&self) -> FixedOffset {
        self.1
    }
}

impl fmt::Display for OffsetForCroner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.fmt(f)
    }
}

impl ForCroner {
    fn offset(&self, offset: Offset) -> OffsetForCroner {
        let fixed = FixedOffset::east_opt(offset.seconds()).expect("an offset");
        OffsetForCroner(self.clone(), fixed)
    }
}

impl chrono::TimeZone for ForCroner {
    type Offset = OffsetForCroner;

    fn from_offset(offset: &OffsetForCroner) -> Self {
        offset.0.clone()
    }

    fn offset_from_local_date(
        &self,
        date: &chrono::NaiveDate,
    ) -> chrono::LocalResult<OffsetForCroner> {
        self.offset_from_local_datetime(&date.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_local_datetime(
        &self,
        local: &NaiveDateTime,
    ) -> chrono::LocalResult<OffsetForCroner> {
        let seconds = Instant::from_second(local.and_utc().timestamp()).expect("time");
        let wall = Offset::UTC.to_datetime(seconds);
        match self.0.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                chrono::LocalResult::Single(self.offset(offset))
            }
            AmbiguousOffset::Fold { before, after } => {
                chrono::LocalResult::Ambiguous(self.offset(before), self.offset(after))
            }
            AmbiguousOffset::Gap { .. } => chrono::LocalResult::None,
        }
    }

    fn offset_from_utc_date(&self, utc: &chrono::NaiveDate) -> OffsetForCroner {
        self.offset_from_utc_datetime(&utc.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> OffsetForCroner {
        let at = Instant::from_second(utc.and_utc().timestamp()).expect("time");
        self.offset(self.0.to_offset(at))
    }
}

/// The next tick as croner sees it.
fn by_croner(line: &croner::Cron, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let after = chrono::DateTime::<Utc>::from_timestamp_millis(after.0)?;
    let after = after.with_timezone(&ForCroner(zone.clone()));
    let next = line.find_next_occurrence(&after, false).ok()?;
    Some(Timestamp(next.timestamp_millis()))
}

/// The zones whose rules chrono-tz has from an older release, each with the first day from 2026 on which its clocks differ.
fn zones_whose_rules_changed() -> Vec<(&'static str, Timestamp)> {
    let zones = Zones::built_in();
    let days: Vec<Timestamp> = (0..3 * 365)
        .map(|day| at("2026-01-01T00:30:00Z").plus_ms(day * 86_400_000))
        .collect();
    let mut changed = Vec::new();
    for old in chrono_tz::TZ_VARIANTS {
        let Some(new) = zones.get(old.name()) else {
            continue;
        };
        let differs = days.iter().find(|day| {
            let then = chrono::DateTime::<Utc>::from_timestamp_millis(day.0).expect("time");
            let offset = chrono::Offset::fix(then.with_timezone(&old).offset());
            new.to_offset(day.instant().expect("time")).seconds() != offset.local_minus_utc()
        });
        changed.extend(differs.map(|day| (old.name(), *day)));
    }
    changed
}

#[test]
fn every_zone_whose_rules_changed_ticks_by_the_new_ones() {
    let changed = zones_whose_rules_changed();
    for zone in [
        "America/Vancouver",
        "America/Edmonton",
        "America/Winnipeg",
        "Africa/Casablanca",
        "America/Havana",
    ] {
        assert!(changed.iter().any(|(name, _)| *name == zone), "{zone}");
    }
    let theirs: croner::Cron = "30 2 * * *".parse().expect("croner");
    for (name, first) in changed {
        let s = schedule("30 2 * * *", name);
        let mut last = first.plus_ms(-5 * 86_400_000);
        for _ in 0..400 {
            let next = s.next_after(last).expect("a daily tick");
            assert_eq!(
                Some(next),
                by_croner(&theirs, last, &s.zone),
                "{name} after {last}"
            );
            let wall = s.zone.to_datetime(next.instant().expect("time"));
            let half_past_two = (wall.hour(), wall.minute()) == (2, 30);
            assert!(half_past_two || !calm(&s.zone, next), "{name}: {wall}");
            last = next;
        }
    }
}

#[test]
fn half_past_two_of_this_autumn_is_right_where_rules_changed_this_year() {
    for (zone, tick) in [
        ("America/Vancouver", "11-29 02:30-0700"),
        ("America/Edmonton", "11-29 02:30-0600"),
        ("America/Winnipeg", "11-29 02:30-0500"),
        ("Africa/Casablanca", "11-29 02:30+0000"),
        ("America/Havana", "11-29 02:30-0400"),
        ("Europe/Bratislava", "11-29 02:30+0100"),
    ] {
        let s = schedule("30 2 * * *", zone);
        assert_eq!(ticks(&s, "2026-11-28T12:00:00Z", 1), [tick], "{zone}");
    }
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
        let zone = zone_of(zone);
        let ours = Schedule::new(&text, zone.clone()).expect("crontab");
        let theirs: croner::Cron = text.parse().expect("croner");
        let same_rule = ours.crontab.follows_real_time || (minute.parse::<u32>().is_ok() && hour.parse::<u32>().is_ok());
        let mut last = Timestamp(start * 1000);
        for _ in 0..20 {
            let Some(oracle) = by_croner(&theirs, last, &zone) else {
                break;
            };
            let found = ours.next_after(last);
            if same_rule || (calm(&zone, oracle) && found.is_none_or(|found| calm(&zone, found))) {
                prop_assert_eq!(found, Some(oracle), "`{}` in {} after {}", text, zone.iana_name().unwrap_or_default(), last);
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
