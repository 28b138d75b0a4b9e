//! Dates from which and until which a token counts.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// Reads a date: `2012-09-19T00:00:00Z`, with another offset or none (UTC), `2012-09-19`, or `31/12/2037` as drafts have it. `end`: a
/// day alone counts whole.
///
/// # Errors
/// What is expected instead.
pub(super) fn read(text: &str, end: bool) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(instant.into());
    }
    let utc = |time: DateTime| {
        let instant = time.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        instant.map(Timestamp::from).map_err(|_| unfit(text))
    };
    if text.contains(['T', ' ']) {
        return text
            .parse::<DateTime>()
            .map_err(|_| unfit(text))
            .and_then(utc);
    }
    let day = match text.parse::<Date>() {
        Ok(day) => day,
        Err(_) => slashes(text).ok_or_else(|| unfit(text))?,
    };
    let last = day.tomorrow().ok().filter(|_| end).unwrap_or(day);
    utc(last.at(0, 0, 0, 0))
}

/// A day between slashes, if only one day can be meant.
fn slashes(text: &str) -> Option<Date> {
    let parts: Vec<i16> = text
        .split('/')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let &[a, b, year] = parts.as_slice() else {
        return None;
    };
    let day = |month: i16, day: i16| {
        let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
        Date::new(year, month, day).ok()
    };
    match (day(a, b), day(b, a)) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    }
}

fn unfit(text: &str) -> String {
    format!(
        "`{}` is no date that can be told: write it as 2027-12-31T00:00:00Z",
        super::shown(text)
    )
}
