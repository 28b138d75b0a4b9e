//! Tables that fit the terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::text::one_line;

/// Narrower than this no table is readable; the terminal may wrap it.
pub(super) const NARROWEST: usize = 40;

/// A column does not give way below this.
const NARROWEST_COLUMN: usize = 6;

/// Texts give way down to this before anything else does.
const NARROWEST_TEXT: usize = 12;

/// A word of at most this many columns (a state, a number) says little once it is cut, and so does an instant.
const WORD: usize = 20;

/// Rows that are laid out together: what comes first decides how wide columns are, and no more is held.
const PAGE: usize = 1000;

/// Before what stands below its row.
const BELOW: &str = "    ";

/// A line of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TableLine {
    Heading(String),
    Row(String),
}

/// A table that is laid out page by page, so that nobody holds the whole of it. Columns grow from page to page where they must, and
/// never shrink.
pub(super) struct Pages<'h> {
    heading: &'h [&'h str],
    /// Left out while all rows agree in them.
    unsaid: &'h [&'h str],
    /// The columns that are left out, and what all rows so far say in them; `None`: nothing is laid out yet.
    left_out: Option<Vec<(usize, String)>>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    /// Whether what has no room is said below its row rather than cut.
    spills: bool,
    /// The last columns that are said so.
    spilled: usize,
}

impl<'h> Pages<'h> {
    /// Of the columns that are `unsaid` those are left out in which all rows agree.
    pub(super) fn new(heading: &'h [&'h str], unsaid: &'h [&'h str]) -> Self {
        Self {
            heading,
            unsaid,
            left_out: None,
            widths: vec![],
            rows: vec![],
            spills: false,
            spilled: 0,
        }
    }

    /// The same, whose last columns stand below their row where there is no room beside it: nothing of them is cut.
    pub(super) fn spilling(self) -> Self {
        Self {
            spills: true,
            ..self
        }
    }

    /// Takes a row; gives the lines of a page that is full, of at most `room` columns.
    pub(super) fn push(&mut self, row: Vec<String>, room: usize) -> Vec<TableLine> {
        self.rows.push(row);
        if self.rows.len() < PAGE {
            return vec![];
        }
        self.lay_out(room)
    }

    /// The lines of what was not laid out yet.
    pub(super) fn lay_out(&mut self, room: usize) -> Vec<TableLine> {
        let mut rows = std::mem::take(&mut self.rows);
        let Some(first) = rows.first() else {
            return vec![];
        };
        let agree = |at: usize, says: &str| {
            let cell = |row: &Vec<String>| row.get(at).is_none_or(|cell| cell == says);
            rows.iter().all(cell)
        };
        let named = self.heading.iter().enumerate();
        let kept: Vec<(usize, String)> = match &self.left_out {
            Some(before) => before
                .iter()
                .filter(|(at, says)| agree(*at, says))
                .cloned()
                .collect(),
            None => named
                .filter(|(_, name)| self.unsaid.contains(name))
                .filter_map(|(at, _)| Some((at, first.get(at)?.clone())))
                .filter(|(at, says)| agree(*at, says))
                .collect(),
        };
        let anew = self.left_out.as_ref() != Some(&kept);
        if anew {
            self.widths.clear();
        }
        let said = |at: usize| kept.iter().all(|(left_out, _)| *left_out != at);
        let heading = self.heading.iter().enumerate();
        let heading: Vec<&str> = heading
            .filter(|(at, _)| said(*at))
            .map(|(_, name)| *name)
            .collect();
        for row in &mut rows {
            let mut at = 0;
            row.retain(|_| {
                at += 1;
                said(at - 1)
            });
        }
        self.left_out = Some(kept);
        let before = self.spilled;
        if self.spills {
            self.spilled = spilled(&heading, &rows, room, (&self.widths, before));
        }
        let beside = heading.len().saturating_sub(self.spilled);
        let below: Vec<String> = rows
            .iter_mut()
            .map(|row| {
                let below = row.split_off(beside.min(row.len()));
                let said = below.iter().filter(|cell| !cell.is_empty());
                said.map(|cell| one_line(cell))
                    .collect::<Vec<_>>()
                    .join("  ")
            })
            .collect();
        let anew = anew || before != self.spilled;
        self.widths.truncate(beside);
        let mut lines = lay_out(&heading[..beside], &rows, room, &mut self.widths).into_iter();
        let heading = lines.next().filter(|_| anew).map(TableLine::Heading);
        let whole = lines.zip(below).map(|(line, below)| {
            TableLine::Row(if below.is_empty() {
                line
            } else {
                format!("{line}\n{BELOW}{below}")
            })
        });
        heading.into_iter().chain(whole).collect()
    }
}

