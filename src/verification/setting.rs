//! What verifications go by: realms with their names, and the keys of secrets. Read anew every few seconds.

use std::sync::Arc;

use crate::clock::Steady;
use crate::config::Config;
use crate::factors::keys::KeyRing;
use crate::model::RealmId;
use crate::model::person::fold_name;
use crate::runs::RunError;
use crate::sync::Engine;

/// Realms that are made show after so long, in milliseconds.
const FRESH: i64 = 2000;

/// What verifications go by.
#[derive(Clone, Debug)]
pub(super) struct VerifySetting {
    /// Every realm that has users.
    pub(super) realms: Vec<RealmId>,
    /// The keys of secrets.
    pub(super) keys: KeyRing,
}

impl VerifySetting {
    async fn read(engine: &Engine) -> Result<Self, RunError> {
        let rows = engine.store.realms().await?;
        Ok(Self {
            realms: rows.into_iter().map(|row| row.id).collect(),
            keys: engine.key_ring().await?,
        })
    }

    /// The realm that a service calls so: by its id, without its case.
    pub(super) fn realm(&self, called: &str) -> Option<&RealmId> {
        let called = fold_name(called.trim());
        let by_id = |realm: &&RealmId| fold_name(realm.as_str()) == called;
        self.realms.iter().find(by_id)
    }
}

/// A setting that was read a moment ago.
#[derive(Debug, Default)]
pub(super) struct Cached(Option<(VerifySetting, Arc<Config>, Steady)>);

impl Cached {
    /// The setting, read anew if it is too old or the configuration is another one.
    pub(super) async fn get(&mut self, engine: &Engine) -> Result<VerifySetting, RunError> {
        let now = engine.clock.steady();
        if let Some((setting, config, read_at)) = &self.0
            && Arc::ptr_eq(config, &engine.config)
            && now.since_ms(*read_at) < FRESH
        {
            return Ok(setting.clone());
        }
        let setting = VerifySetting::read(engine).await?;
        self.0 = Some((setting.clone(), Arc::clone(&engine.config), now));
        Ok(setting)
    }
}
