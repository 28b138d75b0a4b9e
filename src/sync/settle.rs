//! What is done between runs: realms declared, a crash swept, holds that are over.

use super::{Engine, EngineError};
use crate::config::RealmConfig;
use crate::model::{Change, ChangeKind, IdForm, RealmId};
use crate::plan::decide::{Context, end_hold};
use crate::store::{RealmDecl, StoreError};

/// Users whose hold is ended in one go.
const BATCH: i64 = 500;

impl Engine {
    /// See [`Engine::settle_in`].
    pub(super) async fn declare(&self) -> Result<(), EngineError> {
        let now = self.clock.now();
        let realms: Vec<RealmDecl> = self.config.realms.iter().map(declaration).collect();
        let declared = self.store.declare_realms(&realms, now).await?;
        for realm in &declared.orphaned {
            tracing::warn!(%realm, "{realm}: orphaned, since no running daemon's configuration has it any more: no passes are made, nobody ages, and nothing is sent; put it back into the file, and it resumes");
        }
        for realm in &declared.resumed {
            tracing::info!(%realm, "{realm}: back in the configuration, and resumes");
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
    pub async fn declare_realm(&self, realm: &RealmId) -> Result<(), EngineError> {
        let realm = self.realm_config(realm)?;
        let declaration = declaration(realm);
        Ok(self
            .store
            .declare_realm(&declaration, self.clock.now())
            .await?)
    }

    /// Sweeps what a crash left. Called once by a command that opened the store for writing; see [`Engine::declare_realm`].
    pub async fn sweep(&self) -> Result<(), EngineError> {
        self.store.sweep_abandoned(self.clock.now()).await?;
        Ok(())
    }

    pub(super) async fn end_holds_now(&self) -> Result<u64, EngineError> {
        let now = self.clock.now();
        let mut ended = 0;
        for user in self.store.holds_over(now, BATCH).await? {
            let Ok(realm) = self.realm_config(&user.realm) else {
                continue;
            };
            let Ok(lock) = self.store.try_lock_realm(&user.realm).await else {
                continue;
            };
            let row = self.row(&user.realm).await?;
            let context = Context {
                realm: &user.realm,
                policy: &realm.policy,
                now,
                realm_clock: row.clock_ms,
                id_form: IdForm::Uuid,
                new_id: user.id,
                bare: false,
                adopts: false,
            };
            let Some(decision) = end_hold(&user, &context) else {
                continue;
            };
            let messages = self.messages(realm, None, now).await?;
            let changes: Vec<Change> = decision
                .changes
                .into_iter()
                .map(|draft| Change {
                    run: None,
                    seq: 0,
                    realm: user.realm.clone(),
                    user: user.id,
                    username: Some(decision.after.username.clone()),
                    by: None,
                    kind: draft.kind,
                    before: draft.before,
                    after: draft.after,
                    at: now,
                })
                .collect();
            debug_assert!(changes.iter().all(|c| c.kind == ChangeKind::Updated));
            match self
                .store
                .fenced(&lock)
                .act(
                    &changes,
                    &decision.after,
                    decision.base_version,
                    &decision.intents,
                    &messages,
                )
                .await
            {
                Ok(()) => ended += 1,
                // A run changed the user meanwhile: the next tick looks again.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ended)
    }
}

fn declaration(realm: &RealmConfig) -> RealmDecl {
    RealmDecl {
        id: realm.id.clone(),
        name: realm.name.clone(),
    }
}
