//! Faults as people read them: an excerpt of the file with line, column, words and help, in which nothing secret is visible.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::mask::Masked;

/// More lines than this are not shown of one place: an array over a whole page says nothing more than its beginning.
const MAX_LINES: usize = 4;

/// The file as a report quotes it.
pub(super) struct QuotedFile {
    /// The file's name.
    pub(super) path: String,
    /// Its text, with what is secret hidden.
    pub(super) masked: Masked,
    /// Where the lines of the masked text begin.
    lines: Vec<usize>,
}

impl QuotedFile {
    pub(super) fn new(path: &Path, masked: Masked) -> Arc<Self> {
        let ends = masked.text.match_indices('\n').map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Arc::new(Self {
            path: path.display().to_string(),
            masked,
            lines,
        })
    }

    /// Line and column of an offset, both from 1; the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let text = self.masked.text.as_str();
        let place = floor(text, self.masked.place(at, false));
        let line = self.lines.partition_point(|start| *start <= place).max(1);
        (line, text[self.lines[line - 1]..place].chars().count() + 1)
    }
}

/// Whether a fault stops the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The configuration is refused.
    Fault,
    /// It is taken, but somebody should look at it.
    Warning,
}

/// One thing that is wrong with the file.
#[derive(Clone)]
pub struct Fault {
    /// Whether it stops the program.
    pub severity: Severity,
    /// What is wrong: a lowercase fragment without an end.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where in the file; `None`: the file as a whole.
    at: Option<Range<usize>>,
    source: Arc<QuotedFile>,
}

impl Fault {
    pub(super) fn new(
        severity: Severity,
        source: &Arc<QuotedFile>,
        at: Option<Range<usize>>,
        message: String,
        help: Option<String>,
    ) -> Self {
        Self {
            severity,
            message,
            help,
            at,
            source: Arc::clone(source),
        }
    }

    /// The line, from 1; `None`: the file as a whole.
    pub fn line(&self) -> Option<usize> {
        self.at.as_ref().map(|at| self.source.position(at.start).0)
    }

    /// The column in characters, from 1; `None`: the file as a whole.
    pub fn column(&self) -> Option<usize> {
        self.at.as_ref().map(|at| self.source.position(at.start).1)
    }

    /// The fault with its excerpt, over several lines.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Fault => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let text = &self.source.masked.text;
        let excerpt = self.at.as_ref().map(|at| self.excerpt(at));
        let mut group = Group::with_title(level.primary_title(&*self.message));
        group = match excerpt {
            Some((line, lines, span)) => group.element(
                Snippet::source(&text[lines])
                    .line_start(line)
                    .path(&*self.source.path)
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            None => group.element(Origin::path(&*self.source.path)),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group])
    }

    /// The number of the first line, the range of the lines in the masked text, and the place within them.
    fn excerpt(&self, at: &Range<usize>) -> (usize, Range<usize>, Range<usize>) {
        let masked = &self.source.masked;
        let text = masked.text.as_str();
        let start = floor(text, masked.place(at.start, false));
        let end = floor(text, masked.place(at.end, true).max(start));
        let first = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let shown = text[start..end]
            .match_indices('\n')
            .nth(MAX_LINES - 1)
            .map_or(end, |(i, _)| start + i);
        let last = text[shown..].find('\n').map_or(text.len(), |i| shown + i);
        (
            self.source.position(at.start).0,
            first..last,
            start - first..shown - first,
        )
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One line: `FILE:LINE:COLUMN: message (help)`, as logs want it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.path)?;
        if let Some(at) = &self.at {
            let (line, column) = self.source.position(at.start);
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// `{"severity":"fault|warning","file","line","column","message","help"}`.
impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Fault", 6)?;
        object.serialize_field(
            "severity",
            if self.severity == Severity::Fault {
                "fault"
            } else {
                "warning"
            },
        )?;
        object.serialize_field("file", &self.source.path)?;
        object.serialize_field("line", &self.line())?;
        object.serialize_field("column", &self.column())?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("help", &self.help)?;
        object.end()
    }
}

/// Everything that is wrong with a file that was refused, in the file's order. Exit code 78.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Why it was refused; never empty.
    pub faults: Vec<Fault>,
    /// What else somebody should look at.
    pub warnings: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(mut all: Vec<Fault>) -> Self {
        all.sort_by_key(|f| f.at.as_ref().map(|at| (at.start, at.end)));
        let (faults, warnings) = all.into_iter().partition(|f| f.severity == Severity::Fault);
        Self { faults, warnings }
    }

    /// Every fault with its excerpt, then the warnings, then how many there are.
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for fault in self.faults.iter().chain(&self.warnings) {
            text.push_str(&fault.render(colour));
            text.push_str("\n\n");
        }
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        text.push_str(&count(self.faults.len(), "fault"));
        if !self.warnings.is_empty() {
            text.push_str(" and ");
            text.push_str(&count(self.warnings.len(), "warning"));
        }
        if let Some(fault) = self.faults.first() {
            text.push_str(" in ");
            text.push_str(&fault.source.path);
        }
        text
    }

    /// Faults and warnings, in the file's order.
    pub fn all(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().chain(&self.warnings)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}

/// A list of faults and warnings.
impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.all())
    }
}
