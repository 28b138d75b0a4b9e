//! What an act has at hand, and who asks for it.

use super::failure::{ActFailure, FailureKind};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::model::{AuditAct, AuditEntry, RealmId, RealmKind, RealmRow};
use crate::store::Store;
use crate::sync::Engine;

/// By which way somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// A command that does it in its own process.
    Command,
    /// The control socket.
    Socket,
    /// The API on TCP, with a token.
    Api,
    /// A page for users.
    Page,
}

impl Door {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Socket => "socket",
            Self::Api => "api",
            Self::Page => "page",
        }
    }
}

/// Who asks, and by which door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Whom the audit trail names: a system user. `None`: nobody asked, a timer or a signal did.
    pub name: Option<String>,
    /// From where.
    pub door: Door,
}

impl Caller {
    /// Somebody at a door.
    pub fn new(name: Option<String>, door: Door) -> Self {
        Self { name, door }
    }
}

/// What an act has at hand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ActContext {
    /// Store, clock, configuration and environment.
    pub engine: Engine,
    /// Who asks.
    pub caller: Caller,
}

impl ActContext {
    /// An engine, and who asks.
    pub fn new(engine: Engine, caller: Caller) -> Self {
        Self { engine, caller }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.engine.store
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.engine.config
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }

    /// Who asks, for the audit trail.
    pub fn by(&self) -> Option<&str> {
        self.caller.name.as_deref()
    }

    /// What the audit says of whoever asks for this.
    pub fn entry(&self, act: AuditAct) -> AuditEntry {
        let from = self.caller.door.as_str();
        AuditEntry::new(act, self.caller.name.clone(), from, self.now())
    }

    /// The store, through which an act is written together with its line of the audit.
    ///
    /// # Errors
    /// `config` or `store`, when the key of the audit cannot be read.
    pub async fn noting(&self, entry: AuditEntry) -> Result<Store, ActFailure> {
        Ok(self.store().noting(self.engine.note(Some(entry)).await?))
    }

    /// Sees that the store knows a realm: one of the configuration is declared to it, any other has to be there (orphaned, or made by
    /// hand). Nothing is said of other realms: the file of a command may lack what daemons have.
    ///
    /// # Errors
    /// `not-found`, with the realms that there are.
    pub async fn known(&self, realm: &RealmId) -> Result<(), ActFailure> {
        let row = self.store().realm(realm).await?;
        let in_file = self.engine.configured(realm).is_some();
        // One that was made by hand becomes a directory's when the file has it.
        let becomes = |row: &RealmRow| in_file && row.kind != RealmKind::Directory;
        if row
            .as_ref()
            .is_some_and(|row| !row.orphaned && !becomes(row))
        {
            return Ok(());
        }
        if in_file {
            self.engine.declare_realm(realm).await?;
        } else if row.is_none() {
            return Err(self.no_such(realm).await?);
        }
        Ok(())
    }

    /// Sees that the configuration has a realm: what is asked reads its directory.
    ///
    /// # Errors
    /// `not-found`, with the realms that there are; `refused` where the realm is in no file.
    pub async fn configured(&self, realm: &RealmId) -> Result<(), ActFailure> {
        if self.engine.configured(realm).is_some() {
            return Ok(());
        }
        match self.store().realm(realm).await? {
            Some(row) if row.kind != RealmKind::Directory => Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "realm `{realm}` was made by hand and has no directory: there is nothing to read"
                ),
            )),
            _ => Err(self.no_such(realm).await?),
        }
    }

    /// Realms of the file and of the store, by id.
    async fn no_such(&self, realm: &RealmId) -> Result<ActFailure, ActFailure> {
        let in_file = self.config().realms.iter().map(|realm| realm.id.clone());
        let mut there: Vec<RealmId> = in_file.collect();
        // One that left the file a moment ago is there no more.
        let rows = self.store().realms().await?.into_iter();
        there.extend(
            rows.filter(|row| !row.orphaned && row.id != *realm)
                .map(|row| row.id),
        );
        there.sort_unstable();
        there.dedup();
        let there: Vec<&str> = there.iter().map(RealmId::as_str).collect();
        Ok(ActFailure::new(
            FailureKind::NotFound,
            format!("no realm `{realm}`; there are: {}", there.join(", ")),
        ))
    }
}
