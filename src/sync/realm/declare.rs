//! What is done between runs: realms declared, what a crash left swept, what was rejected for a time let go.

use crate::config::RealmConfig;
use crate::model::RealmId;
use crate::runs::RunError;
use crate::store::{RealmDecl, StoreError};
use crate::sync::engine::Engine;

impl Engine {
    /// Declares the configuration's realms to the store (orphans those that no running daemon's file has), sweeps what a crash
    /// left. Called by a daemon once it has opened the store, and after each reload.
    pub async fn declare_realms(&self) -> Result<(), RunError> {
        let now = self.clock.now();
        let realms: Vec<RealmDecl> = self.config.realms.iter().map(declaration).collect();
        let declared = self.store.declare_realms(&realms, now).await?;
        for realm in &declared.orphaned {
            tracing::warn!(%realm, "{realm}: orphaned, since no running daemon's configuration has it any more: no passes are made, nobody ages, and nothing is sent; put it back into the file, and it resumes");
        }
        for realm in &declared.resumed {
            tracing::info!(%realm, "{realm}: back in the configuration, and resumes");
        }
        for realm in &declared.by_hand_again {
            tracing::info!(%realm, "{realm}: no file has it any more, and no pass of its directory was applied: it is a realm made by hand again, with its users as they are");
        }
        self.store.sweep_abandoned(now).await?;
        // Whom an orphaned realm had is to be had by its siblings.
        for row in self.store.realms().await? {
            if row.orphaned {
                self.wake_siblings(&row.id).await?;
            }
        }
        Ok(())
    }

    /// Makes one realm of the configuration known, and lets it resume if it was orphaned; what the file says of others does not
    /// matter. For a command that works on it without a daemon, and for a daemon that finds its realm orphaned.
    pub async fn declare_realm(&self, realm: &RealmId) -> Result<(), RunError> {
        let realm = self.realm_config(realm)?;
        let declaration = declaration(realm);
        Ok(self
            .store
            .declare_realm(&declaration, self.clock.now())
            .await?)
    }

    /// Sweeps what a crash left. Called once by a command that opened the store for writing; see [`Engine::declare_realm`].
    pub async fn sweep(&self) -> Result<(), RunError> {
        self.store.sweep_abandoned(self.clock.now()).await?;
        Ok(())
    }

    /// Ends what was rejected until now: its realms, as far as they are in the configuration, read
    /// everything in their next pass. Gives them.
    pub async fn end_rejected(&self) -> Result<Vec<RealmId>, StoreError> {
        let ours: Vec<RealmId> = self.config.realms.iter().map(|r| r.id.clone()).collect();
        self.runs().end_rejected(&ours).await
    }
}

fn declaration(realm: &RealmConfig) -> RealmDecl {
    RealmDecl {
        id: realm.id.clone(),
        name: realm.name.clone(),
    }
}
