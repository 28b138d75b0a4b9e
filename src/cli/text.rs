//! Runs and changes in words.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthChar as _;

use super::render::paint;
use crate::acts::EnrolmentObject;
use crate::clock::Timestamp;
use crate::clock::zones::{self, Zones};
use crate::config::Environment;
use crate::model::change::ANOTHER_PERSON;
pub(super) use crate::model::words::count;
use crate::model::{Change, ChangeKind, EnrolmentState, Field, Mode, Outcome, Run};
use crate::story::status::RejectedBefore;

/// The zone of the person who reads; unset in tests of this crate, which read UTC.
static LOCAL: OnceLock<TimeZone> = OnceLock::new();

/// What zone times are shown in.
pub(super) fn set_zone(zone: TimeZone) {
    let _once = LOCAL.set(zone);
}

/// The zone that the environment or the machine names, by the newest rules at hand.
pub(super) fn zone_of(env: &Environment) -> TimeZone {
    let zones = Zones::newest(&env.locate(Path::new(zones::SYSTEM)));
    let name = env.var("TZ").and_then(|tz| tz.to_str());
    let named = match name.map(|name| name.strip_prefix(':').unwrap_or(name)) {
        Some("") => return TimeZone::UTC,
        Some(name) => zones.get(name).or_else(|| TimeZone::posix(name).ok()),
        None => None,
    };
    named
        .or_else(|| {
            // The machine's own file may be older than the rules at hand.
            let machine = TimeZone::try_system().ok()?;
            let known = machine.iana_name().and_then(|name| zones.get(name));
            known.or(Some(machine))
        })
        .unwrap_or(TimeZone::UTC)
}

/// What became of an enrolment.
pub(super) fn enrolment(sent: &EnrolmentObject) -> String {
    let mut words = format!("{}: {}", when(sent.sent_at), sent.state);
    // Whoever used it had opened it.
    if let Some(at) = sent.used_at {
        words += &format!(" {}", when(at));
    } else if let Some(at) = sent.opened_at {
        let opened = match sent.state {
            EnrolmentState::Opened => "",
            _ => ", opened",
        };
        words += &format!("{opened} {} (perhaps by a scanner)", when(at));
    }
    words + ", valid until " + &when(sent.expires_at)
}

/// An instant, to the second, as the reader's clock shows it, with its distance from UTC.
pub(super) fn when(at: Timestamp) -> String {
    when_in(at, LOCAL.get().unwrap_or(&TimeZone::UTC))
}

fn when_in(at: Timestamp, zone: &TimeZone) -> String {
    at.instant().map_or_else(
        || at.to_string(),
        |t| {
            let there = t.to_zoned(zone.clone());
            there.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
        },
    )
}

/// The beginning of a day (`2026-11-24`) in the reader's zone.
pub(super) fn midnight(day: &str) -> Option<Timestamp> {
    // Longer ones are times, whose hours must not be lost.
    let day: jiff::civil::Date = day.parse().ok().filter(|_| day.len() == 10)?;
    let zone = LOCAL.get().unwrap_or(&TimeZone::UTC).clone();
    Some(day.to_zoned(zone).ok()?.timestamp().into())
}

