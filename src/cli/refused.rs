//! `refused`: what could not be used, for the directory team.

use super::operator::store_failure;
use super::{Context, json, render, text};
use crate::acts::{Failure, FailureKind};
use crate::model::ErrorCode;
use crate::store::RefusedRow;

pub(super) async fn refused(
    context: &Context,
    realm: Option<String>,
    as_csv: bool,
) -> Result<u8, Failure> {
    let store = context.store().await?;
    let realm = context.known(&store, realm).await?;
    if context.json && !as_csv {
        store
            .refused_each(realm.as_ref(), |row| render::json(&json::refused(&row)))
            .await
            .map_err(|e| store_failure(&e))?;
        return Ok(0);
    }
    let rows = store
        .refused(realm.as_ref())
        .await
        .map_err(|e| store_failure(&e))?;
    if as_csv {
        return Ok(render::raw(&csv_of(&rows)?));
    }
    if rows.is_empty() {
        render::talk("nothing is refused");
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let r = &row.refusal;
            let or_empty = |t: &Option<String>| t.clone().unwrap_or_default();
            let who = r.username.clone().unwrap_or_else(|| r.dn.clone());
            vec![
                row.realm.to_string(),
                who,
                or_empty(&r.attribute),
                or_empty(&r.raw),
                r.reason.clone(),
                text::when(row.since),
            ]
        })
        .collect();
    render::table(
        &["realm", "user", "attribute", "value", "why", "since"],
        rows,
        context.unsaid(realm.as_ref()),
    );
    Ok(0)
}

fn csv_of(rows: &[RefusedRow]) -> Result<Vec<u8>, Failure> {
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::new(
            FailureKind::Run(ErrorCode::Store),
            format!("cannot write CSV: {e}"),
        )
    };
    let mut out = csv::Writer::from_writer(vec![]);
    out.write_record([
        "realm",
        "dn",
        "username",
        "attribute",
        "raw",
        "reason",
        "since",
    ])
    .map_err(|e| wrong(&e))?;
    for row in rows {
        let r = &row.refusal;
        let or_empty = |t: &Option<String>| t.clone().unwrap_or_default();
        out.write_record(
            [
                row.realm.as_str(),
                &r.dn,
                &or_empty(&r.username),
                &or_empty(&r.attribute),
                &or_empty(&r.raw),
                &r.reason,
                &row.since.rfc3339(),
            ]
            .map(cell),
        )
        .map_err(|e| wrong(&e))?;
    }
    out.into_inner().map_err(|e| wrong(&e))
}

/// A cell that a spreadsheet takes as a text: what people wrote of themselves could begin as a formula does. An apostrophe before it
/// says that it is none; a number with its plus stays one.
fn cell(value: &str) -> String {
    let text = text::one_line(value);
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
}
