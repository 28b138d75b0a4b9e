//! CSV and TSV, record by record: quoted as RFC 4180 says and as people do, with the physical line on which each record begins.

use std::io::Read;

use csv_core::{ReadRecordResult, ReaderBuilder};

use super::ImportFault;

/// A longer record is a quotation mark that is nowhere closed.
const LONGEST: usize = 64 * 1024;

/// A record. Its memory is used again.
#[derive(Default)]
pub(super) struct Record {
    /// The physical line on which it begins, from 1.
    pub(super) line: u64,
    /// As it stands in the file, with its end of line.
    pub(super) raw: String,
    text: String,
    ends: Vec<usize>,
}

impl Record {
    /// A cell; `None`: the record has fewer.
    pub(super) fn cell(&self, n: usize) -> Option<&str> {
        let end = *self.ends.get(n)?;
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// How many cells.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The cells.
    pub(super) fn cells(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|n| self.cell(n))
    }
}

fn utf8(bytes: &[u8], line: u64) -> Result<&str, ImportFault> {
    std::str::from_utf8(bytes).map_err(|_| ImportFault::at(line, "the line is not UTF-8"))
}

/// The records of a text. Blank lines are none.
pub(super) struct Table<R> {
    input: R,
    core: csv_core::Reader,
    delimiter: u8,
    /// A record was read, so that no mark of the file's beginning comes any more.
    begun: bool,
    piece: Vec<u8>,
    from: usize,
    to: usize,
    ended: bool,
    line: u64,
    /// The last byte was a CR, so that an LF ends no further line.
    after_cr: bool,
    text: Vec<u8>,
    ends: Vec<usize>,
    raw: Vec<u8>,
}

impl<R: Read> Table<R> {
    /// `input` is UTF-8.
    pub(super) fn new(input: R, delimiter: u8) -> Self {
        Self {
            input,
            core: ReaderBuilder::new().delimiter(delimiter).build(),
            delimiter,
            begun: false,
            piece: vec![0; 32 * 1024],
            from: 0,
            to: 0,
            ended: false,
            line: 1,
            after_cr: false,
            text: vec![0; 1024],
            ends: vec![0; 32],
            raw: vec![],
        }
    }

    /// Fills the piece, if all of it was used. `false`: the file is at its end.
    fn fill(&mut self) -> Result<bool, ImportFault> {
        if self.from < self.to {
            return Ok(true);
        }
        if self.ended {
            return Ok(false);
        }
        self.from = 0;
        self.to = self
            .input
            .read(&mut self.piece)
            .map_err(|e| ImportFault::read(self.line, &e))?;
        self.ended = self.to == 0;
        Ok(!self.ended)
    }

    fn count_lines(&mut self, from: usize, to: usize) {
        for byte in &self.piece[from..to] {
            match byte {
                b'\n' if self.after_cr => {}
                b'\n' | b'\r' => self.line += 1,
                _ => {}
            }
            self.after_cr = *byte == b'\r';
        }
    }

    /// Leaves out what ends lines, so that a record begins where its first character stands.
    fn skip_blank(&mut self) -> Result<(), ImportFault> {
        while self.fill()? && matches!(self.piece[self.from], b'\n' | b'\r') {
            self.take_one();
        }
        Ok(())
    }

    fn take_one(&mut self) {
        self.count_lines(self.from, self.from + 1);
        self.from += 1;
    }

    /// Takes a record that has no quotation mark and stands whole in the piece: most do, and need nothing but their delimiters.
    /// `false`: it is to be read with care, and nothing was taken.
    fn take_plain(&mut self, record: &mut Record) -> Result<bool, ImportFault> {
        let piece = &self.piece[self.from..self.to];
        let Some(end) = memchr::memchr3(b'\n', b'\r', b'"', piece) else {
            return Ok(false);
        };
        let next = piece.get(end + 1).copied();
        let length = match (piece[end], next) {
            (b'\n', _) => end + 1,
            (b'\r', Some(b'\n')) => end + 2,
            _ => return Ok(false),
        };
        let raw = utf8(&piece[..length], self.line)?;
        let Some(cells) = raw.get(..end) else {
            return Ok(false);
        };
        record.raw.push_str(raw);
        let mut from = 0;
        for at in memchr::memchr_iter(self.delimiter, cells.as_bytes()) {
            record
                .text
                .push_str(cells.get(from..at).unwrap_or_default());
            record.ends.push(record.text.len());
            from = at + 1;
        }
        record.text.push_str(cells.get(from..).unwrap_or_default());
        record.ends.push(record.text.len());
        self.from += length;
        self.line += 1;
        self.after_cr = false;
        Ok(true)
    }

