//! Short orders: answered beside the loop, which they must not hold up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::messages;
use super::metrics::Metrics;
use super::status::{self, Live};
use super::work::{Task, Work};
use crate::api::What;
use crate::api::types::{
    DaemonStatus, Failure, Line, OutboxAct, OutboxAnswer, OutboxRequest, RefusedReload,
    StatusAnswer,
};
use crate::config::Config;
use crate::model::RealmId;
use crate::model::words::count;
use crate::outbox::{CircuitState, Stats};
use crate::store::StoreError;
use crate::sync::Engine;

/// A store that does not answer a small question for so long is not ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the loop hands over for one order: the daemon as it is now.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) engine: Engine,
    pub(super) metrics: Metrics,
    pub(super) stats: Arc<Stats>,
    pub(super) wake: Arc<Notify>,
    pub(super) live: BTreeMap<RealmId, Live>,
    pub(super) daemon: DaemonStatus,
    /// Why the daemon is not ready, as far as the loop knows.
    pub(super) not_ready: Vec<String>,
}

/// What the loop does after a short order.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    /// The realm was resumed.
    Look(RealmId),
    /// Something longer, in its realm.
    Enqueue(RealmId, Box<Work>, tokio::sync::mpsc::Sender<Line>),
}

impl Desk {
    /// Answers the order, or says where it goes on.
    pub(super) async fn answer(
        self,
        what: What,
        by: Option<String>,
        lines: tokio::sync::mpsc::Sender<Line>,
    ) -> After {
        let mut after = After::Nothing;
        let done = match what {
            What::Decide(decision, run, asked) => match self.engine.store.run(&run).await {
                // The full id from here on: a prefix may be ambiguous by the time it is its turn.
                Ok(found) => {
                    let work = Work::new(Task::Decide(decision, found.run.to_string(), asked), by);
                    return After::Enqueue(found.realm, Box::new(work), lines);
                }
                Err(error) => Err(Failure::from(&error)),
            },
            What::Pause(realm, ask) => self.pause(&realm, ask.for_ms, by).await,
            What::Resume(realm) => {
                let done = self.resume(&realm, by).await;
                if done.is_ok() {
                    after = After::Look(realm);
                }
                done
            }
            What::Outbox(act, which) => self.outbox(act, which, by).await,
            What::Backup(ask) => self
                .engine
                .store
                .backup(&ask.to, self.engine.clock.now())
                .await
                .map_err(|e| (&e).into())
                .map(|()| {
                    tracing::info!(by, to = %ask.to.display(), "a copy of the store was written");
                    Value::Null
                }),
            What::Status => {
                let realms = status::gather(
                    &self.engine.store,
                    &self.engine.config,
                    &self.live,
                    self.engine.clock.now(),
                )
                .await;
                realms.map_err(|e| Failure::from(&e)).map(|mut realms| {
                    let refused = refused_reload(&self.daemon);
                    for realm in &mut realms {
                        realm.reload_refused.clone_from(&refused);
                    }
                    json!(StatusAnswer {
                        daemon: self.daemon,
                        realms
                    })
                })
            }
            What::Metrics => Ok(self.metrics_text().await.into()),
            What::Ready => Ok(json!(self.why_not_ready().await)),
            // The loop keeps these for itself.
            What::Sync(..) | What::Plan(..) => Err(Failure::new("invalid", 1, "not a short order")),
        };
        let _gone = lines
            .send(done.map_or_else(Line::Error, Line::Result))
            .await;
        after
    }

    /// Refuses a realm that the store does not know.
    async fn known(&self, realm: &RealmId) -> Result<(), Failure> {
        match self.engine.store.realm(realm).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(no_such_realm(realm, &self.engine.config)),
            Err(error) => Err((&error).into()),
        }
    }

    async fn pause(
        &self,
        realm: &RealmId,
        for_ms: Option<i64>,
        by: Option<String>,
    ) -> Result<Value, Failure> {
        self.known(realm).await?;
        let until = for_ms.map(|ms| self.engine.clock.now().plus_ms(ms));
        self.engine
            .store
            .pause(realm, until, by.as_deref(), self.engine.clock.now())
            .await
            .map_err(|e| Failure::from(&e))?;
        tracing::info!(%realm, by, "{realm}: paused{}", until.map(|at| format!(" until {at}")).unwrap_or_default());
        Ok(Value::Null)
    }

    async fn resume(&self, realm: &RealmId, by: Option<String>) -> Result<Value, Failure> {
        self.known(realm).await?;
        self.engine
            .store
            .resume(realm, self.engine.clock.now())
            .await
            .map_err(|e| Failure::from(&e))?;
        tracing::info!(%realm, by, "{realm}: resumed");
        // Its messages may go again.
        self.wake.notify_one();
        Ok(Value::Null)
    }

    async fn outbox(
        &self,
        act: OutboxAct,
        which: OutboxRequest,
        by: Option<String>,
    ) -> Result<Value, Failure> {
        let Engine {
            store,
            clock,
            config,
            ..
        } = &self.engine;
        let failed = |error: &StoreError| Failure::from(error);
        let jobs = messages::act(store, config, act, &which, clock.now(), failed).await?;
        tracing::info!(
            by,
            jobs,
            "outbox {}: {}",
            act.as_str(),
            count(jobs, "message")
        );
        self.wake.notify_one();
        Ok(json!(OutboxAnswer { jobs }))
    }

    async fn metrics_text(&self) -> String {
        let now = self.engine.clock.now();
        let standing = timeout(
            PATIENCE,
            status::gather(&self.engine.store, &self.engine.config, &self.live, now),
        )
        .await;
        match standing {
            Ok(Ok(realms)) => self.metrics.stands(&realms, now),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the metrics lack what stands in the store: {error}");
            }
            Err(_) => {
                tracing::warn!("the metrics lack what stands in the store: it does not answer");
            }
        }
        let sent = self.stats.snapshot();
        let open = sent
            .targets
            .iter()
            .filter(|target| !matches!(target.circuit, CircuitState::Closed))
            .count();
        let outcomes = [
            ("delivered", sent.delivered),
            ("refused", sent.refused),
            ("again", sent.again),
            ("dead", sent.dead),
            ("dropped", sent.dropped),
        ];
        self.metrics.deliveries(&outcomes, open as u64);
        self.metrics.text()
    }

    async fn why_not_ready(&self) -> Vec<String> {
        let mut reasons = self.not_ready.clone();
        match timeout(PATIENCE, self.engine.store.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => reasons.push(error.to_string()),
            Err(_) => reasons.push(format!(
                "the store has not answered for {} seconds",
                PATIENCE.as_secs()
            )),
        }
        reasons
    }
}

/// The last reload, if it was refused.
fn refused_reload(daemon: &DaemonStatus) -> Option<RefusedReload> {
    Some(RefusedReload {
        at: daemon.reload_refused_at?,
        error: daemon.reload_error.as_ref()?.lines().next()?.to_owned(),
    })
}

/// Says which realms there are.
pub(super) fn no_such_realm(realm: &RealmId, config: &Config) -> Failure {
    let there: Vec<&str> = config
        .realms
        .iter()
        .map(|realm| realm.id.as_str())
        .collect();
    Failure::new(
        "not-found",
        1,
        format!("no realm `{realm}`; there are: {}", there.join(", ")),
    )
}