/// A span of time: `3 s`, `12 min`, `5 h`, `9 d`.
pub(super) fn span(ms: i64) -> String {
    let s = ms / 1000;
    match s {
        ..1 => format!("{} ms", ms.max(0)),
        1..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// The text with each instant in it as [`when`] shows it: what the daemon, a stage or the store wrote speaks of UTC (`2026-11-24T03:00:00.000Z`).
pub(super) fn local_times(text: &str) -> Cow<'_, str> {
    local_times_in(text, LOCAL.get().unwrap_or(&TimeZone::UTC))
}

fn local_times_in<'t>(text: &'t str, zone: &TimeZone) -> Cow<'t, str> {
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices('T') {
        if let Some((from, to, instant)) = instant_around(text, at)
            && from >= done
        {
            out.push_str(&text[done..from]);
            out.push_str(&when_in(instant, zone));
            done = to;
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The instant whose date ends at a `T`: from where to where it stands, and which. One that is a part of a longer word is none.
fn instant_around(text: &str, at: usize) -> Option<(usize, usize, Timestamp)> {
    /// Of `2026-11-24`.
    const DATE: usize = 10;
    let from = at.checked_sub(DATE)?;
    let word = |c: char| c.is_alphanumeric() || c == '-';
    if text.get(..from)?.ends_with(word) {
        return None;
    }
    let time = text.get(at + 1..)?;
    let length = time
        .bytes()
        .take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.'))
        .count();
    let after = time.get(length..)?.strip_prefix('Z')?;
    if length < 8 || after.starts_with(word) {
        return None;
    }
    let to = at + 1 + length + 1;
    let instant: jiff::Timestamp = text.get(from..to)?.parse().ok()?;
    Some((from, to, instant.into()))
}

/// Control characters and what turns the direction of writing as their codes, so that a value of the directory cannot steer the
/// terminal. The paint of [`paint`] stays where colour is wanted.
pub(super) fn visible(text: &str, colour: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = paint_at(rest).filter(|_| colour) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' | '\t' => out.push(c),
            c if turns(c) => out.extend(c.escape_unicode()),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Whether a character turns the direction of what follows, so that one text looks like another.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON with an escape in place of each character that steers a terminal: JSON itself leaves those beyond ASCII as they are.
pub(super) fn escaped(json: String) -> String {
    let steers = |c: char| c.is_control() || turns(c);
    if !json.contains(steers) {
        return json;
    }
    json.chars()
        .map(|c| {
            if steers(c) {
                format!("\\u{:04x}", u32::from(c))
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// The length of `ESC [ digits m` at the beginning.
fn paint_at(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\x1b[")?;
    let digits = inner
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b';')
        .count();
    (digits <= 5 && inner.as_bytes().get(digits) == Some(&b'm')).then_some(digits + 3)
}

/// The same for a cell or a value: ends of line and colours are no more than their codes, and instants are the reader's.
pub(super) fn one_line(text: &str) -> String {
    one_line_as_it_is(&local_times(text))
}

/// The same with instants as they are: for what programs read.
pub(super) fn one_line_as_it_is(text: &str) -> String {
    visible(text, false)
        .replace('\n', "\\n")
        .replace('\t', "\\t")
}

/// A line in pieces of at most `width` columns, cut between words; what follows begins below the text of the first, where that
/// stands in a column of its own.
pub(super) fn wrap(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let body = line.trim_start_matches(' ');
    let lead = line.len() - body.len();
    let hang = body
        .find("  ")
        .map(|at| {
            let rest = &body[at..];
            columns(&body[..at]) + rest.len() - rest.trim_start_matches(' ').len()
        })
        .filter(|at| lead + at < width / 2)
        .map_or(lead + 2, |at| lead + at);
    let mut out = String::new();
    let mut used = 0;
    for word in words(line, width.saturating_sub(hang)) {
        let wide = columns(word.trim_end_matches(' '));
        if used > hang && used + wide > width {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&" ".repeat(hang));
            used = hang;
        }
        out.push_str(word);
        used += columns(word);
    }
    out
}

/// The words of a line with the spaces behind them. A command between backticks is one word where there is room for it, so that it can
/// be copied.
fn words(line: &str, room: usize) -> Vec<&str> {
    let mut all = vec![];
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.split_inclusive(' ').next().unwrap_or(rest);
        let opens = word.matches('`').count() % 2 == 1;
        let whole = word.find('`').filter(|_| opens).and_then(|from| {
            let close = from + 1 + rest.get(from + 1..)?.find('`')?;
            let end = rest[close..]
                .find(' ')
                .map_or(rest.len(), |n| close + n + 1);
            Some(&rest[..end]).filter(|whole| columns(whole.trim_end_matches(' ')) <= room)
        });
        let word = whole.unwrap_or(word);
        all.push(word);
        rest = &rest[word.len()..];
    }
    all
}

/// The columns that a text takes; paint takes none.
fn columns(text: &str) -> usize {
    let mut rest = text;
    let mut wide = 0;
    while let Some(c) = rest.chars().next() {
        let paint = paint_at(rest);
        if paint.is_none() {
            wide += c.width().unwrap_or(0);
        }
        rest = &rest[paint.unwrap_or(c.len_utf8())..];
    }
    wide
}

/// What a run came to, in one line.
pub(super) fn summary(run: &Run) -> String {
    let mut text = run.what_changes();
    if text.is_empty() && run.jobs == 0 {
        text.push_str(if run.left_out > 0 {
            "nothing else differs"
        } else {
            "nothing differs"
        });
    } else if text.is_empty() {
        text.push_str("nobody changes");
    }
    if run.jobs > 0 {
        let _infallible = write!(text, "; {}", count(run.jobs, "message"));
    }
    if run.left_out > 0 {
        let _infallible = write!(text, "; {} left out", count(run.left_out, "user"));
    }
    text
}

/// That a plan's changes are not new; `digits` tell that plan from others.
pub(super) fn rejected_before(before: &RejectedBefore, digits: usize) -> String {
    let by = before.by.as_deref();
    let by = by.map_or(String::new(), |by| format!(" by {by}"));
    let at = before
        .at
        .map_or(String::new(), |at| format!(" at {}", when(at)));
    format!(
        "the same changes were rejected{by}{at}, as plan {:#.digits$}",
        before.run
    )
}

/// The run for people: what it came to, what was read, and why it is held.
pub(super) fn run(run: &Run, dry: bool) -> String {
    let error = run.error.as_deref().unwrap_or("no reason was kept");
    let mut text = match run.outcome {
        Outcome::Failed | Outcome::Cancelled => format!(
            "{} {}: {error}",
            paint("31", run.outcome.as_str()),
            run.realm
        ),
        Outcome::Held => format!(
            "{} {}: {}",
            paint("33", if dry { "would be held" } else { "held" }),
            run.realm,
            summary(run)
        ),
        Outcome::Applied if dry => format!(
            "{} {}: {}",
            paint("32", "would be applied to"),
            run.realm,
            summary(run)
        ),
        outcome => format!(
            "{} {}: {}",
            paint("32", outcome.as_str()),
            run.realm,
            summary(run)
        ),
    };
    if run.mode == Mode::Import {
        if let Some(note) = &run.note {
            let _infallible = write!(text, "\n  {note}");
        }
        return with_reasons(text, run);
    }
    let from = run
        .server
        .as_deref()
        .map(|server| format!(" from {server}"))
        .unwrap_or_default();
    let _infallible = write!(
        text,
        "\n  {} read{from} in {}",
        entries(run.seen),
        span(run.elapsed_ms)
    );
    let refused = [
        (run.refused_entries, "entry"),
        (run.refused_phones, "value"),
    ];
    let refused: Vec<String> = refused
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| count(*n, word))
        .collect();
    if !refused.is_empty() {
        let _infallible = write!(
            text,
            "; {} refused (`realmsync refused {}`)",
            refused.join(" and "),
            run.realm
        );
    }
    with_reasons(text, run)
}

/// Why it is held, and what else is to be said.
fn with_reasons(mut text: String, run: &Run) -> String {
    let because = if run.outcome == Outcome::Held {
        "held because"
    } else {
        "was held because"
    };
    for held in &run.held_by {
        let _infallible = write!(text, "\n  {because} {}", held.why());
    }
    if let (Some(note), false) = (
        &run.error,
        matches!(run.outcome, Outcome::Failed | Outcome::Cancelled),
    ) {
        let _infallible = write!(text, "\n  {note}");
    }
    text
}

fn entries(n: i64) -> String {
    count(n, "entry")
}

/// What an administrator does about a run that is held.
pub(super) fn decide_it(run: &Run) -> String {
    format!(
        "look at it with `realmsync runs show {0:#}`, then `realmsync approve {0:#}` or `realmsync reject {0:#}`",
        run.run
    )
}

/// A line of a plan, like a line of a diff.
pub(super) fn change(change: &Change, show_phones: bool) -> String {
    let (sign, colour) = match change.kind {
        ChangeKind::Created | ChangeKind::Restored | ChangeKind::Moved | ChangeKind::Unblocked => {
            ("+", "32")
        }
        ChangeKind::Suspended
        | ChangeKind::Removed
        | ChangeKind::PhoneLost
        | ChangeKind::Blocked => ("-", "31"),
        ChangeKind::Updated | ChangeKind::Renamed | ChangeKind::PhoneChanged => ("~", "33"),
    };
    let name = one_line(change.username.as_deref().unwrap_or("(removed)"));
    let kind = change.kind.as_str().replace('_', " ");
    paint(
        colour,
        format!(
            "{sign} {name:<20} {kind:<13} {}",
            one_line(&details(change, show_phones))
        )
        .trim_end(),
    )
}

fn details(change: &Change, show_phones: bool) -> String {
    let is = |map: &Map<String, Value>, key: &str| shown(map.get(key), key, show_phones);
    let reason = || change.after.get("state_reason").and_then(Value::as_str);
    match change.kind {
        ChangeKind::Created if change.after.is_empty() => String::new(),
        ChangeKind::Created => {
            let name = change
                .after
                .get("display_name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let state = if reason() == Some("disabled") {
                ", disabled in the directory"
            } else {
                ""
            };
            format!("{:<16} {name}{state}", is(&change.after, "phone"))
                .trim()
                .to_owned()
        }
        ChangeKind::Suspended => match reason() {
            Some("deleted") => "found nowhere in the directory any more".into(),
            Some("out_of_scope") => "outside of base and filter now".into(),
            Some("disabled") => "disabled in the directory".into(),
            Some("undone") => "the creation is undone".into(),
            // A held plan looks nobody up before it is approved.
            _ => "not seen".into(),
        },
        ChangeKind::Restored => match change.before.get("state_reason").and_then(Value::as_str) {
            Some("deleted") => "was found nowhere in the directory".into(),
            Some("out_of_scope") => "was outside of base and filter".into(),
            Some("disabled") => "was disabled in the directory".into(),
            Some("undone") => "the creation was undone".into(),
            _ => other(change, show_phones),
        },
        ChangeKind::PhoneLost => format!("was {}", is(&change.before, "phone")),
        ChangeKind::PhoneChanged => {
            let pending = change
                .after
                .get("phone_pending")
                .is_some_and(|v| !v.is_null());
            let until = change.after.get("phone_pending_until");
            let now = if pending {
                let waits = if until.is_some_and(|v| !v.is_null()) {
                    "after its hold"
                } else {
                    "when it is accepted"
                };
                format!("{}, {waits}", is(&change.after, "phone_pending"))
            } else {
                is(&change.after, "phone")
            };
            let was = if pending && !change.before.contains_key("phone") {
                "the number in use".into()
            } else {
                is(&change.before, "phone")
            };
            format!("{was} → {now}")
        }
        ChangeKind::Renamed => format!(
            "{} → {}",
            is(&change.before, "username"),
            is(&change.after, "username")
        ),
        _ => other(change, show_phones),
    }
}

/// Every field that differs, but for those that follow from another.
fn other(change: &Change, show_phones: bool) -> String {
    const QUIET: [Field; 4] = [
        Field::PhoneRaw,
        Field::PhoneSource,
        Field::SuspendedAt,
        Field::State,
    ];
    let quiet = |key: &str| key.parse().is_ok_and(|field| QUIET.contains(&field));
    let keys = change.before.keys().chain(
        change
            .after
            .keys()
            .filter(|key| !change.before.contains_key(*key)),
    );
    let parts = keys
        .filter(|key| !quiet(key) && change.before.get(*key) != change.after.get(*key))
        .map(|key| {
            if key == ANOTHER_PERSON {
                return "another person? neither number nor e-mail address agrees".to_owned();
            }
            let is =
                |map: &Map<String, Value>| shown(map.get(key), key, show_phones).replace('_', " ");
            format!(
                "{}: {} → {}",
                key.replace('_', " "),
                is(&change.before),
                is(&change.after)
            )
        });
    parts.collect::<Vec<_>>().join(", ")
}

/// A value of a change; phones masked unless they are to be shown.
fn shown(value: Option<&Value>, key: &str, show_phones: bool) -> String {
    let plain = if is_number(key) {
        Field::Phone
    } else {
        Field::DisplayName
    };
    let field: Field = key.parse().unwrap_or(plain);
    field.show(value.unwrap_or(&Value::Null), show_phones)
}

/// Whether a field of a user holds a telephone number.
pub(super) fn is_number(key: &str) -> bool {
    key == "previous_phone" || key.parse().is_ok_and(Field::is_number)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
