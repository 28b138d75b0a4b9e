//! The five fields of crontab(5), read with crontab's meaning: 1 is Monday, 0 and 7 are Sunday. When it is time is `service::schedule`'s question.
//!
//! The cron crate reads them; it is fed what it needs (a field of seconds, week days by name: it counts 1 as Sunday). What it
//! would not say, which part of a line is wrong and why, is found out before.

use std::str::FromStr;

use cron::TimeUnitSpec as _;

use super::words::quote;

/// A schedule. Bit *n* of a set stands for the value *n*.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crontab {
    /// Minutes, 0 to 59.
    pub minutes: u64,
    /// Hours, 0 to 23.
    pub hours: u32,
    /// Days of the month, 1 to 31.
    pub days: u32,
    /// Months, 1 to 12.
    pub months: u16,
    /// Days of the week, 0 (Sunday) to 6; 7 is folded into 0.
    pub weekdays: u8,
    /// The day field begins with `*`.
    pub day_star: bool,
    /// The weekday field begins with `*`. Where neither does, a day matches if *either* field does (crontab(5)); else both must.
    pub weekday_star: bool,
    /// Minutes or hours begin with `*`: the job follows real time through a change of the clocks, as cronie does it.
    /// Else it is bound to the wall clock, and runs once a day whatever the clocks do.
    pub follows_real_time: bool,
}

/// A text that is no schedule.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{message}")]
pub struct CrontabError {
    /// Byte offset in the text.
    pub at: usize,
    /// How many bytes are meant.
    pub len: usize,
    /// What is wrong there.
    pub message: String,
}

/// The words that stand for five fields (crontab(5), "Extensions").
const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        low: 0,
        high: 59,
        names: &[],
    },
    Field {
        name: "hour",
        low: 0,
        high: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        low: 1,
        high: 31,
        names: &[],
    },
    Field {
        name: "month",
        low: 1,
        high: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of the week",
        low: 0,
        high: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Reads a schedule.
pub fn parse(text: &str) -> Result<Crontab, CrontabError> {
    let trimmed = text.trim();
    let lead = text.len() - text.trim_start().len();
    if trimmed.starts_with('@') {
        let known = WORDS
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(trimmed));
        if let Some((_, fields)) = known {
            return parse(fields);
        }
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        let message = format!("`{}` is none of {}", quote(trimmed), words.join(", "));
        return Err(fault(lead, trimmed.len(), message));
    }
    let fields = split(text);
    if fields.len() != 5 {
        let seconds = if fields.len() == 6 {
            "; a crontab has no field for seconds"
        } else {
            ""
        };
        return Err(fault(
            lead,
            trimmed.len(),
            format!(
                "expected five fields (minute hour day month weekday), found {}{seconds}",
                fields.len()
            ),
        ));
    }
    let mut sets = [0_u64; 5];
    for ((set, field), (at, word)) in sets.iter_mut().zip(&FIELDS).zip(&fields) {
        *set = field.read(word, *at)?;
    }
    // Sunday is written 0 or 7.
    let weekdays = (sets[4] | sets[4] >> 7) & 0x7f;
    let [minute, hour, day, month, _] = [0, 1, 2, 3, 4].map(|n: usize| fields[n].1);
    let names: Vec<&str> = (0..7)
        .filter(|n| weekdays >> n & 1 == 1)
        .map(|n: usize| FIELDS[4].names[n])
        .collect();
    let fed = format!("0 {minute} {hour} {day} {month} {}", names.join(","));
    let read = cron::Schedule::from_str(&fed).map_err(|_| {
        fault(
            lead,
            trimmed.len(),
            format!("`{}` is no crontab", quote(trimmed)),
        )
    })?;
    let set = |includes: &dyn Fn(u32) -> bool, from: u32, to: u32| {
        (from..=to)
            .filter(|n| includes(*n))
            .fold(0_u64, |bits, n| bits | 1 << n)
    };
    let starred = |n: usize| fields[n].1.starts_with('*');
    let crontab = Crontab {
        minutes: set(&|n| read.minutes().includes(n), 0, 59),
        hours: narrow(set(&|n| read.hours().includes(n), 0, 23)),
        days: narrow(set(&|n| read.days_of_month().includes(n), 1, 31)),
        months: u16::try_from(set(&|n| read.months().includes(n), 1, 12)).unwrap_or(u16::MAX),
        // The crate's ordinals: 1 is Sunday.
        weekdays: u8::try_from(set(&|n| read.days_of_week().includes(n + 1), 0, 6)).unwrap_or(0x7f),
        day_star: starred(2),
        weekday_star: starred(4),
        follows_real_time: starred(0) || starred(1),
    };
    if crontab.never_comes() {
        let (at, word) = fields[2];
        return Err(fault(
            at,
            word.len(),
            format!("day {word} never comes in the months of this schedule"),
        ));
    }
    Ok(crontab)
}

