//! What no text may hold that a person reads: output for developers, words of libraries, numbers that do not fit their nouns.

/// Marks that stand for themselves.
const DEBRIS: &[&str] = &[
    "Some(",
    "Err(",
    "OtherError",
    "null result",
    "SendError",
    "RecvError",
];

/// Nouns that are counted.
const NOUNS: &[&str] = &[
    "phones", "messages", "entries", "users", "changes", "people", "values", "realms", "runs",
    "passes", "attempts", "servers",
];

/// The first mark in a text, with what stands round it.
pub fn found(text: &str) -> Option<String> {
    let line = |at: usize| {
        let from = text[..at].rfind('\n').map_or(0, |n| n + 1);
        let to = text[at..].find('\n').map_or(text.len(), |n| at + n);
        text[from..to].to_owned()
    };
    let debris = DEBRIS.iter().find_map(|mark| text.find(mark));
    debris
        .or_else(|| debug_struct(text))
        .or_else(|| one_of_many(text))
        .or_else(|| share_of_none(text))
        .map(line)
}

/// Panics if a text has a mark.
pub fn check(what: &str, text: &str) {
    if let Some(line) = found(text) {
        panic!("{what} is not for people: {line}");
    }
}

/// `Retry { retry_for_ms: 5 }`: a capitalised word, a brace, a field and its colon.
fn debug_struct(text: &str) -> Option<usize> {
    text.match_indices(" { ").map(|(at, _)| at).find(|at| {
        let word = text[..*at]
            .rsplit(|c: char| !c.is_ascii_alphanumeric())
            .next();
        let field = text[at + 3..]
            .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .next();
        let colon =
            field.is_some_and(|f| !f.is_empty() && text[at + 3 + f.len()..].starts_with(": "));
        colon && word.is_some_and(|w| w.starts_with(|c: char| c.is_ascii_uppercase()))
    })
}

/// `1 phones`.
fn one_of_many(text: &str) -> Option<usize> {
    text.match_indices("1 ").map(|(at, _)| at).find(|at| {
        // Of a number, or of an id.
        let part_of_more = text[..*at]
            .ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ',' | ':' | '-'));
        let rest = &text[at + 2..];
        let word = rest
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or_default();
        // `attempts=2` is the next field of a line in the log.
        let field = rest[word.len()..].starts_with('=');
        !part_of_more && !field && NOUNS.contains(&word)
    })
}

/// `500 of 0`.
fn share_of_none(text: &str) -> Option<usize> {
    text.match_indices(" of 0").map(|(at, _)| at).find(|at| {
        let before = text[..*at]
            .rsplit(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        let whole = !text[at + 5..]
            .starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | ':'));
        whole && before.parse::<u64>().is_ok_and(|n| n > 0)
    })
}

#[test]
fn marks_are_found_and_plain_words_are_not() {
    for text in [
        "outbox: Retry { retry_for_ms: 5 } touched 3",
        "applied: 1 phones changed",
        "plan held (approve 500 of 0, 0 allowed)",
        "error: ldap null result send error",
        "server Some(\"ldap1\")",
    ] {
        assert!(found(text).is_some(), "{text}");
    }
    for text in [
        "{\"run\":1,\"held_by\":[{\"limit\":\"approve\"}]}",
        "21 phones changed, 1 phone lost",
        "0 of 0, 3 of 05",
        "write `[realm] { id = \"x\" }`",
        "at 10:11 users were read",
        "user=01a223a2-83a2-3099e4c1efd1 attempts=2 jobs=1 attempts=2",
    ] {
        assert_eq!(found(text), None, "{text}");
    }
}
