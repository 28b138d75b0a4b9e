//! `restored`: the store was restored by means that it cannot notice, and is to be taken as a copy of itself.

use std::io::{BufRead as _, IsTerminal as _};

use super::{CommandContext, render, text};
use crate::acts::{ActFailure, FailureKind, Restore, RestoredRequest};

pub(super) async fn restored(
    context: &CommandContext,
    yes: bool,
    reviewed: bool,
) -> Result<u8, ActFailure> {
    if !reviewed && !yes {
        confirm()?;
    }
    let operator = context.operator().await?;
    let request = RestoredRequest { reviewed };
    let answer = operator.act(Restore { request }).await;
    operator.close().await;
    let answer = answer?;
    if context.json {
        render::json(&answer);
        return Ok(0);
    }
    if reviewed {
        render::talk("noted: `status` says no more of it");
        return Ok(0);
    }
    render::talk(&format!(
        "the store goes on as a copy: {} on hold until `realmsync outbox release` or `drop`, open links are void, and codes that may have been used are refused",
        text::count(i64::try_from(answer.held).unwrap_or(i64::MAX), "message")
    ));
    let hint = if answer.api_tokens.is_empty() {
        "once you have looked at the outbox and the next plan: `realmsync restored --reviewed`"
            .to_owned()
    } else {
        format!(
            "API tokens that may have been revoked since the copy was made: {}; revoke again those that were, then `realmsync restored --reviewed`",
            answer.api_tokens.join(", ")
        )
    };
    render::hint(&hint);
    Ok(0)
}

/// It cannot be taken back: of a store that was not restored, people's links and codes would go for nothing.
fn confirm() -> Result<(), ActFailure> {
    const WHAT: &str = "open links end, recovery codes count on the enrolment page only, tokens with a counter give two codes once, and messages go on hold";
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(ActFailure::new(
            FailureKind::Usage,
            format!(
                "nothing was done, since nobody can be asked here: {WHAT}; --yes says that the store was restored"
            ),
        ));
    }
    render::talk(&format!(
        "Was the store restored from a copy? Then {WHAT}. Type yes to go on:"
    ));
    let mut answer = String::new();
    let _end = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim().to_lowercase().as_str(), "yes" | "y") {
        return Ok(());
    }
    Err(ActFailure::new(
        FailureKind::Refused,
        "nothing was done: the answer was not yes",
    ))
}
