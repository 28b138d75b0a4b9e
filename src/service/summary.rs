//! What the log says of a run that ended.

use crate::model::{Outcome, Run};

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
    let did = summary(run);
    match outcome {
        Outcome::Failed => {
            let (code, why) = (
                run.error_code.map_or("", |code| code.as_str()),
                run.error.as_deref().unwrap_or("no reason given"),
            );
            tracing::error!(run = %id, code, elapsed_ms, "{realm}: run failed, nothing was applied: {why}");
        }
        Outcome::Held => {
            let limits: Vec<String> = run
                .held_by
                .iter()
                .map(|by| {
                    format!(
                        "{} {} of {}, {} allowed",
                        by.limit, by.count, by.of, by.allowed
                    )
                })
                .collect();
            let limits = limits.join("; ");
            tracing::warn!(run = %id, seen, elapsed_ms, "{realm}: plan held ({limits}): {did}; look with `realmsync runs show {id}`, then approve or reject it");
        }
        Outcome::Unchanged => {
            tracing::info!(run = %id, seen, elapsed_ms, "{realm}: nothing to do, {seen} entries in {elapsed_ms} ms");
        }
        Outcome::Applied => {
            tracing::info!(run = %id, seen, jobs, elapsed_ms, "{realm}: applied {did}; {jobs} messages, {seen} entries in {elapsed_ms} ms");
        }
        other => tracing::info!(run = %id, elapsed_ms, "{realm}: run {other}"),
    }
}

/// What a run changes, without zeros.
fn summary(run: &Run) -> String {
    let counts = [
        (run.created, "created"),
        (run.updated, "updated"),
        (run.renamed, "renamed"),
        (run.phone_changed, "phones changed"),
        (run.phone_lost, "phones lost"),
        (run.suspended, "suspended"),
        (run.restored, "restored"),
        (run.removed, "removed"),
        (run.moved, "moved"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count != 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if said.is_empty() {
        "no changes".into()
    } else {
        said.join(", ")
    }
}
