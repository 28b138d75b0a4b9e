//! What is done between runs: realms declared, a crash swept, holds that are over.

use super::{Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::model::{Change, ChangeKind, IdForm, Policy, RealmId, RealmKind, User};
use crate::plan::decide::{Context, end_hold};
use crate::runs::Turn;
use crate::store::{RealmDecl, StoreError};

/// Users of a realm whose hold is ended in one go.
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

    /// Ends what was rejected until now: its realms, as far as they are in the configuration, read
    /// everything in their next pass. Gives them.
    pub async fn end_rejected(&self) -> Result<Vec<RealmId>, StoreError> {
        let ours: Vec<RealmId> = self.config.realms.iter().map(|r| r.id.clone()).collect();
        self.runs().end_rejected(&ours).await
    }

    pub(super) async fn end_holds_now(&self) -> Result<u64, EngineError> {
        let now = self.clock.now();
        let mut ended = 0;
        let users = self.store.holds_over(now, BATCH).await?;
        for users in users.chunk_by(|a, b| a.realm == b.realm) {
            ended += self.end_holds_in(users, now).await?;
        }
        Ok(ended)
    }

    /// Ends the holds of these users of one realm; of none if the realm is busy, whose turn then comes at the next tick.
    async fn end_holds_in(&self, users: &[User], now: Timestamp) -> Result<u64, EngineError> {
        let mut ended = 0;
        let Some(first) = users.first() else {
            return Ok(ended);
        };
        let Ok(turn) = Turn::try_take(&self.store, &first.realm, now).await else {
            return Ok(ended);
        };
        let row = self.row(&first.realm).await?;
        let realm = self.config.realms.iter().find(|r| r.id == first.realm);
        // A directory realm that is not in this file is another daemon's, which knows its rules.
        if realm.is_none() && row.kind == RealmKind::Directory {
            return Ok(ended);
        }
        // One that was made by hand has the defaults, and `[delivery]`.
        let by_default = Policy::default();
        let (policy, delivery) = match realm {
            Some(realm) => (&realm.policy, realm.delivery.as_ref()),
            None => (&by_default, self.config.delivery.as_ref()),
        };
        for user in users {
            let context = Context {
                realm: &user.realm,
                policy,
                now,
                realm_clock: row.clock_ms,
                id_form: IdForm::Uuid,
                new_id: user.id,
                bare: false,
                adopts: false,
            };
            let Some(decision) = end_hold(user, &context) else {
                continue;
            };
            let messages = self.messages_by(delivery, now).await?;
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
            match turn
                .store
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
