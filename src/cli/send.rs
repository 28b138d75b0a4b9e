//! `send` and `withdraw`.

use super::operator::Operator;
use super::users::each_one;
use super::{CommandContext, render, text};
use crate::acts::{ActFailure, EnrolmentObject, SendApplication, SendRequest, WithdrawLinks};
use crate::model::{TwoFactor, User};
use crate::store::Store;

/// Sends the application to each of some users, and prints each link; one that fails does not keep the others from it.
pub(super) async fn send(
    context: &CommandContext,
    users: &[String],
    realm: Option<String>,
    lost: bool,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let named = named(context, &operator, users, realm).await?;
    let mut code = 0;
    for user in named {
        let request = SendRequest {
            version: None,
            lost,
        };
        let act = SendApplication {
            user: user.id,
            request,
        };
        match operator.act(act).await {
            Ok(sent) => {
                tell(context, &user, &sent);
                tell_lost(context, &user, lost);
            }
            Err(failure) => code = render::failure(&failure.message, failure.exit),
        }
    }
    operator.close().await;
    Ok(code)
}

/// Takes the open links of some users back.
pub(super) async fn withdraw(
    context: &CommandContext,
    users: &[String],
    realm: Option<String>,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let named = named(context, &operator, users, realm).await?;
    let mut code = 0;
    for user in named {
        match operator.act(WithdrawLinks { user: user.id }).await {
            Ok(withdrawn) if context.json => withdrawn.iter().for_each(render::json),
            Ok(withdrawn) if withdrawn.is_empty() => {
                render::line(&format!(
                    "{} in {}: no link is open: nothing was changed",
                    user.username, user.realm
                ));
            }
            Ok(_) => render::line(&format!(
                "{} in {}: the link is withdrawn",
                user.username, user.realm
            )),
            Err(failure) => code = render::failure(&failure.message, failure.exit),
        }
    }
    operator.close().await;
    Ok(code)
}

/// A name that fits nobody, or several, keeps none of the others from it.
async fn named(
    context: &CommandContext,
    operator: &Operator,
    names: &[String],
    realm: Option<String>,
) -> Result<Vec<User>, ActFailure> {
    let store: Store = match operator.alone() {
        Some(at) => at.store().clone(),
        None => context.store().await?,
    };
    each_one(&store, names, realm.as_ref()).await
}

fn tell(context: &CommandContext, user: &User, sent: &EnrolmentObject) {
    if context.json {
        render::json(sent);
        return;
    }
    let until = text::when(sent.expires_at);
    let how = match sent.channel.as_deref() {
        Some("webhook") => "handed to the receiver of `[delivery]`, which tells the user",
        _ => "for you to pass on: nothing is delivered here",
    };
    render::line(&format!(
        "{} in {}: {how}, valid until {until}",
        user.username, user.realm
    ));
    if let Some(url) = &sent.url {
        render::line(&format!("  {url}"));
    }
    if user.phone.is_none() && sent.channel.as_deref() == Some("webhook") {
        render::talk(&format!(
            "{} {} has no telephone number, so the receiver is given none: see that the link reaches them",
            render::paint("1;33", "warning:"),
            user.username
        ));
    }
    let applications = [TwoFactor::AppOtp, TwoFactor::AppPush];
    if !user
        .two_factor
        .iter()
        .any(|method| applications.contains(method))
    {
        render::talk(&format!(
            "{} {} does not have the method app-otp: codes of the application are not accepted until it is turned on",
            render::paint("1;33", "warning:"),
            user.username
        ));
    }
}

/// What was lost counts until then.
fn tell_lost(context: &CommandContext, user: &User, lost: bool) {
    if lost && !context.json {
        render::talk(&format!(
            "codes of an earlier application are accepted until another one is set up: `authenticators revoke {:#}` ends it now",
            user.id
        ));
    }
}
