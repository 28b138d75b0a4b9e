//! Orders are answered beside the loop, which they must not hold up; what needs a realm for itself goes on to the agenda.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::metrics::Metrics;
use super::work::Work;
use crate::acts::{ActContext, ActFailure, AfterAct, Caller};
use crate::api::OrderKind;
use crate::api::types::AnswerLine;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::model::RealmId;
use crate::outbox::{CircuitState, Stats};
use crate::store::Store;
use crate::story::health::{self, PATIENCE};
use crate::story::keys;
use crate::story::realms::{self, Live};
use crate::story::status::{DaemonStatus, RefusedReload, StatusAnswer};
use crate::sync::Engine;

/// What the loop hands over for one order: the daemon as it is now.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) engine: Engine,
    pub(super) metrics: Metrics,
    pub(super) stats: Arc<Stats>,
    pub(super) wake: Arc<Notify>,
    /// Tells that there may be an operation to work off.
    pub(super) work: Arc<Notify>,
    pub(super) live: BTreeMap<RealmId, Live>,
    pub(super) daemon: DaemonStatus,
    /// Why the daemon is not ready, as far as the loop knows.
    pub(super) not_ready: Vec<String>,
    /// The engine's configuration is not in force yet.
    pub(super) ahead: bool,
}

/// What the loop does after an order.
#[derive(Debug)]
pub(super) enum FollowUp {
    Nothing,
    /// The realm was resumed.
    Look(RealmId),
    /// It needs a realm for itself.
    Enqueue(RealmId, Box<Work>, tokio::sync::mpsc::Sender<AnswerLine>),
}

impl Desk {
    /// The same by a configuration that is not in force yet.
    pub(super) fn by(self, config: Arc<Config>) -> Self {
        let now = self.engine;
        Self {
            engine: Engine::new(config, now.store, now.clock, now.env),
            ahead: true,
            ..self
        }
    }

    /// Answers the order, or says where it goes on.
    pub(super) async fn answer(
        self,
        what: OrderKind,
        caller: Caller,
        lines: tokio::sync::mpsc::Sender<AnswerLine>,
    ) -> FollowUp {
        let mut after = FollowUp::Nothing;
        let at = ActContext::new(self.engine.clone(), caller);
        let done = match what {
            OrderKind::Act(act) => act.act_boxed(at).await.map(|(output, then)| {
                if then != AfterAct::Nothing {
                    self.wake.notify_one();
                }
                if then == AfterAct::WorkOff {
                    self.work.notify_one();
                }
                if let AfterAct::Look(realm) = then {
                    after = FollowUp::Look(realm);
                }
                output
            }),
            OrderKind::InRealm(act) => match act.place(&at).await {
                Ok((realm, act)) => {
                    let mut work = Box::new(Work::new(act, at.caller));
                    work.ahead = self.ahead.then_some(self.engine);
                    return FollowUp::Enqueue(realm, work, lines);
                }
                Err(failure) => Err(failure),
            },
            OrderKind::Status => self.status().await,
            OrderKind::Metrics => Ok(self.metrics_text().await.into()),
            OrderKind::Ready => Ok(json!(self.why_not_ready().await)),
        };
        let _gone = lines
            .send(done.map_or_else(AnswerLine::Error, AnswerLine::Result))
            .await;
        after
    }

    async fn status(self) -> Result<Value, ActFailure> {
        let Engine {
            store,
            config,
            clock,
            ..
        } = &self.engine;
        let mut realms = realms::gather(store, config, &self.live, clock.now()).await?;
        let mut daemon = self.daemon;
        daemon.tokens_at_limit =
            at_limit(store, config.logons.max_new_per_hour, clock.now()).await?;
        daemon.enrolment_key = Some(keys::key_status(&self.engine).await?);
        daemon.restored = keys::restored_status(&self.engine).await?;
        for id in store.open_operations().await? {
            daemon.operations.push(store.operation(id).await?);
        }
        let refused = refused_reload(&daemon);
        for realm in &mut realms {
            realm.reload_refused.clone_from(&refused);
        }
        Ok(json!(StatusAnswer { daemon, realms }))
    }

    async fn metrics_text(&self) -> String {
        let now = self.engine.clock.now();
        let standing = timeout(
            PATIENCE,
            realms::gather(&self.engine.store, &self.engine.config, &self.live, now),
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
        reasons.extend(health::store_trouble(&self.engine.store).await);
        reasons
    }
}

/// The tokens that have made as many users by logons as they may.
async fn at_limit(store: &Store, most: i64, now: Timestamp) -> Result<Vec<String>, ActFailure> {
    let ids = store.tokens_at_their_limit(now, most).await?;
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let all = store.api_tokens().await?;
    let named = all.into_iter().filter(|token| ids.contains(&token.id));
    Ok(named.map(|token| token.name).collect())
}

/// The last reload, if it was refused.
fn refused_reload(daemon: &DaemonStatus) -> Option<RefusedReload> {
    Some(RefusedReload {
        at: daemon.reload_refused_at?,
        error: daemon.reload_error.as_ref()?.lines().next()?.to_owned(),
    })
}
