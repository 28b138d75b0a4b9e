//! `runs`: history, and one run with its changes.

use super::args::RunsCommand;
use super::operator::store_failure;
use super::{Context, plan, render, text};
use crate::api::types::Failure;
use crate::model::{Outcome, RealmId};

/// Changes read at once.
const BATCH: i64 = 1000;

pub(super) async fn runs(
    context: &Context,
    what: Option<RunsCommand>,
    realm: Option<String>,
    limit: i64,
) -> Result<u8, Failure> {
    let store = context.store().await?;
    if let Some(RunsCommand::Show { run, show_phones }) = what {
        let run = store.run(&run).await.map_err(|e| store_failure(&e))?;
        if context.json {
            render::json(&run);
        }
        let mut after = 0;
        loop {
            let changes = store
                .changes(run.run, after, BATCH)
                .await
                .map_err(|e| store_failure(&e))?;
            let Some(last) = changes.last() else { break };
            after = last.seq;
            for change in &changes {
                if context.json {
                    render::json(change);
                } else {
                    render::line(&text::change(change, show_phones));
                }
            }
        }
        if !context.json {
            let facts = store
                .run_facts(run.run)
                .await
                .map_err(|e| store_failure(&e))?;
            plan::show(context, &run, &[], show_phones, false);
            render::line(&format!(
                "  {} by {} at {}{}",
                run.mode,
                run.by.as_deref().unwrap_or(run.trigger.as_str()),
                text::when(run.started_at),
                run.server
                    .as_deref()
                    .map(|s| format!(", from {s}"))
                    .unwrap_or_default()
            ));
            if let Some(expires) = facts.expires_at.filter(|_| run.outcome == Outcome::Held) {
                render::line(&format!(
                    "  waits until {}; {} later passes came to the same",
                    text::when(expires),
                    facts.confirmed
                ));
            }
            if let Some(by) = facts.replaced_by {
                render::line(&format!("  replaced by {by}"));
            }
        }
        return Ok(0);
    }
    let realm = realm.map(RealmId::from);
    let runs = store
        .runs(realm.as_ref(), limit.max(1))
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        for one in &runs {
            render::json(one);
        }
        return Ok(0);
    }
    if runs.is_empty() {
        render::talk("no runs yet: `realmsync sync` makes one");
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|r| {
            let came = r
                .error
                .clone()
                .filter(|_| r.outcome == Outcome::Failed)
                .unwrap_or_else(|| text::summary(r));
            vec![
                r.run.to_string(),
                text::when(r.started_at),
                r.realm.to_string(),
                r.mode.to_string(),
                r.outcome.to_string(),
                text::span(r.elapsed_ms),
                came,
            ]
        })
        .collect();
    render::table(
        &["run", "started", "realm", "mode", "outcome", "took", "what"],
        &rows,
    );
    Ok(0)
}
