//! How a directory spells its ids. The text of an id is read in any spelling, but some servers compare it letter by letter, so an
//! id is asked for as ids came.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::model::{DirectoryId, IdForm};

/// Ids in a spelling of their own (mixed case) that are remembered.
const MAX_ODD: usize = 10_000;

/// One way to write an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spelling {
    marks: Marks,
    upper: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Marks {
    /// With the hyphens of its form.
    Hyphens,
    /// 32 digits.
    None,
    /// In braces, with hyphens.
    Braces,
}

/// The usual one first.
const ALL: [Spelling; 6] = {
    const fn spelling(marks: Marks, upper: bool) -> Spelling {
        Spelling { marks, upper }
    }
    [
        spelling(Marks::Hyphens, false),
        spelling(Marks::Hyphens, true),
        spelling(Marks::None, false),
        spelling(Marks::None, true),
        spelling(Marks::Braces, false),
        spelling(Marks::Braces, true),
    ]
};

impl Spelling {
    fn write(self, id: DirectoryId, form: IdForm) -> String {
        let text = id.display(form);
        let text = match self.marks {
            Marks::Hyphens => text,
            Marks::None => text.replace('-', ""),
            Marks::Braces => format!("{{{text}}}"),
        };
        if self.upper {
            text.to_uppercase()
        } else {
            text
        }
    }
}

/// The spellings that a session has met.
#[derive(Clone, Default, Debug)]
pub(super) struct Spellings {
    known: Vec<Spelling>,
    /// Ids that are written in none of [`ALL`].
    odd: HashMap<DirectoryId, String>,
}

impl Spellings {
    /// Remembers how an id came.
    pub(super) fn learn(&mut self, id: DirectoryId, value: &[u8], form: IdForm) {
        let (false, Ok(text)) = (form == IdForm::Guid, std::str::from_utf8(value)) else {
            return;
        };
        let text = text.trim();
        match ALL.iter().find(|s| s.write(id, form) == text) {
            Some(spelling) if self.known.contains(spelling) => {}
            Some(spelling) => self.known.push(*spelling),
            None if self.odd.len() < MAX_ODD => {
                self.odd.insert(id, text.to_owned());
            }
            None => {}
        }
    }

