//! What of the file's text must not be shown: found by the words before it, so that a file that is no TOML leaks nothing either.

use std::ops::Range;

/// In place of what is hidden.
pub(super) const DOTS: &str = "•••";

/// Whether a key's value is hidden: everything that sounds like a secret, also with a slip of the pen, unless it is only the place of one.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('_', "-");
    let place = ["-file", "-credential", "-env", "-cert"]
        .iter()
        .any(|end| key.ends_with(end));
    if place || matches!(key.as_str(), "tls-key" | "client-key") || key.len() > 100 {
        return false;
    }
    let near = |word: &str| strsim::normalized_damerau_levenshtein(&key, word) > 0.7;
    ["pass", "pw", "secret", "token", "credential"]
        .iter()
        .any(|word| key.contains(word))
        || key == "key"
        || key.ends_with("-key")
        || ["password", "bind-password", "secret", "previous-secret"]
            .into_iter()
            .any(near)
}

/// The text with everything hidden that is in `spans`, and where each offset of the text went.
pub(super) struct Masked {
    pub(super) text: String,
    /// Hidden ranges of the original with their places in `text`, in order.
    moved: Vec<(Range<usize>, Range<usize>)>,
}

impl Masked {
    /// Hides `spans`; line ends in them stay, so that lines keep their numbers.
    pub(super) fn new(source: &str, mut spans: Vec<Range<usize>>) -> Self {
        spans.sort_by_key(|s| (s.start, s.end));
        let mut text = String::with_capacity(source.len());
        let mut moved: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        let mut done = 0;
        for span in spans {
            let span = span.start.max(done)..span.end.min(source.len());
            let (Some(before), Some(hidden)) =
                (source.get(done..span.start), source.get(span.clone()))
            else {
                continue;
            };
            if hidden.is_empty() {
                continue;
            }
            text.push_str(before);
            let start = text.len();
            text.push_str(DOTS);
            text.extend(hidden.chars().filter(|c| *c == '\n'));
            moved.push((span.clone(), start..text.len()));
            done = span.end;
        }
        text.push_str(source.get(done..).unwrap_or_default());
        Self { text, moved }
    }

    /// Where an offset of the original is in the masked text; inside of what is hidden: its beginning, or its end for an end.
    pub(super) fn place(&self, at: usize, is_end: bool) -> usize {
        let Some((from, to)) = self
            .moved
            .iter()
            .rfind(|(from, _)| from.start < at || (from.start == at && !is_end))
        else {
            return at;
        };
        if at >= from.end {
            to.end + (at - from.end)
        } else if is_end {
            to.end
        } else {
            to.start
        }
    }
}

/// Everything in a text that looks like a secret's value: what follows a secret's key on its line (or up to the end of its
/// multi-line string), and the password and the query of each URL.
pub(super) fn guess(source: &str) -> Vec<Range<usize>> {
    let mut spans = in_urls(source);
    spans.extend(after_keys(source));
    spans
}

/// What of a file that is no TOML must not be shown: what [`guess()`] finds, and of each line all that is not surely harmless, since
/// nothing else is known of it.
pub(super) fn in_broken(source: &str) -> Vec<Range<usize>> {
    let mut spans = guess(source);
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let text = line.trim_end();
        let start = at + (text.len() - text.trim_start().len());
        let end = at + text.len();
        at += line.len();
        let text = text.trim_start();
        let header = text.starts_with('[')
            && text.ends_with(']')
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || "[].-\"'".contains(c));
        if text.is_empty() || header {
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            spans.push(start..end);
            continue;
        };
        let word = key
            .rsplit('.')
            .next()
            .unwrap_or(key)
            .trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
        let known = super::keys::is_plain(word) && key.split_whitespace().count() == 1;
        let alone = !value.contains("//") && !value.contains(['@', ';', '#', '\\']);
        if !known {
            spans.push(start + (key.len() + 1) * usize::from(header_word(word))..end);
        } else if !alone {
            spans.push(start + key.len() + 1..end);
        }
    }
    spans
}

/// Whether a word may be a key, and not a secret that stands alone.
fn header_word(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 40
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'))
}

fn after_keys(source: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut at = 0;
    while let Some(start) = source[at..].find(word).map(|i| at + i) {
        let end = source[start..]
            .find(|c| !word(c))
            .map_or(source.len(), |i| start + i);
        at = end;
        if !is_secret_key(&source[start..end]) {
            continue;
        }
        let line_start = source[..start].rfind('\n').map_or(0, |i| i + 1);
        let first = source[line_start..start]
            .chars()
            .all(|c| !c.is_alphanumeric());
        let rest = source[end..].trim_start_matches([' ', '\t', '"', '\'']);
        // A value follows, or the line begins with the key and lacks the `=`: then the secret may be a part of the word.
        let apart = rest.starts_with(['=', ':']) || source[end..].starts_with([' ', '\t']);
        if !rest.starts_with(['=', ':']) && !first {
            continue;
        }
        let value = rest.trim_start_matches(['=', ':', ' ', '\t']);
        let value_at = source.len() - value.len();
        let to = match value.get(..3) {
            // From here on it cannot be told where the secret ends.
            Some(quotes @ ("\"\"\"" | "'''")) => match value[3..].find(quotes) {
                Some(close) => line_end(source, value_at + 3 + close),
                None => source.len(),
            },
            _ if value.starts_with(['[', '{']) => source.len(),
            _ => line_end(source, end),
        };
        let from = match (apart, value_at < to) {
            (false, _) => start,
            (true, true) => value_at,
            (true, false) => end,
        };
        spans.push(from..to);
        at = to.max(end);
    }
    spans
}

