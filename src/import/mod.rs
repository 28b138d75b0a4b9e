//! A file of users as people really have it: CSV, TSV or LDIF in any of the usual encodings, read in bounded memory and more than
//! once. Pure but for the reading itself: the same bytes give the same lines.
//!
//! ```text
//!  bytes ─ look ─▶ Reading (encoding, delimiter, columns, the first lines) ─ lines ─▶ ImportCells, one line after the other
//! ```
//!
//! What the cells mean is the matter of `normalise`, what becomes of it that of `plan`.

mod charset;
mod decoded;
mod fault;
mod header;
mod ldif;
mod lines;
mod look;
mod table;
#[cfg(test)]
mod tests;

pub use charset::Charset;
pub use fault::ImportFault;
pub use header::{ColumnMap, noun};
pub use lines::{FileLine, FileLines};
pub use look::{FileForm, LookAsked, Reading, look};
