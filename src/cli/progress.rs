//! How far something has come, and Ctrl-C meanwhile.

use super::render::Bar;
use crate::acts::{ActFailure, AgendaTurn, FailureKind};
use crate::api::types::ProgressLine;

/// What the daemon says of its progress, on the bar.
pub(super) fn told(bar: &Bar) -> impl FnMut(ProgressLine) + '_ {
    let mut waiting = false;
    move |p| {
        if p.waiting != waiting {
            waiting = p.waiting;
            bar.waits(waiting);
        }
        bar.at(p.seen, p.expected);
    }
}

/// Ctrl-C ends the command; the daemon goes on with what it was asked for.
pub(super) async fn unless_interrupted<T>(
    doing: impl Future<Output = Result<T, ActFailure>>,
) -> Result<T, ActFailure> {
    tokio::select! {
        done = doing => done,
        _ = tokio::signal::ctrl_c() => Err(ActFailure::new(FailureKind::Stopping, "interrupted, but the daemon goes on; see `realmsync runs` for what comes of it")),
    }
}

/// Shows progress while something runs; Ctrl-C lets it commit or roll back.
pub(super) async fn watched<T>(turn: &AgendaTurn, bar: &Bar, doing: impl Future<Output = T>) -> T {
    let mut progress = turn.progress.subscribe();
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return done,
            Ok(()) = progress.changed() => {
                let p = *progress.borrow_and_update();
                bar.at(p.seen, p.expected);
            }
            _ = tokio::signal::ctrl_c() => turn.cancel.cancel(),
        }
    }
}
