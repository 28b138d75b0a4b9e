//! What is done to many users, worked off beside everything else: at once when somebody asks, and after a start what a crash left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::pulses::Pulse;
use crate::model::OperationId;
use crate::model::words::count;
use crate::runs::RunError;
use crate::sync::Engine;

/// Another daemon on the same store may have begun one and be gone.
const LOOK: Duration = Duration::from_secs(5);

/// Runs until cancelled. `asked` tells that there may be something to do, `wake` the outbox that there may be new messages.
pub(super) async fn run(
    engine: watch::Receiver<Engine>,
    (asked, wake): (Arc<Notify>, Arc<Notify>),
    pulse: Pulse,
    cancel: CancellationToken,
) {
    // What went wrong is said once.
    let mut said: BTreeSet<(OperationId, String)> = BTreeSet::new();
    loop {
        pulse.beat();
        let now = engine.borrow().clone();
        let open = now.store.open_operations().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "operations cannot be looked for: {error}");
            vec![]
        });
        for id in open {
            let worked = now.work_off(id, &cancel, |_| {
                pulse.beat();
                wake.notify_one();
            });
            match Box::pin(worked).await {
                Ok(done) => tracing::info!(
                    operation = %id, changed = done.changed, skipped = done.skipped, refused = done.refused,
                    "operation {id} is {}: {} of {} changed", done.state, done.changed, count(done.total, "user")
                ),
                Err(RunError::Stopped(_)) => {}
                Err(error) => {
                    let why = error.to_string();
                    if said.insert((id, why.clone())) {
                        tracing::warn!(operation = %id, error = why, "operation {id} stands still, and is tried again: {why}");
                    }
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = asked.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}
