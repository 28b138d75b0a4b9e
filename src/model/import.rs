//! A line of a file of users: what stands in it, what it means, and why it is refused.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{Edit, Phone, TwoFactor, UserName};

words! {
    /// What a column of a file of users holds.
    ImportColumn {
        /// The user name.
        Name = "name",
        /// The number.
        Phone = "phone",
        /// The name for people.
        DisplayName = "display_name",
        /// The address.
        Email = "email",
        /// The methods.
        Methods = "methods",
        /// An administrator's words.
        Note = "note",
    }
}

/// What stands in the columns of one line, by [`ImportColumn`]. A column that the file has not, or the line not, has no value. Only an
/// LDIF has several values of one. Its memory is used again.
#[derive(Clone, Default)]
pub struct ImportCells {
    /// All values, one behind the other.
    text: String,
    /// Of each its column, and where it stands in the text.
    values: Vec<(ImportColumn, std::ops::Range<usize>)>,
    /// An LDIF's name of the entry, whose own value is preferred to others.
    pub dn: String,
}

impl ImportCells {
    /// The values of a column.
    pub fn of(&self, column: ImportColumn) -> impl Iterator<Item = &str> {
        let of = self.values.iter().filter(move |(of, _)| *of == column);
        of.filter_map(|(_, place)| self.text.get(place.clone()))
    }

    /// Adds a value.
    pub fn add(&mut self, column: ImportColumn, value: &str) {
        let begin = self.text.len();
        self.text.push_str(value);
        self.values.push((column, begin..self.text.len()));
    }

    /// Takes all values away.
    pub fn clear(&mut self) {
        self.text.clear();
        self.values.clear();
        self.dn.clear();
    }
}

impl PartialEq for ImportCells {
    fn eq(&self, other: &Self) -> bool {
        let same = |column: &ImportColumn| self.of(*column).eq(other.of(*column));
        self.dn == other.dn && ImportColumn::ALL.iter().all(same)
    }
}

impl Eq for ImportCells {}

impl std::fmt::Debug for ImportCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ImportCells(•••)")
    }
}

/// A number of a line.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedPhone {
    /// As it is kept.
    pub phone: Phone,
    /// As it stands in the file.
    pub raw: String,
}

impl std::fmt::Debug for ImportedPhone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.phone.fmt(f)
    }
}

/// A line that was understood.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedUser {
    /// Who.
    pub name: UserName,
    /// The name for people.
    pub display_name: Edit<String>,
    /// The address.
    pub email: Edit<String>,
    /// The number.
    pub phone: Edit<ImportedPhone>,
    /// Further usable numbers of an LDIF: whoever has one of them keeps it.
    pub other_phones: Vec<ImportedPhone>,
    /// The methods; `None`: they stay.
    pub two_factor: Option<Vec<TwoFactor>>,
    /// An administrator's words.
    pub note: Edit<String>,
    /// The number lost its first zero, or its plus, in a spreadsheet, and was given it back.
    pub marked: bool,
}

impl std::fmt::Debug for ImportedUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportedUser")
            .field("phone", &self.phone)
            .field("two_factor", &self.two_factor)
            .field("marked", &self.marked)
            .finish_non_exhaustive()
    }
}

/// What a file may say of somebody about whom nothing else is open: active, of no directory, no number waits, and nobody is told anything.
#[derive(Clone, PartialEq, Eq)]
pub struct SettledUser {
    /// The name for people.
    pub display_name: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// The number, in E.164.
    pub phone: Option<String>,
    /// The methods.
    pub two_factor: Vec<TwoFactor>,
    /// An administrator's words.
    pub note: Option<String>,
}

impl std::fmt::Debug for SettledUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SettledUser(•••)")
    }
}

/// Why a line cannot be used.
#[derive(Clone, PartialEq, Eq)]
pub struct LineFault {
    /// Where; `None`: the line as a whole.
    pub column: Option<ImportColumn>,
    /// What stands there.
    pub value: Option<String>,
    /// Why, and what would mend it.
    pub reason: String,
}

impl std::fmt::Debug for LineFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineFault")
            .field("column", &self.column)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// A line that was refused, as it is reported. No Debug shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLine {
    /// The physical line of the file on which the record begins, from 1.
    pub line: u64,
    /// In which column; `None`: the line as a whole.
    pub column: Option<ImportColumn>,
    /// What stands there.
    pub value: Option<String>,
    /// Why, and what would mend it.
    pub reason: String,
    /// The record as it stands in the file, with its end of line, for a file to mend.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub record: String,
}

impl std::fmt::Debug for RefusedLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefusedLine")
            .field("line", &self.line)
            .field("column", &self.column)
            .finish_non_exhaustive()
    }
}

/// What a file came to: `lines` is the sum of the four that follow.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Lines with something in them, but for the header.
    pub lines: i64,
    /// Users that are made.
    pub created: i64,
    /// Users that are changed.
    pub updated: i64,
    /// Users who have all this already, and lines that say what an earlier line says.
    pub unchanged: i64,
    /// Lines that cannot be used.
    pub refused: i64,
    /// Of those that can, lines whose number lost its zero or plus, and was given it back.
    pub marked: i64,
    /// Users of earlier imports who are not in the file and are suspended.
    pub suspended: i64,
}
