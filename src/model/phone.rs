//! A telephone number in E.164.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number in E.164: `+`, then 2 to 15 digits, the first not 0 (ITU-T E.164 § 6). `Debug` and [`Phone::masked`] hide its middle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Phone(Box<str>);

impl Phone {
    /// Takes a text that already is E.164; `None` for anything else.
    pub fn from_e164(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let fits = (2..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        fits.then(|| Self(text.into()))
    }

    /// The number as `+421905123456`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number as logs and plans show it: `+421905•••456`.
    pub fn masked(&self) -> String {
        mask(&self.0)
    }
}

/// Hides three digits before the last three of a number (of a short one, everything but its ends), so that two numbers can be told apart but not dialled.
///
/// A value as somebody typed it keeps its blanks and marks, which say how it was read, but shows no more digits than the number that
/// was read from it: digits are counted, not characters, and a value of two numbers shows neither of them whole.
pub fn mask(text: &str) -> String {
    let digits = text.chars().filter(|c| c.is_numeric()).count();
    if digits < 8 {
        let shown: String = text.chars().take(2).collect();
        return shown + "•••";
    }
    // A number in E.164 is one number, of which all but the hidden three may be seen; a typed one may be two.
    let from = if Phone::from_e164(text).is_some() {
        digits - 6
    } else {
        (digits - 6).min(TYPED_HEAD)
    };
    let mut seen = 0;
    let hidden = |c: char| {
        seen += usize::from(c.is_numeric());
        if c.is_numeric() && seen > from && seen <= digits - 3 {
            '•'
        } else {
            c
        }
    };
    text.chars().map(hidden).collect()
}

/// Digits that a typed value shows at its beginning: a country code and the first of the network, or the prefix of a national number.
const TYPED_HEAD: usize = 5;

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl TryFrom<String> for Phone {
    type Error = &'static str;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        Self::from_e164(&value).ok_or("expected a number in E.164, as +421905123456")
    }
}

impl From<Phone> for String {
    fn from(value: Phone) -> Self {
        value.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_middle() {
        let phone = Phone::from_e164("+421905123456").unwrap();
        assert_eq!(format!("{phone:?}"), "+421905•••456");
        assert_eq!(mask("12345"), "12•••");
        assert_eq!(mask("+12345678"), "+12•••678");
    }

    #[test]
    fn a_typed_number_shows_no_more_digits_than_the_one_read_from_it() {
        for (typed, shown) in [
            ("+421 905 123 456", "+421 90• ••• 456"),
            ("0905 123 456", "0905 ••• 456"),
            ("00380 97 356 6501", "00380 •• ••• •501"),
            ("0905/123-456", "0905/•••-456"),
            (
                "+421905123456, +421905654321",
                "+42190•••••••, +•••••••••321",
            ),
            ("02123456 02654321", "02123••• •••••321"),
            ("ask at the reception", "as•••"),
            ("", "•••"),
        ] {
            assert_eq!(mask(typed), shown, "{typed}");
        }
    }

    #[test]
    fn only_e164_is_taken() {
        for bad in [
            "",
            "+",
            "421905123456",
            "+0421905123456",
            "+42190512345612345",
            "+42190a123456",
            "+421 905 123 456",
        ] {
            assert_eq!(Phone::from_e164(bad), None, "{bad}");
        }
    }
}
