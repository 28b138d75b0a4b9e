//! Who does it: the daemon when it answers, else this process, with the store's lock.

use std::ops::ControlFlow;
use std::time::Duration;

use super::plan::Shown;
use super::progress::{told, unless_interrupted, watched};
use super::render::Bar;
use super::{CommandContext, advice};
use crate::acts::{self, Act, ActFailure, AgendaTurn, Caller, Door, FailureKind, InRealm, Plan};
use crate::api::Client;
use crate::api::routes::Route;
use crate::api::types::AnswerLine;
use crate::model::{ErrorCode, Outcome, Run};
use crate::store::{Access, Store, StoreError, StoreLock, lock};
use crate::sync::Engine;

/// How long a command waits for another command to let go of the store.
const WAIT: Duration = Duration::from_secs(2);

/// Whoever changes the store.
pub(super) enum Operator {
    /// The daemon.
    Daemon(Client),
    /// This process.
    Alone(
        Box<acts::ActContext>,
        #[expect(dead_code, reason = "held for as long as this lives")] StoreLock,
    ),
}

/// What went wrong with the store; an engine's own words never say what to do next.
pub(super) fn store_failure(error: &StoreError) -> ActFailure {
    let failure = ActFailure::from(error);
    match error {
        StoreError::Open { .. } if advice::part(&failure.message).1.is_none() => ActFailure {
            message: format!(
                "{}; see that `store.url` is right, and that what it names runs and may be used from here",
                failure.message
            ),
            ..failure
        },
        _ => failure,
    }
}

impl CommandContext {
    /// The store for reading; takes no lock.
    pub(super) async fn store(&self) -> Result<Store, ActFailure> {
        let opened = Store::open(
            &self.config.store,
            &self.env,
            Access::Read,
            self.clock.now(),
        )
        .await;
        opened.map_err(|e| match e {
            // What is not there cannot be reached either.
            StoreError::NotFound(message) => ActFailure::new(FailureKind::NoStore, message),
            e => store_failure(&e),
        })
    }

    /// Whoever may change the store.
    pub(super) async fn operator(&self) -> Result<Operator, ActFailure> {
        let operator = self.operator_of_any_key().await?;
        if let Operator::Alone(at, _) = &operator {
            // A key that only the service can see is asked for by what needs it.
            let unseen = self.config.enrolment.key.as_ref();
            let unseen = unseen.and_then(|key| key.resolve(&self.env).err());
            if !unseen.is_some_and(|error| error.invisible) {
                at.engine.take_key().await?;
            }
            at.engine.sweep().await?;
        }
        Ok(operator)
    }

    /// The same whatever enrolment key the store is kept with.
    pub(super) async fn operator_of_any_key(&self) -> Result<Operator, ActFailure> {
        if let Some(client) = self.daemon().await {
            return Ok(Operator::Daemon(client));
        }
        if self.faulty {
            // What could be had of the file names no realm.
            return Err(ActFailure::new(
                FailureKind::Run(ErrorCode::Config),
                "the daemon ended meanwhile, and without it this needs a file without faults: `realmsync check` shows them",
            ));
        }
        let lock = lock(&self.config.store, WAIT).map_err(|e| busy(&e))?;
        let store = Store::open(
            &self.config.store,
            &self.env,
            Access::Write,
            self.clock.now(),
        )
        .await
        .map_err(|e| store_failure(&e))?;
        let at = self.acting_on(store);
        Ok(Operator::Alone(Box::new(at), lock))
    }

    /// What acts have at hand in this process.
    pub(super) fn acting_on(&self, store: Store) -> acts::ActContext {
        let engine = Engine::new(
            self.config.clone(),
            store,
            self.clock.clone(),
            self.env.clone(),
        );
        acts::ActContext::new(engine, Caller::new(self.by.clone(), Door::Command))
    }

    /// The daemon, if it answers.
    pub(super) async fn daemon(&self) -> Option<Client> {
        let client = Client::connect(&self.config.control_socket).await?;
        Some(
            client
                .acting_for(self.by.clone())
                .by_file(&self.config.digest),
        )
    }
}

/// Who holds the store, and what to do about it.
fn busy(error: &StoreError) -> ActFailure {
    let failure = store_failure(error);
    if failure.exit != 75 {
        return failure;
    }
    ActFailure {
        message: format!("{}; wait for it to end, or stop it", failure.message),
        ..failure
    }
}

