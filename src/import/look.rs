//! A look at a whole file: how it is written, which columns it has, and what stands in its first lines.

use std::io::Read;

use super::ImportFault;
use super::charset::{Charset, CharsetLook, WordLook};
use super::decoded::Decoded;
use super::header::{self, ColumnMap, Columns, noun};
use super::ldif::{self, LdifAttributes};
use super::lines::FileLines;
use super::table::{Record, Table, delimiter};
use crate::model::{ImportCells, ImportColumn};

/// The text that delimiter and form are told by.
const HEAD: usize = 64 * 1024;

/// Lines that are shown before anything is done.
const SHOWN: usize = 5;

/// What whoever asks knows of a file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LookAsked<'a> {
    /// In which characters it is, whatever it looks like.
    pub charset: Option<Charset>,
    /// Which columns are read.
    pub map: Option<&'a ColumnMap>,
    /// The country of the users.
    pub region: Option<&'a str>,
}

/// What kind of file it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileForm {
    /// CSV or TSV.
    Table {
        /// What parts its cells.
        delimiter: u8,
        /// Columns that are read.
        columns: Columns,
        /// How many cells the first line has.
        width: usize,
        /// Records before the first line of users: a `sep=` line, a header.
        before: usize,
    },
    /// LDIF.
    Ldif {
        /// Attributes that are read.
        attributes: LdifAttributes,
    },
}

/// How a file is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Its characters.
    pub charset: Charset,
    /// Bytes before the text.
    pub bom: usize,
    /// Its form.
    pub form: FileForm,
    /// Its first bytes up to the first line of users, for a file of refused lines.
    pub head: Vec<u8>,
    /// Words about it: encoding, delimiter, columns.
    pub said: Vec<String>,
    /// What stands in the first lines of users.
    pub shown: Vec<ImportCells>,
}

/// Looks at a file. `open` gives it from its beginning, and is asked more than once.
///
/// # Errors
/// Where it cannot be read, or cannot be understood.
pub fn look<R: Read>(
    mut open: impl FnMut() -> std::io::Result<R>,
    asked: &LookAsked<'_>,
) -> Result<Reading, ImportFault> {
    let mut open = || open().map_err(|e| ImportFault::read(1, &e));
    let mut charset = CharsetLook::default();
    let mut any = false;
    each_piece(open()?, |piece| {
        any = true;
        charset.feed(piece);
    })?;
    if !any {
        return Err(ImportFault::whole("the file is empty"));
    }
    let bom_of = |head: &[u8], set: Charset| match set.name() {
        "UTF-8" if head.starts_with(&[0xef, 0xbb, 0xbf]) => 3,
        "UTF-16LE" if head.starts_with(&[0xff, 0xfe]) => 2,
        "UTF-16BE" if head.starts_with(&[0xfe, 0xff]) => 2,
        _ => 0,
    };
    charset.is_text()?;
    let (charset, bom, said) = if let Some(set) = asked.charset {
        let mut start = [0; 3];
        let read = open()?
            .read(&mut start)
            .map_err(|e| ImportFault::read(1, &e))?;
        (
            set,
            bom_of(&start[..read], set),
            format!("{}, as asked", set.name()),
        )
    } else {
        let words = || {
            let mut words = WordLook::default();
            each_piece(open()?, |piece| words.feed(piece))?;
            Ok(words)
        };
        charset.end(words, asked.region)?
    };
    let mut said = vec![format!("encoding: {said}")];
    let head = head_of(text(open()?, charset, bom)?)?;
    let mut reading = if ldif::is_ldif(&head) {
        said.push("form: LDIF".to_owned());
        of_ldif(charset, bom, asked, said)?
    } else {
        of_table(charset, bom, asked, &head, said)?
    };
    let mut lines = FileLines::new(text(open()?, charset, bom)?, &reading);
    while reading.shown.len() < SHOWN {
        match lines.next() {
            Ok(Some(line)) => reading.shown.push(line.cells),
            Ok(None) => break,
            Err(fault) => return Err(fault),
        }
    }
    if reading.shown.is_empty() {
        return Err(ImportFault::whole("there is no line of users in the file"));
    }
    Ok(reading)
}

/// Reads all of it.
fn each_piece(mut input: impl Read, mut with: impl FnMut(&[u8])) -> Result<(), ImportFault> {
    let mut piece = vec![0; HEAD];
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => with(&piece[..read]),
            Err(error) => return Err(ImportFault::read(1, &error)),
        }
    }
}

/// The text of a file.
pub(super) fn text<R: Read>(
    mut input: R,
    charset: Charset,
    bom: usize,
) -> Result<impl Read + use<R>, ImportFault> {
    let mut mark = [0; 3];
    input
        .read_exact(&mut mark[..bom.min(3)])
        .map_err(|e| ImportFault::read(1, &e))?;
    Ok(Decoded::new(input, charset))
}

