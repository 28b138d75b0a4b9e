//! `sync`: one run now.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::operator::{Operator, exit_of, store_failure};
use super::{Context, render, text, worst};
use crate::api::types::{Failure, SyncRequest};
use crate::model::Outcome;
use crate::outbox::{OutboxRunner, Stats, deliver_waiting};

pub(super) async fn sync(
    context: &Context,
    realm: Option<String>,
    full: bool,
    user: Option<String>,
    accept_older: bool,
    deliver: bool,
) -> Result<u8, Failure> {
    let realms = context.realms(realm)?;
    let operator = context.operator().await?;
    let request = SyncRequest {
        full,
        user,
        accept_older,
    };
    let mut codes = vec![];
    for realm in realms {
        match operator.sync(context, &realm, &request).await {
            Ok(run) => {
                codes.push(exit_of(&run));
                if context.json {
                    render::json(&run);
                } else if run.outcome == Outcome::Failed {
                    let why = run.error.as_deref().unwrap_or("no reason was kept");
                    render::failure(&format!("{realm}: {why}"), 1);
                    render::hint(
                        "nobody was changed; the next run tries again, `realmsync runs` keeps the history",
                    );
                } else {
                    render::line(&text::run(&run, false));
                }
            }
            Err(failure) => codes.push(render::failure(
                &format!("{realm}: {}", failure.message),
                failure.exit,
            )),
        }
    }
    if deliver && let Operator::Alone(engine, _) = &operator {
        let runner = OutboxRunner {
            store: engine.store.clone(),
            config: tokio::sync::watch::Sender::new(Arc::clone(&context.config)).subscribe(),
            environment: (*context.env).clone(),
            clock: context.clock.clone(),
            key: engine
                .enrolment_key()
                .await
                .map_err(|e| Failure::from(&e))?,
            stats: Arc::new(Stats::default()),
        };
        let done = deliver_waiting(runner, CancellationToken::new())
            .await
            .map_err(|e| store_failure(&e))?;
        if !context.json {
            render::talk(&format!(
                "messages: {} accepted, {} refused for good, {} to be tried again, {} given up",
                done.delivered, done.refused, done.again, done.dead
            ));
        }
        if done.again + done.refused + done.dead > 0 {
            render::talk("`realmsync outbox list` shows what each met");
        }
    }
    operator.close().await;
    Ok(worst(codes))
}
