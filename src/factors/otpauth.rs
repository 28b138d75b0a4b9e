//! What a mobile application is told by a QR code or a link: `otpauth://totp/Issuer:user?secret=…&issuer=Issuer`.
//!
//! The hash, the digits and the period are those that every application has anyhow, and are left out: applications have ignored or
//! misread them.

use data_encoding::BASE32_NOPAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// Bytes of a secret: 160 bits, as RFC 4226 § 4 recommends.
pub const SECRET: usize = 20;

/// The longest issuer and the longest name, in characters: longer ones are cut off by applications, at their end.
const LONGEST: usize = 40;

/// What stays as it is (RFC 3986, unreserved).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Who issues, and what the entry is called, as applications show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    issuer: String,
    name: String,
}

impl Label {
    /// A label. A colon parts issuer and name, so that neither may have one. `suffix` stands behind the name, so that an earlier
    /// entry of the user is not replaced in silence: it is kept whole.
    pub fn new(issuer: &str, name: &str, suffix: Option<&str>) -> Self {
        let suffix = suffix
            .map(|suffix| format!(" {}", clean(suffix, LONGEST)))
            .unwrap_or_default();
        let left = LONGEST.saturating_sub(suffix.chars().count()).max(1);
        Self {
            issuer: clean(issuer, LONGEST),
            name: clean(name, left) + &suffix,
        }
    }

    /// `Issuer: name`, as most applications show it.
    pub fn shown(&self) -> String {
        format!("{}: {}", self.issuer, self.name)
    }

    /// The link with a secret.
    pub fn link(&self, secret: &[u8]) -> Zeroizing<String> {
        let encoded = |text| utf8_percent_encode(text, KEPT);
        let issuer = encoded(&self.issuer);
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{}?secret={}&issuer={issuer}",
            encoded(&self.name),
            *plain(secret)
        ))
    }
}

/// The secret as it is typed where no code can be scanned: base32 in upper case, in groups of four.
pub fn grouped(secret: &[u8]) -> Zeroizing<String> {
    let plain = plain(secret);
    let mut grouped = Zeroizing::new(String::with_capacity(plain.len() * 5 / 4));
    for (i, letter) in plain.chars().enumerate() {
        if i > 0 && i % 4 == 0 {
            grouped.push(' ');
        }
        grouped.push(letter);
    }
    grouped
}

fn plain(secret: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE32_NOPAD.encode(secret))
}

/// Without colons, control characters and white space at its ends, and not too long.
fn clean(text: &str, longest: usize) -> String {
    let one_line: String = text
        .chars()
        .map(|c| {
            if c == ':' || c.is_control() || c.is_whitespace() {
                ' '
            } else {
                c
            }
        })
        .collect();
    let words: Vec<&str> = one_line.split_whitespace().collect();
    let joined: String = words.join(" ").chars().take(longest).collect();
    joined.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8; SECRET] = b"12345678901234567890";
    const BASE32: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    #[test]
    fn trap_124_the_link_leaves_hash_digits_and_period_out() {
        let link = Label::new("Example", "jan", None).link(SEED);
        assert_eq!(
            *link,
            format!("otpauth://totp/Example:jan?secret={BASE32}&issuer=Example")
        );
    }

    #[test]
    fn trap_125_the_issuer_stands_in_both_places_and_a_suffix_keeps_entries_apart() {
        let label = Label::new("Example", "jan", Some("(2026-11)"));
        assert_eq!(label.shown(), "Example: jan (2026-11)");
        assert_eq!(
            *label.link(SEED),
            format!("otpauth://totp/Example:jan%20%282026-11%29?secret={BASE32}&issuer=Example")
        );
        let long = Label::new(&"i".repeat(60), &"n".repeat(60), Some("(2026-11)"));
        assert_eq!(
            long.shown(),
            format!("{}: {} (2026-11)", "i".repeat(40), "n".repeat(30))
        );
    }

    #[test]
    fn trap_126_whatever_the_names_the_link_is_read_back_as_it_was_meant() {
        for (issuer, name, shown) in [
            ("R&D Côte", "žofia.šťastná", "R&D Côte: žofia.šťastná"),
            ("A: B", "a:b", "A B: a b"),
            ("a+b c%20d", "EXAMPLE\\jan", "a+b c%20d: EXAMPLE\\jan"),
            ("  x \n y ", "jan#1?a=b/c", "x y: jan#1?a=b/c"),
            ("日本", "jan@example.org", "日本: jan@example.org"),
        ] {
            let label = Label::new(issuer, name, None);
            assert_eq!(label.shown(), shown);
            let link = label.link(SEED);
            assert!(!link.contains(['+', ' ', '=']) || link.matches('=').count() == 2);
            assert!(!link.contains('+') && !link.contains(' '), "{}", *link);
            let read = url::Url::parse(&link).expect("a URL");
            let pairs: Vec<(String, String)> = read.query_pairs().into_owned().collect();
            let (issuer, name) = shown.split_once(": ").expect("two parts");
            assert_eq!(
                pairs,
                [
                    ("secret".to_owned(), BASE32.to_owned()),
                    ("issuer".to_owned(), issuer.to_owned())
                ]
            );
            let path = percent_encoding::percent_decode_str(read.path().trim_start_matches('/'))
                .decode_utf8()
                .expect("UTF-8");
            assert_eq!(path, format!("{issuer}:{name}"));
        }
    }

    #[test]
    fn the_secret_as_text_has_groups_of_four() {
        let grouped = grouped(SEED);
        assert_eq!(*grouped, "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ");
    }
}
