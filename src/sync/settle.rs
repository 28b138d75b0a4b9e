//! What is done between runs: realms declared, a crash swept, holds that are over.

use super::{Engine, EngineError};
use crate::model::{Change, ChangeKind, IdForm};
use crate::plan::decide::{Context, end_hold};
use crate::store::{RealmDecl, StoreError};

/// Users whose hold is ended in one go.
const BATCH: i64 = 500;

impl Engine {
    pub(super) async fn declare(&self) -> Result<(), EngineError> {
        let now = self.clock.now();
        let realms: Vec<RealmDecl> = self
            .config
            .realms
            .iter()
            .map(|r| RealmDecl {
                id: r.id.clone(),
                name: r.name.clone(),
            })
            .collect();
        self.store.declare_realms(&realms, now).await?;
        self.store.sweep_abandoned(now).await?;
        // Whom an orphaned realm had is to be had by its siblings.
        for row in self.store.realms().await? {
            if row.orphaned {
                self.wake_siblings(&row.id).await?;
            }
        }
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
