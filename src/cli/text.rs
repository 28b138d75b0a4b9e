//! Runs and changes in words.

use serde_json::{Map, Value};

use super::render::paint;
use crate::clock::Timestamp;
use crate::model::{Change, ChangeKind, Outcome, Run, phone};

/// An instant for people: the machine's local time, to the minute.
pub(super) fn when(at: Timestamp) -> String {
    at.to_utc().map_or_else(
        || at.to_string(),
        |t| {
            t.with_timezone(&chrono::Local)
                .format("%Y-%m-%d %H:%M")
                .to_string()
        },
    )
}

/// A span of time: `3 s`, `12 min`, `5 h`, `9 d`.
pub(super) fn span(ms: i64) -> String {
    let s = ms / 1000;
    match s {
        ..1 => format!("{ms} ms"),
        1..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// What a run came to, in one line.
pub(super) fn summary(run: &Run) -> String {
    let mut parts = vec![];
    for (n, word) in [
        (run.created, "created"),
        (run.updated, "updated"),
        (run.renamed, "renamed"),
        (run.phone_changed, "with another phone"),
        (run.phone_lost, "without their phone"),
        (run.suspended, "suspended"),
        (run.restored, "restored"),
        (run.removed, "removed"),
        (run.moved, "moved here"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    if parts.is_empty() {
        parts.push("nothing differs".into());
    }
    let mut text = parts.join(", ");
    if run.jobs > 0 {
        text += &format!(
            "; {} message{}",
            run.jobs,
            if run.jobs == 1 { "" } else { "s" }
        );
    }
    if run.refused_entries + run.refused_phones > 0 {
        text += &format!(
            "; refused: {} entries, {} values (`refused {}`)",
            run.refused_entries, run.refused_phones, run.realm
        );
    }
    text
}

/// The run for people: what it came to, why it is held or failed, and what to do next.
pub(super) fn run(run: &Run, dry: bool) -> String {
    let mut text = match run.outcome {
        Outcome::Failed => format!(
            "{} {}: {}",
            paint("31", "failed"),
            run.realm,
            run.error.as_deref().unwrap_or("no reason was kept")
        ),
        Outcome::Held => format!(
            "{} {}: {}",
            paint("33", if dry { "would be held" } else { "held" }),
            run.realm,
            summary(run)
        ),
        Outcome::Applied if dry => format!(
            "{} {}: {}",
            paint("32", "would do"),
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
    text += &format!(" ({} read, {})", run.seen, span(run.elapsed_ms));
    for held in &run.held_by {
        text += &format!("\n  {}", why_held(held));
    }
    if run.outcome == Outcome::Held && !dry {
        text += &format!(
            "\n  look at it with `realmsync runs show {}`, then `approve` or `reject` it",
            run.run
        );
    }
    if let (Some(note), true) = (&run.error, run.outcome != Outcome::Failed) {
        text += &format!("\n  {note}");
    }
    text
}

/// Why, in a sentence.
pub(super) fn why_held(held: &crate::model::HeldBy) -> String {
    let n = held.count;
    match held.limit.as_str() {
        "container" => format!(
            "everybody of a container is found nowhere at once: {n} people; an access rule may hide it"
        ),
        "mapping" => format!(
            "base, filter, attributes or phone rules are others than before, and {n} changes of people come of it"
        ),
        "moved" => format!("{n} people would be taken over from another realm, for the first time"),
        "messages" => format!(
            "a first pass that would send {n} messages ({} would go without asking)",
            held.allowed
        ),
        "approve" => {
            "the realm says `approve = true`: an administrator decides every plan".to_owned()
        }
        "asked" => "it was asked for with `--hold`".to_owned(),
        limit => format!(
            "`{limit}`: {n} within 24 hours, of {} people; {} would pass",
            held.of, held.allowed
        ),
    }
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
    let name = change.username.as_deref().unwrap_or("(removed)");
    let kind = change.kind.as_str().replace('_', " ");
    let details = details(change, show_phones);
    paint(colour, &format!("{sign} {name:<20} {kind:<13} {details}"))
        .trim_end()
        .to_owned()
}

fn details(change: &Change, show_phones: bool) -> String {
    let value = |map: &Map<String, Value>, key: &str| match map.get(key) {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text))
            if key.starts_with("phone")
                && key != "phone_source"
                && !show_phones
                && !key.ends_with("until") =>
        {
            phone::mask(text)
        }
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if change.kind == ChangeKind::Created {
        let state = if change
            .after
            .get("state_reason")
            .is_some_and(|r| r == "disabled")
        {
            ", disabled"
        } else {
            ""
        };
        let shown = change
            .after
            .get("display_name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        return format!("{} {}{state}", value(&change.after, "phone"), shown)
            .trim()
            .to_owned();
    }
    let quiet = ["phone_raw", "phone_source", "suspended_at", "state"];
    let mut parts = vec![];
    for key in change.before.keys() {
        if quiet.contains(&key.as_str())
            || (key == "phone" && change.before.get(key) == change.after.get(key))
        {
            continue;
        }
        if key == "state_reason" {
            parts.push(value(&change.after, key).replace('_', " "));
        } else if change.kind == ChangeKind::PhoneChanged || change.kind == ChangeKind::Renamed {
            parts.push(format!(
                "{} → {}",
                value(&change.before, key),
                value(&change.after, key)
            ));
        } else {
            parts.push(format!(
                "{key}: {} → {}",
                value(&change.before, key),
                value(&change.after, key)
            ));
        }
    }
    parts.join(", ")
}
