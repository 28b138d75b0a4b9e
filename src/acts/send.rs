//! `send` and `withdraw`: the application is sent to a user by a link that works once, and the link is taken back.

use serde::{Deserialize, Serialize};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::ActFailure;
use super::user_by_hand::{TRIES, again, author, held, refused};
use crate::clock::Timestamp;
use crate::model::{
    AuditAct, AuthenticatorKind, Enrolment, EnrolmentId, EnrolmentState, RealmId, State, User,
    UserId,
};
use crate::plan::by_hand::{self, HandRefusal};
use crate::store::StoreError;
use crate::sync::factors_entry;

/// An enrolment as programs see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnrolmentObject {
    /// Own id.
    pub id: EnrolmentId,
    /// Whom it is for.
    pub user: UserId,
    /// Their name.
    pub username: String,
    /// Their realm.
    pub realm: RealmId,
    /// Where it stands.
    pub state: EnrolmentState,
    /// The link; only in the answer to the call that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// By which way it went: `webhook` or `hand`.
    pub channel: Option<String>,
    /// When sent.
    pub sent_at: Timestamp,
    /// When first opened, perhaps by a scanner of links.
    pub opened_at: Option<Timestamp>,
    /// When used.
    pub used_at: Option<Timestamp>,
    /// When its time is over.
    pub expires_at: Timestamp,
    /// Who sent it.
    pub by: Option<String>,
}

impl EnrolmentObject {
    /// An enrolment of a user, as it stands at a time; without its link.
    pub fn new(enrolment: &Enrolment, user: &User, now: Timestamp) -> Self {
        Self {
            id: enrolment.id,
            user: user.id,
            username: user.username.clone(),
            realm: user.realm.clone(),
            state: enrolment.state(now),
            url: None,
            channel: enrolment.channel.clone(),
            sent_at: enrolment.sent_at,
            opened_at: enrolment.opened_at,
            used_at: enrolment.used_at,
            expires_at: enrolment.expires_at,
            by: enrolment.by.clone(),
        }
    }
}

/// `POST /api/v1/users/{user}/enrolments`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendRequest {
    /// The version that whoever asks has seen; `None`: whatever there is.
    pub version: Option<i64>,
    /// The former application is lost, and is not asked for.
    pub lost: bool,
}

/// Sends the application to a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendApplication {
    /// To whom.
    pub user: UserId,
    /// How.
    pub request: SendRequest,
}

/// Takes a user's open links back: `POST /api/v1/users/{user}/withdraw`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WithdrawLinks {
    /// Whose.
    pub user: UserId,
}

impl Act for SendApplication {
    type Output = EnrolmentObject;

    async fn act(self, at: &ActContext) -> Result<EnrolmentObject, ActFailure> {
        let Self { user, request } = self;
        for _ in 0..TRIES {
            let held = held(at, user, request.version).await?;
            at.known(&held.realm).await?;
            let mut rules = at.engine.hand_rules(&held.realm).await?;
            // Whoever had the application before gets a link with a shorter life.
            let had = at.store().authenticators(held.id).await?;
            let had = had.iter().any(|kept| {
                kept.authenticator.kind == AuthenticatorKind::App
                    && kept.authenticator.activated_at.is_some()
            });
            if let Some(context) = rules.messages.enrolment.as_mut().filter(|_| had) {
                context.valid_ms = context.valid_again_ms;
            }
            let decision = by_hand::send(&held).map_err(|why| refused(at, &held, why))?;
            let author = author(at, AuditAct::EnrolmentSend);
            let sent = at
                .engine
                .send_by_hand(&rules, author, &decision, request.lost)
                .await;
            match sent {
                Ok(enrolment) => {
                    tracing::info!(
                        realm = %held.realm, user = %held.id, by = at.by(), from = at.caller.door.as_str(), lost = request.lost,
                        "{}: enrolment-send {:#}", held.realm, held.id
                    );
                    let url = at.engine.link_of(enrolment.id).await?;
                    return Ok(EnrolmentObject {
                        url,
                        ..EnrolmentObject::new(&enrolment, &held, rules.messages.now)
                    });
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(again())
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

impl Act for WithdrawLinks {
    type Output = Vec<EnrolmentObject>;

    async fn act(self, at: &ActContext) -> Result<Vec<EnrolmentObject>, ActFailure> {
        let held = held(at, self.user, None).await?;
        if held.state == State::Removed {
            return Err(refused(at, &held, HandRefusal::Removed));
        }
        at.known(&held.realm).await?;
        let (now, key) = (at.now(), at.engine.audit_key().await?);
        let author = author(at, AuditAct::EnrolmentWithdraw);
        let entry = factors_entry(author, &held, serde_json::Map::new(), now);
        let withdrawn = at
            .store()
            .withdraw_enrolments(held.id, (&entry, &key))
            .await?;
        Ok(withdrawn
            .iter()
            .map(|enrolment| EnrolmentObject::new(enrolment, &held, now))
            .collect())
    }
}
