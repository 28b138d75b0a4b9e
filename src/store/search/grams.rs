//! What is found by which characters: every three that stand together in a text.

use unicode_normalization::UnicodeNormalization as _;

use crate::model::{Phone, User};

/// Three characters of 21 bits each.
pub(super) type Gram = i64;

/// Behind the end of a text, so that its last characters begin a group too.
const END: char = '\0';

/// The last of all characters, as far as 21 bits go.
const LAST: i64 = (1 << 21) - 1;

/// Groups of a text that is looked for. More of them hardly leave out anybody else.
const ASKED: usize = 8;

/// What a text is looked for by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// Each of these.
    All(Vec<Gram>),
    /// At least one from here to there.
    Any(Gram, Gram),
}

/// How texts are compared: without case, character by character, whatever stands around them.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == 'ς' { 'σ' } else { c })
        .collect()
}

/// What users are found by, as one text: name, display name, e-mail and number.
pub(super) fn text_of(
    name: &str,
    shown: Option<&str>,
    email: Option<&str>,
    phone: Option<&str>,
) -> String {
    let words = [
        name,
        shown.unwrap_or_default(),
        email.unwrap_or_default(),
        phone.unwrap_or_default(),
    ];
    fold(&words.join(" "))
}

/// What is looked for, as texts are compared. Whoever types it decomposed (`Z` and a caron) means the same.
pub(super) fn needle(search: &str) -> String {
    fold(&search.nfc().collect::<String>())
}

/// Whether a user is found by a folded text.
pub(super) fn speaks_of(user: &User, needle: &str) -> bool {
    let phone = user.phone.as_ref().map(Phone::as_str);
    let (shown, email) = (user.display_name.as_deref(), user.email.as_deref());
    text_of(&user.username, shown, email, phone).contains(needle)
}

fn gram(a: char, b: char, c: char) -> Gram {
    i64::from(u32::from(a)) << 42 | i64::from(u32::from(b)) << 21 | i64::from(u32::from(c))
}

/// The groups of a folded text, one for each of its characters.
pub(super) fn of(text: &str) -> impl Iterator<Item = Gram> {
    let behind = text
        .chars()
        .skip(1)
        .chain([END, END])
        .zip(text.chars().skip(2).chain([END, END, END]));
    text.chars().zip(behind).map(|(a, (b, c))| gram(a, b, c))
}

/// What a folded text is looked for by; `None`: everybody has it.
pub(super) fn wanted(needle: &str) -> Option<Wanted> {
    let mut first = needle.chars();
    match (first.next(), first.next(), first.next()) {
        (None, _, _) => None,
        (Some(a), None, _) => Some(Wanted::Any(
            gram(a, END, END),
            gram(a, END, END) + (LAST << 21) + LAST,
        )),
        (Some(a), Some(b), None) => Some(Wanted::Any(gram(a, b, END), gram(a, b, END) + LAST)),
        _ => {
            let chars = needle.chars().count();
            let mut all: Vec<Gram> = of(needle).take(chars - 2).collect();
            all.sort_unstable();
            all.dedup();
            if all.len() > ASKED {
                // From everywhere alike: a long text may begin as many do.
                let some = (0..ASKED).filter_map(|n| all.get(n * all.len() / ASKED));
                all = some.copied().collect();
            }
            Some(Wanted::All(all))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(text: &str, needle: &str) -> bool {
        let grams: Vec<Gram> = of(&fold(text)).collect();
        match wanted(&fold(needle)) {
            None => true,
            Some(Wanted::All(all)) => all.iter().all(|g| grams.contains(g)),
            Some(Wanted::Any(from, to)) => grams.iter().any(|g| (from..=to).contains(g)),
        }
    }

    #[test]
    fn short_texts_and_ends_are_found() {
        assert_eq!(of("").count(), 0);
        assert_eq!(of("ab").count(), 2);
        for (text, needle) in [
            ("ab", "b"),
            ("ab", "AB"),
            ("x", "x"),
            ("Žofia", "žof"),
            ("ΟΔΟΣ", "οδος"),
            ("İstanbul", "İST"),
            ("Straße", "AßE"),
            ("100%", "%"),
            ("a_b", "_"),
        ] {
            assert!(has(text, needle), "{text} {needle}");
        }
        for (text, needle) in [("ab", "ba"), ("ab", "c"), ("abcd", "abd"), ("ab", "bc")] {
            assert!(!has(text, needle), "{text} {needle}");
        }
        let long = "abcdefghij".repeat(1000);
        assert!(has(&format!("x{long}y"), &long));
        assert!(!has("abcdefghij", &long.replace('j', "jx")));
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_text_is_found(before in "\\PC{0,6}", needle in "\\PC{1,14}", after in "\\PC{0,6}") {
            let text = format!("{before}{needle}{after}");
            prop_assert!(fold(&text).contains(&fold(&needle)));
            prop_assert!(has(&text, &needle));
        }
    }
}