impl Operator {
    /// Whether this process does it.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Alone(..))
    }

    /// What acts have at hand, where this process does them.
    pub(super) fn alone(&self) -> Option<&acts::ActContext> {
        match self {
            Self::Daemon(_) => None,
            Self::Alone(at, _) => Some(at),
        }
    }

    /// Has something done that is done at once.
    pub(super) async fn act<A>(&self, act: A) -> Result<A::Output, ActFailure>
    where
        A: Act + Route<Answer = A::Output>,
    {
        match self {
            Self::Daemon(client) => client.ask(&act, |_| ()).await,
            Self::Alone(at, _) => act.act(at).await,
        }
    }

    /// Has something done that needs a realm for itself, and shows how far it is.
    pub(super) async fn act_in_realm<A>(&self, act: A, bar: &Bar) -> Result<A::Output, ActFailure>
    where
        A: InRealm + Route<Answer = A::Output>,
    {
        match self {
            Self::Daemon(client) => unless_interrupted(client.ask(&act, told(bar))).await,
            Self::Alone(at, _) => {
                let (realm, act) = act.place(at).await?;
                at.known(&realm).await?;
                let turn = AgendaTurn::default();
                watched(&turn, bar, act.act(at, &turn)).await
            }
        }
    }

    /// A dry run, or one whose plan is kept, shown as it comes.
    pub(super) async fn plan(&self, plan: Plan, shown: &mut Shown<'_>) -> Result<(), ActFailure> {
        let bar = Bar::reading(&plan.realm);
        match self {
            Self::Daemon(client) => {
                let mut progress = told(&bar);
                let heard = |line| {
                    match line {
                        AnswerLine::Progress(seen) => progress(seen),
                        AnswerLine::Run(run) => {
                            bar.end();
                            shown.run(*run);
                        }
                        AnswerLine::Changes(changes) => return shown.changes(&changes),
                        AnswerLine::Operation(_)
                        | AnswerLine::Refused(_)
                        | AnswerLine::Result(_)
                        | AnswerLine::Error(_) => {}
                    }
                    ControlFlow::Continue(())
                };
                unless_interrupted(client.plan(&plan, heard)).await?;
            }
            Self::Alone(at, _) => {
                at.known(&plan.realm).await?;
                here(at, &plan, &bar, shown).await?;
            }
        }
        shown.end();
        Ok(())
    }

    /// Writes what is to be written, where the command acted alone.
    pub(super) async fn close(self) {
        if let Self::Alone(at, _) = self {
            at.store().close().await;
        }
    }
}

/// A plan made in this process.
pub(super) async fn here(
    at: &acts::ActContext,
    plan: &Plan,
    bar: &Bar,
    shown: &mut Shown<'_>,
) -> Result<(), ActFailure> {
    let turn = AgendaTurn::default();
    let (run, mut lines) = watched(&turn, bar, plan.act(at, &turn)).await?;
    bar.end();
    shown.run(run);
    loop {
        let page = lines.next().await.map_err(|e| store_failure(&e))?;
        if page.is_empty() || shown.changes(&page).is_break() {
            return Ok(());
        }
    }
}

/// The exit code that a run means.
pub(super) fn exit_of(run: &Run) -> u8 {
    match run.outcome {
        Outcome::Applied | Outcome::Unchanged | Outcome::Running | Outcome::Rejected => 0,
        Outcome::Held => 3,
        Outcome::Failed => run
            .error_code
            .map_or(1, |code| FailureKind::Run(code).exit()),
        Outcome::Cancelled | Outcome::Expired | Outcome::Replaced => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_opened_says_what_to_look_at() {
        let open = |why: &str| {
            let failure = store_failure(&StoreError::Open {
                what: "postgres://realmsync@db/realmsync".into(),
                why: why.into(),
            });
            (failure.exit, advice::part(&failure.message).1)
        };
        let (code, next) = open("pool timed out while waiting for an open connection");
        assert_eq!(code, 69);
        assert!(next.is_some_and(|n| n.contains("`store.url`")));
        // What has advice of its own keeps it.
        assert_eq!(
            open("no such folder; make it"),
            (69, Some("make it".to_owned()))
        );
    }
}
