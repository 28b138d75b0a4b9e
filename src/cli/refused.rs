//! `refused`: what could not be used, for the directory team.

use super::operator::store_failure;
use super::{Context, json, render, text};
use crate::api::types::Failure;
use crate::store::RefusedRow;

pub(super) async fn refused(
    context: &Context,
    realm: Option<String>,
    as_csv: bool,
) -> Result<u8, Failure> {
    let store = context.store().await?;
    let realm = context.known(&store, realm).await?;
    let rows = store
        .refused(realm.as_ref())
        .await
        .map_err(|e| store_failure(&e))?;
    if as_csv {
        return Ok(render::raw(&csv_of(&rows)?));
    }
    if context.json {
        for row in &rows {
            render::json(&json::refused(row));
        }
        return Ok(0);
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
        &rows,
    );
    Ok(0)
}

fn csv_of(rows: &[RefusedRow]) -> Result<Vec<u8>, Failure> {
    let wrong =
        |e: &dyn std::fmt::Display| Failure::new("store", 1, format!("cannot write CSV: {e}"));
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
        out.write_record([
            row.realm.as_str(),
            &r.dn,
            &or_empty(&r.username),
            &or_empty(&r.attribute),
            &or_empty(&r.raw),
            &r.reason,
            &row.since.rfc3339(),
        ])
        .map_err(|e| wrong(&e))?;
    }
    out.into_inner().map_err(|e| wrong(&e))
}
