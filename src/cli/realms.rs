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

    /// The realms that a pass is about: the named one, or all of the configuration. One of the store alone is read from nowhere.
    ///
    /// # Errors
    /// `refused` for a realm of no file; `not-found` where there is none of that name.
    pub(super) async fn read_realms(
        &self,
        named: Option<String>,
    ) -> Result<Vec<RealmId>, ActFailure> {
        let failure = match self.realms(named.clone()) {
            Ok(realms) => return Ok(realms),
            Err(failure) => failure,
        };
        // Without a store there is no other realm.
        let rows = match self.store().await {
            Ok(store) => store.realms().await.unwrap_or_default(),
            Err(_) => vec![],
        };
        let id = named.map(RealmId::from);
        match rows.iter().find(|row| Some(&row.id) == id.as_ref()) {
            Some(row) if row.orphaned => Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "realm `{}` is not in the configuration any more, and is not read: put it back, or remove it by `realmsync realms remove`",
                    row.id
                ),
            )),
            Some(row) => Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "realm `{}` has no directory, and is not read: look at its users with `users list --realm {0}`",
                    row.id
                ),
            )),
            None => Err(failure),
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
        let next = match all.as_slice() {
            [] => "make one with `realmsync realms create`, or put it into the configuration"
                .to_owned(),
            [only] => format!("only {only} is there"),
            several => format!("name one of {}", several.join(", ")),
        };
        ActFailure::new(
            FailureKind::NotFound,
            format!("there is no realm `{id}`; {next}"),
        )
    }
}
