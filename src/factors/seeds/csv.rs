//! One line a token: `serial,secret,type,digits,period|counter,algorithm,manufacturer`.

use zeroize::Zeroizing;

use super::{MOST_TOKENS, SeedFault, shown};

/// A line, before anything but its seed is looked at.
pub(super) struct Row {
    pub(super) line: u32,
    pub(super) serial: String,
    pub(super) seed: Result<Zeroizing<Vec<u8>>, String>,
    pub(super) kind: String,
    pub(super) digits: String,
    /// The period of a token with a clock, the counter of one with a button.
    pub(super) moving: String,
    pub(super) algorithm: String,
    pub(super) manufacturer: String,
}

/// The columns in their order.
const COLUMNS: usize = 7;
const ORDER: &str = "serial,secret,type,digits,period|counter,algorithm,manufacturer";

/// The cells of a line.
type Cells = Vec<Zeroizing<String>>;

/// Reads the lines. A first line with names says which column is which.
///
/// # Errors
/// It is no such file.
pub(super) fn read(text: &str) -> Result<Vec<Row>, Vec<SeedFault>> {
    let file = |reason: String| vec![SeedFault::file(reason)];
    let lines = (1_u32..).zip(text.lines());
    let mut lines = lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .peekable();
    let Some((_, first)) = lines.peek() else {
        return Err(file("it is empty".to_owned()));
    };
    let delimiter = [',', ';', '\t']
        .into_iter()
        .max_by_key(|d| (first.matches(*d).count(), *d == ','));
    let delimiter = delimiter.unwrap_or(',');
    if first.matches(delimiter).count() < 2 {
        return Err(file(format!(
            "neither a PSKC file, which begins with `<`, nor lines of {ORDER}: its first line has {} of at least 3 columns",
            first.matches(delimiter).count() + 1
        )));
    }
    let mut faults = vec![];
    let mut order: Vec<usize> = (0..COLUMNS).collect();
    if let Some(named) = header(first, delimiter) {
        order = named.map_err(file)?;
        lines.next();
    }
    let mut read: Vec<(u32, Cells)> = vec![];
    for (line, text) in lines {
        let cells = split(text, delimiter).and_then(|cells| sorted(&cells, &order));
        match cells {
            Ok(cells) => read.push((line, cells)),
            Err(reason) => faults.push(SeedFault {
                line: Some(line),
                serial: None,
                reason,
            }),
        }
        if read.len() > MOST_TOKENS {
            return Err(file(format!(
                "more than {MOST_TOKENS} tokens: split the file"
            )));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    if read.is_empty() {
        return Err(file(
            "there is no token in it, only the names of columns".to_owned(),
        ));
    }
    let form = Form::of_all(&read);
    let mut rows = vec![];
    for (line, cells) in read {
        let cell = |at: usize| {
            cells
                .get(at)
                .map(|c| c.trim().to_owned())
                .unwrap_or_default()
        };
        rows.push(Row {
            line,
            serial: cell(0),
            seed: form.seed(cells.get(1).map_or("", |secret| secret.trim())),
            kind: cell(2),
            digits: cell(3),
            moving: cell(4),
            algorithm: cell(5),
            manufacturer: cell(6),
        });
    }
    Ok(rows)
}

/// Which column of the file each of ours is, if the first line names them.
fn header(line: &str, delimiter: char) -> Option<Result<Vec<usize>, String>> {
    let names = split(line, delimiter).ok()?;
    let known = |name: &str| match name.trim().to_lowercase().as_str() {
        "serial" | "serialno" | "serial number" => Some(0),
        "secret" | "seed" | "key" => Some(1),
        "type" => Some(2),
        "digits" | "length" => Some(3),
        "period" | "counter" | "period|counter" | "period/counter" => Some(4),
        "algorithm" | "hash" => Some(5),
        "manufacturer" | "vendor" => Some(6),
        _ => None,
    };
    let first: Vec<Option<usize>> = names.iter().map(|name| known(name)).collect();
    if !(first.contains(&Some(0)) && first.contains(&Some(1))) {
        return None;
    }
    let mut order = vec![usize::MAX; COLUMNS];
    for (at, (column, name)) in first.into_iter().zip(&names).enumerate() {
        let Some(column) = column else {
            return Some(Err(format!(
                "the column `{}` is not known; these are: {ORDER}",
                shown(name)
            )));
        };
        if order[column] != usize::MAX {
            return Some(Err(format!("the column `{}` is there twice", shown(name))));
        }
        order[column] = at;
    }
    Some(Ok(order))
}

/// The cells in our order; those that are missing are empty.
fn sorted(cells: &Cells, order: &[usize]) -> Result<Cells, String> {
    let most = order.iter().filter(|at| **at != usize::MAX).max();
    if cells.len() > most.map_or(0, |at| at + 1) {
        return Err(format!(
            "{} columns, and these are known: {ORDER}",
            cells.len()
        ));
    }
    let cell = |at: &usize| cells.get(*at).cloned().unwrap_or_default();
    Ok(order.iter().map(cell).collect())
}

/// The cells of a line; within `"…"` a delimiter is none, and `""` is one quote.
fn split(line: &str, delimiter: char) -> Result<Cells, String> {
    let empty = || Zeroizing::new(String::with_capacity(line.len()));
    let mut cells = vec![empty()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(cell) = cells.last_mut() else {
            break;
        };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.trim().is_empty() => {
                cell.clear();
                quoted = true;
            }
            _ if c == delimiter && !quoted => {
                if cells.len() > COLUMNS {
                    return Err(format!(
                        "more than {COLUMNS} columns; these are known: {ORDER}"
                    ));
                }
                cells.push(empty());
            }
            _ => cell.push(c),
        }
    }
    if quoted {
        return Err("a quote that does not end in its line".to_owned());
    }
    Ok(cells)
}

/// How the seeds of a file are written, as far as it can be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Hex,
    Base32,
    /// Both are there, or neither for sure.
    Unsure,
}

