//! `send` and `withdraw`.

use super::args::Selection;
use super::operator::{Operator, store_failure};
use super::selected::{Chosen, ManyAct, act_on_many, choose};
use super::users_by_hand::reading;
use super::{CommandContext, render, text};
use crate::acts::{
    ActFailure, EnrolmentObject, SendApplication, SendRequest, ShowLinks, WithdrawLinks,
};
use crate::model::{ActionVerb, Operation, TwoFactor, User};
use crate::store::Store;

/// Sends the application, and prints each link.
pub(super) async fn send(
    context: &CommandContext,
    whom: Selection,
    lost: bool,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let done = async {
        let store = reading(context, &operator).await?;
        let yes = whom.yes;
        match choose(context, &store, whom).await? {
            Chosen::Named(named) => Ok(send_each(context, &operator, &named, lost).await),
            chosen => send_many(context, &operator, &store, &chosen, (lost, yes)).await,
        }
    }
    .await;
    operator.close().await;
    done
}

/// To each of some users; one that fails does not keep the others from it.
pub(super) async fn send_each(
    context: &CommandContext,
    operator: &Operator,
    named: &[User],
    lost: bool,
) -> u8 {
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
                tell(context, user, &sent);
                tell_lost(context, user, lost);
            }
            Err(failure) => code = render::failure(&failure.message, failure.exit),
        }
    }
    code
}

/// To all of a selection, as one operation.
pub(super) async fn send_many(
    context: &CommandContext,
    operator: &Operator,
    store: &Store,
    chosen: &Chosen,
    (lost, yes): (bool, bool),
) -> Result<u8, ActFailure> {
    let act = ManyAct {
        lost,
        yes,
        // The links are the answer.
        quiet: true,
        ..ManyAct::of(ActionVerb::Send)
    };
    let (operation, code) = act_on_many(context, operator, store, chosen, act).await?;
    tell_links(context, operator, store, &operation).await?;
    Ok(code)
}

/// The links that an operation made.
async fn tell_links(
    context: &CommandContext,
    operator: &Operator,
    store: &Store,
    operation: &Operation,
) -> Result<(), ActFailure> {
    let mut after = None;
    loop {
        let shown = operator
            .act(ShowLinks {
                operation: operation.id,
                after,
            })
            .await?;
        let ids: Vec<_> = shown.items.iter().map(|sent| sent.user).collect();
        let users = store
            .users_by_id(&ids)
            .await
            .map_err(|e| store_failure(&e))?;
        for sent in &shown.items {
            if let Some(user) = users.iter().find(|user| user.id == sent.user) {
                tell(context, user, sent);
            }
        }
        if shown.next.is_none() {
            return Ok(());
        }
        after = shown.next;
    }
}

/// Takes open links back.
pub(super) async fn withdraw(context: &CommandContext, whom: Selection) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let done = async {
        let store = reading(context, &operator).await?;
        let yes = whom.yes;
        match choose(context, &store, whom).await? {
            Chosen::Named(named) => Ok(withdraw_each(context, &operator, &named).await),
            chosen => {
                let act = ManyAct {
                    yes,
                    ..ManyAct::of(ActionVerb::Withdraw)
                };
                let (_, code) = act_on_many(context, &operator, &store, &chosen, act).await?;
                Ok(code)
            }
        }
    }
    .await;
    operator.close().await;
    done
}

async fn withdraw_each(context: &CommandContext, operator: &Operator, named: &[User]) -> u8 {
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
    code
}

fn tell(context: &CommandContext, user: &User, sent: &EnrolmentObject) {
    if context.json {
        render::json(sent);
        return;
    }
    let until = text::when(sent.expires_at);
    let how = match sent.channel.as_deref() {
        Some("webhook") => "goes to the receiver of `[delivery]`, which tells the user",
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
            "{} {} does not have the method app-otp: codes of the application are not accepted until `realmsync two-factor enable app-otp {1}`",
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
