//! Lines that were refused, kept in a file until whoever asked has read them: there may be many.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::file::ImportFile;
use crate::model::{ErrorCode, RefusedLine};
use crate::runs::RunFailure;

/// Lines given at once.
const PAGE: usize = 200;

/// Fewer where their text is longer than this, in bytes.
const PAGE_TEXT: usize = 1024 * 1024;

/// Where refused lines go.
#[derive(Debug)]
pub struct RefusedSpool {
    folders: Vec<PathBuf>,
    file: Option<BufWriter<File>>,
    /// How many there are.
    pub count: i64,
}

impl RefusedSpool {
    /// Of the first of these folders that takes a file; none is made before it is needed.
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            file: None,
            count: 0,
        }
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &RefusedLine) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(BufWriter::new(ImportFile::temporary(&self.folders)?));
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        serde_json::to_writer(&mut *file, line)?;
        file.write_all(b"\n")?;
        self.count += 1;
        Ok(())
    }

    /// The lines, from the first.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn lines(self) -> io::Result<RefusedLines> {
        let file = match self.file {
            None => return Ok(RefusedLines(None)),
            Some(file) => file.into_inner().map_err(io::IntoInnerError::into_error),
        };
        let mut file = file?;
        file.seek(SeekFrom::Start(0))?;
        Ok(RefusedLines(Some(Box::new(BufReader::new(file)))))
    }
}

/// Refused lines, a page at a time.
pub struct RefusedLines(Option<Box<BufReader<File>>>);

impl std::fmt::Debug for RefusedLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefusedLines")
    }
}

impl RefusedLines {
    /// The next page; an empty one is the end.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn page(&mut self) -> io::Result<Vec<RefusedLine>> {
        let Some(file) = &mut self.0 else {
            return Ok(vec![]);
        };
        let mut page = vec![];
        let mut text = String::new();
        let mut length = 0;
        while page.len() < PAGE && length < PAGE_TEXT {
            text.clear();
            // A record has 64 KiB at most, or an entry 8 MiB, and each character may be six in JSON.
            if file.by_ref().take(64 * 1024 * 1024).read_line(&mut text)? == 0 {
                break;
            }
            length += text.len();
            page.push(serde_json::from_str(&text)?);
        }
        Ok(page)
    }
}

/// Why an import ends whose refused lines cannot be kept.
pub(super) fn spool_failed(error: &std::io::Error) -> RunFailure {
    RunFailure::new(
        ErrorCode::Store,
        format!("cannot keep the refused lines in a temporary file: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_given_few_at_once_and_all_of_them() {
        let mut spool = RefusedSpool::new(ImportFile::places());
        let line = |n: u64| RefusedLine {
            line: n,
            column: None,
            value: None,
            reason: "x".to_owned(),
            record: "y".repeat(300 * 1024),
        };
        for n in 0..10 {
            spool.add(&line(n)).unwrap();
        }
        let mut lines = spool.lines().unwrap();
        let mut seen = vec![];
        loop {
            let page = lines.page().unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 4, "{}", page.len());
            seen.extend(page.iter().map(|l| l.line));
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }
}