impl Form {
    /// What the seeds say that can be of one form only.
    fn of_all(rows: &[(u32, Cells)]) -> Self {
        let (mut hex, mut base32) = (false, false);
        for (_, cells) in rows {
            let seed = cells.get(1).map_or("", |seed| seed.trim());
            match (self::hex(seed).is_some(), self::base32(seed).is_some()) {
                (true, false) => hex = true,
                (false, true) => base32 = true,
                _ => {}
            }
        }
        match (hex, base32) {
            (true, false) => Self::Hex,
            (false, true) => Self::Base32,
            _ => Self::Unsure,
        }
    }

    fn seed(self, text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let unfit = || "its secret is neither hexadecimal digits nor base32".to_owned();
        if text.is_empty() {
            return Err("its secret is missing".to_owned());
        }
        if let Some(rest) = prefix(text, "hex:") {
            return hex(rest).ok_or_else(unfit);
        }
        if let Some(rest) = prefix(text, "base32:") {
            return base32(rest).ok_or_else(unfit);
        }
        match (hex(text), base32(text), self) {
            (Some(bytes), Some(_), Self::Hex)
            | (Some(bytes), None, _)
            | (Some(_), Some(bytes), Self::Base32)
            | (None, Some(bytes), _) => Ok(bytes),
            (Some(_), Some(_), Self::Unsure) => Err(
                "its secret may be hexadecimal or base32, and the other lines do not tell: write `hex:` or `base32:` before it"
                    .to_owned(),
            ),
            (None, None, _) => Err(unfit()),
        }
    }
}

fn prefix<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (before, rest) = text.split_at_checked(word.len())?;
    before.eq_ignore_ascii_case(word).then_some(rest)
}

fn hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.ok().map(Zeroizing::new)
}

fn base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut upper = Zeroizing::new(String::with_capacity(text.len()));
    upper.extend(
        text.trim_end_matches('=')
            .chars()
            .map(|c| c.to_ascii_uppercase()),
    );
    let bytes = data_encoding::BASE32_NOPAD.decode(upper.as_bytes());
    bytes.ok().map(Zeroizing::new)
}
