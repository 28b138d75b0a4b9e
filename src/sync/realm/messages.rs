//! What the messages of a realm are made with.

use crate::clock::Timestamp;
use crate::config::{DeliveryConfig, RealmConfig};
use crate::factors::keys::KeyRing;
use crate::model::ErrorCode;
use crate::runs::RunError;
use crate::store::{EnrolmentContext, EnrolmentKey, MessageContext};
use crate::sync::engine::Engine;

impl Engine {
    /// The key of the enrolments' tokens: the configured one (32 bytes in base64), or the store's own.
    pub async fn enrolment_key(&self) -> Result<EnrolmentKey, RunError> {
        match self.configured_enrolment_key()? {
            Some(key) => Ok(key),
            None => Ok(self.store.enrolment_key(None).await?),
        }
    }

    /// The keys that secrets may have been kept with.
    pub async fn key_ring(&self) -> Result<KeyRing, RunError> {
        Ok(KeyRing::of(self.enrolment_key().await?.root()))
    }

    /// The configured key; `None`: the store has its own.
    pub fn configured_enrolment_key(&self) -> Result<Option<EnrolmentKey>, RunError> {
        let wrong = |message| RunError::Failed {
            code: ErrorCode::Config,
            message,
        };
        let configured = self.config.enrolment.key_bytes(&self.env).map_err(wrong)?;
        Ok(configured.map(EnrolmentKey::new))
    }

    /// What the messages of a realm are made with, as far as it is not the run's matter.
    pub(in crate::sync) async fn messages(
        &self,
        realm: &RealmConfig,
        now: Timestamp,
    ) -> Result<MessageContext, RunError> {
        self.messages_by(realm.delivery.as_ref(), realm.revoke_at_once, now)
            .await
    }

    /// What messages are made with that go out by this delivery; `revoke_at_once` as [`MessageContext`] has it.
    pub(in crate::sync) async fn messages_by(
        &self,
        delivery: Option<&DeliveryConfig>,
        revoke_at_once: bool,
        now: Timestamp,
    ) -> Result<MessageContext, RunError> {
        let enrolment = match &self.config.http {
            Some(http) => Some(EnrolmentContext {
                public_url: http.public_url.clone(),
                valid_ms: self.config.enrolment.valid_ms,
                valid_again_ms: self.config.enrolment.valid_again_ms,
                key: self.enrolment_key().await?,
            }),
            None => None,
        };
        Ok(MessageContext {
            revoke_at_once,
            enrolment,
            ..unsent(delivery, now)
        })
    }
}

/// The same without what an enrolment needs.
fn unsent(delivery: Option<&DeliveryConfig>, now: Timestamp) -> MessageContext {
    MessageContext {
        run: None,
        now,
        retry_for_ms: delivery.map_or(0, |d| d.retry_for_ms),
        delivers: delivery.is_some(),
        revoke_at_once: false,
        enrolment: None,
    }
}
