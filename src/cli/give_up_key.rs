//! `give-up-key`: the enrolment key is lost.

use super::{CommandContext, render};
use crate::acts::{ActFailure, GiveUpKey, GiveUpKeyRequest, given_up};

pub(super) async fn give_up_key(
    context: &CommandContext,
    expect: Option<i64>,
) -> Result<u8, ActFailure> {
    let operator = context.operator_of_any_key().await?;
    let request = GiveUpKeyRequest { expect };
    let done = operator.act(GiveUpKey { request }).await;
    operator.close().await;
    let out = done?;
    if context.json {
        render::json(&out);
        return Ok(0);
    }
    render::talk(&format!(
        "{} are given up; the store goes on with the key that is configured",
        given_up(out)
    ));
    render::hint(
        "`realmsync coverage` says who can prove themselves; `realmsync send` sends the application anew, and `realmsync hard-tokens import` of the same files gives hard tokens their seeds back",
    );
    Ok(0)
}
