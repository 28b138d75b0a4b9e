//! Numbers that waited take effect.

use crate::clock::Timestamp;
use crate::model::{
    AuditAct, AuditEntry, Change, ChangeKind, IdForm, NumberMark, Policy, RealmKind, User,
};
use crate::plan::decide::{DecisionContext, end_hold};
use crate::runs::{RealmTurn, RunError};
use crate::store::StoreError;
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
            let context = DecisionContext {
                realm: &user.realm,
                policy,
                now,
                realm_clock: row.clock_ms,
                id_form: IdForm::Uuid,
                new_id: user.id,
                bare: false,
                adopts: false,
                number: NumberMark::default(),
                protected: false,
            };
            let Some(decision) = end_hold(user, &context) else {
                continue;
            };
            let at_once = realm.is_some_and(|r| r.revoke_at_once);
            let messages = self.messages_by(delivery, at_once, now).await?;
            let mut entry =
                AuditEntry::new(AuditAct::PhoneEffective, None, "timer", now).in_realm(&user.realm);
            (entry.user, entry.username) = (Some(user.id), Some(decision.after.username.clone()));
            for draft in &decision.changes {
                entry.before.extend(draft.before.clone());
                entry.after.extend(draft.after.clone());
            }
            let noting = turn.store.noting(self.note(Some(entry)).await?);
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
