//! The lines of a file whose form is known.

use std::io::Read;

use super::ImportFault;
use super::header::Columns;
use super::ldif::{Entry, Ldif};
use super::look::{FileForm, Reading};
use super::table::{Record, Table};
use crate::model::{ImportCells, ImportColumn, LineFault};

/// A line of users, or what is wrong with it as a whole.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct FileLine {
    /// The physical line on which the record begins, from 1.
    pub line: u64,
    /// What stands in its columns.
    pub cells: ImportCells,
    /// It cannot be used, whatever stands in its columns.
    pub fault: Option<LineFault>,
    /// The record as it stands in the file.
    pub record: String,
}

enum Source<R> {
    Table {
        table: Box<Table<R>>,
        columns: Columns,
        width: usize,
        before: usize,
        record: Record,
    },
    Ldif(Ldif<R>, Entry),
}

/// The lines of users of a file, one after the other. Lines in which nothing stands are none.
pub struct FileLines<R>(Source<R>);

impl<R: Read> FileLines<R> {
    /// `text` is the file's text from its beginning.
    pub(super) fn new(text: R, reading: &Reading) -> Self {
        Self(match &reading.form {
            FileForm::Table {
                delimiter,
                columns,
                width,
                before,
            } => Source::Table {
                table: Box::new(Table::new(text, *delimiter)),
                columns: *columns,
                width: *width,
                before: *before,
                record: Record::default(),
            },
            FileForm::Ldif { attributes } => {
                Source::Ldif(Ldif::new(text, attributes.clone()), Entry::default())
            }
        })
    }

    /// The next line; `None`: there are no more.
    ///
    /// # Errors
    /// Where the file cannot be read on.
    #[expect(
        clippy::should_implement_trait,
        reason = "no iterator: what fails here ends the file"
    )]
    pub fn next(&mut self) -> Result<Option<FileLine>, ImportFault> {
        let mut line = FileLine::default();
        Ok(self.read(&mut line)?.then_some(line))
    }

    /// The same into a line whose memory is used again; `false`: there are no more.
    ///
    /// # Errors
    /// Where the file cannot be read on.
    pub fn read(&mut self, line: &mut FileLine) -> Result<bool, ImportFault> {
        line.cells.clear();
        match &mut self.0 {
            Source::Table {
                table,
                columns,
                width,
                before,
                record,
            } => loop {
                if !table.next(record)? {
                    return Ok(false);
                }
                if *before > 0 {
                    *before -= 1;
                    continue;
                }
                if record.cells().all(|cell| cell.trim().is_empty()) {
                    continue;
                }
                row(record, columns, *width, line);
                return Ok(true);
            },
            Source::Ldif(ldif, entry) => {
                let Some(read) = ldif.next(entry, &mut line.cells)? else {
                    return Ok(false);
                };
                line.line = entry.line;
                line.fault = read.err();
                std::mem::swap(&mut line.record, &mut entry.raw);
                Ok(true)
            }
        }
    }
}

fn row(record: &mut Record, columns: &Columns, width: usize, line: &mut FileLine) {
    for column in ImportColumn::ALL {
        let cell = columns[*column as usize].and_then(|n| record.cell(n));
        if let Some(cell) = cell.filter(|cell| !cell.trim().is_empty()) {
            line.cells.add(*column, cell);
        }
    }
    let beyond = (width..record.len()).filter_map(|n| record.cell(n));
    let more = beyond.filter(|cell| !cell.trim().is_empty()).count();
    line.fault = (more > 0).then(|| LineFault {
        column: None,
        value: None,
        reason: format!(
            "it has {} cells, and the first line {width}: put a value in which the delimiter stands between quotation marks",
            record.len()
        ),
    });
    line.line = record.line;
    std::mem::swap(&mut line.record, &mut record.raw);
}

impl Reading {
    /// The lines of the file, given from its beginning.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn lines<R: Read>(&self, input: R) -> Result<FileLines<impl Read + use<R>>, ImportFault> {
        Ok(FileLines::new(
            super::look::text(input, self.charset, self.bom)?,
            self,
        ))
    }
}
