//! What verifications go by: realms with their names, and the keys of secrets. Read anew every few seconds.

use std::collections::HashMap;
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
    /// What each realm is called, as it is compared.
    called: HashMap<String, RealmId>,
}

impl RealmNames {
    /// Of every realm that has users.
    pub(super) async fn read(engine: &Engine) -> Result<Self, StoreError> {
        let rows = engine.store.realms().await?;
        let (files, others): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .map(|row| row.id)
            .partition(|id| engine.configured(id).is_some());
        Ok(Self::of(files, others, |id| {
            engine
                .configured(id)
                .map_or_else(Vec::new, |realm| realm.aliases.clone())
        }))
    }

    /// Of realms of the file, which have `aliases`, and of others. What the file says counts: no realm that somebody makes takes a
    /// name from one of the file.
    pub(super) fn of(
        files: Vec<RealmId>,
        others: Vec<RealmId>,
        aliases: impl Fn(&RealmId) -> Vec<String>,
    ) -> Self {
        let mut called = HashMap::new();
        let with_aliases = files.iter().flat_map(|id| {
            aliases(id)
                .into_iter()
                .map(move |alias| (fold_name(&alias), id.clone()))
        });
        let with_aliases: Vec<_> = with_aliases.collect();
        let own = |id: RealmId| (fold_name(id.as_str()), id);
        let all = files
            .into_iter()
            .map(own)
            .chain(with_aliases)
            .chain(others.into_iter().map(own));
        for (name, id) in all {
            called.entry(name).or_insert(id);
        }
        Self { called }
    }

    /// The realm that a service calls so: by its id or another name, without its case.
    pub(super) fn realm(&self, called: &str) -> Option<&RealmId> {
        self.called.get(&fold_name(called.trim()))
    }
}

/// What verifications go by.
#[derive(Clone, Debug)]
pub(super) struct VerifySetting {
    /// What realms are called.
    pub(super) names: Arc<RealmNames>,
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
            names: Arc::new(RealmNames::read(engine).await?),
            keys: engine.key_ring().await?,
        };
        self.0 = Some((setting.clone(), Arc::clone(&engine.config), now));
        Ok(setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_calls_a_realm_is_no_other() {
        let id = |text: &str| RealmId::from(text);
        let names = RealmNames::of(
            vec![id("hq.local"), id("Branch")],
            vec![id("example"), id("BRANCH"), id("partners")],
            |realm| {
                if *realm == id("hq.local") {
                    vec!["EXAMPLE".to_owned(), "branch".to_owned()]
                } else {
                    vec![]
                }
            },
        );
        for (called, realm) in [
            ("Example", "hq.local"),
            (" HQ.Local ", "hq.local"),
            ("branch", "Branch"),
            ("partners", "partners"),
        ] {
            assert_eq!(names.realm(called), Some(&id(realm)), "{called}");
        }
        assert_eq!(names.realm("nobody"), None);
    }
}
