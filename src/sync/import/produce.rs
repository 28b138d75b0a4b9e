//! Reads a file on a thread of its own, and hands over its lines as they are understood.

use std::ops::Range;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::doubles::{Double, Doubles};
use super::file::ImportFile;
use crate::config::PhoneConfig;
use crate::import::{FileLine, ImportFault, Reading};
use crate::model::{ImportedUser, LineFault};
use crate::normalise::imported_line;

/// Lines handed over at once.
pub(super) const BATCH: usize = 500;

/// Fewer where their text is longer than this, in bytes: a line may have 64 KiB, and an entry of an LDIF 8 MiB.
const BATCH_TEXT: usize = 1024 * 1024;

/// Lines that were read one after the other.
#[derive(Default)]
pub(super) struct ReadLines {
    pub(super) lines: Vec<ReadLine>,
    /// Their records, one behind the other.
    pub(super) records: String,
}

/// A line that was read: what it says, or why it cannot be used.
pub(super) struct ReadLine {
    pub(super) line: u64,
    /// Where it stands among the records.
    pub(super) record: Range<usize>,
    pub(super) says: Said,
}

/// What a line says.
pub(super) enum Said {
    /// Of a user.
    User(ImportedUser),
    /// What an earlier line says.
    Again,
    /// What is there already.
    There {
        /// The number got its beginning back.
        marked: bool,
    },
    /// Nothing that can be used.
    Refused(LineFault),
}

/// Reads all lines. Ends early, without a fault, when nobody takes them any more.
pub(super) fn produce(
    file: &ImportFile,
    reading: &Reading,
    doubles: &Doubles,
    rules: &PhoneConfig,
    to: &mpsc::Sender<ReadLines>,
    cancel: &CancellationToken,
) -> Result<(), ImportFault> {
    let mut lines = reading.lines(file.open())?;
    let mut batch = ReadLines::default();
    let mut line = FileLine::default();
    while lines.read(&mut line)? {
        if cancel.is_cancelled() {
            return Ok(());
        }
        let begin = batch.records.len();
        batch.records.push_str(&line.record);
        batch.lines.push(ReadLine {
            line: line.line,
            record: begin..batch.records.len(),
            says: understood(&mut line, doubles, rules),
        });
        if batch.lines.len() >= BATCH || batch.records.len() >= BATCH_TEXT {
            let next = ReadLines {
                lines: Vec::with_capacity(BATCH),
                records: String::with_capacity(batch.records.len()),
            };
            let full = std::mem::replace(&mut batch, next);
            if to.blocking_send(full).is_err() {
                return Ok(());
            }
        }
    }
    let _nobody = to.blocking_send(batch);
    Ok(())
}

fn understood(line: &mut FileLine, doubles: &Doubles, rules: &PhoneConfig) -> Said {
    if let Some(fault) = line.fault.take() {
        return Said::Refused(fault);
    }
    let cells = &line.cells;
    match doubles.verdict(line) {
        Double::First => match imported_line(cells, rules) {
            Ok(user) => Said::User(user),
            Err(fault) => Said::Refused(fault),
        },
        Double::Again => Said::Again,
        Double::Contradicted(others) => {
            use crate::model::ImportColumn;
            let some: Vec<String> = others.some.iter().map(u64::to_string).collect();
            let noun = if others.all == 1 { "line" } else { "lines" };
            let more = match others.all - some.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Said::Refused(LineFault {
                column: Some(ImportColumn::Name),
                value: cells.of(ImportColumn::Name).next().map(str::to_owned),
                reason: format!(
                    "the same user is in {noun} {}{more} too, with other values or one that cannot be used: keep one of them",
                    some.join(", ")
                ),
            })
        }
    }
}