fn line_end(source: &str, at: usize) -> usize {
    source[at..]
        .find(['\n', '\r'])
        .map_or(source.len(), |i| at + i)
}

/// The password and the query of each URL in a text.
pub(super) fn in_urls(source: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for (scheme_end, _) in source.match_indices("://") {
        let start = scheme_end + 3;
        // The string ends with the quote that opened it; a password may hold the other one.
        let scheme = source[..scheme_end]
            .trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let quote = scheme
            .chars()
            .next_back()
            .filter(|c| matches!(c, '"' | '\''));
        let mut escaped = false;
        let end = source[start..]
            .find(|c: char| {
                let ends = c == '\n' || (Some(c) == quote && !escaped);
                escaped = c == '\\' && quote == Some('"') && !escaped;
                ends
            })
            .map_or(source.len(), |i| start + i);
        let url = &source[start..end];
        let user_end = url.rfind('@').unwrap_or(0);
        if let Some(colon) = url[..user_end].find(':') {
            spans.push(start + colon + 1..start + user_end);
        }
        if let Some(query) = url[user_end..].find('?').map(|i| user_end + i) {
            spans.push(start + query + 1..end);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(source: &str) -> String {
        Masked::new(source, guess(source)).text
    }

    #[test]
    fn keys_are_told_from_places() {
        for key in [
            "password",
            "bind-password",
            "bind_password",
            "secret",
            "previous-secret",
            "key",
            "Api-Token",
            "bind-pasword",
            "bindpw",
            "secert",
            "api-key",
            "psk-key",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in [
            "bind-password-file",
            "bind-password-credential",
            "secret-env",
            "key-file",
            "tls-key",
            "client-key",
            "client-cert",
            "tls-cert",
            "region",
            "page-size",
            "key-credential",
        ] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn text_that_is_no_toml_hides_secrets_too() {
        for source in [
            "bind-password = \"hunter2\nbase = 1",
            "bind-password hunter2",
            "bind-passwordhunter2\"",
            "bind-password: hunter2 # hunter2",
            "x = { secret = 'hunter2', y }",
            "secret = \"\"\"\nhunter2\nhunter2",
            "secret = '''\nhunter2''' hunter2",
            "secret = [\n 'hunter2' ",
            "url = \"postgres://me:hunter2@db/x\"",
            "url = \"postgres://me:hun/te@hunter2@db/x\"",
            "url = \"postgres://me:'hunter2, ]@db/x\"",
            "url = \"postgres://me:\\\"hunter2@db/x\"",
            "url = 'postgres://me:\"hunter2@db/x'",
            "url = \"postgres://me@db/x?password=hunter2\"",
            "\"secret\" = hunter2",
        ] {
            let shown = shown(source);
            assert!(
                !shown.contains("hunter2") && shown.contains(DOTS),
                "{source} → {shown}"
            );
            assert_eq!(shown.matches('\n').count(), source.matches('\n').count());
        }
        assert_eq!(
            shown("secret-file = \"/etc/x\"\nurl = \"https://a.example/b\"\n"),
            "secret-file = \"/etc/x\"\nurl = \"https://a.example/b\"\n"
        );
    }

    #[test]
    fn offsets_follow_the_text() {
        let source = "a = 'hunter2' b";
        let masked = Masked::new(source, std::iter::once(5..12).collect());
        assert_eq!(masked.text, "a = '•••' b");
        assert_eq!(
            &masked.text[masked.place(4, false)..masked.place(13, true)],
            "'•••'"
        );
        assert_eq!(
            &masked.text[masked.place(14, false)..masked.place(15, true)],
            "b"
        );
        assert_eq!(
            &masked.text[masked.place(7, false)..masked.place(9, true)],
            DOTS
        );
    }

    proptest! {
        #[test]
        fn any_text_can_be_masked(text in "[a-z=\"'\n:/@? é]{0,60}|.*(secret|://)?.*", a in 0_usize..60, b in 0_usize..60) {
            let masked = Masked::new(&text, guess(&text));
            let (a, b) = (a.min(b), a.max(b));
            if text.is_char_boundary(a) && text.is_char_boundary(b) && b <= text.len() {
                let span = masked.place(a, false)..masked.place(b, true);
                prop_assert!(a == b || masked.text.get(span.clone()).is_some(), "{:?} {:?} {:?}", text, span, masked.text);
            }
        }
    }
}
