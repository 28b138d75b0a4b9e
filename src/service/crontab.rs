//! Five crontab fields as sets. The cron crate reads them; it is fed what it needs (a field of seconds, week days by
//! name: it counts 1 as Sunday), and the meaning of crontab(5) is kept here.

use std::str::FromStr;

use cron::TimeUnitSpec;

/// A crontab line's times: which minutes, hours, days and months.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crontab {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    /// Bit 0 is Sunday.
    week_days: u8,
    /// The day of the month begins with `*`.
    any_day: bool,
    /// The day of the week begins with `*`.
    any_week_day: bool,
    /// Minutes or hours begin with `*`: the job follows real time through a change of the clocks, as cronie does it.
    /// Else it is bound to the wall clock, and runs once a day whatever the clocks do.
    every: bool,
}

/// Names that the cron crate knows, from Sunday.
const WEEK_DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Crontab {
    /// Whether a minute and hour of a matching day match.
    pub fn time_matches(&self, hour: u32, minute: u32) -> bool {
        self.hour_matches(hour) && minute < 60 && self.minutes >> minute & 1 == 1
    }

    /// Whether an hour (0 to 23) matches.
    pub fn hour_matches(&self, hour: u32) -> bool {
        hour < 24 && self.hours >> hour & 1 == 1
    }

    /// Whether a date matches; `week_day` counts from Sunday = 0. Where both day fields are restricted, one is enough.
    pub fn day_matches(&self, month: u32, day: u32, week_day: u32) -> bool {
        let by_day = day < 32 && self.days >> day & 1 == 1;
        let by_week_day = week_day < 7 && self.week_days >> week_day & 1 == 1;
        let date = if self.any_day || self.any_week_day {
            by_day && by_week_day
        } else {
            by_day || by_week_day
        };
        date && month < 13 && self.months >> month & 1 == 1
    }

    /// See the field of the same name.
    pub fn follows_real_time(&self) -> bool {
        self.every
    }
}

impl FromStr for Crontab {
    type Err = String;

    /// Reads five fields, or one of `@hourly @daily @midnight @weekly @monthly @yearly @annually`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let five = match text {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            word if word.starts_with('@') => {
                return Err(format!(
                    "`{word}` is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"
                ));
            }
            fields => fields,
        };
        let fields: Vec<&str> = five.split_whitespace().collect();
        let [minute, hour, day, month, week_day] = fields[..] else {
            return Err(format!(
                "{} fields where crontab has five: minute hour day-of-month month day-of-week",
                fields.len()
            ));
        };
        for field in [minute, hour, day, month] {
            if let Some(c) = field
                .chars()
                .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '*' | ',' | '-' | '/'))
            {
                return Err(format!("`{c}` in `{field}` means nothing in crontab"));
            }
        }
        let days_by_name = week_days(week_day)?;
        let fed = format!("0 {minute} {hour} {day} {month} {days_by_name}");
        let read = cron::Schedule::from_str(&fed).map_err(|_| why_not(&fields))?;
        let set = |spec: &dyn Fn(u32) -> bool, to: u32| {
            (0..=to)
                .filter(|n| spec(*n))
                .fold(0_u64, |bits, n| bits | 1 << n)
        };
        let narrow = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
        Ok(Self {
            minutes: set(&|n| read.minutes().includes(n), 59),
            hours: narrow(set(&|n| read.hours().includes(n), 23)),
            days: narrow(set(&|n| n > 0 && read.days_of_month().includes(n), 31)),
            months: u16::try_from(set(&|n| n > 0 && read.months().includes(n), 12))
                .unwrap_or(u16::MAX),
            // The crate's ordinals: 1 is Sunday.
            week_days: u8::try_from(set(&|n| read.days_of_week().includes(n + 1), 6))
                .unwrap_or(u8::MAX),
            any_day: day.starts_with('*'),
            any_week_day: week_day.starts_with('*'),
            every: minute.starts_with('*') || hour.starts_with('*'),
        })
    }
}

