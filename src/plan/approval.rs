//! What an administrator decides of a number that waits.

use super::decide::{ChangeDrafts, Decision, DecisionContext, drop_pending, takes_effect};
use crate::model::{Phone, User};

/// What an administrator says of a number that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhoneDecision {
    /// It is used, as soon as its hold is over too.
    Accept,
    /// It is not used, until the directory gives another one.
    Refuse,
}

/// Why nothing is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoApproval {
    /// No number waits.
    NothingWaits,
    /// The number waits for the end of its hold alone.
    WaitsForHold,
}

/// The waiting number may be used: at once, or at the end of its hold.
pub fn accept(held: &User, context: &DecisionContext<'_>) -> Result<Decision, NoApproval> {
    if held.phone_pending.is_none() {
        return Err(NoApproval::NothingWaits);
    }
    let ends = held
        .phone_hold_ends()
        .filter(|_| held.phone_awaits_approval());
    let ends = ends.ok_or(NoApproval::WaitsForHold)?;
    if ends > context.now {
        let mut after = held.clone();
        after.phone_pending_until = Some(ends);
        return Ok(decided(held, after, context));
    }
    takes_effect(held, context).ok_or(NoApproval::NothingWaits)
}

/// The waiting number is not used. Gives it too: it stays refused.
pub fn refuse(held: &User, context: &DecisionContext<'_>) -> Result<(Decision, Phone), NoApproval> {
    let phone = held.phone_pending.clone().ok_or(NoApproval::NothingWaits)?;
    let mut after = held.clone();
    drop_pending(&mut after);
    after.fingerprint = None;
    Ok((decided(held, after, context), phone))
}

fn decided(held: &User, mut after: User, context: &DecisionContext<'_>) -> Decision {
    let mut rows = ChangeDrafts::new(held, context.id_form);
    rows.push_rest(&after);
    after.version = held.version + 1;
    after.updated_at = context.now;
    Decision {
        base_version: held.version,
        after,
        changes: rows.0,
        intents: vec![],
    }
}
