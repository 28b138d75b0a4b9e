//! The index of searches, kept up beside everything else: slowly, so that passes and logons have the machine.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::pulses::Pulse;
use crate::store::{BuildStep, StoreError};
use crate::sync::Engine;

/// Who changed is found by a look at each of them until then.
const LOOK: Duration = Duration::from_secs(10);

/// For each moment of work so many without.
const REST: u32 = 2;

/// Runs until cancelled.
pub(super) async fn run(engine: watch::Receiver<Engine>, pulse: Pulse, cancel: CancellationToken) {
    // What goes wrong is said once, until it goes well.
    let mut said = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(LOOK) => {}
        }
        let now = engine.borrow().clone();
        tokio::select! {
            // A step that is given up rolls back, and what is left of a build is swept by the next one.
            () = cancel.cancelled() => return,
            built = build(&now, &pulse) => match built {
                Ok(()) => said = None,
                Err(error) => {
                    let why = error.to_string();
                    if said.as_ref() != Some(&why) {
                        tracing::warn!(error = why, "users cannot be indexed, so that searches look at everybody: {why}");
                        said = Some(why);
                    }
                }
            }
        }
    }
}

/// Does what there is to do.
async fn build(engine: &Engine, pulse: &Pulse) -> Result<(), StoreError> {
    pulse.beat();
    let began = Instant::now();
    let store = &engine.store;
    let Some(mut build) = store.begin_search_build(engine.clock.now()).await? else {
        return Ok(());
    };
    loop {
        pulse.beat();
        let step = Instant::now();
        match store
            .continue_search_build(&mut build, engine.clock.now())
            .await?
        {
            BuildStep::More => sleep(step.elapsed() * REST).await,
            BuildStep::Done => break,
            BuildStep::Lost => {
                tracing::debug!("another daemon indexes users now");
                return Ok(());
            }
        }
    }
    tracing::debug!(
        elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "users are indexed"
    );
    Ok(())
}
