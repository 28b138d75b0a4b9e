//! `sync`: one run now.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::operator::{exit_of, store_failure};
use super::render::Bar;
use super::{CommandContext, render, text, worst};
use crate::acts::{ActFailure, Sync, SyncRequest};
use crate::model::{Outcome, Run};
use crate::outbox::{OutboxRunner, Stats, deliver_waiting};
use crate::store::Store;

pub(super) async fn sync(
    context: &CommandContext,
    realm: Option<String>,
    full: bool,
    user: Option<String>,
    accept_older: bool,
    deliver: bool,
) -> Result<u8, ActFailure> {
    let realms = context.read_realms(realm).await?;
    let operator = context.operator().await?;
    let request = SyncRequest {
        full,
        user,
        accept_older,
    };
    let mut codes = vec![];
    for realm in realms {
        let bar = Bar::reading(&realm);
        let act = Sync::asked(realm.clone(), request.clone());
        let done = operator.act_in_realm(act, &bar).await;
        bar.end();
        match done {
            Ok(run) => {
                codes.push(exit_of(&run));
                show(context, &run, operator.is_alone() && !deliver);
                if run.outcome == Outcome::Cancelled {
                    break;
                }
            }
            Err(failure) => codes.push(render::failure(
                &about(realm.as_str(), &failure.message),
                failure.exit,
            )),
        }
    }
    if deliver && let Some(at) = operator.alone() {
        codes.push(send(context, at.store()).await?);
    }
    operator.close().await;
    Ok(worst(codes))
}

/// Says what came of a run that was just made: the run as data, what to do about it as talk.
pub(super) fn show(context: &CommandContext, run: &Run, waits_for_the_daemon: bool) {
    if context.json {
        render::json(run);
        return;
    }
    match run.outcome {
        Outcome::Failed | Outcome::Cancelled => {
            let why = run.error.as_deref().unwrap_or("no reason was kept");
            render::failure(&about(run.realm.as_str(), why), 1);
        }
        Outcome::Held => {
            render::line(&text::run(run, false));
            render::hint(&text::decide_it(run));
        }
        _ => {
            render::line(&text::run(run, false));
            if run.jobs > 0 && waits_for_the_daemon && run.outcome == Outcome::Applied {
                render::hint(&format!(
                    "{} for the daemon; `realmsync sync --deliver` sends what is due without it",
                    waiting(run.jobs)
                ));
            }
        }
    }
}

fn waiting(jobs: i64) -> String {
    format!(
        "{} wait{}",
        text::count(jobs, "message"),
        if jobs == 1 { "s" } else { "" }
    )
}

/// Names the realm, where the text does not.
pub(super) fn about(realm: &str, message: &str) -> String {
    if message.contains(&format!("`{realm}`")) {
        message.to_owned()
    } else {
        format!("{realm}: {message}")
    }
}

/// Sends what is due, without a daemon.
async fn send(context: &CommandContext, store: &Store) -> Result<u8, ActFailure> {
    let runner = OutboxRunner {
        store: store.clone(),
        config: tokio::sync::watch::Sender::new(Arc::clone(&context.config)).subscribe(),
        environment: (*context.env).clone(),
        clock: context.clock.clone(),
        stats: Arc::new(Stats::default()),
    };
    let cancel = CancellationToken::new();
    let mut sending = std::pin::pin!(deliver_waiting(runner, cancel.clone()));
    let done = loop {
        tokio::select! {
            done = &mut sending => break done.map_err(|e| store_failure(&e))?,
            // What is under way is settled first.
            _ = tokio::signal::ctrl_c() => cancel.cancel(),
        }
    };
    if !context.json {
        render::talk(&format!(
            "messages: {} accepted, {} refused for good, {} to be tried again, {} given up",
            done.delivered, done.refused, done.again, done.dead
        ));
    }
    if done.again + done.refused + done.dead > 0 {
        render::hint("`realmsync outbox list --all` shows what each met");
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::{about, waiting};

    #[test]
    fn a_realm_is_named_once() {
        assert_eq!(about("r", "realm `r` is paused"), "realm `r` is paused");
        assert_eq!(about("r", "no server"), "r: no server");
        assert_eq!(
            (waiting(1), waiting(2)),
            ("1 message waits".into(), "2 messages wait".into())
        );
    }
}
