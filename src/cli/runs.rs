//! `runs`: history, and one run with its changes.

use super::args::RunsCommand;
use super::operator::store_failure;
use super::{CommandContext, render, text};
use crate::acts::ActFailure;
use crate::model::ids::telling;
use crate::model::{Mode, Outcome, Run};
use crate::store::Store;
use crate::story::runs::RunStory;

/// Changes read at once.
const BATCH: i64 = 1000;

pub(super) async fn runs(
    context: &CommandContext,
    what: Option<RunsCommand>,
    realm: Option<String>,
    limit: i64,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    if let Some(RunsCommand::Show { run, show_phones }) = what {
        return show(context, &store, &run, show_phones).await;
    }
    let realm = context.known(&store, realm).await?;
    let runs = store
        .runs(realm.as_ref(), limit)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        runs.iter().for_each(render::json);
        return Ok(0);
    }
    if runs.is_empty() {
        render::talk("no runs yet: `realmsync sync` makes one");
        return Ok(0);
    }
    let digits = telling(runs.iter().map(|run| run.run.0));
    let rows = runs.iter().map(|run| row(run, digits)).collect();
    render::table(HEADING, rows, context.unsaid(realm.as_ref()));
    Ok(0)
}

const HEADING: &[&str] = &["run", "started", "realm", "mode", "outcome", "took", "what"];

fn row(run: &Run, digits: usize) -> Vec<String> {
    let failed = matches!(run.outcome, Outcome::Failed | Outcome::Cancelled);
    let came = run
        .error
        .clone()
        .filter(|_| failed)
        .unwrap_or_else(|| text::summary(run));
    vec![
        format!("{:#.digits$}", run.run),
        text::when(run.started_at),
        run.realm.to_string(),
        run.mode.to_string(),
        run.outcome.to_string(),
        text::span(run.elapsed_ms),
        came,
    ]
}

async fn show(
    context: &CommandContext,
    store: &Store,
    run: &str,
    show_phones: bool,
) -> Result<u8, ActFailure> {
    let run = store.run(run).await.map_err(|e| store_failure(&e))?;
    if context.json {
        render::json(&run);
    }
    let (mut after, mut any) = (0, false);
    while !render::gone() {
        let changes = store
            .changes(run.run, after, BATCH)
            .await
            .map_err(|e| store_failure(&e))?;
        let Some(last) = changes.last() else { break };
        (after, any) = (last.seq, true);
        for change in &changes {
            if context.json {
                render::json(change);
            } else {
                render::line(&text::change(change, show_phones));
            }
        }
    }
    if context.json {
        return Ok(0);
    }
    let story = crate::story::runs::of(store, run).await;
    let RunStory {
        run,
        facts,
        rejected_before,
        digits,
    } = story.map_err(|e| store_failure(&e))?;
    if any {
        render::line("");
    }
    render::line(&text::run(&run, false));
    let by = run
        .by
        .as_deref()
        .map(|by| format!(", by {by}"))
        .unwrap_or_default();
    render::line(&format!(
        "  {} {:#.digits$}, {} at {}{by}",
        run.mode,
        run.run,
        run.trigger,
        text::when(run.started_at)
    ));
    // That of a file is shown with what it came to.
    if let (Some(note), true) = (&run.note, run.mode != Mode::Import) {
        render::line(&format!("  {note}"));
    }
    if let Some(drift) = run.drift.filter(|n| *n > 0) {
        render::line(&format!(
            "  drift: {} changed of whom the directory's deltas did not tell",
            text::count(drift, "user")
        ));
    }
    if let Some(computed) = run.computed.filter(|n| *n > 0) {
        render::line(&format!(
            "  computed: {} changed by roles, overlays or access rules while the entries stayed as they were: no delta can tell, and it is no drift",
            text::count(computed, "user")
        ));
    }
    if run.left_out > 0 {
        let until = run
            .left_out_until
            .map_or(String::new(), |t| format!(" until {}", text::when(t)));
        render::line(&format!(
            "  left out{until}: {}, whose changes were rejected for a time",
            text::count(run.left_out, "user")
        ));
    }
    if let Some(replaced) = facts.replaced_by {
        render::line(&format!("  replaced by {replaced:#.digits$}"));
    }
    if run.outcome == Outcome::Held {
        if let Some(before) = &rejected_before {
            render::line(&format!("  {}", text::rejected_before(before, digits)));
        }
        if facts.confirmed > 0 {
            render::line(&format!(
                "  {} came to the same",
                text::count(facts.confirmed, "later pass")
            ));
        }
        let until = facts
            .expires_at
            .map(|at| format!(" until {}", text::when(at)))
            .unwrap_or_default();
        render::hint(&format!(
            "it waits{until}: `realmsync approve {0:#.digits$}` applies exactly this, `realmsync reject {0:#.digits$}` drops it",
            run.run
        ));
    }
    Ok(0)
}
