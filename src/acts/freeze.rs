//! "This was not me": whoever has the link of a notice freezes the user, and an administrator says which number counts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::{TRIES, UserActed, acted, again, author, held};
use crate::model::{AuditAct, FreezeLink, UserId};
use crate::plan::freeze::{Counts, freeze, unfreeze};
use crate::store::{NumberRuling, StoreError};

/// `POST /api/v1/users/{user}/unfreeze`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeRequest {
    /// Which number counts.
    pub number: Counts,
    /// The version that whoever asks has seen; `None`: whatever there is.
    #[serde(default)]
    pub version: Option<i64>,
}

/// Ends the freeze of a user, and says which number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnfreezeUser {
    /// Whom.
    pub user: UserId,
    /// How.
    pub request: UnfreezeRequest,
}

impl Act for UnfreezeUser {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let Self { user, request } = self;
        for _ in 0..TRIES {
            let held = held(at, user, request.version).await?;
            at.known(&held.realm).await?;
            let Some(frozen) = at.store().freeze_of(user).await? else {
                return Err(ActFailure::new(
                    FailureKind::Refused,
                    format!("{} is not frozen: nothing was changed", held.username),
                ));
            };
            let rules = at.engine.hand_rules(&held.realm).await?;
            let context = rules.context(rules.messages.now, user);
            let decision = unfreeze(&held, &frozen, request.number, &context);
            let change = match request.number {
                Counts::Previous => NumberRuling::EndsRefused,
                Counts::Accept => NumberRuling::EndsAccepted,
            };
            let author = author(at, AuditAct::UserUnfreeze);
            match at
                .engine
                .write_ruling(&rules, author, decision, &change)
                .await
            {
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

/// The valid link of a token, as it stands in an address. Changes nothing.
///
/// # Errors
/// When the store fails.
pub async fn open_freeze_link(
    at: &ActContext,
    token: &str,
) -> Result<Option<FreezeLink>, ActFailure> {
    let Some(token) = URL_SAFE_NO_PAD.decode(token).ok().filter(|t| t.len() == 32) else {
        return Ok(None);
    };
    let sha256 = Sha256::digest(&token).into();
    Ok(at
        .store()
        .freeze_link(sha256, at.engine.clock.now())
        .await?)
}

/// Freezes the user of a link. `false`: the link is not valid (any more). Once more changes nothing, unless the number changed earlier
/// than whoever froze them before knows.
///
/// # Errors
/// When the store fails, or the realm's rules are not to be had.
pub async fn freeze_by_link(at: &ActContext, token: &str) -> Result<bool, ActFailure> {
    for _ in 0..TRIES {
        let Some(link) = open_freeze_link(at, token).await? else {
            return Ok(false);
        };
        let held = held(at, link.user, None).await?;
        let already = at.store().freeze_of(link.user).await?;
        if already.as_ref().is_some_and(|f| f.since <= link.since) {
            return Ok(true);
        }
        let rules = at.engine.hand_rules(&held.realm).await?;
        let context = rules.context(rules.messages.now, held.id);
        let (decision, mut frozen) = freeze(&held, &link, &context);
        // What was disputed first stays so.
        if let Some(already) = already {
            frozen.number = already.number.or(frozen.number);
            frozen.at = already.at;
        }
        let author = author(at, AuditAct::UserFreeze);
        let change = NumberRuling::Begins(frozen);
        match at
            .engine
            .write_ruling(&rules, author, decision, &change)
            .await
        {
            Ok(user) => {
                tracing::warn!(
                    realm = %user.realm, user = %user.id,
                    "{}: somebody who was told of a change says that it was not theirs; {:#} is frozen until `realmsync users unfreeze`",
                    user.realm, user.id
                );
                return Ok(true);
            }
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(again())
}
