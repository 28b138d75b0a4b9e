//! Who does it: the daemon when it answers, else this process, with the store's lock.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::plan::Shown;
use super::progress::{let_end, told, unless_interrupted, watched};
use super::render::Bar;
use super::{Context, advice};
use crate::api::Client;
use crate::api::types::{
    DecideRequest, Decision, Failure, Line, OutboxAct, OutboxRequest, PlanRequest, SyncRequest,
};
use crate::model::{Outcome, RealmId, Run, Trigger};
use crate::service::messages;
use crate::store::{Access, Store, StoreError, StoreLock, lock};
use crate::sync::{Ask, Asking, Decided, Engine};

/// How long a command waits for another command to let go of the store.
const WAIT: Duration = Duration::from_secs(2);

/// Whoever changes the store.
pub(super) enum Operator {
    /// The daemon.
    Daemon(Client),
    /// This process.
    Alone(
        Box<Engine>,
        #[expect(dead_code, reason = "held for as long as this lives")] StoreLock,
    ),
}

/// What went wrong with the store; an engine's own words never say what to do next.
pub(super) fn store_failure(error: &StoreError) -> Failure {
    let failure = Failure::from(error);
    match error {
        StoreError::Open { .. } if advice::part(&failure.message).1.is_none() => Failure {
            message: format!(
                "{}; see that `store.url` is right, and that what it names runs and may be used from here",
                failure.message
            ),
            ..failure
        },
        _ => failure,
    }
}

impl Context {
    /// The store for reading; takes no lock.
    pub(super) async fn store(&self) -> Result<Store, Failure> {
        let opened = Store::open(
            &self.config.store,
            &self.env,
            Access::Read,
            self.clock.now(),
        )
        .await;
        opened.map_err(|e| match e {
            // What is not there cannot be reached either.
            StoreError::NotFound(message) => Failure::new("store", 69, message),
            e => store_failure(&e),
        })
    }

    /// Whoever may change the store.
    pub(super) async fn operator(&self) -> Result<Operator, Failure> {
        if let Some(client) = self.daemon().await {
            return Ok(Operator::Daemon(client));
        }
        if self.faulty {
            // What could be had of the file names no realm.
            return Err(Failure::new(
                "config",
                78,
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
        let engine = Engine::new(
            self.config.clone(),
            store,
            self.clock.clone(),
            self.env.clone(),
        );
        engine.sweep().await.map_err(|e| Failure::from(&e))?;
        Ok(Operator::Alone(Box::new(engine), lock))
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
fn busy(error: &StoreError) -> Failure {
    let failure = store_failure(error);
    if failure.exit != 75 {
        return failure;
    }
    Failure {
        message: format!("{}; wait for it to end, or stop it", failure.message),
        ..failure
    }
}

impl Operator {
    /// Whether this process does it.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Alone(..))
    }

    /// The store, where this process may write to it.
    pub(super) fn store(&self) -> Option<&Store> {
        match self {
            Self::Daemon(_) => None,
            Self::Alone(engine, _) => Some(&engine.store),
        }
    }

    /// One run now.
    pub(super) async fn sync(
        &self,
        context: &Context,
        realm: &RealmId,
        request: &SyncRequest,
    ) -> Result<Run, Failure> {
        let bar = Bar::new(&format!("reading {realm}"));
        match self {
            Self::Daemon(client) => {
                unless_interrupted(client.sync(realm, request, told(&bar, realm))).await
            }
            Self::Alone(engine, _) => {
                works_on(engine, realm).await?;
                let ask = ask(context, request);
                watched(&ask, &bar, engine.sync(realm, ask.clone()))
                    .await
                    .map_err(|e| Failure::from(&e))
            }
        }
    }

    /// A dry run, or one whose plan is kept, shown as it comes.
    pub(super) async fn plan(
        &self,
        context: &Context,
        realm: &RealmId,
        request: &PlanRequest,
        shown: &mut Shown<'_>,
    ) -> Result<(), Failure> {
        let bar = Bar::new(&format!("reading {realm}"));
        match self {
            Self::Daemon(client) => {
                let mut progress = told(&bar, realm);
                let heard = |line| {
                    match line {
                        Line::Progress(seen) => progress(seen),
                        Line::Run(run) => {
                            bar.end();
                            shown.run(*run);
                        }
                        Line::Changes(changes) => return shown.changes(&changes),
                        Line::Result(_) | Line::Error(_) => {}
                    }
                    ControlFlow::Continue(())
                };
                unless_interrupted(client.plan(realm, request, heard)).await?;
            }
            Self::Alone(engine, _) => {
                works_on(engine, realm).await?;
                here(context, engine, realm, request, &bar, shown).await?;
            }
        }
        shown.end();
        Ok(())
    }

    /// Approve, reject, adopt or undo.
    pub(super) async fn decide(
        &self,
        context: &Context,
        decision: Decision,
        run: &str,
        request: &DecideRequest,
    ) -> Result<Decided, Failure> {
        match self {
            Self::Daemon(client) => {
                unless_interrupted(client.decide(decision, run, request, |_| ())).await
            }
            Self::Alone(engine, _) => {
                let of = engine.store.run(run).await;
                works_on(engine, &of.map_err(|e| store_failure(&e))?.realm).await?;
                let asking = Asking {
                    by: context.by.clone(),
                    accept_older: request.accept_older,
                    cancel: CancellationToken::new(),
                };
                let cancel = asking.cancel.clone();
                let deciding = Box::pin(async {
                    match decision {
                        Decision::Approve => engine.approve(run, asking).await,
                        Decision::Reject => match request.for_ms {
                            Some(ms) => engine.reject_for(run, asking.by, ms).await,
                            None => engine.reject(run, asking.by).await,
                        },
                        Decision::Adopt => engine.adopt(run, asking).await,
                        Decision::Undo => engine.undo(run, asking).await,
                    }
                });
                let decided = let_end(deciding, &cancel).await;
                decided.map_err(|e| Failure::from(&e))
            }
        }
    }

    pub(super) async fn pause(
        &self,
        context: &Context,
        realm: &RealmId,
        for_ms: Option<i64>,
    ) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => client.pause(realm, for_ms).await,
            Self::Alone(engine, _) => {
                works_on(engine, realm).await?;
                let now = engine.clock.now();
                engine
                    .store
                    .pause(
                        realm,
                        for_ms.map(|ms| now.plus_ms(ms)),
                        context.by.as_deref(),
                        now,
                    )
                    .await
                    .map_err(|e| store_failure(&e))
            }
        }
    }

    pub(super) async fn resume(&self, realm: &RealmId) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => client.resume(realm).await,
            Self::Alone(engine, _) => {
                works_on(engine, realm).await?;
                engine
                    .store
                    .resume(realm, engine.clock.now())
                    .await
                    .map_err(|e| store_failure(&e))
            }
        }
    }

