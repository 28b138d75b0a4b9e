//! How far something has come, and Ctrl-C meanwhile.

use tokio_util::sync::CancellationToken;

use super::render::Bar;
use crate::api::types::{Failure, ProgressLine};
use crate::model::RealmId;
use crate::sync::Ask;

/// What the daemon says of its progress, on the bar.
pub(super) fn told<'a>(bar: &'a Bar, realm: &'a RealmId) -> impl FnMut(ProgressLine) + 'a {
    let mut waiting = false;
    move |p| {
        if p.waiting != waiting {
            waiting = p.waiting;
            bar.says(&if waiting {
                format!("waiting for a run of {realm} that is under way")
            } else {
                format!("reading {realm}")
            });
        }
        bar.at(p.seen, p.expected);
    }
}

/// Ctrl-C ends the command; the daemon goes on with what it was asked for.
pub(super) async fn unless_interrupted<T>(
    doing: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = doing => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("stopping", 1, "interrupted, but the daemon goes on; see `realmsync runs` for what comes of it")),
    }
}

/// Ctrl-C lets something commit or roll back.
pub(super) async fn let_end<T>(doing: impl Future<Output = T>, cancel: &CancellationToken) -> T {
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return done,
            _ = tokio::signal::ctrl_c() => cancel.cancel(),
        }
    }
}

/// Shows progress while something runs; Ctrl-C lets it commit or roll back.
pub(super) async fn watched<T>(ask: &Ask, bar: &Bar, doing: impl Future<Output = T>) -> T {
    let mut progress = ask.progress.subscribe();
    let cancel: CancellationToken = ask.cancel.clone();
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return done,
            Ok(()) = progress.changed() => {
                let p = *progress.borrow_and_update();
                bar.at(p.seen, p.expected);
            }
            _ = tokio::signal::ctrl_c() => cancel.cancel(),
        }
    }
}
