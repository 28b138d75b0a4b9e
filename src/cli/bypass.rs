//! `bypass`: a temporary code for one user.

use super::operator::Operator;
use super::users::one;
use super::users_by_hand::reading;
use super::{CommandContext, render, text};
use crate::acts::{ActFailure, BypassRequest, MakeBypass};
use crate::model::words::count;

pub(super) async fn bypass(
    context: &CommandContext,
    user: &str,
    realm: Option<String>,
    request: BypassRequest,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let made = make(context, &operator, user, realm, request).await;
    operator.close().await;
    made
}

async fn make(
    context: &CommandContext,
    operator: &Operator,
    user: &str,
    realm: Option<String>,
    request: BypassRequest,
) -> Result<u8, ActFailure> {
    let store = reading(context, operator).await?;
    let user = one(&store, user, realm).await?.id;
    let made = operator.act(MakeBypass { user, request }).await?;
    if context.json {
        render::json(&made);
        return Ok(0);
    }
    render::line(&made.code);
    render::talk(&format!(
        "{} in {}: counts {} until {}, and is shown only now",
        made.username,
        made.realm,
        count(made.uses, "time"),
        text::when(made.expires_at)
    ));
    Ok(0)
}
