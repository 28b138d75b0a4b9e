//! `users phone accept`, `refuse`: an administrator decides about a number that waits.

use serde::{Deserialize, Serialize};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::{TRIES, UserActed, acted, again, author, held};
use crate::model::{AuditAct, Edit, User, UserId};
use crate::plan::approval::{NoApproval, PhoneDecision, accept, refuse};
use crate::store::{NumberRuling, StoreError};

/// `POST /api/v1/users/{user}/phone`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecidePhoneRequest {
    /// What becomes of the number.
    pub decision: PhoneDecision,
    /// The version that whoever asks has seen; `None`: whatever there is.
    #[serde(default)]
    pub version: Option<i64>,
}

/// Decides about the number of a user that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecidePhone {
    /// Whose.
    pub user: UserId,
    /// How.
    pub request: DecidePhoneRequest,
}

impl Act for DecidePhone {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let Self { user, request } = self;
        for _ in 0..TRIES {
            let held = held(at, user, request.version).await?;
            at.known(&held.realm).await?;
            let rules = at.engine.hand_rules(&held.realm).await?;
            let context = rules.context(rules.messages.now, user);
            let no = |why| not_decided(&held, why);
            let written = match request.decision {
                PhoneDecision::Accept => {
                    let decision = accept(&held, &context).map_err(no)?;
                    let author = author(at, AuditAct::PhoneAccept);
                    let written = at
                        .engine
                        .write_by_hand(&rules, author, decision, Edit::Keep);
                    written.await
                }
                PhoneDecision::Refuse => {
                    let (decision, phone) = refuse(&held, &context).map_err(no)?;
                    let author = author(at, AuditAct::PhoneRefuse);
                    let ruling = NumberRuling::Refuses(phone);
                    at.engine
                        .write_ruling(&rules, author, decision, &ruling)
                        .await
                }
            };
            match written {
                Ok(user) => return Ok(acted(&user, true, vec![])),
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

fn not_decided(held: &User, why: NoApproval) -> ActFailure {
    let name = &held.username;
    let text = match (why, held.phone_waits_until()) {
        (NoApproval::NothingWaits, _) => format!("no number of {name} waits: nothing was changed"),
        (NoApproval::WaitsForHold, Some(until)) => format!(
            "the new number of {name} does not need your decision: it is used from {} (phone-change.hold). Nothing was changed; to stop it, run `realmsync users phone refuse`",
            until.rfc3339()
        ),
        (NoApproval::WaitsForHold, None) => {
            format!("the new number of {name} does not need your decision: nothing was changed")
        }
    };
    ActFailure::new(FailureKind::Refused, text)
}