    /// The next record; `false`: there is none.
    pub(super) fn next(&mut self, record: &mut Record) -> Result<bool, ImportFault> {
        self.skip_blank()?;
        record.ends.clear();
        record.text.clear();
        record.raw.clear();
        record.line = self.line;
        if self.begun && self.take_plain(record)? {
            return Ok(true);
        }
        self.begun = true;
        self.raw.clear();
        let (mut texts, mut ends) = (0, 0);
        loop {
            let there = self.fill()?;
            let given = if there {
                &self.piece[self.from..self.to]
            } else {
                &[]
            };
            let (result, read, wrote, ended) =
                self.core
                    .read_record(given, &mut self.text[texts..], &mut self.ends[ends..]);
            self.raw
                .extend_from_slice(&self.piece[self.from..self.from + read]);
            self.count_lines(self.from, self.from + read);
            self.from += read;
            texts += wrote;
            ends += ended;
            if self.raw.len() > LONGEST {
                return Err(ImportFault::at(
                    record.line,
                    "the record that begins here has no end within 64 KiB: a quotation mark in it is nowhere closed. Close it, or write it twice if it belongs to the value",
                ));
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(false),
            }
        }
        // Of CRLF the LF is still to be read.
        if self.raw.ends_with(b"\r") && self.fill()? && self.piece[self.from] == b'\n' {
            self.raw.push(b'\n');
            self.take_one();
        }
        record
            .text
            .push_str(utf8(&self.text[..texts], record.line)?);
        record.raw.push_str(utf8(&self.raw, record.line)?);
        record.ends.extend_from_slice(&self.ends[..ends]);
        Ok(true)
    }
}

/// What parts the cells of a text's first records: the character that makes the most columns of which most records have as many as
/// the first.
pub(super) fn delimiter(head: &str) -> u8 {
    /// So many records are looked at.
    const RECORDS: usize = 20;
    let mut best = (0, b',');
    for delimiter in [b',', b';', b'\t'] {
        let mut table = Table::new(head.as_bytes(), delimiter);
        let mut record = Record::default();
        let mut widths = vec![];
        while widths.len() < RECORDS && matches!(table.next(&mut record), Ok(true)) {
            widths.push(record.len());
        }
        // The head may end within a record.
        if widths.len() > 1 && widths.len() < RECORDS && !head.ends_with(['\n', '\r']) {
            widths.pop();
        }
        let Some(&first) = widths.first() else {
            continue;
        };
        let alike = widths.iter().filter(|width| **width == first).count();
        let score = if first > 1 {
            first * 100 * alike / widths.len()
        } else {
            0
        };
        if score > best.0 {
            best = (score, delimiter);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, delimiter: u8) -> Vec<(u64, Vec<String>, String)> {
        let mut table = Table::new(text.as_bytes(), delimiter);
        let mut record = Record::default();
        let mut all = vec![];
        while table.next(&mut record).unwrap() {
            let cells = record.cells().map(str::to_owned).collect();
            all.push((record.line, cells, record.raw.clone()));
        }
        all
    }

    #[test]
    fn trap_97_a_record_has_the_line_on_which_it_begins_and_its_own_bytes() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a;b", "", "\"x", "", "y\";\"q \"\"z\"\"\"", "c;d"].join(end);
            let read = read(&text, b';');
            let lines: Vec<u64> = read.iter().map(|r| r.0).collect();
            assert_eq!(lines, [1, 3, 6], "{end:?}");
            assert_eq!(read[1].1, [format!("x{end}{end}y"), "q \"z\"".to_owned()]);
            assert_eq!(read[1].2, format!("\"x{end}{end}y\";\"q \"\"z\"\"\"{end}"));
            assert_eq!(read[2].1, ["c", "d"]);
        }
    }

    /// Gives a byte at a time, so that no record is ever there whole.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let (one, rest) = self.0.split_at(self.0.len().min(1));
            out[..one.len()].copy_from_slice(one);
            self.0 = rest;
            Ok(one.len())
        }
    }

    proptest::proptest! {
        #[test]
        fn a_plain_record_is_read_as_one_that_is_read_with_care(text in "[ab\u{e9};\"\n\r ]{0,60}") {
            let of = |input: &mut dyn Read| {
                let mut table = Table::new(input, b';');
                let mut record = Record::default();
                let mut all = vec![];
                while let Ok(true) = table.next(&mut record) {
                    let cells: Vec<String> = record.cells().map(str::to_owned).collect();
                    all.push((record.line, cells, record.raw.clone()));
                }
                all
            };
            proptest::prop_assert_eq!(of(&mut text.as_bytes()), of(&mut Drops(text.as_bytes())));
        }
    }

    #[test]
    fn a_long_cell_fits_and_one_without_end_is_a_fault() {
        let long = "x".repeat(5000);
        assert_eq!(read(&format!("{long};y\n"), b';')[0].1, [&long, "y"]);
        let open = format!("a;b\n\"{}", "x\n".repeat(LONGEST));
        let mut table = Table::new(open.as_bytes(), b';');
        let mut record = Record::default();
        assert_eq!(table.next(&mut record), Ok(true));
        assert_eq!(table.next(&mut record).unwrap_err().line, Some(2));
    }

    #[test]
    fn trap_97_the_delimiter_is_told_outside_of_quotation_marks() {
        for (text, is) in [
            ("a;b;c\n1;\"2,3,4,5\";6\n", b';'),
            ("a,b\n\"x;y;z\",2\n", b','),
            ("a\tb\n1,5\t2;3\n", b'\t'),
            ("a\n1\n", b','),
            ("name;phone\njan;0905\n", b';'),
            ("", b','),
        ] {
            assert_eq!(delimiter(text), is, "{text:?}");
        }
    }
}