/// How many of the last columns have no room beside the others. `known`: how wide columns are already, and how many have none already.
fn spilled(heading: &[&str], rows: &[Vec<String>], room: usize, known: (&[usize], usize)) -> usize {
    let wide: Vec<usize> = heading
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| one_line(cell).width()).max();
            let before = known.0.get(at).copied().unwrap_or(0);
            name.width().max(widest.unwrap_or(0)).max(before)
        })
        .collect();
    let fits =
        |beside: usize| wide[..beside].iter().sum::<usize>() + 2 * beside.saturating_sub(1) <= room;
    let mut beside = heading.len().saturating_sub(known.1).max(1);
    while beside > 1 && !fits(beside) {
        beside -= 1;
    }
    heading.len().saturating_sub(beside)
}

/// Heading and rows as lines of at most `room` columns, if that can be: the widest column of texts gives way, again and again,
/// and only then the others, but never the first, which names the thing. Columns are at least as wide as `widths` says, which then
/// says how wide they are.
fn lay_out(
    heading: &[&str],
    rows: &[Vec<String>],
    room: usize,
    widths: &mut Vec<usize>,
) -> Vec<String> {
    let columns = heading.len();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .take(columns)
                .map(|cell| one_line(cell))
                .collect()
        })
        .collect();
    widths.resize(columns, 0);
    for (width, name) in widths.iter_mut().zip(heading) {
        *width = (*width).max(name.width());
    }
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let texts: Vec<usize> = (1..columns)
        .filter(|i| {
            cells
                .iter()
                .filter_map(|row| row.get(*i))
                .any(|cell| is_text(cell))
        })
        .collect();
    let others: Vec<usize> = (1..columns).collect();
    give_way(widths, &texts, NARROWEST_TEXT, room);
    give_way(widths, &others, NARROWEST_COLUMN, room);
    let join = |row: Vec<&str>| {
        let cells: Vec<String> = row
            .into_iter()
            .zip(widths.iter())
            .map(|(cell, width)| fit(cell, *width))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let body = cells
        .iter()
        .map(|row| join(row.iter().map(String::as_str).collect()));
    std::iter::once(join(heading.to_vec()))
        .chain(body)
        .collect()
}

fn is_text(cell: &str) -> bool {
    !is_instant(cell) && (cell.contains(' ') || cell.width() > WORD)
}

/// `2026-11-24 13:49:52 +00:00`, as [`super::text::when`] shows it.
fn is_instant(cell: &str) -> bool {
    const SHAPE: &str = "0000-00-00 00:00:00 +00:00";
    cell.len() == SHAPE.len()
        && cell.bytes().zip(SHAPE.bytes()).all(|(c, like)| match like {
            b'0' => c.is_ascii_digit(),
            b'+' => c == b'+' || c == b'-',
            like => c == like,
        })
}

/// Takes columns from the widest of `which`, again and again, until all fit or none of them can be narrower.
fn give_way(widths: &mut [usize], which: &[usize], narrowest: usize, room: usize) {
    let between = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>().saturating_add(between) > room {
        let Some(widest) = which
            .iter()
            .copied()
            .max_by_key(|i| widths[*i])
            .filter(|i| widths[*i] > narrowest)
        else {
            break;
        };
        widths[widest] -= 1;
    }
}

