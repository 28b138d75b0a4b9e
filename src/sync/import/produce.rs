//! Reads a file on a thread of its own, and hands over its lines as they are understood.

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

/// A line that was read: what it says, or why it cannot be used.
pub(super) struct ReadLine {
    pub(super) line: u64,
    pub(super) record: String,
    pub(super) says: Said,
}

/// What a line says.
pub(super) enum Said {
    /// Of a user.
    User(ImportedUser),
    /// What an earlier line says.
    Again,
    /// Nothing that can be used.
    Refused(LineFault),
}

/// Reads all lines. Ends early, without a fault, when nobody takes them any more.
pub(super) fn produce(
    file: &ImportFile,
    reading: &Reading,
    doubles: &Doubles,
    rules: &PhoneConfig,
    to: &mpsc::Sender<Vec<ReadLine>>,
    cancel: &CancellationToken,
) -> Result<(), ImportFault> {
    let mut lines = reading.lines(file.open())?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut text = 0;
    while let Some(line) = lines.next()? {
        if cancel.is_cancelled() {
            return Ok(());
        }
        text += line.record.len();
        batch.push(understood(line, doubles, rules));
        if batch.len() >= BATCH || text >= BATCH_TEXT {
            text = 0;
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            if to.blocking_send(full).is_err() {
                return Ok(());
            }
        }
    }
    let _nobody = to.blocking_send(batch);
    Ok(())
}

fn understood(line: FileLine, doubles: &Doubles, rules: &PhoneConfig) -> ReadLine {
    let verdict = doubles.verdict(&line);
    let FileLine {
        line,
        cells,
        fault,
        record,
    } = line;
    let says = match (fault, verdict) {
        (Some(fault), _) => Said::Refused(fault),
        (None, Double::First) => match imported_line(&cells, rules) {
            Ok(user) => Said::User(user),
            Err(fault) => Said::Refused(fault),
        },
        (None, Double::Again) => Said::Again,
        (None, Double::Contradicted(others)) => {
            use crate::model::ImportColumn;
            let some: Vec<String> = others.some.iter().map(u64::to_string).collect();
            let noun = if others.all == 1 { "line" } else { "lines" };
            let more = match others.all - some.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Said::Refused(LineFault {
                column: Some(ImportColumn::Name),
                value: cells.of(ImportColumn::Name).first().cloned(),
                reason: format!(
                    "the same user is in {noun} {}{more} too, with other values or one that cannot be used: leave one of them",
                    some.join(", ")
                ),
            })
        }
    };
    ReadLine { line, record, says }
}
