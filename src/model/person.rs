//! An entry of the directory, normalised: what it says of a person, and what could not be used.

use std::fmt;

use super::{DirectoryId, Phone, User, phone};

/// Something the source may be unable to carry. *Unknown is not absent*: what is held is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known<T> {
    /// The source says so.
    Known(T),
    /// The source cannot carry it (a delta without operational attributes, a sparse entry).
    Unknown,
}

/// A user name in its two forms.
#[derive(Clone, PartialEq, Eq)]
pub struct UserName {
    /// Trimmed and NFC, as people see it.
    pub shown: String,
    /// Folded: what is compared.
    pub key: String,
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserName(•••)")
    }
}

/// One usable number of an entry.
#[derive(Clone, PartialEq, Eq)]
pub struct PhoneValue {
    /// What is compared and sent.
    pub phone: Phone,
    /// As the directory has it.
    pub raw: String,
    /// How it was read: `international`, `national, region SK from preferredLanguage`, `national, region SK of the realm`.
    pub rule: String,
}

impl fmt::Debug for PhoneValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.phone.fmt(f)
    }
}

/// What one mapped phone attribute holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttributeReading {
    /// The attribute, as configured.
    pub attribute: String,
    /// Usable numbers, ascending by E.164, each once.
    pub usable: Vec<PhoneValue>,
    /// How many values were refused.
    pub refused: usize,
}

/// The phone attributes in the order of preference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PhoneReading {
    /// The source cannot carry phones (the sentinel of a sparse delta): keep what is held.
    Unknown,
    /// One reading for each configured attribute, in the configured order; also for those that the entry lacks.
    Read(Vec<AttributeReading>),
}

/// An entry, or one of its values, that cannot be used.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The entry.
    pub dn: String,
    /// Kept so that a refusal is found again under the same entry; `None`: the entry has no readable id.
    pub directory_id: Option<DirectoryId>,
    /// The user name, where there is one.
    pub username: Option<String>,
    /// The attribute; `None`: the entry as a whole.
    pub attribute: Option<String>,
    /// The value as the directory has it (lossy where it is not UTF-8).
    pub raw: Option<String>,
    /// Why, and what would mend it.
    pub reason: String,
    /// The whole entry is refused (no id, no name), rather than one value.
    pub entry: bool,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = self.raw.as_deref().map(phone::mask);
        f.debug_struct("Refusal")
            .field("attribute", &self.attribute)
            .field("raw", &raw)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Further usable values of the attributes that decided. Their order means nothing, so whoever has one of them keeps it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Others {
    /// Of the user name.
    pub username: Vec<UserName>,
    /// Of the display name.
    pub display_name: Vec<String>,
    /// Of the e-mail address.
    pub email: Vec<String>,
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Others(•••)")
    }
}

impl Person {
    /// The user name in use stays while it is among the values; of two that differ in case only, the one that is written as it is.
    pub fn keep_name(&mut self, in_use: &User) {
        let Ok(chosen) = &self.username else {
            return;
        };
        let written = |name: &&UserName| name.shown == in_use.username;
        let same = |name: &&UserName| name.key == in_use.username_key;
        if written(&chosen) {
            return;
        }
        let others = || self.others.username.iter().filter(same);
        let kept = others()
            .find(written)
            .or_else(|| others().next().filter(|_| !same(&chosen)));
        if let Some(name) = kept {
            self.username = Ok(name.clone());
        }
    }
}

/// A text of the entry, or the one in use where that is among the other values.
pub fn in_use<'a>(
    chosen: &'a Option<String>,
    others: &[String],
    held: &'a Option<String>,
) -> &'a Option<String> {
    match held {
        Some(text) if chosen.is_some() && others.contains(text) => held,
        _ => chosen,
    }
}

/// A person as an entry describes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// The entry's immutable id.
    pub directory_id: DirectoryId,
    /// 389-ds only.
    pub entry_uuid: Option<DirectoryId>,
    /// The entry's name.
    pub dn: String,
    /// `Err`: refused, with the reason. A new entry is then no user; a known user keeps the name that is held.
    pub username: Result<UserName, String>,
    /// Absent is `Known(None)`.
    pub display_name: Known<Option<String>>,
    /// Absent is `Known(None)`.
    pub email: Known<Option<String>>,
    /// Whether the directory lets the person log on.
    pub enabled: Known<bool>,
    /// Numbers.
    pub phone: PhoneReading,
    /// Everything that could not be used, the user name included.
    pub refused: Vec<Refusal>,
    /// What else the attributes hold that gave name and address.
    pub others: Others,
    /// Keyed hash of the raw values (62 bits).
    pub fingerprint: u64,
}

/// What names are compared by: NFC and lower case, so that `ŠIMON`, decomposed or not, is `šimon`.
///
/// This is the `toLowerCase` of RFC 8265 § 3.3 (UsernameCaseMapped), character by character: the word-final sigma that
/// `str::to_lowercase` makes would give `ΟΔΟΣ` and `οδοσ` two keys. Full case folding is not used: it would make `strasse`
/// and `straße` one person. Folding twice is the same as folding once.
pub fn fold_name(shown: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    if shown.is_ascii() {
        return shown.to_ascii_lowercase();
    }
    let lower = shown
        .nfc()
        .flat_map(char::to_lowercase)
        .map(|c| if c == 'ς' { 'σ' } else { c });
    lower.nfc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fold_name;

    #[test]
    fn names_are_compared_without_case_and_composition() {
        for (a, b) in [
            ("ŠIMON", "šimon"),
            ("S\u{30c}imon", "šimon"),
            ("ΟΔΟΣ", "οδος"),
            ("Jan", "jAN"),
            ("ШЕВЧЕНКО", "шевченко"),
        ] {
            assert_eq!(fold_name(a), fold_name(b), "{a} {b}");
        }
        assert_ne!(fold_name("strasse"), fold_name("straße"));
        assert_ne!(fold_name("simon"), fold_name("šimon"));
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(name in "\\PC{0,12}") {
            let once = fold_name(&name);
            prop_assert_eq!(fold_name(&once), once);
        }
    }
}