/// The text in exactly so many columns.
fn fit(text: &str, width: usize) -> String {
    let is = text.width();
    if is <= width {
        return format!("{text}{}", " ".repeat(width - is));
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width.saturating_sub(1) {
            break;
        }
        short.push(c);
    }
    short.push('…');
    let is = short.width();
    short + &" ".repeat(width.saturating_sub(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["jan", "Ján Novák", "active"]),
            row(["ssato111", "翔 佐藤", "suspended (disabled)"]),
            row(["e\u{301}va", "two\nlines\x1b[31m", ""]),
        ]
    }

    #[test]
    fn a_table_is_as_wide_as_it_is_where_there_is_room() {
        insta::assert_snapshot!(
            lay_out(&["user", "name", "state"], &rows(), usize::MAX, &mut vec![]).join("\n")
        );
    }

    /// A table of one page.
    fn whole(heading: &[&str], rows: &[Vec<String>], unsaid: &[&str]) -> Vec<TableLine> {
        let mut pages = Pages::new(heading, unsaid);
        let mut lines = vec![];
        for row in rows {
            lines.extend(pages.push(row.clone(), usize::MAX));
        }
        lines.extend(pages.lay_out(usize::MAX));
        lines
    }

    fn heading(text: &str) -> TableLine {
        TableLine::Heading(text.to_owned())
    }

    fn cells(text: &str) -> TableLine {
        TableLine::Row(text.to_owned())
    }

    #[test]
    fn a_column_in_which_all_rows_agree_is_left_out_and_one_that_informs_stays() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let same = vec![row(["jan", "people"]), row(["eva", "people"])];
        assert_eq!(
            whole(&["user", "realm"], &same, &["realm"]),
            [heading("user"), cells("jan"), cells("eva")]
        );
        assert_eq!(
            whole(&["user", "realm"], &same, &[])[0],
            heading("user  realm")
        );
        // Somebody is of an orphaned realm.
        let two = vec![row(["jan", "people"]), row(["eva", "former"])];
        assert_eq!(
            whole(&["user", "realm"], &two, &["realm"]),
            [
                heading("user  realm"),
                cells("jan   people"),
                cells("eva   former")
            ]
        );
    }

    #[test]
    fn a_long_table_is_laid_out_page_by_page_and_its_columns_never_shrink() {
        let row = |n: usize, realm: &str| vec![format!("u{n}"), realm.to_owned(), "x".to_owned()];
        let mut pages = Pages::new(&["user", "realm", "why"], &["realm"]);
        let mut lines = vec![];
        for n in 0..PAGE * 2 {
            let said = pages.push(row(n, "people"), usize::MAX);
            assert!(pages.rows.len() < PAGE, "no more than a page is held");
            assert!(said.is_empty() || said.len() >= PAGE);
            lines.extend(said);
        }
        assert_eq!(lines.len(), 2 * PAGE + 1, "one heading");
        assert_eq!(lines[..2], [heading("user  why"), cells("u0    x")]);
        // A longer cell makes room from its page on.
        lines.extend(pages.push(row(123_456, "people"), usize::MAX));
        let wider = pages.lay_out(usize::MAX);
        assert_eq!(wider, [cells("u123456  x")]);
        pages.push(row(1, "people"), usize::MAX);
        assert_eq!(pages.lay_out(usize::MAX), [cells("u1       x")]);
        // What was left out informs from here on.
        pages.push(row(1, "former"), usize::MAX);
        let said = pages.lay_out(usize::MAX);
        assert_eq!(
            said,
            [heading("user  realm   why"), cells("u1    former  x")]
        );
        assert_eq!(pages.lay_out(usize::MAX), []);
    }

    #[test]
    fn the_widest_column_gives_way_and_wide_letters_count_double() {
        let narrow = lay_out(&["user", "name", "state"], &rows(), 30, &mut vec![]);
        assert!(narrow.iter().all(|l| l.width() <= 30), "{narrow:#?}");
        insta::assert_snapshot!(narrow.join("\n"));
    }

    #[test]
    fn instants_and_states_stay_whole_while_texts_can_give_way() {
        let rows = [
            [
                "01a20dd1-f889",
                "2026-11-24 13:49:52 +00:00",
                "people",
                "applied",
                "2 created, 2 updated, 2 renamed, 3 phones changed",
            ],
            [
                "01a20dd1-a872",
                "2026-11-24 13:49:33 +00:00",
                "people",
                "failed",
                "ldaps://ldap1.example.org: connecting: refused",
            ],
        ]
        .map(|row| row.map(str::to_owned).to_vec());
        let columns = ["run", "started", "realm", "outcome", "what"];
        let lines = lay_out(&columns, &rows, 80, &mut vec![]);
        assert!(lines.iter().all(|l| l.width() <= 80), "{lines:#?}");
        assert_eq!(
            lines[1],
            "01a20dd1-f889  2026-11-24 13:49:52 +00:00  people  applied  2 created, 2 update…"
        );
        // Where the texts alone cannot make room, the others follow.
        let narrow = lay_out(&columns, &rows, 60, &mut vec![]);
        assert!(narrow.iter().all(|l| l.width() <= 60), "{narrow:#?}");
        assert!(narrow[1].ends_with("2 created, …"), "{narrow:#?}");
    }

    #[test]
    fn what_has_no_room_stands_below_its_row_and_nothing_is_cut() {
        let row = |act: &str, how: &str| {
            let cells = ["2026-11-24 13:49:52 +00:00", "root", act, "jan", how];
            cells.map(str::to_owned).to_vec()
        };
        let long = "state: active → suspended, state reason: none → removed";
        let laid_out = |room: usize| {
            let columns = ["when", "by", "what", "user", "how"];
            let mut pages = Pages::new(&columns, &[]).spilling();
            pages.push(row("user-remove", long), room);
            pages.push(row("authenticator-revoke", ""), room);
            pages.lay_out(room)
        };
        assert_eq!(
            laid_out(80),
            [
                heading("when                        by    what                  user"),
                cells(&format!(
                    "2026-11-24 13:49:52 +00:00  root  user-remove           jan\n    {long}"
                )),
                cells("2026-11-24 13:49:52 +00:00  root  authenticator-revoke  jan"),
            ]
        );
        // Narrower still, more goes below; where there is room, nothing does.
        assert_eq!(
            laid_out(58)[1],
            cells(&format!(
                "2026-11-24 13:49:52 +00:00  root  user-remove\n    jan  {long}"
            ))
        );
        assert_eq!(
            laid_out(200)[0],
            heading("when                        by    what                  user  how")
        );
    }

    #[test]
    fn a_terminal_too_narrow_for_any_table_gets_one_all_the_same() {
        assert_eq!(
            lay_out(&["user", "name", "state"], &rows(), 1, &mut vec![]).len(),
            4
        );
        assert_eq!(lay_out(&[], &[], 80, &mut vec![]), [""]);
    }
}
