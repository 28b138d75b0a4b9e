//! `refused`: what could not be used, for the directory team.

use super::operator::store_failure;
use super::{Context, json, render, text};
use crate::api::types::Failure;
use crate::model::RealmId;

pub(super) async fn refused(
    context: &Context,
    realm: Option<String>,
    as_csv: bool,
) -> Result<u8, Failure> {
    let store = context.store().await?;
    let realm = realm.map(RealmId::from);
    let rows = store
        .refused(realm.as_ref())
        .await
        .map_err(|e| store_failure(&e))?;
    if as_csv {
        let mut out = csv::Writer::from_writer(vec![]);
        let wrong = |e: csv::Error| Failure::new("store", 1, format!("cannot write CSV: {e}"));
        out.write_record([
            "realm",
            "dn",
            "username",
            "attribute",
            "raw",
            "reason",
            "since",
        ])
        .map_err(wrong)?;
        for row in &rows {
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
            .map_err(wrong)?;
        }
        let bytes = out
            .into_inner()
            .map_err(|e| Failure::new("store", 1, format!("cannot write CSV: {e}")))?;
        return Ok(render::raw(&bytes));
    }
    if context.json {
        for r in &rows {
            render::json(&json::refused(r));
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
            vec![
                r.username.clone().unwrap_or_else(|| r.dn.clone()),
                r.attribute.clone().unwrap_or_default(),
                r.raw.clone().unwrap_or_default(),
                r.reason.clone(),
                text::when(row.since),
            ]
        })
        .collect();
    render::table(&["user", "attribute", "value", "why", "since"], &rows);
    Ok(0)
}
