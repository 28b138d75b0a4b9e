//! Takes off what surrounds the digits of a telephone number. Whatever is not known is refused, never skipped.

use std::str::Chars;

use super::phone::PhoneFault;
use super::text::is_invisible;

/// libphonenumber's own limit for an input.
const LONGEST: usize = 250;
/// An extension has fewer digits than this; more are a second number.
const EXTENSION: usize = 8;
/// So many digits on both sides of something are two numbers rather than one with a slip of the finger.
const NUMBER: usize = 5;

/// Labels before a number, lower case. `no` is not among them: `no 0905…` may mean what it says.
#[rustfmt::skip]
const LABELS: [&str; 32] = [
    "t", "tel", "telefon", "telefón", "téléphone", "telefono", "teléfono", "telephone", "phone", "p", "m", "mob", "mobil", "mobile", "mobilní",
    "mobilný", "móvil", "c", "cell", "cellphone", "gsm", "handy", "portable", "č", "číslo", "nr", "тел", "телефон", "моб", "callto", "sms", "whatsapp",
];
/// Labels before an extension, lower case: those that libphonenumber knows.
#[rustfmt::skip]
const EXTENSIONS: [&str; 14] = [
    "ext", "extn", "extension", "extensión", "extensio\u{301}n", "xt", "xtn", "x", "#", "~", "int", "доб", "anexo", "ｘ",
];

/// What is left of a value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stripped {
    /// ASCII digits, after a + if there was one.
    pub(super) dialled: String,
    /// Written with + and a country code, so that no region is needed.
    pub(super) international: bool,
    /// Offsets in `dialled` at which a separator stood that also stands between two numbers.
    pub(super) slashes: Vec<usize>,
}

impl Stripped {
    fn digits(&self) -> usize {
        self.dialled.chars().filter(|c| *c != '+').count()
    }
}

/// Strips a value down to what is dialled.
pub(super) fn strip(text: &str) -> Result<Stripped, PhoneFault> {
    if is_plain(text) {
        return Ok(Stripped {
            international: text.starts_with('+') && !text.starts_with("+0"),
            dialled: text.to_owned(),
            ..Stripped::default()
        });
    }
    with_care(text)
}

/// Whether nothing surrounds a number: digits, and a plus before them.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

fn with_care(text: &str) -> Result<Stripped, PhoneFault> {
    if text.len() > LONGEST {
        return Err(PhoneFault::TooMuchText);
    }
    let text =
        text.trim_matches(|c: char| is_space(c) || matches!(c, '"' | '\'' | '<' | '>' | ',' | ';'));
    if text.is_empty() {
        return Err(PhoneFault::Empty);
    }
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return Err(PhoneFault::Control);
    }
    let Some(start) = text
        .find(|c| is_digit(c) || is_plus(c))
        .filter(|_| text.contains(is_digit))
    else {
        return Err(PhoneFault::NoDigits);
    };
    label(&text[..start], &text[start..])?;
    let mut number = &text[start..];
    let mut stripped = Stripped::default();
    if let Some((body, parameters)) = number.split_once(';') {
        number = body;
        uri_parameters(body, parameters, &mut stripped)?;
    }
    body(number, &mut stripped)?;
    // `+00421…` is understood where 00 dials abroad, so that it needs a region as `00421…` does.
    stripped.international = stripped.dialled.starts_with('+')
        && !stripped.dialled.trim_start_matches('+').starts_with('0');
    Ok(stripped)
}

