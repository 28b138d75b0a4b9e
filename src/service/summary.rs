//! What the log says of a run that ended.

use crate::model::words::count;
use crate::model::{HeldBy, Outcome, Run};

/// One line for the log that reads alone. Realm and run are fields too: the realm's of the span round it.
pub fn tell(run: Option<&Run>) {
    let Some(run) = run else { return };
    let Run {
        realm,
        run: id,
        outcome,
        seen,
        jobs,
        elapsed_ms,
        ..
    } = run;
    let did = match run.what_changes() {
        nothing if nothing.is_empty() => "no changes".to_owned(),
        did => did,
    };
    let entries = count(*seen, "entry");
    match outcome {
        Outcome::Failed => {
            let (code, why) = (
                run.error_code.map_or("", |code| code.as_str()),
                run.error.as_deref().unwrap_or("no reason given"),
            );
            tracing::error!(run = %id, code, elapsed_ms, "{realm}: run failed, nothing was applied: {why}");
        }
        Outcome::Held => {
            let limits: Vec<String> = run.held_by.iter().map(HeldBy::why).collect();
            let limits = limits.join("; ");
            tracing::warn!(run = %id, seen, elapsed_ms, "{realm}: plan held ({limits}): {did}; look with `realmsync runs show {id:#}`, then approve or reject it");
        }
        Outcome::Unchanged => {
            tracing::info!(run = %id, seen, elapsed_ms, "{realm}: nothing to do, {entries} in {elapsed_ms} ms");
        }
        Outcome::Applied => {
            tracing::info!(run = %id, seen, jobs, elapsed_ms, "{realm}: applied {did}; {}, {entries} in {elapsed_ms} ms", count(*jobs, "message"));
        }
        other => tracing::info!(run = %id, elapsed_ms, "{realm}: run {other}"),
    }
}
