//! What the messages of a realm are made with.

use crate::clock::Timestamp;
use crate::config::{DeliveryConfig, RealmConfig};
use crate::runs::RunError;
use crate::store::{EnrolmentContext, MessageContext};
use crate::sync::engine::Engine;

impl Engine {
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