/// What stands before the first digit or plus: brackets and a known label, or nothing.
fn label(label: &str, number: &str) -> Result<(), PhoneFault> {
    if label.is_empty() {
        return Ok(());
    }
    let mut words = label.split(|c: char| {
        is_space(c)
            || is_separator(c)
            || matches!(
                c,
                ':' | '<' | '"' | '\'' | '☎' | '✆' | '📞' | '📱' | '\u{fe0f}'
            )
    });
    let known = |word: &str| word.is_empty() || LABELS.contains(&word.to_lowercase().as_str());
    match words.find(|word| !known(word)) {
        None => Ok(()),
        Some(word) => Err(match word.chars().find(|c| !c.is_alphabetic()) {
            Some('*' | '#') => PhoneFault::ServiceCode,
            Some(odd) => PhoneFault::Unreadable(odd),
            None => letters(word, 0, number),
        }),
    }
}

/// The parameters of a `tel:` URI (RFC 3966 § 3): an extension and a subaddress are dropped, a context with a country code is put in front.
fn uri_parameters(body: &str, parameters: &str, stripped: &mut Stripped) -> Result<(), PhoneFault> {
    for parameter in parameters
        .split(';')
        .map(|p| p.trim_matches(is_space))
        .filter(|p| !p.is_empty())
    {
        let lower = parameter.to_ascii_lowercase();
        if let Some(context) = lower.strip_prefix("phone-context=") {
            // A domain says whose private plan it is, which helps nobody outside: the region decides.
            if context.starts_with('+') && !body.contains(is_plus) {
                if !context[1..].chars().all(|c| is_digit(c) || is_separator(c)) {
                    return Err(PhoneFault::Unreadable(';'));
                }
                stripped.dialled.push('+');
                stripped.dialled.extend(context.chars().filter_map(digit));
            }
        } else if let Some(extension) = lower.strip_prefix("ext=") {
            tail(extension)?;
        } else if !lower.starts_with("isub=") {
            let many = |s: &str| s.chars().filter(|c| is_digit(*c)).count() >= NUMBER;
            return Err(if many(body) && many(parameter) {
                PhoneFault::Several
            } else {
                PhoneFault::Unreadable(';')
            });
        }
    }
    Ok(())
}

/// Digits and separators, up to the end or an extension.
fn body(number: &str, stripped: &mut Stripped) -> Result<(), PhoneFault> {
    let begun = stripped.dialled.len();
    let mut chars = number.chars();
    // Between two numbers rather than within one: decided once it is known what comes after.
    let mut broken = None;
    loop {
        let rest = chars.as_str();
        let Some(c) = chars.next() else { return Ok(()) };
        if let Some(digit) = digit(c) {
            if let Some(odd) = broken {
                return Err(
                    if stripped.digits() >= NUMBER && digits_ahead(rest) >= NUMBER {
                        PhoneFault::Several
                    } else {
                        PhoneFault::Unreadable(odd)
                    },
                );
            }
            stripped.dialled.push(digit);
        } else if is_plus(c) {
            if stripped.dialled.len() == begun && begun == 0 || stripped.dialled.ends_with('+') {
                stripped.dialled.push('+');
            } else {
                return Err(PhoneFault::Several);
            }
        } else if let Some(within) = rest.strip_prefix(",,") {
            // Two pauses, then what to dial within the house.
            return tail(within).map(drop);
        } else if matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' | ',' | '|' | '&'
        ) {
            broken = Some(if c.is_whitespace() { ' ' } else { c });
        } else if matches!(c, '/' | '／' | '\\') {
            stripped.slashes.push(stripped.dialled.len());
        } else if is_space(c) || is_separator(c) {
        } else if c == '*' {
            return Err(PhoneFault::ServiceCode);
        } else if c.is_alphabetic() || matches!(c, '#' | '~') {
            return extension(rest, stripped);
        } else {
            return Err(PhoneFault::Unreadable(c));
        }
    }
}

