//! `plan`: what a run would do, like a diff.

use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use super::operator::{Operator, exit_of, here, store_failure};
use super::{CommandContext, render, text, worst};
use crate::acts::{ActContext, ActFailure, FailureKind, Plan, PlanRequest};
use crate::config::StoreUrl;
use crate::model::{Change, Outcome, RealmId, Run};
use crate::store::{Access, Store, StoreError};

pub(super) async fn plan(
    context: &CommandContext,
    realm: Option<String>,
    full: bool,
    hold: bool,
    show_phones: bool,
) -> Result<u8, ActFailure> {
    let mut codes = vec![];
    let operator = if hold {
        Some(context.operator().await?)
    } else {
        None
    };
    let realms = context.read_realms(realm).await?;
    if !hold {
        context
            .compare_file(". The plan goes by what the file says now")
            .await;
    }
    for realm in realms {
        let mut shown = Shown::new(context, show_phones, !hold);
        let plan = Plan {
            realm,
            request: PlanRequest { full, hold },
        };
        let realm = plan.realm.clone();
        let outcome = match &operator {
            Some(operator) => operator.plan(plan, &mut shown).await,
            None => dry(context, plan, &mut shown).await,
        };
        match outcome {
            Ok(()) => codes.push(shown.code()),
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
    context: &CommandContext,
    plan: Plan,
    shown: &mut Shown<'_>,
) -> Result<(), ActFailure> {
    if let Some(client) = context.daemon().await {
        return Operator::Daemon(client).plan(plan, shown).await;
    }
    let (at, _empty) = to_look_at(context, &plan.realm).await?;
    let bar = render::Bar::reading(&plan.realm);
    let outcome = here(&at, &plan, &bar, shown).await;
    at.store().close().await;
    outcome?;
    shown.end();
    Ok(())
}

/// What a dry run in this process has at hand.
pub(super) async fn to_look_at(
    context: &CommandContext,
    realm: &RealmId,
) -> Result<(ActContext, Option<Empty>), ActFailure> {
    // Before the first pass there is nothing to compare with, and a dry run makes nothing: it compares with an empty store.
    let (store, empty) = match context.store_of(realm).await? {
        Some(store) => (store, None),
        None => Empty::new(context)
            .await
            .map(|(store, folder)| (store, Some(folder)))?,
    };
    let at = context.acting_on(store);
    if empty.is_some() {
        at.engine.declare_realms().await?;
    }
    Ok((at, empty))
}

impl CommandContext {
    /// The store, where it is there and knows the realm.
    async fn store_of(&self, realm: &RealmId) -> Result<Option<Store>, ActFailure> {
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
            .map_err(|e| ActFailure::from(&e))?
            .is_some();
        Ok(known.then_some(store))
    }
}

/// The folder of an empty store; gone with this.
pub(super) struct Empty(PathBuf);

impl Empty {
    async fn new(context: &CommandContext) -> Result<(Store, Self), ActFailure> {
        let name = format!(
            "realmsync-plan-{}",
            crate::runs::uuid_v7(context.clock.now())
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
            ActFailure::new(
                FailureKind::NoStore,
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

/// A plan on its way to the reader: printed as it comes, so that nobody holds the whole of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Shown<'a> {
    context: &'a CommandContext,
    show_phones: bool,
    dry: bool,
    /// Whether what it would change is printed.
    lists: bool,
    run: Option<Run>,
    any: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn new(context: &'a CommandContext, show_phones: bool, dry: bool) -> Self {
        Self {
            context,
            show_phones,
            dry,
            lists: true,
            run: None,
            any: false,
        }
    }

    /// The same of a dry run of which only the numbers are shown.
    pub(super) fn numbers(context: &'a CommandContext) -> Self {
        Self {
            lists: false,
            ..Self::new(context, false, true)
        }
    }

    /// The run, which comes first.
    pub(super) fn run(&mut self, run: Run) {
        if self.context.json {
            render::json(&run);
        }
        self.run = Some(run);
    }

    /// The run, which is shown at the end.
    pub(super) fn keep(&mut self, run: Run) {
        self.run = Some(run);
    }

    /// The run, once it is there.
    pub(super) fn the_run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// Some changes of it. Breaks off when nobody reads any more (`| head`), or wants to.
    pub(super) fn changes(&mut self, changes: &[Change]) -> ControlFlow<()> {
        if !self.lists {
            return ControlFlow::Break(());
        }
        for change in changes {
            if self.context.json {
                render::json(change);
            } else {
                render::line(&text::change(change, self.show_phones));
            }
        }
        self.any |= !changes.is_empty();
        if render::gone() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// What is said at the end.
    pub(super) fn end(&self) {
        let Some(run) = self.run.as_ref().filter(|_| !self.context.json) else {
            return;
        };
        if run.outcome == Outcome::Failed || run.outcome == Outcome::Cancelled {
            super::sync::show(self.context, run, false);
            return;
        }
        if self.any {
            render::line("");
        }
        render::line(&text::run(run, self.dry));
        if run.outcome == Outcome::Held && !self.dry {
            render::hint(&text::decide_it(run));
        }
    }

    /// What a run means to a command that only looks what would come of it.
    pub(super) fn code_of(run: &Run) -> u8 {
        match run.outcome {
            Outcome::Held => 3,
            Outcome::Applied => 2,
            Outcome::Unchanged => 0,
            _ => exit_of(run),
        }
    }

    /// What the command exits with.
    fn code(&self) -> u8 {
        self.run.as_ref().map_or(1, Self::code_of)
    }
}
