//! Which realms a command is about, and what to name instead of one that is not there.

use super::CommandContext;
use super::operator::store_failure;
use crate::acts::{ActFailure, FailureKind};
use crate::model::RealmId;
use crate::store::Store;

impl CommandContext {
    /// The realms that a command is about: the named one, or all of the configuration.
    pub(super) fn realms(&self, named: Option<String>) -> Result<Vec<RealmId>, ActFailure> {
        let known: Vec<RealmId> = self.config.realms.iter().map(|r| r.id.clone()).collect();
        match named.map(RealmId::from) {
            None => Ok(known),
            // The daemon knows its realms where the file cannot tell them.
            Some(id) if self.faulty || known.contains(&id) => Ok(vec![id]),
            Some(id) => Err(self.no_such(&id, &[])),
        }
    }

    /// The columns of a list that say the same in every row: all rows are of the realm that was named, or of the only one.
    pub(super) fn unsaid(&self, named: Option<&RealmId>) -> &'static [&'static str] {
        if named.is_some() || self.config.realms.len() == 1 {
            &["realm"]
        } else {
            &[]
        }
    }

    /// A realm that is named to a command that reads: of the configuration or of the store, where orphaned ones are.
    pub(super) async fn known(
        &self,
        store: &Store,
        named: Option<String>,
    ) -> Result<Option<RealmId>, ActFailure> {
        let Some(id) = named.map(RealmId::from) else {
            return Ok(None);
        };
        if self.config.realms.iter().any(|r| r.id == id) {
            return Ok(Some(id));
        }
        let stored: Vec<RealmId> = store
            .realms()
            .await
            .map_err(|e| store_failure(&e))?
            .into_iter()
            .map(|row| row.id)
            .collect();
        if stored.contains(&id) {
            Ok(Some(id))
        } else {
            Err(self.no_such(&id, &stored))
        }
    }

    /// The same, asked of the daemon.
    pub(super) async fn known_to_the_daemon(
        &self,
        named: Option<String>,
    ) -> Result<Option<RealmId>, ActFailure> {
        let Some(id) = named.map(RealmId::from) else {
            return Ok(None);
        };
        if self.config.realms.iter().any(|r| r.id == id) {
            return Ok(Some(id));
        }
        let client = self.daemon().await.ok_or_else(|| {
            ActFailure::new(
                FailureKind::Gone,
                "the daemon ended meanwhile: run the command again",
            )
        })?;
        let stored: Vec<RealmId> = client
            .status()
            .await?
            .realms
            .into_iter()
            .map(|r| r.realm)
            .collect();
        if stored.contains(&id) {
            Ok(Some(id))
        } else {
            Err(self.no_such(&id, &stored))
        }
    }

    fn no_such(&self, id: &RealmId, stored: &[RealmId]) -> ActFailure {
        let configured: Vec<&RealmId> = self.config.realms.iter().map(|r| &r.id).collect();
        let all = configured
            .iter()
            .copied()
            .chain(stored.iter().filter(|s| !configured.contains(s)));
        let all: Vec<String> = all.map(|id| format!("`{id}`")).collect();
        ActFailure::new(
            FailureKind::NotFound,
            format!("there is no realm `{id}`; name one of {}", all.join(", ")),
        )
    }
}