impl FromStr for Crontab {
    type Err = CrontabError;

    fn from_str(text: &str) -> Result<Self, CrontabError> {
        parse(text)
    }
}

impl Crontab {
    /// Whether a minute and hour of a matching day match.
    pub fn time_matches(&self, hour: u32, minute: u32) -> bool {
        self.hour_matches(hour) && minute < 60 && self.minutes >> minute & 1 == 1
    }

    /// Whether an hour (0 to 23) matches.
    pub fn hour_matches(&self, hour: u32) -> bool {
        hour < 24 && self.hours >> hour & 1 == 1
    }

    /// Whether a date matches; `weekday` counts from Sunday = 0. Where both day fields are restricted, one is enough.
    pub fn day_matches(&self, month: u32, day: u32, weekday: u32) -> bool {
        let by_day = day < 32 && self.days >> day & 1 == 1;
        let by_weekday = weekday < 7 && self.weekdays >> weekday & 1 == 1;
        let date = if self.day_star || self.weekday_star {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        };
        date && month < 13 && self.months >> month & 1 == 1
    }

    /// Whether no month has one of the days. Only the day of the month decides when the weekday is `*`; otherwise some weekday comes.
    fn never_comes(&self) -> bool {
        const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let either = !self.day_star && !self.weekday_star;
        let some = (1_u32..).zip(LENGTHS).any(|(month, days)| {
            self.months >> month & 1 == 1 && (1..=days).any(|day| self.days >> day & 1 == 1)
        });
        !either && !some
    }
}

impl Field {
    fn read(&self, word: &str, at: usize) -> Result<u64, CrontabError> {
        let mut set = 0;
        let mut start = at;
        for item in word.split(',') {
            set |= self.item(item, start)?;
            start += item.len() + 1;
        }
        Ok(set)
    }

