//! Text as people typed it: names and addresses.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::model::person::fold_name;

/// The longest user or display name in characters: the upper bound of `sAMAccountName` and `uid` (RFC 4519 § 2.39 asks for 256).
const LONGEST_NAME: usize = 256;
/// The longest e-mail address in bytes (RFC 5321 § 4.5.3.1.3, without the angle brackets).
const LONGEST_EMAIL: usize = 254;

/// Why a text cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum TextFault {
    #[error("the value is not UTF-8: enter it again in the directory")]
    NotUtf8,
    #[error("the value is empty: enter one, or delete the attribute")]
    Empty,
    #[error("the value holds a control character: enter it again without it")]
    Control,
    #[error("the value is longer than {0} characters: shorten it")]
    TooLong(usize),
    #[error("the value is no e-mail address: write it as name@example.org")]
    NotAnAddress,
}

/// The text of a value.
pub(super) fn utf8(value: &[u8]) -> Result<&str, TextFault> {
    std::str::from_utf8(value).map_err(|_| TextFault::NotUtf8)
}

/// Direction marks and their like, which copying from a web page or a contact card leaves behind: nobody sees or means them.
/// The joiners U+200C and U+200D are not among them, for Persian and Indic names need them.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Trimmed (no-break spaces too), without invisible marks, NFC.
pub(super) fn tidy(text: &str) -> Cow<'_, str> {
    let at_the_edge =
        |c: char| c.is_whitespace() || is_invisible(c) || matches!(c, '\u{200c}' | '\u{200d}');
    let text = text.trim_matches(at_the_edge);
    if text.is_ascii() || (is_nfc(text) && !text.contains(is_invisible)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter(|c| !is_invisible(*c)).nfc().collect())
}

/// A user or display name.
pub(super) fn name(text: &str) -> Result<String, TextFault> {
    let tidy = tidy(text);
    if tidy.is_empty() {
        return Err(TextFault::Empty);
    }
    // Line and paragraph separators are no control characters by category, and break every log and table all the same.
    if tidy
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        return Err(TextFault::Control);
    }
    if tidy.len() > LONGEST_NAME && tidy.chars().count() > LONGEST_NAME {
        return Err(TextFault::TooLong(LONGEST_NAME));
    }
    Ok(tidy.into_owned())
}

/// An e-mail address. Only what makes a mail program fail or be fooled is refused; whether the address exists is its server's matter.
pub(super) fn email(text: &str) -> Result<String, TextFault> {
    let tidy = tidy(text);
    if tidy.is_empty() {
        return Err(TextFault::Empty);
    }
    if tidy.chars().any(char::is_control) {
        return Err(TextFault::Control);
    }
    if tidy.len() > LONGEST_EMAIL {
        return Err(TextFault::TooLong(LONGEST_EMAIL));
    }
    let odd = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | ':');
    match tidy.rsplit_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && !domain.is_empty()
                && !tidy.contains(odd)
                && !local.contains('@') =>
        {
            Ok(tidy.into_owned())
        }
        _ => Err(TextFault::NotAnAddress),
    }
}

/// Chooses among the values of one attribute, whose order means nothing: the value that is part of the entry's own name, for that
/// is the one which the directory's administrators see and which changes only by a rename; else the smallest by its folded form,
/// with the others: one of them may be in use, and stays so.
pub(super) fn choose(
    names: impl Fn(&str) -> bool,
    mut values: Vec<String>,
    dn: &[u8],
) -> Option<(String, Vec<String>)> {
    if values.len() < 2 {
        return values.pop().map(|only| (only, Vec::new()));
    }
    let own = rdn(dn);
    let own: Vec<String> = own
        .iter()
        .filter(|(kind, _)| names(&kind.to_lowercase()))
        .map(|(_, value)| fold_name(&tidy(value)))
        .collect();
    // The text itself breaks the tie between values that differ in case only.
    let mut keyed: Vec<(bool, String, String)> = values
        .into_iter()
        .map(|value| (fold_name(&value), value))
        .map(|(key, value)| (!own.contains(&key), key, value))
        .collect();
    keyed.sort();
    let mut values = keyed.into_iter();
    let (_, _, first) = values.next()?;
    Some((first, values.map(|(_, _, value)| value).collect()))
}