    pub(super) async fn outbox(
        &self,
        context: &Context,
        act: OutboxAct,
        which: &OutboxRequest,
    ) -> Result<u64, Failure> {
        let engine = match self {
            Self::Daemon(client) => return client.outbox(act, which).await,
            Self::Alone(engine, _) => engine,
        };
        let now = engine.clock.now();
        messages::act(
            &engine.store,
            &context.config,
            act,
            which,
            now,
            store_failure,
        )
        .await
    }

    /// Writes what is to be written, where the command acted alone.
    pub(super) async fn close(self) {
        if let Self::Alone(engine, _) = self {
            engine.store.close().await;
        }
    }
}

/// The realm is known to the store from here on. Nothing is said of others: the file of a command may lack what daemons have.
async fn works_on(engine: &Engine, realm: &RealmId) -> Result<(), Failure> {
    engine
        .declare_realm(realm)
        .await
        .map_err(|e| Failure::from(&e))
}

/// A plan made in this process.
pub(super) async fn here(
    context: &Context,
    engine: &Engine,
    realm: &RealmId,
    request: &PlanRequest,
    bar: &Bar,
    shown: &mut Shown<'_>,
) -> Result<(), Failure> {
    let ask = ask(
        context,
        &SyncRequest {
            full: request.full,
            ..SyncRequest::default()
        },
    );
    let planning = engine.plan(realm, ask.clone(), request.hold);
    let (run, mut lines) = watched(&ask, bar, planning)
        .await
        .map_err(|e| Failure::from(&e))?;
    bar.end();
    shown.run(run);
    loop {
        let page = lines.next().await.map_err(|e| store_failure(&e))?;
        if page.is_empty() || shown.changes(&page).is_break() {
            return Ok(());
        }
    }
}

pub(super) fn ask(context: &Context, request: &SyncRequest) -> Ask {
    let mut ask = Ask::new(Trigger::Command, context.by.clone());
    ask.full = request.full;
    ask.user.clone_from(&request.user);
    ask.accept_older = request.accept_older;
    ask
}

/// The exit code that a run means.
pub(super) fn exit_of(run: &Run) -> u8 {
    match run.outcome {
        Outcome::Applied | Outcome::Unchanged | Outcome::Running | Outcome::Rejected => 0,
        Outcome::Held => 3,
        Outcome::Failed => run.error_code.map_or(1, crate::api::types::exit_code),
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
