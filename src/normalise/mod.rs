//! From an entry, as a directory sent it, to a person. Pure: the same entry and configuration give the same person, whatever the
//! order of attributes and values, the time or the machine.
//!
//! ```text
//!  RawEntry ── fingerprint ──▶ 62 bits: has anything that matters changed?
//!     │
//!     └─ mapping (which values) ─▶ text (names, e-mail)      ─┐
//!                                 ─▶ region (whose number) ─▶ phone ─┼─▶ Person, with everything refused and why
//!                                 ─▶ disabled                 ─┘
//! ```
//!
//! The rule that everything here follows: *better none than a stranger's*. A number is what libphonenumber reads, or it is
//! refused; this stage refuses more than libphonenumber does and never accepts anything else.

mod disabled;
mod imported;
#[cfg(test)]
mod junk;
mod mapping;
mod person;
mod phone;
#[cfg(test)]
mod properties;
mod region;
mod strip;
#[cfg(test)]
mod tests;
mod text;
mod typed;

pub use imported::{imported_key, imported_line, same_person_key};
pub use mapping::{Normaliser, mapping_hash};
pub use phone::{country_of, typed_number, warm_up};
pub use typed::{tidied, typed_email, typed_name, typed_note, typed_region, typed_text};

/// Rises with every change that can read the same raw values differently (also with the numbering plans, see `phone::LIBRARY`):
/// the next pass then looks at everybody anew, and its plan is held if it would change anyone.
pub const VERSION: u32 = 1;

/// What user names are compared by: NFC, lower case. See [`crate::model::person::fold_name`].
pub fn name_key(shown: &str) -> String {
    crate::model::person::fold_name(shown)
}