/// A known label and a few digits, at the end: dropped. Anything else is no extension.
fn extension(rest: &str, stripped: &Stripped) -> Result<(), PhoneFault> {
    let end = rest
        .find(|c: char| !(c.is_alphabetic() || matches!(c, '#' | '~' | '\u{301}')))
        .unwrap_or(rest.len());
    let (label, after) = rest.split_at(end);
    let known = EXTENSIONS.contains(&label) || EXTENSIONS.contains(&label.to_lowercase().as_str());
    if !known {
        return Err(if label.starts_with(['#', '~']) {
            PhoneFault::ServiceCode
        } else {
            letters(label, stripped.digits(), after)
        });
    }
    let after = after.strip_prefix([':', '.', '．']).unwrap_or(after);
    let digits = tail(after)?;
    // `0905 x 12` is an extension only of something that is a number.
    if stripped.digits() < 3 || digits == 0 {
        Err(PhoneFault::Letters)
    } else {
        Ok(())
    }
}

/// The digits of an extension and nothing else; how many.
fn tail(text: &str) -> Result<usize, PhoneFault> {
    let text = text
        .trim_matches(|c: char| is_space(c) || matches!(c, '-' | ',' | ')' | ']' | '.'))
        .trim_end_matches('#');
    let digits = text.chars().filter(|c| is_digit(*c)).count();
    if digits >= EXTENSION {
        return Err(PhoneFault::Several);
    }
    if text.contains(char::is_alphabetic) {
        return Err(PhoneFault::Letters);
    }
    text.chars()
        .find(|c| !is_digit(*c))
        .map_or(Ok(digits), |odd| Err(PhoneFault::Unreadable(odd)))
}

/// Which fault letters are: an O for a zero, a word between two numbers, or a comment.
fn letters(word: &str, before: usize, after: &str) -> PhoneFault {
    let mut chars: Chars<'_> = word.chars();
    match (chars.next(), chars.next()) {
        (Some(c @ ('O' | 'o' | 'О' | 'о' | 'l' | 'I' | 'i')), None)
            if after.starts_with(|c| is_digit(c) || is_separator(c) || is_space(c))
                || before > 0 =>
        {
            PhoneFault::LetterForDigit(c)
        }
        (Some(c @ ('O' | 'o' | 'О' | 'о')), Some(d)) if d == c => PhoneFault::LetterForDigit(c),
        _ if before >= NUMBER && digits_ahead(after) >= NUMBER => PhoneFault::Several,
        _ => PhoneFault::Letters,
    }
}

fn digits_ahead(text: &str) -> usize {
    text.chars().filter(|c| is_digit(*c)).count()
}

/// The zeros of the scripts in which people write numbers (Unicode category Nd, ten digits from each).
const ZEROS: [char; 22] = [
    '0', '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}',
    '\u{be6}', '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}',
    '\u{1040}', '\u{1090}', '\u{17e0}', '\u{1810}', '\u{ff10}',
];

/// The ASCII digit that a decimal digit of any script stands for. Other numerals (`²`, `½`) are none.
fn digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    let zero = ZEROS.iter().rfind(|zero| **zero <= c)?;
    char::from_digit(u32::from(c) - u32::from(*zero), 10)
}

fn is_digit(c: char) -> bool {
    digit(c).is_some()
}

fn is_plus(c: char) -> bool {
    matches!(c, '+' | '＋')
}

/// White space and what nobody sees.
fn is_space(c: char) -> bool {
    c.is_whitespace() || is_invisible(c)
}

/// What people group digits with: libphonenumber's punctuation without `x`, `/` and `~`, which are looked at by themselves, and the middle dot.
fn is_separator(c: char) -> bool {
    matches!(
        c,
        '-' | '.' | '(' | ')' | '[' | ']' | '\u{2010}'
            ..='\u{2015}'
                | '\u{2212}'
                | '\u{30fc}'
                | '\u{ff0d}'
                | '\u{ff0e}'
                | '\u{ff08}'
                | '\u{ff09}'
                | '\u{ff3b}'
                | '\u{ff3d}'
                | '\u{b7}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_plain_is_stripped_as_with_care(text in "[+]{0,2}[0-9]{0,22}") {
            proptest::prop_assert_eq!(strip(&text), with_care(&text));
        }
    }
}
