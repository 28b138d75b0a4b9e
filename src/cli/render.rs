//! The only file that prints: data on stdout, talk on stderr.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::config::Environment;

static COLOUR: AtomicBool = AtomicBool::new(false);

/// Colour on a terminal, unless NO_COLOR says otherwise.
pub(super) fn set_colour(env: &Environment) {
    let wanted = env.var("NO_COLOR").is_none_or(std::ffi::OsStr::is_empty)
        && std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal();
    COLOUR.store(wanted, Ordering::Relaxed);
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

/// A line of data. A reader that went away is no fault.
pub(super) fn line(text: &str) {
    let _gone = writeln!(std::io::stdout().lock(), "{text}");
}

/// An object of data on one line.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => talk(&format!("cannot print: {error}")),
    }
}

/// Bytes of data.
pub(super) fn raw(bytes: &[u8]) -> u8 {
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(bytes).and_then(|()| out.flush());
    0
}

/// Talk.
pub(super) fn talk(text: &str) {
    let _gone = writeln!(std::io::stderr().lock(), "{text}");
}

/// An error: what happened, and after a blank line what to do. Texts part the two with `: ` in their own words.
pub(super) fn failure(message: &str, code: u8) -> u8 {
    talk(&format!("{} {message}", paint("1;31", "error:")));
    code
}

/// Something to do next.
pub(super) fn hint(text: &str) {
    talk(&format!("\n{} {text}", paint("1;36", "hint:")));
}

/// How wide a table may be; off a terminal as wide as it is.
fn width() -> usize {
    if !std::io::stdout().is_terminal() {
        return usize::MAX;
    }
    rustix::termios::tcgetwinsize(std::io::stdout())
        .map_or(100, |size| usize::from(size.ws_col).max(40))
}

/// A table with a heading; the widest column gives way when the terminal is too narrow.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) {
    let columns = heading.len();
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = heading.iter().map(|h| length(h)).collect();
    for row in rows {
        for (i, cell) in row.iter().enumerate().take(columns) {
            widths[i] = widths[i].max(length(cell));
        }
    }
    let room = width();
    while widths
        .iter()
        .sum::<usize>()
        .saturating_add(2 * (columns - 1))
        > room
    {
        let Some(widest) = (0..columns)
            .max_by_key(|i| widths[*i])
            .filter(|i| widths[*i] > 8)
        else {
            break;
        };
        widths[widest] -= 1;
    }
    let fit = |cell: &str, i: usize| {
        let (n, w) = (length(cell), widths[i]);
        if n <= w {
            return format!(
                "{cell}{}",
                " ".repeat(if i + 1 == columns { 0 } else { w - n })
            );
        }
        cell.chars().take(w.saturating_sub(1)).collect::<String>() + "…"
    };
    let join = |cells: Vec<String>| cells.join("  ").trim_end().to_owned();
    line(&paint(
        "1",
        &join(heading.iter().enumerate().map(|(i, h)| fit(h, i)).collect()),
    ));
    for row in rows {
        line(&join(
            row.iter()
                .enumerate()
                .take(columns)
                .map(|(i, cell)| fit(cell, i))
                .collect(),
        ));
    }
}

/// A bar for a pass, on a terminal.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Shows nothing off a terminal.
    pub(super) fn new(what: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::no_length().with_message(what.to_owned());
        bar.set_style(
            ProgressStyle::with_template("{msg} {spinner} {human_pos} read, {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// How far it is.
    pub(super) fn at(&self, seen: u64, expected: u64) {
        let Some(bar) = &self.0 else { return };
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
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
