//! Tables that fit the terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::text::one_line;

/// Narrower than this no table is readable; the terminal may wrap it.
pub(super) const NARROWEST: usize = 40;

/// A column does not give way below this.
const NARROWEST_COLUMN: usize = 6;

/// Heading and rows as lines of at most `room` columns, if that can be: the widest column gives way, again and again, but not the
/// first, which names the thing.
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
    while widths
        .iter()
        .sum::<usize>()
        .saturating_add(2 * columns.saturating_sub(1))
        > room
    {
        let Some(widest) = (1..columns)
            .max_by_key(|i| widths[*i])
            .filter(|i| widths[*i] > NARROWEST_COLUMN)
        else {
            break;
        };
        widths[widest] -= 1;
    }
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
    fn the_widest_column_gives_way_and_wide_letters_count_double() {
        let narrow = lay_out(&["user", "name", "state"], &rows(), 30);
        assert!(narrow.iter().all(|l| l.width() <= 30), "{narrow:#?}");
        insta::assert_snapshot!(narrow.join("\n"));
    }

    #[test]
    fn a_terminal_too_narrow_for_any_table_gets_one_all_the_same() {
        assert_eq!(lay_out(&["user", "name", "state"], &rows(), 1).len(), 4);
        assert_eq!(lay_out(&[], &[], 80), [""]);
    }
}
