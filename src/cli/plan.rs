//! `plan`: what a run would do, like a diff.

use std::os::unix::fs::DirBuilderExt as _;

use super::{Context, render, text, worst};
use crate::api::types::{Failure, PlanRequest};
use crate::clock::Clock;
use crate::config::StoreUrl;
use crate::model::{Change, Outcome, RealmId, Run, Trigger};
use crate::store::{Access, Store, StoreError};
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
    let opened = Store::open(
        &context.config.store,
        &context.env,
        Access::Read,
        clock.now(),
    )
    .await;
    let store = match opened {
        Ok(store)
            if store
                .realm(realm)
                .await
                .map_err(|e| Failure::from(&e))?
                .is_some() =>
        {
            store
        }
        // Before the first pass there is nothing to compare with, and a dry run makes nothing: it compares with an empty store.
        Ok(_) | Err(StoreError::NotFound(_)) => {
            return before_the_first(context, realm, full).await;
        }
        Err(error) => return Err(Failure::from(&error)),
    };
    let engine = Engine::new(context.config.clone(), store, clock, context.env.clone());
    let mut ask = Ask::new(Trigger::Command, context.by.clone());
    ask.full = full;
    engine
        .plan(realm, ask, false)
        .await
        .map_err(|e| Failure::from(&e))
}

/// A dry run over an empty store in a folder of its own, which is gone afterwards.
async fn before_the_first(
    context: &Context,
    realm: &RealmId,
    full: bool,
) -> Result<(Run, Vec<Change>), Failure> {
    let name = format!(
        "realmsync-plan-{}-{}",
        std::process::id(),
        context.clock.now().0
    );
    let folder = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|e| {
            Failure::new(
                "store",
                69,
                format!("cannot make {}: {e}", folder.display()),
            )
        })?;
    let mut config = context.config.store.clone();
    config.url = StoreUrl::Sqlite(folder.join("empty.db"));
    let outcome = async {
        let store = Store::open(&config, &context.env, Access::Write, context.clock.now())
            .await
            .map_err(|e| Failure::from(&e))?;
        let engine = Engine::new(
            context.config.clone(),
            store,
            context.clock.clone(),
            context.env.clone(),
        );
        engine.settle_in().await.map_err(|e| Failure::from(&e))?;
        let mut ask = Ask::new(Trigger::Command, context.by.clone());
        ask.full = full;
        engine
            .plan(realm, ask, false)
            .await
            .map_err(|e| Failure::from(&e))
    }
    .await;
    let _gone = std::fs::remove_dir_all(&folder);
    outcome
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
