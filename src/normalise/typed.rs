//! What an administrator types of somebody: read like what a directory gives, with reasons that speak of typing.

use super::region;
use super::text::{TextFault, email, name, tidy};
use crate::model::UserName;
use crate::model::person::fold_name;

/// The longest note, in characters.
const LONGEST_NOTE: usize = 1000;

fn told(fault: TextFault) -> String {
    match fault {
        TextFault::Empty => "it is empty: write one".to_owned(),
        TextFault::Control => "it holds a control character: write it again without".to_owned(),
        TextFault::NotUtf8 => "it is not UTF-8: write it again".to_owned(),
        other @ (TextFault::TooLong(_) | TextFault::NotAnAddress) => {
            other.to_string().replacen("the value", "it", 1)
        }
    }
}

/// A user name.
///
/// # Errors
/// What is wrong with it.
pub fn typed_name(text: &str) -> Result<UserName, String> {
    let shown = name(text).map_err(told)?;
    let key = fold_name(&shown);
    Ok(UserName { shown, key })
}

/// What somebody typed as names are kept: without invisible marks, and composed. Whoever looks for a name looks for this.
pub fn tidied(text: &str) -> std::borrow::Cow<'_, str> {
    tidy(text)
}

/// A name for people: of a user, a realm, a category.
///
/// # Errors
/// What is wrong with it.
pub fn typed_text(text: &str, longest: usize) -> Result<String, String> {
    let text = name(text).map_err(told)?;
    if text.chars().count() > longest {
        return Err(told(TextFault::TooLong(longest)));
    }
    Ok(text)
}

/// An e-mail address.
///
/// # Errors
/// What is wrong with it.
pub fn typed_email(text: &str) -> Result<String, String> {
    email(text).map_err(told)
}

/// A note: lines and tabs may stay.
///
/// # Errors
/// What is wrong with it.
pub fn typed_note(text: &str) -> Result<String, String> {
    let note = tidy(text);
    if note.is_empty() {
        return Err(told(TextFault::Empty));
    }
    if note
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
    {
        return Err(told(TextFault::Control));
    }
    if note.chars().count() > LONGEST_NOTE {
        return Err(told(TextFault::TooLong(LONGEST_NOTE)));
    }
    Ok(note.into_owned())
}

/// The code (ISO 3166-1) of a country, from its code or its name. `None`: no such.
pub fn typed_region(text: &str) -> Option<String> {
    let region = region::country(text.trim())?;
    Some(region.as_region_str().as_ref().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_typed_is_tidied_or_refused_with_a_reason() {
        assert_eq!(typed_name(" J\u{e1}n ").unwrap().key, "j\u{e1}n");
        assert_eq!(typed_note("a\n\tb ").unwrap(), "a\n\tb");
        assert_eq!(typed_region("sk").as_deref(), Some("SK"));
        assert_eq!(typed_region("atlantis"), None);
        for (fault, why) in [
            (typed_name("").map(|n| n.shown), "it is empty: write one"),
            (
                typed_name("a\0").map(|n| n.shown),
                "it holds a control character: write it again without",
            ),
            (
                typed_email("jan"),
                "it is no e-mail address: write it as name@example.org",
            ),
            (
                typed_note("a\u{7}"),
                "it holds a control character: write it again without",
            ),
            (
                typed_note(&"x".repeat(1001)),
                "it is longer than 1000 characters: shorten it",
            ),
            (
                typed_text(&"x".repeat(65), 64),
                "it is longer than 64 characters: shorten it",
            ),
        ] {
            assert_eq!(fault.unwrap_err(), why);
        }
    }

    proptest! {
        /// TRAPS of users, 133: one validator at the edge, and both stores take what passes it.
        #[test]
        fn trap_133_no_control_character_passes(text in any::<String>()) {
            for passed in [
                typed_name(&text).map(|n| n.shown), typed_text(&text, 64), typed_email(&text),
            ].into_iter().flatten() {
                prop_assert!(!passed.chars().any(char::is_control));
            }
            if let Ok(note) = typed_note(&text) {
                prop_assert!(!note.contains('\0') && note.chars().count() <= LONGEST_NOTE);
            }
        }
    }
}
