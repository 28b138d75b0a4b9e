//! `plan`: what a run would do, like a diff.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use super::operator::{Operator, ask, exit_of, store_failure};
use super::progress::watched;
use super::{Context, render, text, worst};
use crate::api::types::{Failure, PlanRequest, SyncRequest};
use crate::config::StoreUrl;
use crate::model::{Change, Outcome, RealmId, Run};
use crate::store::{Access, Store, StoreError};
use crate::sync::Engine;

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
                    _ => exit_of(&run),
                });
            }
            Err(failure) => codes.push(render::failure(
                &super::sync::about(realm.as_str(), &failure.message),
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
    let request = PlanRequest { full, hold: false };
    if let Some(client) = context.daemon().await {
        return Operator::Daemon(client)
            .plan(context, realm, &request)
            .await;
    }
    // Before the first pass there is nothing to compare with, and a dry run makes nothing: it compares with an empty store.
    let (store, empty) = match context.store_of(realm).await? {
        Some(store) => (store, None),
        None => Empty::new(context)
            .await
            .map(|(store, folder)| (store, Some(folder)))?,
    };
    let engine = Engine::new(
        context.config.clone(),
        store,
        context.clock.clone(),
        context.env.clone(),
    );
    if empty.is_some() {
        engine.settle_in().await.map_err(|e| Failure::from(&e))?;
    }
    let ask = ask(
        context,
        &SyncRequest {
            full,
            ..SyncRequest::default()
        },
    );
    let bar = render::Bar::new(&format!("reading {realm}"));
    let outcome = watched(&ask, &bar, engine.plan(realm, ask.clone(), false))
        .await
        .map_err(|e| Failure::from(&e));
    engine.store.close().await;
    outcome
}

impl Context {
    /// The store, where it is there and knows the realm.
    async fn store_of(&self, realm: &RealmId) -> Result<Option<Store>, Failure> {
        let store = match Store::open(
            &self.config.store,
            &self.env,
            Access::Read,
            self.clock.now(),
        )
        .await
        {
            Ok(store) => store,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(store_failure(&error)),
        };
        let known = store
            .realm(realm)
            .await
            .map_err(|e| Failure::from(&e))?
            .is_some();
        Ok(known.then_some(store))
    }
}

/// The folder of an empty store; gone with this.
struct Empty(PathBuf);

impl Empty {
    async fn new(context: &Context) -> Result<(Store, Self), Failure> {
        let name = format!(
            "realmsync-plan-{}",
            crate::sync::uuid_v7(context.clock.now())
        );
        // `TMPDIR` may be the folder of root, whom this command no longer is; the store's own folder is the owner's.
        let mut places = vec![std::env::temp_dir()];
        if let StoreUrl::Sqlite(file) = &context.config.store.url {
            places.extend(file.parent().map(PathBuf::from));
        }
        let make = |folder: &PathBuf| std::fs::DirBuilder::new().mode(0o700).create(folder);
        let mut folder = PathBuf::new();
        let mut made = Ok(());
        for place in places {
            folder = place.join(&name);
            made = make(&folder);
            if made.is_ok() {
                break;
            }
        }
        made.map_err(|e| {
            Failure::new(
                "store",
                69,
                format!("cannot make {}: {e}", folder.display()),
            )
        })?;
        let empty = Self(folder);
        let mut config = context.config.store.clone();
        config.url = StoreUrl::Sqlite(empty.0.join("empty.db"));
        let store = Store::open(&config, &context.env, Access::Write, context.clock.now()).await;
        store
            .map(|store| (store, empty))
            .map_err(|e| store_failure(&e))
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Prints a plan.
fn show(context: &Context, run: &Run, changes: &[Change], show_phones: bool, dry: bool) {
    if context.json {
        render::json(run);
        changes.iter().for_each(render::json);
        return;
    }
    if run.outcome == Outcome::Failed || run.outcome == Outcome::Cancelled {
        super::sync::show(context, run, false);
        return;
    }
    for change in changes {
        render::line(&text::change(change, show_phones));
    }
    if !changes.is_empty() {
        render::line("");
    }
    render::line(&text::run(run, dry));
    if run.outcome == Outcome::Held && !dry {
        render::hint(&text::decide_it(run));
    }
}