    /// A filter for any of these ids, in the spellings that were met; before any was, in the usual one.
    pub(super) fn any_of<'a>(
        &self,
        attribute: &str,
        form: IdForm,
        ids: impl Iterator<Item = &'a DirectoryId>,
    ) -> String {
        let usual = &ALL[..1];
        let known = if self.known.is_empty() {
            usual
        } else {
            &self.known
        };
        self.filter(attribute, form, ids, known)
    }

    /// The same in all other spellings; `None`: there are none.
    pub(super) fn any_other_of<'a>(
        &self,
        attribute: &str,
        form: IdForm,
        ids: impl Iterator<Item = &'a DirectoryId>,
    ) -> Option<String> {
        if form == IdForm::Guid {
            return None;
        }
        let met = |s: &Spelling| {
            if self.known.is_empty() {
                *s == ALL[0]
            } else {
                self.known.contains(s)
            }
        };
        let others: Vec<Spelling> = ALL.iter().copied().filter(|s| !met(s)).collect();
        (!others.is_empty()).then(|| self.filter(attribute, form, ids, &others))
    }

    fn filter<'a>(
        &self,
        attribute: &str,
        form: IdForm,
        ids: impl Iterator<Item = &'a DirectoryId>,
        spellings: &[Spelling],
    ) -> String {
        let mut filter = String::from("(|");
        for id in ids {
            if form == IdForm::Guid {
                // Binary in the directory: each byte escaped.
                let value = id.0.iter().fold(String::new(), |mut text, byte| {
                    let _infallible = write!(text, "\\{byte:02x}");
                    text
                });
                let _infallible = write!(filter, "({attribute}={value})");
                continue;
            }
            if let Some(odd) = self.odd.get(id) {
                let _infallible = write!(filter, "({attribute}={odd})");
            }
            for spelling in spellings {
                let _infallible = write!(filter, "({attribute}={})", spelling.write(*id, form));
            }
        }
        filter.push(')');
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> DirectoryId {
        DirectoryId(std::array::from_fn(|i| u8::try_from(i + 0xa1).unwrap()))
    }

    fn asked(spellings: &Spellings, form: IdForm) -> String {
        spellings.any_of("x", form, [id()].iter())
    }

    #[test]
    fn ids_are_written_by_their_form() {
        let none = Spellings::default();
        assert_eq!(
            asked(&none, IdForm::Uuid),
            "(|(x=a1a2a3a4-a5a6-a7a8-a9aa-abacadaeafb0))"
        );
        assert_eq!(
            asked(&none, IdForm::NsUniqueId),
            "(|(x=a1a2a3a4-a5a6a7a8-a9aaabac-adaeafb0))"
        );
        assert_eq!(
            asked(&none, IdForm::Guid),
            r"(|(x=\a1\a2\a3\a4\a5\a6\a7\a8\a9\aa\ab\ac\ad\ae\af\b0))"
        );
    }

    #[test]
    fn an_id_is_asked_for_in_the_spelling_that_ids_came_in() {
        for came in [
            "a1a2a3a4-a5a6-a7a8-a9aa-abacadaeafb0",
            "A1A2A3A4-A5A6-A7A8-A9AA-ABACADAEAFB0",
            "a1a2a3a4a5a6a7a8a9aaabacadaeafb0",
            "A1A2A3A4A5A6A7A8A9AAABACADAEAFB0",
            "{a1a2a3a4-a5a6-a7a8-a9aa-abacadaeafb0}",
            "{A1A2A3A4-A5A6-A7A8-A9AA-ABACADAEAFB0}",
        ] {
            let mut met = Spellings::default();
            // Another id of the same directory.
            let other = DirectoryId([0xfe; 16]);
            let spelling = ALL.iter().find(|s| s.write(id(), IdForm::Uuid) == came);
            let text = spelling.unwrap().write(other, IdForm::Uuid);
            assert_eq!(DirectoryId::parse(came, IdForm::Uuid), Some(id()), "{came}");
            met.learn(other, text.as_bytes(), IdForm::Uuid);
            assert_eq!(asked(&met, IdForm::Uuid), format!("(|(x={came}))"));
        }
    }

    #[test]
    fn mixed_spellings_are_all_asked_for_and_one_of_its_own_as_it_is() {
        let mut met = Spellings::default();
        met.learn(id(), b"a1a2a3a4a5a6a7a8a9aaabacadaeafb0", IdForm::Uuid);
        met.learn(id(), b"A1A2a3a4a5a6a7a8a9aaabacadaeafb0", IdForm::Uuid);
        met.learn(
            DirectoryId([0xab; 16]),
            b"ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB",
            IdForm::Uuid,
        );
        assert_eq!(
            asked(&met, IdForm::Uuid),
            "(|(x=A1A2a3a4a5a6a7a8a9aaabacadaeafb0)(x=a1a2a3a4a5a6a7a8a9aaabacadaeafb0)(x=A1A2A3A4-A5A6-A7A8-A9AA-ABACADAEAFB0))"
        );
        let others = met.any_other_of("x", IdForm::Uuid, [id()].iter()).unwrap();
        assert!(others.contains("(x=a1a2a3a4-a5a6-") && others.contains("(x={a1"));
        assert!(!others.contains("(x=a1a2a3a4a5"), "{others}");
    }

    #[test]
    fn every_filter_can_be_read() {
        let met = Spellings::default();
        for form in [IdForm::Uuid, IdForm::NsUniqueId, IdForm::Guid] {
            assert!(ldap3::parse_filter(asked(&met, form)).is_ok());
            if let Some(others) = met.any_other_of("x", form, [id()].iter()) {
                assert!(ldap3::parse_filter(others).is_ok());
            }
        }
    }
}
