//! What an action does to one user of a selection.

use super::by_hand::{HandRefusal, UserEdit, block, edit, remove, send};
use super::decide::{Decision, DecisionContext};
use crate::model::{ActionVerb, State, TwoFactor, User};

/// The methods of a user once some were turned on or off, in the order of [`TwoFactor::ALL`].
pub fn methods_after(
    held: &[TwoFactor],
    verb: ActionVerb,
    methods: &[TwoFactor],
) -> Vec<TwoFactor> {
    TwoFactor::ALL
        .iter()
        .copied()
        .filter(|method| {
            let (has, named) = (held.contains(method), methods.contains(method));
            match verb {
                ActionVerb::Enable => has || named,
                ActionVerb::Disable => has && !named,
                _ => has,
            }
        })
        .collect()
}

/// Decides about one user. `None`: it is so already.
pub fn act(
    held: &User,
    verb: ActionVerb,
    methods: &[TwoFactor],
    at_once: bool,
    context: &DecisionContext<'_>,
) -> Result<Option<Decision>, HandRefusal> {
    match verb {
        ActionVerb::Enable | ActionVerb::Disable => {
            let two_factor = methods_after(&held.two_factor, verb, methods);
            let change = UserEdit {
                two_factor: Some(two_factor),
                ..UserEdit::default()
            };
            edit(held, change, context)
        }
        ActionVerb::Block => block(held, true, context),
        ActionVerb::Unblock => block(held, false, context),
        ActionVerb::Remove => remove(held, at_once, context),
        ActionVerb::Send => send(held).map(Some),
        // What becomes of links and guesses is no change of the user.
        ActionVerb::Withdraw | ActionVerb::Unlock => as_they_are(held).map(Some),
    }
}

/// Somebody to whom something is done that changes nothing of what is said of them.
pub fn as_they_are(held: &User) -> Result<Decision, HandRefusal> {
    if held.state == State::Removed {
        return Err(HandRefusal::Removed);
    }
    Ok(Decision {
        base_version: held.version,
        after: held.clone(),
        changes: vec![],
        intents: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_added_and_taken_away_and_keep_their_order() {
        use TwoFactor::{AppOtp, Fido, HardToken, SmsOtp};
        let held = [SmsOtp, HardToken];
        for (verb, methods, after) in [
            (
                ActionVerb::Enable,
                &[Fido, AppOtp][..],
                &[SmsOtp, AppOtp, HardToken, Fido][..],
            ),
            (ActionVerb::Enable, &[SmsOtp], &held),
            (ActionVerb::Disable, &[SmsOtp, Fido], &[HardToken]),
            (ActionVerb::Disable, TwoFactor::ALL, &[]),
            (ActionVerb::Block, &[Fido], &held),
        ] {
            assert_eq!(
                methods_after(&held, verb, methods),
                after,
                "{verb} {methods:?}"
            );
        }
    }
}
