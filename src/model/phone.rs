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
pub fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() < 9 {
        let shown = chars.len().min(2);
        return chars[..shown].iter().collect::<String>() + "•••";
    }
    let tail = chars.len() - 3;
    chars[..tail - 3].iter().collect::<String>() + "•••" + &chars[tail..].iter().collect::<String>()
}

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
