//! What somebody typed as a code, read before anything is compared: a used code is used in every spelling.

/// A code as it was meant. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Typed {
    /// A one-time code: its digits as a number, and how many there are.
    Digits {
        /// The number.
        value: u32,
        /// How many digits, leading zeros among them.
        digits: u8,
    },
    /// A recovery or bypass code: upper case letters without separators.
    Letters(String),
    /// Neither. It counts as a failure like a wrong code.
    Unreadable,
}

/// The longest text that is looked at; codes are a tenth of it.
const LONGEST: usize = 200;

/// Zeros of scripts whose ten digits follow each other, as keyboards of those scripts type them.
const ZEROS: [char; 15] = [
    '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ed0}', '\u{ff10}',
];

/// Reads what was typed. Spaces and dashes of any kind mean nothing.
pub fn read(text: &str) -> Typed {
    if text.len() > LONGEST {
        return Typed::Unreadable;
    }
    let meant: Vec<char> = text.chars().filter(|c| !separates(*c)).collect();
    let digits: Option<Vec<u32>> = meant.iter().map(|c| digit(*c)).collect();
    if let Some(digits) = digits {
        return match u8::try_from(digits.len()) {
            Ok(n) if super::otp::DIGITS.contains(&n) => Typed::Digits {
                value: digits.iter().fold(0, |value, d| value * 10 + d),
                digits: n,
            },
            _ => Typed::Unreadable,
        };
    }
    let letters: String = meant.iter().map(char::to_ascii_uppercase).collect();
    if letters.len() == super::recovery::LETTERS && letters.bytes().all(|b| b.is_ascii_uppercase())
    {
        Typed::Letters(letters)
    } else {
        Typed::Unreadable
    }
}

/// Whether a character only parts groups: white space, dashes, and what is not seen at all.
fn separates(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '-' | '_' | '.' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2010}'..='\u{2015}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{2212}' | '\u{feff}')
}

fn digit(c: char) -> Option<u32> {
    ZEROS.iter().find_map(|zero| {
        let n = u32::from(c).checked_sub(u32::from(*zero))?;
        (n < 10).then_some(n)
    })
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Digits { .. } => "Digits(•••)",
            Self::Letters(_) => "Letters(•••)",
            Self::Unreadable => "Unreadable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_62_every_spelling_of_a_code_is_the_same_code() {
        let same = Typed::Digits {
            value: 12_345,
            digits: 6,
        };
        for text in [
            "012345",
            "012 345",
            " 012-345\n",
            "0 1 2 3 4 5",
            "٠١٢٣٤٥",
            "０１２３４５",
            "०१२ ३४५",
            "012\u{a0}345",
            "012–345",
            "\u{200e}012345",
        ] {
            assert_eq!(read(text), same, "{text:?}");
        }
    }

    #[test]
    fn letters_are_read_without_case_and_separators() {
        let same = Typed::Letters("ABCDEFGHJKMNPQRS".into());
        for text in [
            "ABCD-EFGH-JKMN-PQRS",
            "abcdefghjkmnpqrs",
            " abcd efgh jkmn pqrs ",
        ] {
            assert_eq!(read(text), same, "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_unreadable() {
        for text in [
            "",
            "   ",
            "12345",
            "123456789",
            "12345a",
            "abcd",
            "ABCD-EFGH-JKMN-PQR1",
            "ßßßßßßßßßßßßßßßß",
        ] {
            assert_eq!(read(text), Typed::Unreadable, "{text}");
        }
        assert_eq!(read(&"1".repeat(100_000)), Typed::Unreadable);
    }

    #[test]
    fn a_code_is_not_shown() {
        let shown = format!("{:?} {:?}", read("123456"), read("ABCD-EFGH-JKMN-PQRS"));
        assert!(!shown.contains("12") && !shown.contains("ABC"), "{shown}");
    }
}
