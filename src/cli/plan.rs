//! `plan`: what a run would do, like a diff.

use super::{Context, render, text, worst};
use crate::api::types::{Failure, PlanRequest};
use crate::clock::Clock;
use crate::model::{Change, Outcome, RealmId, Run, Trigger};
use crate::store::{Access, Store};
use crate::sync::{Ask, Engine};

pub(super) async fn plan(
    context: &Context,
    realm: Option<String>,
    full: bool,
    hold: bool,
    show_phones: bool,
) -> Result<u8, Failure> {
    let mut codes = vec![];
    let operator = if hold {
        Some(context.operator().await?)
    } else {
        None
    };
    for realm in context.realms(realm)? {
        let outcome = match &operator {
            Some(operator) => {
                operator
                    .plan(context, &realm, &PlanRequest { full, hold })
                    .await
            }
            None => dry(context, &realm, full).await,
        };
        match outcome {
            Ok((run, changes)) => {
                show(context, &run, &changes, show_phones, !hold);
                codes.push(match run.outcome {
                    Outcome::Held => 3,
                    Outcome::Applied => 2,
                    Outcome::Unchanged => 0,
                    _ => super::operator::exit_of(&run),
                });
            }
            Err(failure) => codes.push(render::failure(
                &format!("{realm}: {}", failure.message),
                failure.exit,
            )),
        }
    }
    if let Some(operator) = operator {
        operator.close().await;
    }
    Ok(worst(codes))
}

/// A dry run needs no lock: through the daemon, which sees the credentials, else here over a store opened for reading.
async fn dry(
    context: &Context,
    realm: &RealmId,
    full: bool,
) -> Result<(Run, Vec<Change>), Failure> {
    if let Some(client) = context.daemon().await {
        let bar = render::Bar::new(&format!("reading {realm}"));
        let answer = client
            .plan(realm, &PlanRequest { full, hold: false }, |p| {
                bar.at(p.seen, p.expected);
            })
            .await?;
        return Ok((answer.run, answer.changes));
    }
    let clock: Clock = context.clock.clone();
    // Before the first pass there may be no store to read: then one is made, as `sync` would make it.
    let opened = Store::open(
        &context.config.store,
        &context.env,
        Access::Read,
        clock.now(),
    )
    .await;
    let Ok(store) = opened else {
        return context.operator_plan(realm, full).await;
    };
    let engine = Engine::new(context.config.clone(), store, clock, context.env.clone());
    if engine
        .store
        .realm(realm)
        .await
        .map_err(|e| Failure::from(&e))?
        .is_none()
    {
        return context.operator_plan(realm, full).await;
    }
    let mut ask = Ask::new(Trigger::Command, context.by.clone());
    ask.full = full;
    engine
        .plan(realm, ask, false)
        .await
        .map_err(|e| Failure::from(&e))
}

impl Context {
    async fn operator_plan(
        &self,
        realm: &RealmId,
        full: bool,
    ) -> Result<(Run, Vec<Change>), Failure> {
        let operator = self.operator().await?;
        let outcome = operator
            .plan(self, realm, &PlanRequest { full, hold: false })
            .await;
        operator.close().await;
        outcome
    }
}

/// Prints a plan.
pub(super) fn show(context: &Context, run: &Run, changes: &[Change], show_phones: bool, dry: bool) {
    if context.json {
        render::json(run);
        for one in changes {
            render::json(one);
        }
        return;
    }
    for change in changes {
        render::line(&text::change(change, show_phones));
    }
    if !changes.is_empty() {
        render::line("");
    }
    render::line(&text::run(run, dry));
}
