//! Where a value came from, in words.

use crate::cli::text;
use crate::model::phone;
use crate::story::origin::OriginStory;

/// One line; empty: nothing is known. `digits` tell its run from all others.
pub(super) fn in_words(origin: &OriginStory, show_phones: bool, digits: usize) -> String {
    let masked = |raw: &str| {
        if show_phones || !origin.field.is_number() {
            raw.to_owned()
        } else {
            phone::mask(raw)
        }
    };
    let mut parts = vec![];
    if let Some(attribute) = &origin.attribute {
        let raw = origin
            .raw
            .as_deref()
            .map(|raw| format!(" `{}`", masked(raw)))
            .unwrap_or_default();
        let server = origin
            .server
            .as_deref()
            .map(|s| format!(" of {s}"))
            .unwrap_or_default();
        parts.push(format!("from {attribute}{raw}{server}"));
    }
    parts.extend(origin.rule.clone());
    if let Some(since) = origin.since {
        let run = origin
            .run
            .map(|r| format!(", run {r:#.digits$}"))
            .unwrap_or_default();
        let by = origin
            .by
            .as_deref()
            .map(|by| format!(", by {by}"))
            .unwrap_or_default();
        parts.push(format!("since {}{run}{by}", text::when(since)));
    }
    parts.join("; ")
}
