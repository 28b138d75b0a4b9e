//! Who does it: the daemon when it answers, else this process, with the store's lock.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Context;
use super::render::Bar;
use crate::api::Client;
use crate::api::types::{Decision, Failure, OutboxAct, OutboxRequest, PlanRequest, SyncRequest};
use crate::model::{Change, JobId, JobState, Outcome, RealmId, Run, Trigger};
use crate::store::{Access, Act, JobSelection, Store, StoreError, StoreLock, lock};
use crate::sync::{Ask, Decided, Engine};

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

pub(super) fn store_failure(error: &StoreError) -> Failure {
    Failure::from(error)
}

impl Context {
    /// The store for reading; takes no lock.
    pub(super) async fn store(&self) -> Result<Store, Failure> {
        Store::open(
            &self.config.store,
            &self.env,
            Access::Read,
            self.clock.now(),
        )
        .await
        .map_err(|e| store_failure(&e))
    }

    /// Whoever may change the store.
    pub(super) async fn operator(&self) -> Result<Operator, Failure> {
        if let Some(client) = self.daemon().await {
            return Ok(Operator::Daemon(client));
        }
        let lock = lock(&self.config.store, WAIT).map_err(|e| store_failure(&e))?;
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
        engine.settle_in().await.map_err(|e| Failure::from(&e))?;
        Ok(Operator::Alone(Box::new(engine), lock))
    }

    /// The daemon, if it answers.
    pub(super) async fn daemon(&self) -> Option<Client> {
        let client = Client::connect(&self.config.control_socket).await?;
        Some(client.acting_for(self.by.clone()))
    }

    /// The realms that a command is about: the named one, or all of the configuration.
    pub(super) fn realms(&self, named: Option<String>) -> Result<Vec<RealmId>, Failure> {
        let known: Vec<RealmId> = self.config.realms.iter().map(|r| r.id.clone()).collect();
        let Some(named) = named else { return Ok(known) };
        let id = RealmId::from(named);
        if known.contains(&id) {
            return Ok(vec![id]);
        }
        let list: Vec<&str> = known.iter().map(RealmId::as_str).collect();
        let text = format!(
            "there is no realm `{id}` in {}: it has {}",
            self.config.path.display(),
            list.join(", ")
        );
        Err(Failure::new("not-found", 1, text))
    }
}