/// The beginning of a text, cut between characters.
fn head_of(input: impl Read) -> Result<String, ImportFault> {
    let mut head = vec![];
    input
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|e| ImportFault::read(1, &e))?;
    let valid = match std::str::from_utf8(&head) {
        Ok(_) => head.len(),
        Err(error) => error.valid_up_to(),
    };
    head.truncate(valid);
    String::from_utf8(head).map_err(|_| ImportFault::at(1, "the line is not UTF-8"))
}

fn of_ldif(
    charset: Charset,
    bom: usize,
    asked: &LookAsked<'_>,
    mut said: Vec<String>,
) -> Result<Reading, ImportFault> {
    let attributes = match asked.map {
        None => ldif::usual_attributes(),
        Some(map) => ldif::usual_attributes()
            .into_iter()
            .filter(|(column, _)| !map.says(*column))
            .chain(
                map.iter()
                    .map(|(column, which)| (column, vec![which.to_ascii_lowercase()])),
            )
            .collect(),
    };
    if !attributes.iter().any(|(c, _)| *c == ImportColumn::Name) {
        return Err(ImportFault::whole(
            "--map says no attribute for the user name: add name=uid",
        ));
    }
    for (column, names) in &attributes {
        said.push(format!("{}: {}", noun(*column), names.join(", else ")));
    }
    Ok(Reading {
        charset,
        bom,
        form: FileForm::Ldif { attributes },
        head: vec![],
        said,
        shown: vec![],
    })
}

fn of_table(
    charset: Charset,
    bom: usize,
    asked: &LookAsked<'_>,
    head: &str,
    mut said: Vec<String>,
) -> Result<Reading, ImportFault> {
    // Excel's own first line, which says the delimiter.
    let first = head.split(['\n', '\r']).next().unwrap_or_default();
    let by_line = first
        .trim_matches('"')
        .strip_prefix("sep=")
        .map(str::as_bytes);
    let (delimiter, separated) = match by_line {
        Some(&[one]) => (one, true),
        Some([]) => (b'\t', true),
        _ => (delimiter(head), false),
    };
    let named = match delimiter {
        b',' => "comma".to_owned(),
        b';' => "semicolon".to_owned(),
        b'\t' => "tab".to_owned(),
        other => format!("`{}`", char::from(other)),
    };
    said.push(format!(
        "delimiter: {named}{}",
        if separated {
            ", as the first line says"
        } else {
            ""
        }
    ));
    let mut table = Table::new(head.as_bytes(), delimiter);
    let mut record = Record::default();
    let mut before = 0;
    let mut start = String::new();
    if separated {
        table.next(&mut record)?;
        start.push_str(&record.raw);
        before += 1;
    }
    if !table.next(&mut record)? {
        return Err(ImportFault::whole("there is no line in the file"));
    }
    let cells: Vec<&str> = record.cells().collect();
    let known = header::is_header(cells.iter().copied());
    let none = ColumnMap::default();
    let (columns, has_header) = match asked.map {
        None if !known => {
            return Err(ImportFault::at(
                record.line,
                format!(
                    "no column is known by its header: it has {}. Say which column is what, as --map name=1,phone=2",
                    header::listed(&cells)
                ),
            ));
        }
        map => {
            let map = map.unwrap_or(&none);
            let has_header = known || map.names_one_of(&cells);
            let mapped = map.columns(&cells, has_header)?;
            let mut columns = mapped;
            if has_header {
                let (by_header, unread) = header::by_header(&cells, map, &mapped)?;
                columns = by_header;
                said.extend(unread);
            }
            (columns, has_header)
        }
    };
    if columns[ImportColumn::Name as usize].is_none() {
        return Err(ImportFault::at(
            record.line,
            format!(
                "no column is the user name: the file has {}. Say which it is, as --map name=1",
                header::listed(&cells)
            ),
        ));
    }
    for column in ImportColumn::ALL {
        if let Some(n) = columns[*column as usize] {
            let title = if has_header {
                format!(" `{}`", cells[n].trim())
            } else {
                String::new()
            };
            said.push(format!("{}: column {}{title}", noun(*column), n + 1));
        }
    }
    if has_header {
        let unread = (0..cells.len()).filter(|n| !columns.contains(&Some(*n)));
        let unread: Vec<String> = unread
            .map(|n| format!("{} `{}`", n + 1, cells[n].trim()))
            .collect();
        if !unread.is_empty() {
            said.push(format!("not read: {}", unread.join(", ")));
        }
        start.push_str(&record.raw);
        before += 1;
    } else {
        said.push("the first line is no header".to_owned());
    }
    let mark: &[u8] = match (charset.name(), bom) {
        (_, 0) => &[],
        ("UTF-16LE", _) => &[0xff, 0xfe],
        ("UTF-16BE", _) => &[0xfe, 0xff],
        _ => &[0xef, 0xbb, 0xbf],
    };
    Ok(Reading {
        charset,
        bom,
        form: FileForm::Table {
            delimiter,
            columns,
            width: cells.len(),
            before,
        },
        head: [mark, &charset.encode(&start)].concat(),
        said,
        shown: vec![],
    })
}
