//! Tables that fit the terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::text::one_line;

/// Narrower than this no table is readable; the terminal may wrap it.
pub(super) const NARROWEST: usize = 40;

/// A column does not give way below this.
const NARROWEST_COLUMN: usize = 6;

/// Texts give way down to this before anything else does.
const NARROWEST_TEXT: usize = 12;

/// A word of at most this many columns (an instant, a state, a number) says little once it is cut.
const WORD: usize = 20;

/// Heading and rows as lines of at most `room` columns, if that can be: the widest column of texts gives way, again and again,
/// and only then the others, but never the first, which names the thing.
pub(super) fn lay_out(heading: &[&str], rows: &[Vec<String>], room: usize) -> Vec<String> {
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
    let mut widths: Vec<usize> = heading.iter().map(|h| h.width()).collect();
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
    give_way(&mut widths, &texts, NARROWEST_TEXT, room);
    give_way(&mut widths, &others, NARROWEST_COLUMN, room);
    let join = |row: Vec<&str>| {
        let cells: Vec<String> = row
            .into_iter()
            .zip(&widths)
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

/// The same without those of the named columns in which all rows say the same.
pub(super) fn without_constants<'h>(
    heading: &[&'h str],
    mut rows: Vec<Vec<String>>,
    named: &[&str],
) -> (Vec<&'h str>, Vec<Vec<String>>) {
    let mut heading = heading.to_vec();
    for name in named {
        let Some(at) = heading.iter().position(|h| h == name) else {
            continue;
        };
        let mut cells = rows.iter().map(|row| row.get(at));
        let first = cells.next();
        if cells.all(|cell| Some(cell) == first) {
            heading.remove(at);
            for row in rows.iter_mut().filter(|row| at < row.len()) {
                row.remove(at);
            }
        }
    }
    (heading, rows)
}

fn is_text(cell: &str) -> bool {
    cell.contains(' ') || cell.width() > WORD
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
            lay_out(&["user", "name", "state"], &rows(), usize::MAX).join("\n")
        );
    }

    #[test]
    fn a_column_in_which_all_rows_agree_is_left_out_and_one_that_informs_stays() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let same = vec![row(["jan", "people"]), row(["eva", "people"])];
        let (heading, rows) = without_constants(&["user", "realm"], same.clone(), &["realm"]);
        assert_eq!(heading, ["user"]);
        assert_eq!(rows, [["jan"], ["eva"]]);
        assert_eq!(
            without_constants(&["user", "realm"], same, &[]).0,
            ["user", "realm"]
        );
        // Somebody is of an orphaned realm.
        let two = vec![row(["jan", "people"]), row(["eva", "former"])];
        let (heading, rows) = without_constants(&["user", "realm"], two.clone(), &["realm"]);
        assert_eq!((heading.len(), rows), (2, two));
    }

    #[test]
    fn the_widest_column_gives_way_and_wide_letters_count_double() {
        let narrow = lay_out(&["user", "name", "state"], &rows(), 30);
        assert!(narrow.iter().all(|l| l.width() <= 30), "{narrow:#?}");
        insta::assert_snapshot!(narrow.join("\n"));
    }

    #[test]
    fn instants_and_states_stay_whole_while_texts_can_give_way() {
        let rows = [
            [
                "01a20dd1-f889",
                "2026-11-24T13:49:52Z",
                "people",
                "applied",
                "2 created, 2 updated, 2 renamed, 3 phones changed",
            ],
            [
                "01a20dd1-a872",
                "2026-11-24T13:49:33Z",
                "people",
                "failed",
                "ldaps://ldap1.example.org: connecting: refused",
            ],
        ]
        .map(|row| row.map(str::to_owned).to_vec());
        let lines = lay_out(&["run", "started", "realm", "outcome", "what"], &rows, 80);
        assert!(lines.iter().all(|l| l.width() <= 80), "{lines:#?}");
        assert_eq!(
            lines[1],
            "01a20dd1-f889  2026-11-24T13:49:52Z  people  applied  2 created, 2 updated, 2 r…"
        );
        // Where the texts alone cannot make room, the others follow.
        let narrow = lay_out(&["run", "started", "realm", "outcome", "what"], &rows, 60);
        assert!(narrow.iter().all(|l| l.width() <= 60), "{narrow:#?}");
        assert!(narrow[1].ends_with("2 created, …"), "{narrow:#?}");
    }

    #[test]
    fn a_terminal_too_narrow_for_any_table_gets_one_all_the_same() {
        assert_eq!(lay_out(&["user", "name", "state"], &rows(), 1).len(), 4);
        assert_eq!(lay_out(&[], &[], 80), [""]);
    }
}
