//! The application is sent to single users by the rules of their realm, and links are withdrawn.

use std::collections::HashMap;

use super::by_hand::{HandAuthor, HandRules};
use crate::clock::Timestamp;
use crate::model::{AuditEntry, Edit, Enrolment, EnrolmentId, RealmId, User};
use crate::plan::decide::Decision;
use crate::runs::RunError;
use crate::store::{EnrolmentKey, HandAct, StoreError};
use crate::sync::engine::Engine;

/// A line of the audit about what is done with a user's factors; `after`: what is said of it.
pub fn factors_entry(
    author: HandAuthor<'_>,
    user: &User,
    after: serde_json::Map<String, serde_json::Value>,
    now: Timestamp,
) -> AuditEntry {
    AuditEntry {
        at: now,
        by: author.by.map(str::to_owned),
        from: author.from.to_owned(),
        act: author.act,
        realm: Some(user.realm.clone()),
        user: Some(user.id),
        username: Some(user.username.clone()),
        run: None,
        before: serde_json::Map::new(),
        after,
    }
}

impl Engine {
    /// Writes a decision to send the application; gives the enrolment.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is another by now.
    pub async fn send_by_hand(
        &self,
        rules: &HandRules,
        author: HandAuthor<'_>,
        decision: &Decision,
        lost: bool,
    ) -> Result<Enrolment, StoreError> {
        let user = &decision.after;
        let said = serde_json::json!({ "lost": lost });
        let said = said.as_object().cloned().unwrap_or_default();
        let entry = factors_entry(author, user, said, rules.messages.now);
        let act = HandAct {
            changes: &[],
            user,
            base_version: decision.base_version,
            intents: &decision.intents,
            messages: &rules.messages,
            until: Edit::Keep,
            audit: (&entry, &rules.key),
        };
        self.store.send_application(act, lost).await
    }

    /// The link of an enrolment; `None` without `[http]`, or where the key that it was made with is not at hand any more.
    pub async fn link_of(&self, enrolment: EnrolmentId) -> Result<Option<String>, RunError> {
        Ok(self.links_of(&[enrolment]).await?.pop().flatten())
    }

    /// The same of many, in their order. The key may have changed since they were made.
    pub async fn links_of(&self, ids: &[EnrolmentId]) -> Result<Vec<Option<String>>, RunError> {
        let Some(http) = &self.config.http else {
            return Ok(vec![None; ids.len()]);
        };
        let keys = self.link_keys().await?;
        let hashes = self.store.link_hashes(ids).await?;
        let hashes: HashMap<EnrolmentId, Vec<u8>> = hashes.into_iter().collect();
        let link = |id: &EnrolmentId| {
            let hash = hashes.get(id)?;
            let fits = |key: &&EnrolmentKey| key.token_sha256(*id)[..] == hash[..];
            let key = keys.iter().find(fits)?;
            Some(key.link(&http.public_url, *id))
        };
        Ok(ids.iter().map(link).collect())
    }

    /// What applications show beside the name of a realm's users.
    pub async fn issuer(&self, realm: &RealmId) -> Result<String, RunError> {
        match self.configured(realm) {
            Some(configured) => Ok(configured.issuer.clone()),
            None => Ok(self.row(realm).await?.name),
        }
    }
}
