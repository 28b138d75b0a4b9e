//! `give-up-key`: the enrolment key is lost, and the store goes on with another one, without what the lost one kept.

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::model::AuditAct;
use crate::model::words::count;
use crate::store::LockedOut;

/// `POST /api/v1/give-up-key`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GiveUpKeyRequest {
    /// How many secrets and recovery codes are given up, as whoever asks was told.
    pub expect: Option<i64>,
}

/// Gives up what is kept with keys that nobody has.
///
/// # Errors
/// `refused` where nothing is lost, or where it is another number than expected; then nothing is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GiveUpKey {
    /// How many.
    pub request: GiveUpKeyRequest,
}

/// What was given up, in words.
pub fn given_up(out: LockedOut) -> String {
    format!(
        "{} of authenticators and {}",
        count(out.secrets, "secret"),
        count(out.codes, "recovery code")
    )
}

impl Act for GiveUpKey {
    type Output = LockedOut;

    async fn act(self, at: &ActContext) -> Result<LockedOut, ActFailure> {
        let refused = |why: String| ActFailure::new(FailureKind::Refused, why);
        let Some(lost) = at.engine.lost_key().await? else {
            return Err(refused(
                "nothing is lost: all that the store keeps can be read with the keys at hand"
                    .into(),
            ));
        };
        let out = lost.locked_out();
        let total = out.secrets + out.codes;
        if self.request.expect != Some(total) {
            return Err(refused(format!(
                "nothing was done: {} would be given up for good, and whoever has nothing else has to enrol anew{}. Look for the key first: once it is found, \
                 name it as `previous-key-file` under [enrolment]. If it is lost, `realmsync give-up-key --expect {total}`",
                given_up(out),
                match self.request.expect {
                    Some(expected) => format!(" (not {expected} in all)"),
                    None => String::new(),
                }
            )));
        }
        let entry = at.entry(AuditAct::KeyGiveUp);
        let key = lost.key().to_string();
        if !at.engine.give_up(lost, entry).await? {
            let why = "the store is another one by now: nothing was given up; ask again";
            return Err(ActFailure::new(FailureKind::Outdated, why));
        }
        tracing::warn!(
            by = at.by(),
            from = at.caller.door.as_str(),
            key,
            "{} were given up: the enrolment key {key} is in use from now on",
            given_up(out)
        );
        Ok(out)
    }
}
