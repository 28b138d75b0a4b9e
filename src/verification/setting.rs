//! What verifications go by: realms with their names, and the keys of secrets. Read anew every few seconds.

use std::sync::Arc;

use crate::clock::Steady;
use crate::config::Config;
use crate::factors::keys::KeyRing;
use crate::model::RealmId;
use crate::model::person::fold_name;
use crate::runs::RunError;
use crate::store::StoreError;
use crate::sync::Engine;

/// Realms that are made show after so long, in milliseconds.
const FRESH: i64 = 2000;

/// What services call realms.
#[derive(Clone, Debug, Default)]
pub(super) struct RealmNames {
    /// Each realm with what it is called, as it is compared; its id among it.
    pub(super) called: Vec<(RealmId, Vec<String>)>,
}

impl RealmNames {
    /// Of every realm that has users.
    pub(super) async fn read(engine: &Engine) -> Result<Self, StoreError> {
        let rows = engine.store.realms().await?;
        let called = rows.into_iter().map(|row| {
            let configured = engine.configured(&row.id);
            let aliases = configured.into_iter().flat_map(|realm| &realm.aliases);
            let names = std::iter::once(row.id.as_str())
                .chain(aliases.map(String::as_str))
                .map(fold_name)
                .collect();
            (row.id, names)
        });
        Ok(Self {
            called: called.collect(),
        })
    }

    /// Every realm.
    pub(super) fn all(&self) -> impl Iterator<Item = &RealmId> {
        self.called.iter().map(|(realm, _)| realm)
    }

    /// The realm that a service calls so: by its id or another name, without its case.
    pub(super) fn realm(&self, called: &str) -> Option<&RealmId> {
        let called = fold_name(called.trim());
        let found = self
            .called
            .iter()
            .find(|(_, names)| names.contains(&called));
        found.map(|(realm, _)| realm)
    }
}

/// What verifications go by.
#[derive(Clone, Debug)]
pub(super) struct VerifySetting {
    /// What realms are called.
    pub(super) names: RealmNames,
    /// The keys of secrets.
    pub(super) keys: KeyRing,
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
        let setting = VerifySetting {
            names: RealmNames::read(engine).await?,
            keys: engine.key_ring().await?,
        };
        self.0 = Some((setting.clone(), Arc::clone(&engine.config), now));
        Ok(setting)
    }
}
