//! The only file that prints: data on stdout, talk on stderr.

use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{advice, table, text};
use crate::config::Environment;

static COLOUR: AtomicBool = AtomicBool::new(false);

/// `COLUMNS`, or nothing.
static COLUMNS: AtomicUsize = AtomicUsize::new(0);

/// The exit code of what was missed.
static MISSED: AtomicU8 = AtomicU8::new(0);

/// A list of a million users is not a million system calls.
static OUT: LazyLock<Mutex<Out>> = LazyLock::new(|| {
    Mutex::new(Out {
        to: BufWriter::with_capacity(1 << 16, std::io::stdout()),
        failed: None,
    })
});

struct Out {
    to: BufWriter<Stdout>,
    failed: Option<std::io::Error>,
}

impl Out {
    fn write(&mut self, bytes: &[u8], flush: bool) {
        if self.failed.is_some() {
            return;
        }
        let done = self.to.write_all(bytes);
        let done = if flush {
            done.and_then(|()| self.to.flush())
        } else {
            done
        };
        self.failed = done.err();
    }
}

fn out() -> std::sync::MutexGuard<'static, Out> {
    OUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the environment says about the output: colour on a terminal unless `NO_COLOR` is set, and how wide it is.
pub(super) fn set_up(env: &Environment) {
    let dumb = env.var("TERM").is_some_and(|term| term == "dumb");
    let wanted = env.var("NO_COLOR").is_none_or(std::ffi::OsStr::is_empty) && !dumb;
    COLOUR.store(
        wanted && std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
        Ordering::Relaxed,
    );
    let columns = env
        .var("COLUMNS")
        .and_then(|c| c.to_str()?.parse().ok())
        .unwrap_or(0);
    COLUMNS.store(columns, Ordering::Relaxed);
}

/// Whether colour is wanted.
pub(super) fn colour() -> bool {
    COLOUR.load(Ordering::Relaxed)
}

/// Paints a text: `32` green, `31` red, `33` yellow, `36` cyan, `2` dim, `1` bold.
pub(super) fn paint(code: &str, text: &str) -> String {
    if colour() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A line of data, in which what a directory holds cannot steer the terminal.
pub(super) fn line(text: &str) {
    let flush = std::io::stdout().is_terminal();
    let width = width(&std::io::stdout());
    for line in text::visible(&text::local_times(text), colour()).split('\n') {
        out().write(format!("{}\n", text::wrap(line, width)).as_bytes(), flush);
    }
}

/// An object of data on one line.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => out().write(format!("{}\n", text::escaped(text)).as_bytes(), false),
        Err(error) => talk(&format!("cannot print: {error}")),
    }
}

/// Bytes of data.
pub(super) fn raw(bytes: &[u8]) -> u8 {
    out().write(bytes, false);
    0
}

/// Whether nobody reads any more (`| head`), so that a long list may end.
pub(super) fn gone() -> bool {
    out().failed.is_some()
}

/// Writes what is left. A reader that went away is no fault; a full disk is.
pub(super) fn finish(code: u8) -> u8 {
    let mut out = out();
    out.write(b"", true);
    let failed = out.failed.take();
    drop(out);
    match failed {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            failure(&format!("cannot write the output: {error}"), 1)
        }
        _ => code,
    }
}

/// Talk. What was said before stands before it.
pub(super) fn talk(text: &str) {
    out().write(b"", true);
    let mut err = std::io::stderr().lock();
    let width = width(&err);
    for line in text::visible(&text::local_times(text), colour()).split('\n') {
        let _gone = writeln!(err, "{}", text::wrap(line, width));
    }
}

/// An error: what happened, and after a blank line what to do next.
pub(super) fn failure(message: &str, code: u8) -> u8 {
    let (what, next) = advice::part(message);
    talk(&format!("{} {what}", paint("1;31", "error:")));
    if let Some(next) = next {
        hint(&next);
    }
    code
}

/// A part of what was asked that cannot be done, while the rest of it goes on: the command ends with this code all the same.
pub(super) fn missed(message: &str, code: u8) {
    MISSED.store(failure(message, code), Ordering::Relaxed);
}