/// The day-of-week field spelled for the cron crate: a list of names (`5-7` → `SUN,FRI,SAT`).
fn week_days(field: &str) -> Result<String, String> {
    let number = |word: &str| -> Result<usize, String> {
        let by_name = WEEK_DAYS
            .iter()
            .position(|name| name.eq_ignore_ascii_case(word));
        by_name.or_else(|| word.parse().ok().filter(|n| *n <= 7 && word.bytes().all(|b| b.is_ascii_digit())))
            .ok_or_else(|| format!("`{word}` is no day of the week: 0 to 7 (0 and 7 are Sunday, 1 is Monday) or sun to sat"))
    };
    let mut chosen = [false; 7];
    for item in field.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => {
                let step: usize = step
                    .parse()
                    .ok()
                    .filter(|s| (1..=7).contains(s))
                    .ok_or_else(|| format!("`{item}`: a step of 1 to 7 follows the slash"))?;
                (range, Some(step))
            }
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((from, to)) => (number(from)?, number(to)?),
            None if step.is_some() => (number(range)?, 7),
            None => (number(range)?, number(range)?),
        };
        // `sat-sun` reads as 6-0: the week goes on to the 7 that is Sunday too.
        let to = if to == 0 && from > 0 { 7 } else { to };
        if from > to {
            return Err(format!("`{range}` runs backwards"));
        }
        for day in (from..=to).step_by(step.unwrap_or(1)) {
            chosen[day % 7] = true;
        }
    }
    let names: Vec<&str> = (0..7)
        .filter(|day| chosen[*day])
        .map(|day| WEEK_DAYS[day])
        .collect();
    Ok(names.join(","))
}

/// Names the field that is wrong; the crate's own error text has several lines and speaks of seven fields.
fn why_not(fields: &[&str]) -> String {
    let names = [
        "minute (0-59)",
        "hour (0-23)",
        "day of the month (1-31)",
        "month (1-12 or jan-dec)",
    ];
    for (at, name) in names.iter().enumerate() {
        let mut alone = ["0", "0", "0", "1", "1", "*"];
        alone[at + 1] = fields[at];
        if cron::Schedule::from_str(&alone.join(" ")).is_err() {
            return format!("`{}` is no {name}", fields[at]);
        }
    }
    format!("`{}` is no crontab", fields.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Crontab {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn one_is_monday_and_zero_and_seven_are_sunday() {
        assert_eq!(read("*/15 9-17 * * 1-5").week_days, 0b011_1110);
        assert_eq!(read("0 0 * * 0"), read("0 0 * * 7"));
        assert_eq!(read("0 0 * * 5-7").week_days, 0b110_0001);
        assert_eq!(read("0 0 * * sat-sun").week_days, 0b100_0001);
        assert_eq!(read("0 0 * * MON,Wed").week_days, 0b000_1010);
        assert_eq!(read("0 0 * * */2").week_days, 0b101_0101);
        assert_eq!(read("0 0 * * 1-5/2").week_days, 0b010_1010);
    }

    #[test]
    fn two_restricted_day_fields_are_joined_by_or() {
        let both = read("0 0 13 * 5");
        assert!(
            both.day_matches(1, 13, 1) && both.day_matches(1, 2, 5) && !both.day_matches(1, 2, 1)
        );
        let week_day = read("0 0 * * 5");
        assert!(week_day.day_matches(1, 2, 5) && !week_day.day_matches(1, 13, 1));
        // crontab(5): a field that begins with `*` is not restricted, so both must match.
        let odd_fridays = read("0 0 */2 * 5");
        assert!(
            odd_fridays.day_matches(1, 3, 5)
                && !odd_fridays.day_matches(1, 4, 5)
                && !odd_fridays.day_matches(1, 3, 1)
        );
    }

    #[test]
    fn words_stand_for_fields() {
        assert_eq!(read("@hourly"), read("0 * * * *"));
        assert_eq!(read("@daily"), read("0 0 * * *"));
        assert_eq!(read("@weekly"), read("0 0 * * 0"));
        assert_eq!(read("@yearly"), read("0 0 1 1 *"));
        assert_eq!(read("0 0 1 JAN-mar *").months, 0b1110);
    }

    #[test]
    fn each_fault_says_where_it_is() {
        for (text, part) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("0 0 0 * * *", "6 fields"),
            ("60 * * * *", "`60` is no minute"),
            ("* 24 * * *", "`24` is no hour"),
            ("* * 0 * *", "`0` is no day of the month"),
            ("* * 32 * *", "`32` is no day of the month"),
            ("* * * 13 *", "`13` is no month"),
            ("* * * * 8", "`8` is no day of the week"),
            ("* * * * +1", "no day of the week"),
            ("* * * * 5-2", "runs backwards"),
            ("* * * * 1/0", "a step of 1 to 7"),
            ("* * ? * *", "means nothing"),
            ("* * L * *", "is no day of the month"),
            ("*/0 * * * *", "is no minute"),
            ("@reboot", "none of"),
            ("a b c d e", ""),
            ("😀 * * * *", "means nothing"),
        ] {
            let why = text.parse::<Crontab>().expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
            assert!(!why.contains('\n'), "{text}: {why}");
        }
    }
}
