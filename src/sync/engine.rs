//! Everything that a run of a directory needs.

use std::sync::Arc;

use crate::clock::{Clock, JudgingTime};
use crate::config::{Config, Environment, RealmConfig};
use crate::model::{RealmId, RealmRow};
use crate::runs::{RealmTurn, RunError, Runs};
use crate::store::{Store, StoreError};

/// Everything that a run needs. Cheap to clone; one run a realm at a time.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The configuration that runs use; a reload makes a new engine.
    pub config: Arc<Config>,
    /// The store.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where secrets are resolved.
    pub env: Arc<Environment>,
}

impl Engine {
    /// An engine over an open store.
    pub fn new(config: Arc<Config>, store: Store, clock: Clock, env: Arc<Environment>) -> Self {
        Self {
            config,
            store,
            clock,
            env,
        }
    }

    /// The same engine in a realm's turn: what it writes is written under the lock or not at all.
    pub(super) fn within(&self, turn: &RealmTurn) -> Self {
        Self {
            store: turn.store.clone(),
            ..self.clone()
        }
    }

    /// The time by which codes and links are judged.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn judging_time(&self) -> Result<JudgingTime, StoreError> {
        let before = self.clock.now();
        let database = self.store.database_time().await?;
        Ok(JudgingTime::new(database, before, self.clock.now()))
    }

    pub(super) fn runs(&self) -> Runs {
        Runs {
            store: self.store.clone(),
            clock: self.clock.clone(),
        }
    }

    pub(super) async fn row(&self, realm: &RealmId) -> Result<RealmRow, RunError> {
        self.runs().realm(realm).await
    }

    /// The configuration of a directory realm.
    pub(super) fn realm_config(&self, id: &RealmId) -> Result<&RealmConfig, RunError> {
        self.config
            .realms
            .iter()
            .find(|r| r.id == *id)
            .ok_or_else(|| {
                let known: Vec<&str> = self.config.realms.iter().map(|r| r.id.as_str()).collect();
                RunError::NotFound(format!(
                    "there is no realm `{id}` in {}; it has {}",
                    self.config.path.display(),
                    known.join(", ")
                ))
            })
    }
}
