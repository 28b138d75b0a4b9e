//! A file of users, in the frame of a run.
//!
//! ```text
//!  file ─ look ─▶ how it is read ─ names ─▶ who is in it twice
//!   └─ read once more, on a thread of its own ─▶ lines ─ decide ─▶ plan ─▶ runs: weighed, and applied or held
//!                                                  └─▶ refused lines, spooled
//! ```

mod approve;
mod audit;
mod doubles;
mod file;
mod place;
mod produce;
mod run;
mod spool;
mod work;

pub use file::ImportFile;
pub use place::ImportAsk;
pub use run::Imported;
pub use spool::RefusedLines;