/// The exit code of what was missed; 0: nothing.
pub(super) fn missed_code() -> u8 {
    MISSED.load(Ordering::Relaxed)
}

/// Something to do next.
pub(super) fn hint(text: &str) {
    talk(&format!("\n{} {text}", paint("1;36", "hint:")));
}

/// How wide a line may be; off a terminal as wide as it is, unless `COLUMNS` says otherwise.
fn width(of: &(impl std::os::fd::AsFd + IsTerminal)) -> usize {
    match COLUMNS.load(Ordering::Relaxed) {
        0 if !of.is_terminal() => usize::MAX,
        0 => rustix::termios::tcgetwinsize(of)
            .map_or(100, |size| usize::from(size.ws_col))
            .max(table::NARROWEST),
        columns => columns.max(table::NARROWEST),
    }
}

/// A table with a heading, shown page by page; the widest column gives way when the terminal is too narrow.
pub(super) struct Table<'h> {
    pages: table::Pages<'h>,
    room: usize,
    any: bool,
}

impl<'h> Table<'h> {
    /// Of the columns that are `unsaid` those are left out in which all rows agree.
    pub(super) fn new(heading: &'h [&'h str], unsaid: &'h [&'h str]) -> Self {
        Self {
            pages: table::Pages::new(heading, unsaid),
            room: width(&std::io::stdout()),
            any: false,
        }
    }

    /// The same, whose last columns stand below their row where there is no room beside it.
    pub(super) fn spilling(self) -> Self {
        Self {
            pages: self.pages.spilling(),
            ..self
        }
    }

    /// A row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.any = true;
        show(self.pages.push(cells, self.room));
    }

    /// What is left; gives whether there was any row.
    pub(super) fn end(mut self) -> bool {
        show(self.pages.lay_out(self.room));
        self.any
    }
}

fn show(lines: Vec<table::TableLine>) {
    for shown in lines {
        match shown {
            table::TableLine::Heading(text) => line(&paint("1", &text)),
            table::TableLine::Row(text) => line(&text),
        }
    }
}

/// A whole table.
pub(super) fn table(heading: &[&str], rows: Vec<Vec<String>>, unsaid: &[&str]) {
    let mut table = Table::new(heading, unsaid);
    for row in rows {
        table.row(row);
    }
    table.end();
}

/// A bar for a pass, on a terminal.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    /// What is read; `None`: nothing is shown.
    what: Option<String>,
}

impl Bar {
    /// Shows nothing off a terminal.
    pub(super) fn reading(what: impl Display) -> Self {
        let what = Some(what.to_string());
        if !std::io::stderr().is_terminal() {
            return Self { bar: None, what };
        }
        let bar = ProgressBar::no_length();
        bar.set_style(
            ProgressStyle::with_template("{msg} {spinner} {human_pos} read, {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        let bar = Self {
            bar: Some(bar),
            what,
        };
        bar.waits(false);
        bar
    }

    /// For something that is done to so many.
    pub(super) fn working() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::none();
        }
        Self {
            bar: Some(ProgressBar::no_length()),
            what: None,
        }
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self {
            bar: None,
            what: None,
        }
    }

    /// How far it is.
    pub(super) fn at(&self, seen: u64, expected: u64) {
        let Some(bar) = &self.bar else { return };
        if expected > 0 && bar.length().is_none() {
            bar.set_length(expected);
            if let Ok(style) = ProgressStyle::with_template(
                "{msg} {wide_bar} {human_pos} of about {human_len}, {eta}",
            ) {
                bar.set_style(style);
            }
        }
        bar.set_position(seen);
    }

    /// Whether it waits for a run that is under way.
    pub(super) fn waits(&self, waits: bool) {
        if let (Some(bar), Some(what)) = (&self.bar, &self.what) {
            bar.set_message(if waits {
                format!("waiting for a run of {what} that is under way")
            } else {
                format!("reading {what}")
            });
        }
    }

    /// Takes it off the terminal.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}
