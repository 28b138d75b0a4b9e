//! `coverage`: who can be reached, and who cannot.

use serde_json::Value;

use super::operator::store_failure;
use super::refused::{cell, record};
use super::render::Table;
use super::{CommandContext, render};
use crate::acts::{ActFailure, FailureKind};
use crate::model::Coverage;
use crate::story::coverage::read;

/// The columns as CSV: the fields of the JSON.
const CSV: [&str; 15] = [
    "realm",
    "country",
    "users",
    "reachable",
    "unreachable",
    "without_method",
    "phone_missing",
    "phone_refused",
    "phone_waiting",
    "application_active",
    "application_sent",
    "application_expired",
    "application_not_sent",
    "hard_token_missing",
    "used",
];

pub(super) async fn coverage(
    context: &CommandContext,
    realm: Option<String>,
    csv: bool,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let realm = context.known(&store, realm).await?;
    let rows = read(&store, realm.as_ref(), context.clock.now())
        .await
        .map_err(|e| store_failure(&e))?;
    if csv {
        render::raw(&record(CSV)?);
        for row in &rows {
            let fields = fields(row)?;
            let cells = CSV.map(|key| text(&fields[key]));
            render::raw(&record(cells.each_ref().map(String::as_str))?);
        }
        return Ok(0);
    }
    if context.json {
        rows.iter().for_each(render::json);
        return Ok(0);
    }
    let mut table = Table::new(
        &[
            "realm",
            "numbers",
            "users",
            "reachable",
            "no method",
            "no number",
            "application: set up",
            "sent",
            "expired",
            "not sent",
            "no token",
            "used",
        ],
        context.unsaid(realm.as_ref()),
    );
    for row in &rows {
        table.row(cells(row));
    }
    if !table.end() {
        render::talk("there is nobody who is active and not blocked");
    } else if rows.iter().any(|row| row.unreachable > 0) {
        render::hint(
            "`realmsync users list --status off`, `--phone none` and `--enrolment none` show who they are",
        );
    }
    Ok(0)
}

fn cells(row: &Coverage) -> Vec<String> {
    let reachable = match row.users {
        0 => String::new(),
        users => format!("{} ({} %)", row.reachable, row.reachable * 100 / users),
    };
    let mut cells = vec![
        row.realm.to_string(),
        row.country.clone().unwrap_or_else(|| "none".to_owned()),
        row.users.to_string(),
        reachable,
    ];
    cells.extend(
        [
            row.without_method,
            row.phone_missing,
            row.application_active,
            row.application_sent,
            row.application_expired,
            row.application_not_sent,
            row.hard_token_missing,
            row.used,
        ]
        .map(|n| n.to_string()),
    );
    cells
}

fn fields(row: &Coverage) -> Result<Value, ActFailure> {
    serde_json::to_value(row)
        .map_err(|e| ActFailure::new(FailureKind::Unfit, format!("cannot write CSV: {e}")))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        other => other.to_string(),
    }
}