/// The types and values of a DN's first level (RFC 4514 § 2.2, 2.4), leniently: what cannot be read is left out.
fn rdn(dn: &[u8]) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = dn.iter().copied();
    loop {
        match bytes.next() {
            None | Some(b',') => break,
            Some(b'+') => parts.push(std::mem::take(&mut part)),
            Some(b'\\') => match bytes.next() {
                Some(high) if high.is_ascii_hexdigit() => {
                    let pair = [high, bytes.next().unwrap_or_default()];
                    part.extend(
                        std::str::from_utf8(&pair)
                            .ok()
                            .and_then(|hex| u8::from_str_radix(hex, 16).ok()),
                    );
                }
                escaped => part.extend(escaped),
            },
            Some(plain) => part.push(plain),
        }
    }
    parts.push(part);
    let texts = parts
        .into_iter()
        .filter_map(|part| String::from_utf8(part).ok());
    texts
        .filter_map(|text| {
            text.split_once('=')
                .map(|(kind, value)| (kind.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_trimmed_and_composed() {
        for (raw, expected) in [
            ("  jan ", Ok("jan")),
            ("\u{a0}jan\u{2003}", Ok("jan")),
            ("\u{202a}jan\u{202c}", Ok("jan")),
            ("ja\u{200e}n", Ok("jan")),
            ("\u{feff}S\u{30c}imon", Ok("\u{160}imon")),
            ("Jan  Nov\u{e1}k", Ok("Jan  Nov\u{e1}k")),
            ("می\u{200c}خواهم", Ok("می\u{200c}خواهم")),
            ("", Err(TextFault::Empty)),
            (" \u{200e} ", Err(TextFault::Empty)),
            ("ja\0n", Err(TextFault::Control)),
            ("ja\nn", Err(TextFault::Control)),
            ("ja\u{2028}n", Err(TextFault::Control)),
            ("ja\u{7f}n", Err(TextFault::Control)),
        ] {
            assert_eq!(name(raw), expected.map(str::to_owned), "{raw:?}");
        }
        assert_eq!(name(&"ž".repeat(256)), Ok("ž".repeat(256)));
        assert_eq!(name(&"ž".repeat(257)), Err(TextFault::TooLong(256)));
    }

    #[test]
    fn addresses_are_plausible() {
        for good in [
            "jan@example.org",
            "j.n+x@b.example",
            "ján@príklad.sk",
            "root@localhost",
        ] {
            assert_eq!(email(&format!(" {good} ")), Ok(good.to_owned()));
        }
        for bad in [
            "jan",
            "@example.org",
            "jan@",
            "jan novak@example.org",
            "Jan <jan@example.org>",
            "a@b, c@d",
            "a@b@c",
            "a@b;c@d",
            "mailto:a@b",
        ] {
            assert_eq!(email(bad), Err(TextFault::NotAnAddress), "{bad}");
        }
        assert_eq!(email("jan@exa\u{1}mple.org"), Err(TextFault::Control));
        assert_eq!(
            email(&format!("{}@example.org", "a".repeat(250))),
            Err(TextFault::TooLong(254))
        );
    }

    #[test]
    fn of_several_values_the_entrys_own_name_wins() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let dn = b"UID=Zora,ou=people,dc=example,dc=org";
        assert_eq!(
            choose(|n| n == "uid", names(&["anna", "zora"]), dn)
                .map(|c| c.0)
                .as_deref(),
            Some("zora")
        );
        assert_eq!(
            choose(|n| n == "uid", names(&["zora", "anna"]), dn)
                .map(|c| c.0)
                .as_deref(),
            Some("zora")
        );
        assert_eq!(
            choose(|n| n == "uid", names(&["bea", "anna"]), dn)
                .map(|c| c.0)
                .as_deref(),
            Some("anna"),
            "neither is in the DN"
        );
        assert_eq!(
            choose(|n| n == "mail", names(&["bea", "zora"]), dn)
                .map(|c| c.0)
                .as_deref(),
            Some("bea"),
            "another attribute's value"
        );
        assert_eq!(
            choose(|n| n == "uid", names(&["b", "B"]), b"")
                .map(|c| c.0)
                .as_deref(),
            Some("B")
        );
        assert_eq!(choose(|n| n == "uid", Vec::new(), dn), None);
        let others = |dn: &[u8]| {
            choose(|n| n == "uid", names(&["zora", "anna"]), dn)
                .unwrap()
                .1
        };
        assert_eq!(
            (others(dn), others(b"cn=x")),
            (names(&["anna"]), names(&["zora"]))
        );
    }

    #[test]
    fn the_first_level_of_a_dn_is_unescaped() {
        assert_eq!(
            rdn(b"cn=Nov\\C3\\A1k\\, J + uid=x\\+y,dc=org"),
            [
                ("cn".to_owned(), "Nov\u{e1}k, J".to_owned()),
                ("uid".to_owned(), "x+y".to_owned())
            ]
        );
        assert_eq!(rdn(b"cn=\\C3,dc=org"), []);
        assert_eq!(rdn(b"\\"), []);
        assert_eq!(rdn(b"cn=a\\f"), [("cn".to_owned(), "a".to_owned())]);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_tidying_twice_is_tidying_once(text in any::<String>(), dn in any::<Vec<u8>>()) {
            let once = tidy(&text).into_owned();
            prop_assert_eq!(tidy(&once), once.as_str());
            let _ = (name(&text), email(&text), rdn(&dn));
        }
    }
}
