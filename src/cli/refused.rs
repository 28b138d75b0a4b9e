//! `refused`: what could not be used, for the directory team.

use super::operator::store_failure;
use super::render::Table;
use super::{CommandContext, render, text};
use crate::acts::ActFailure;
use crate::model::ErrorCode;
use crate::store::RefusedRow;
use crate::story::refused::RefusedStory;

pub(super) async fn refused(
    context: &CommandContext,
    realm: Option<String>,
    as_csv: bool,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let realm = context.known(&store, realm).await?;
    let of = realm.as_ref();
    if as_csv {
        render::raw(&record(CSV)?);
        let mut failed = None;
        let each = |row| match csv_of(&row) {
            Ok(line) => {
                render::raw(&line);
            }
            Err(failure) => failed = Some(failure),
        };
        let read = store.refused_each(of, each).await;
        read.map_err(|e| store_failure(&e))?;
        return failed.map_or(Ok(0), Err);
    }
    if context.json {
        let each = |row| render::json(&RefusedStory::from(row));
        let read = store.refused_each(of, each).await;
        return read.map(|()| 0).map_err(|e| store_failure(&e));
    }
    let mut table = Table::new(
        &["realm", "user", "attribute", "value", "why", "since"],
        context.unsaid(of),
    );
    let read = store.refused_each(of, |row| table.row(cells(row))).await;
    read.map_err(|e| store_failure(&e))?;
    if !table.end() {
        render::talk("nothing is refused");
    }
    Ok(0)
}

/// The heading of the CSV.
const CSV: [&str; 7] = [
    "realm",
    "dn",
    "username",
    "attribute",
    "raw",
    "reason",
    "since",
];

/// A row for people.
fn cells(row: RefusedRow) -> Vec<String> {
    let refusal = row.refusal;
    vec![
        row.realm.to_string(),
        refusal.username.unwrap_or(refusal.dn),
        refusal.attribute.unwrap_or_default(),
        refusal.raw.unwrap_or_default(),
        refusal.reason,
        text::when(row.since),
    ]
}

/// A row as CSV.
fn csv_of(row: &RefusedRow) -> Result<Vec<u8>, ActFailure> {
    let r = &row.refusal;
    let since = row.since.rfc3339();
    let cells = [
        row.realm.as_str(),
        &r.dn,
        r.username.as_deref().unwrap_or_default(),
        r.attribute.as_deref().unwrap_or_default(),
        r.raw.as_deref().unwrap_or_default(),
        &r.reason,
        &since,
    ]
    .map(cell);
    record(cells.each_ref().map(String::as_str))
}

/// One line.
pub(super) fn record<const N: usize>(cells: [&str; N]) -> Result<Vec<u8>, ActFailure> {
    let wrong = |e: &dyn std::fmt::Display| {
        ActFailure::coded(ErrorCode::Store, format!("cannot write CSV: {e}"))
    };
    let mut line = csv::Writer::from_writer(vec![]);
    line.write_record(cells).map_err(|e| wrong(&e))?;
    line.into_inner().map_err(|e| wrong(&e))
}

/// A cell that a spreadsheet takes as a text: what people wrote of themselves could begin as a formula does. An apostrophe before it
/// says that it is none; a number with its plus stays one.
pub(super) fn cell(value: &str) -> String {
    let text = text::one_line_as_it_is(value);
    let number = text.strip_prefix('+').is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .chars()
                .all(|c| c.is_ascii_digit() || " ()/.-".contains(c))
    });
    let start = value.trim_start_matches(' ').chars().next();
    let formula = matches!(
        start,
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠' | '|' | '%')
    );
    if formula && !number {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_steers_a_terminal_and_a_number_stays_one() {
        for (value, wanted) in [
            (
                "=HYPERLINK(\"http://example.test\")",
                "'=HYPERLINK(\"http://example.test\")",
            ),
            ("@SUM(1+1)", "'@SUM(1+1)"),
            ("-2+3", "'-2+3"),
            (" =1", "' =1"),
            ("+cmd|'/c calc'!A1", "'+cmd|'/c calc'!A1"),
            ("+", "'+"),
            ("\t=1", "'\\t=1"),
            ("＝1", "'＝1"),
            ("+421905123456", "+421905123456"),
            ("+421 (905) 123-456", "+421 (905) 123-456"),
            ("0905 123 456", "0905 123 456"),
            ("a\u{1b}[2Jb\u{9b}", "a\\u{1b}[2Jb\\u{9b}"),
            ("uid=jan,ou=people", "uid=jan,ou=people"),
            ("", ""),
        ] {
            assert_eq!(cell(value), wanted);
        }
    }

    #[test]
    fn trap_102_what_is_marked_in_a_list_is_read_without_its_mark() {
        use crate::import::{LookAsked, look};
        use crate::model::Edit;
        use crate::normalise::imported_line;

        let phone = crate::config::PhoneConfig {
            region: Some("SK".into()),
            mobile_only: true,
            allow_premium: false,
        };
        for note in [
            "=HYPERLINK(\"http://example.test\")",
            "-2+3",
            "-",
            "@home",
            "+cmd|'/c calc'!A1",
            "＝1",
            "%x",
            "'quoted'",
            "a, \"b\"; c",
        ] {
            let head = record(["username", "phone", "note"]).unwrap();
            let row = record(
                ["jan", "+421905123456", note]
                    .map(cell)
                    .each_ref()
                    .map(String::as_str),
            );
            let list = [head, row.unwrap()].concat();
            let reading = look(|| Ok(list.as_slice()), &LookAsked::default()).unwrap();
            let read = imported_line(&reading.shown[0], &phone).unwrap();
            assert_eq!(read.note, Edit::Set(note.to_owned()));
            assert!(matches!(read.phone, Edit::Set(p) if p.phone.as_str() == "+421905123456"));
        }
    }
}