impl Operator {
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
                client
                    .sync(realm, request, |p| bar.at(p.seen, p.expected))
                    .await
            }
            Self::Alone(engine, _) => {
                let ask = ask(context, request);
                watched(&ask, &bar, engine.sync(realm, ask.clone()))
                    .await
                    .map_err(|e| Failure::from(&e))
            }
        }
    }

    /// A dry run, or one whose plan is kept.
    pub(super) async fn plan(
        &self,
        context: &Context,
        realm: &RealmId,
        request: &PlanRequest,
    ) -> Result<(Run, Vec<Change>), Failure> {
        let bar = Bar::new(&format!("reading {realm}"));
        match self {
            Self::Daemon(client) => client
                .plan(realm, request, |p| bar.at(p.seen, p.expected))
                .await
                .map(|a| (a.run, a.changes)),
            Self::Alone(engine, _) => {
                let ask = ask(
                    context,
                    &SyncRequest {
                        full: request.full,
                        ..SyncRequest::default()
                    },
                );
                watched(&ask, &bar, engine.plan(realm, ask.clone(), request.hold))
                    .await
                    .map_err(|e| Failure::from(&e))
            }
        }
    }

    /// Approve, reject, adopt or undo.
    pub(super) async fn decide(
        &self,
        context: &Context,
        decision: Decision,
        run: &str,
    ) -> Result<Decided, Failure> {
        match self {
            Self::Daemon(client) => client.decide(decision, run, |_| ()).await,
            Self::Alone(engine, _) => {
                let by = context.by.clone();
                let decided = match decision {
                    Decision::Approve => engine.approve(run, by).await,
                    Decision::Reject => engine.reject(run, by).await,
                    Decision::Adopt => engine.adopt(run, by).await,
                    Decision::Undo => engine.undo(run, by).await,
                };
                decided.map_err(|e| Failure::from(&e))
            }
        }
    }

    pub(super) async fn pause(&self, realm: &RealmId, for_ms: Option<i64>) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => client.pause(realm, for_ms).await,
            Self::Alone(engine, _) => {
                let now = engine.clock.now();
                engine
                    .store
                    .pause(realm, for_ms.map(|ms| now.plus_ms(ms)), now)
                    .await
                    .map_err(|e| store_failure(&e))
            }
        }
    }

    pub(super) async fn resume(&self, realm: &RealmId) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => client.resume(realm).await,
            Self::Alone(engine, _) => engine
                .store
                .resume(realm, engine.clock.now())
                .await
                .map_err(|e| store_failure(&e)),
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
        let states = match act {
            OutboxAct::Retry => vec![JobState::Waiting, JobState::Dead],
            OutboxAct::Drop => vec![JobState::Waiting, JobState::Held, JobState::Dead],
            OutboxAct::Hold => vec![JobState::Waiting],
            OutboxAct::Release => vec![JobState::Held],
        };
        let mut selection = JobSelection {
            realm: which.realm.clone(),
            types: which.types.clone(),
            states,
            ..JobSelection::default()
        };
        let store = &engine.store;
        for prefix in &which.jobs {
            let known = store
                .jobs(&selection, i64::MAX)
                .await
                .map_err(|e| store_failure(&e))?;
            let mut fitting = known
                .iter()
                .filter(|j| j.id.to_string().starts_with(prefix.as_str()));
            match (fitting.next(), fitting.next()) {
                (Some(job), None) => selection.ids.push(job.id),
                (None, _) => {
                    return Err(Failure::new(
                        "not-found",
                        1,
                        format!(
                            "no message that fits begins with `{prefix}`: `outbox list` lists them"
                        ),
                    ));
                }
                _ => {
                    return Err(Failure::new(
                        "not-found",
                        1,
                        format!("several messages begin with `{prefix}`: give more of the id"),
                    ));
                }
            }
        }
        let retry_for_ms = context
            .config
            .realms
            .iter()
            .find_map(|r| r.delivery.as_ref())
            .map_or(0, |d| d.retry_for_ms);
        let act = match act {
            OutboxAct::Retry => Act::Retry { retry_for_ms },
            OutboxAct::Drop => Act::Drop,
            OutboxAct::Hold => Act::Hold,
            OutboxAct::Release => Act::Release,
        };
        let touched: Vec<JobId> = store
            .outbox_act(act, &selection, engine.clock.now())
            .await
            .map_err(|e| store_failure(&e))?;
        Ok(touched.len() as u64)
    }

    /// The run as the store has it, where the command acted alone.
    pub(super) async fn close(self) {
        if let Self::Alone(engine, _) = self {
            engine.store.close().await;
        }
    }
}

fn ask(context: &Context, request: &SyncRequest) -> Ask {
    let mut ask = Ask::new(Trigger::Command, context.by.clone());
    ask.full = request.full;
    ask.user.clone_from(&request.user);
    ask.accept_older = request.accept_older;
    ask
}

/// Shows progress while something runs; Ctrl-C lets it commit or roll back.
async fn watched<T>(ask: &Ask, bar: &Bar, doing: impl Future<Output = T>) -> T {
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

/// The exit code that a run means.
pub(super) fn exit_of(run: &Run) -> u8 {
    match run.outcome {
        Outcome::Applied | Outcome::Unchanged | Outcome::Running | Outcome::Rejected => 0,
        Outcome::Held => 3,
        Outcome::Failed => run.error_code.map_or(1, crate::api::types::exit_code),
        Outcome::Cancelled | Outcome::Expired | Outcome::Replaced => 1,
    }
}
