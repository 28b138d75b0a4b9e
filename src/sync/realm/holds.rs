//! Numbers that waited take effect.

use crate::clock::Timestamp;
use crate::model::{AuditAct, AuditEntry, Change, ChangeKind, User};
use crate::plan::decide::end_hold;
use crate::runs::{RealmTurn, RunError};
use crate::store::{AuditNote, StoreError};
use crate::sync::engine::Engine;

/// Users of a realm whose hold is ended in one go.
const BATCH: i64 = 500;

impl Engine {
    /// Ends the holds (`phone-change.hold`) that are over; says how many numbers took effect. Called by a timer of the daemon.
    pub async fn end_holds(&self) -> Result<u64, RunError> {
        let now = self.clock.now();
        let mut ended = 0;
        let users = self.store.holds_over(now, BATCH).await?;
        for users in users.chunk_by(|a, b| a.realm == b.realm) {
            ended += self.end_holds_in(users, now).await?;
        }
        Ok(ended)
    }

    /// Ends the holds of these users of one realm; of none if the realm is busy, whose turn then comes at the next tick.
    async fn end_holds_in(&self, users: &[User], now: Timestamp) -> Result<u64, RunError> {
        let mut ended = 0;
        let Some(first) = users.first() else {
            return Ok(ended);
        };
        let Ok(turn) = RealmTurn::try_take(&self.store, &first.realm, now).await else {
            return Ok(ended);
        };
        let rules = match self.hand_rules(&first.realm).await {
            Ok(rules) => rules,
            // A directory realm that is not in this file is another daemon's, which knows its rules; one that was removed has nobody.
            Err(RunError::Refused(_) | RunError::NotFound(_)) => return Ok(ended),
            Err(error) => return Err(error),
        };
        for user in users {
            let Some(decision) = end_hold(user, &rules.context(now, user.id)) else {
                continue;
            };
            let mut entry =
                AuditEntry::new(AuditAct::PhoneEffective, None, "timer", now).in_realm(&user.realm);
            (entry.user, entry.username) = (Some(user.id), Some(decision.after.username.clone()));
            for draft in &decision.changes {
                entry.before.extend(draft.before.clone());
                entry.after.extend(draft.after.clone());
            }
            let key = rules.key.clone();
            let noting = turn.store.noting(Some(AuditNote { entry, key }));
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
            match noting
                .act(
                    &changes,
                    &decision.after,
                    decision.base_version,
                    &decision.intents,
                    &rules.messages,
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