    fn item(&self, item: &str, at: usize) -> Result<u64, CrontabError> {
        let fault = |message: String| fault(at, item.len(), message);
        if item.is_empty() {
            return Err(fault(format!(
                "an empty entry in the list of the {} field",
                self.name
            )));
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (low, high) = if range == "*" {
            (self.low, if self.high == 7 { 6 } else { self.high })
        } else if let Some((low, high)) = range.split_once('-') {
            let low = self.value(low, at, item)?;
            let sunday_last = self.high == 7 && low > 0 && high.eq_ignore_ascii_case("sun");
            let high = if sunday_last {
                7
            } else {
                self.value(high, at, item)?
            };
            if high < low {
                return Err(fault(format!(
                    "the range `{range}` runs backwards; write it as two, joined by a comma"
                )));
            }
            (low, high)
        } else {
            let value = self.value(range, at, item)?;
            if step.is_some() {
                return Err(fault(format!(
                    "a step needs a range: `{range}-{}/{}`",
                    self.high,
                    step.unwrap_or_default()
                )));
            }
            (value, value)
        };
        let step = match step {
            None => 1,
            Some(text) => match number(text) {
                Some(step) if (1..=self.high).contains(&step) => step,
                _ => {
                    return Err(fault(format!(
                        "the step `{text}` of the {} field is not between 1 and {}",
                        self.name, self.high
                    )));
                }
            },
        };
        Ok((low..=high)
            .step_by(usize::try_from(step).unwrap_or(1))
            .fold(0, |set, value| set | 1 << value))
    }

    fn value(&self, text: &str, at: usize, item: &str) -> Result<u32, CrontabError> {
        let named = self
            .names
            .iter()
            .position(|n| n.eq_ignore_ascii_case(text))
            .and_then(|p| u32::try_from(p).ok());
        if let Some(position) = named {
            return Ok(self.low + position);
        }
        match number(text) {
            Some(value) if (self.low..=self.high).contains(&value) => Ok(value),
            Some(value) => Err(fault(
                at,
                item.len(),
                format!(
                    "{value} is not between {} and {}, as the {} must be",
                    self.low, self.high, self.name
                ),
            )),
            None if self.names.is_empty() => Err(fault(
                at,
                item.len(),
                format!(
                    "`{}` is no number, `*`, range, list or step of the {} field",
                    quote(text),
                    self.name
                ),
            )),
            None => Err(fault(
                at,
                item.len(),
                format!(
                    "`{}` is no number, name (`{}`), `*`, range, list or step of the {} field",
                    quote(text),
                    self.names[0],
                    self.name
                ),
            )),
        }
    }
}

fn fault(at: usize, len: usize, message: String) -> CrontabError {
    CrontabError { at, len, message }
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn narrow(set: u64) -> u32 {
    u32::try_from(set).unwrap_or(u32::MAX)
}

/// Words with their byte offsets.
fn split(text: &str) -> Vec<(usize, &str)> {
    text.split_ascii_whitespace()
        .map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(values: &[u32]) -> u64 {
        values.iter().fold(0, |set, v| set | 1 << v)
    }

    #[test]
    fn one_is_monday_and_sunday_has_two_numbers() {
        let work = parse("*/15 9-17 * * 1-5").unwrap();
        assert_eq!(work.minutes, bits(&[0, 15, 30, 45]));
        assert_eq!(
            u64::from(work.hours),
            bits(&[9, 10, 11, 12, 13, 14, 15, 16, 17])
        );
        assert_eq!(u64::from(work.weekdays), bits(&[1, 2, 3, 4, 5]));
        assert!(work.day_star && !work.weekday_star);
        for same in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "@weekly"] {
            assert_eq!(
                u64::from(parse(same).unwrap().weekdays),
                bits(&[0]),
                "{same}"
            );
        }
        assert_eq!(
            u64::from(parse("0 0 * * FRI-SUN").unwrap().weekdays),
            bits(&[0, 5, 6])
        );
        assert_eq!(
            u64::from(parse("0 0 * * 5-7").unwrap().weekdays),
            bits(&[0, 5, 6])
        );
        assert_eq!(u64::from(parse("0 0 * * *").unwrap().weekdays), 0x7f);
        assert_eq!(
            u64::from(parse("0 0 * * */2").unwrap().weekdays),
            bits(&[0, 2, 4, 6])
        );
    }

    #[test]
    fn lists_ranges_steps_and_names_are_read() {
        let c = parse(" 5,10-20/5,59\t0 1,15 JAN,mar-may mon ").unwrap();
        assert_eq!(c.minutes, bits(&[5, 10, 15, 20, 59]));
        assert_eq!(u64::from(c.days), bits(&[1, 15]));
        assert_eq!(u64::from(c.months), bits(&[1, 3, 4, 5]));
        assert!(!c.day_star && !c.weekday_star);
        assert_eq!(parse("@hourly"), parse("0 * * * *"));
        assert_eq!(parse("@Midnight"), parse("0 0 * * *"));
    }

    #[test]
    fn two_restricted_day_fields_are_joined_by_or() {
        let read = |text| parse(text).unwrap();
        let both = read("0 0 13 * 5");
        assert!(
            both.day_matches(1, 13, 1) && both.day_matches(1, 2, 5) && !both.day_matches(1, 2, 1)
        );
        let weekday = read("0 0 * * 5");
        assert!(weekday.day_matches(1, 2, 5) && !weekday.day_matches(1, 13, 1));
        // crontab(5): a field that begins with `*` is not restricted, so both must match.
        let odd_fridays = read("0 0 */2 * 5");
        assert!(
            odd_fridays.day_matches(1, 3, 5)
                && !odd_fridays.day_matches(1, 4, 5)
                && !odd_fridays.day_matches(1, 3, 1)
        );
    }

    #[test]
    fn faults_say_where() {
        for (text, at, words) in [
            ("", 0, "found 0"),
            ("* * * *", 0, "found 4"),
            ("0 * * * * *", 0, "seconds"),
            ("60 * * * *", 0, "60 is not between 0 and 59"),
            ("0 24 * * *", 2, "hour"),
            ("0 0 0 * *", 4, "between 1 and 31"),
            ("0 0 * 13 *", 6, "month"),
            ("0 0 * * 8", 8, "between 0 and 7"),
            ("0 0 * * mo", 8, "name"),
            ("*/0 * * * *", 0, "step"),
            ("*/90 * * * *", 0, "step"),
            ("5/10 * * * *", 0, "5-59/10"),
            ("0 22-2 * * *", 2, "backwards"),
            ("0,,5 * * * *", 2, "empty entry"),
            ("0 0 L * *", 4, "no number"),
            ("0 0 30,31 2 *", 4, "never comes"),
            ("@reboot", 0, "none of"),
            ("@every 5m", 0, "none of"),
            ("99999999999 * * * *", 0, "no number"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.at == at && e.message.contains(words), "{text}: {e:?}");
        }
        assert!(parse("0 0 29 2 *").is_ok() && parse("0 0 31 2 mon").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}", more in "[0-9*/,@ a-z-]{0,30}") {
            for t in [&text, &more] {
                if let Err(e) = parse(t) {
                    prop_assert!(e.at + e.len <= t.len());
                }
            }
        }

        #[test]
        fn what_is_listed_is_in_the_set(minutes in prop::collection::btree_set(0_u32..60, 1..6), weekdays in prop::collection::btree_set(0_u32..8, 1..4)) {
            let list = |set: &std::collections::BTreeSet<u32>| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let c = parse(&format!("{} * * * {}", list(&minutes), list(&weekdays))).unwrap();
            prop_assert_eq!(c.minutes, minutes.iter().fold(0, |s, m| s | 1 << m));
            prop_assert_eq!(c.weekdays, weekdays.iter().fold(0_u8, |s, d| s | 1 << (d % 7)));
        }
    }
}
