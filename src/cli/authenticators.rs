//! `authenticators list` and `revoke`.

use super::args::AuthenticatorsCommand;
use super::operator::store_failure;
use super::render::Table;
use super::users::one;
use super::{CommandContext, render, text};
use crate::acts::{
    ActFailure, FailureKind, RevokeAuthenticators, RevokeRequest, authenticators_of,
};
use crate::model::{AuthenticatorId, AuthenticatorShown};

pub(super) async fn authenticators(
    context: &CommandContext,
    what: AuthenticatorsCommand,
) -> Result<u8, ActFailure> {
    match what {
        AuthenticatorsCommand::List { user, realm } => {
            let store = context.store().await?;
            let user = one(&store, &user, realm).await?;
            let all = authenticators_of(&store, &user, context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?;
            show(context, &all);
            if all.is_empty() && !context.json {
                render::talk(&format!(
                    "{} has none; `realmsync send {:#}` sends the application",
                    user.username, user.id
                ));
            }
            Ok(0)
        }
        AuthenticatorsCommand::Revoke {
            user,
            authenticators,
            realm,
        } => {
            let operator = context.operator().await?;
            let store = match operator.alone() {
                Some(at) => at.store().clone(),
                None => context.store().await?,
            };
            let user = one(&store, &user, realm).await?;
            let all = authenticators_of(&store, &user, context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?;
            let ids: Result<Vec<AuthenticatorId>, ActFailure> = authenticators
                .iter()
                .map(|text| named(&all, text))
                .collect();
            let act = RevokeAuthenticators {
                user: user.id,
                request: RevokeRequest { ids: ids? },
            };
            let ended = operator.act(act).await;
            operator.close().await;
            let ended = ended?;
            show(context, &ended);
            if ended.is_empty() && !context.json {
                render::line(&format!(
                    "{} in {}: nothing was active: nothing was changed",
                    user.username, user.realm
                ));
            }
            Ok(0)
        }
    }
}

/// The one that a text names: its id, or the end or beginning of it.
fn named(all: &[AuthenticatorShown], text: &str) -> Result<AuthenticatorId, ActFailure> {
    let digits = text.replace('-', "").to_lowercase();
    let mut fitting = all.iter().filter(|a| {
        let id = a.id.0.simple().to_string();
        digits.len() >= 4 && (id.starts_with(&digits) || id.ends_with(&digits))
    });
    match (fitting.next(), fitting.next()) {
        (Some(a), None) => Ok(a.id),
        (None, _) => Err(ActFailure::new(
            FailureKind::NotFound,
            format!("the user has no authenticator `{text}`: `authenticators list` shows all"),
        )),
        (Some(_), Some(_)) => Err(ActFailure::new(
            FailureKind::NotFound,
            format!("`{text}` is ambiguous: give more of the id"),
        )),
    }
}

fn show(context: &CommandContext, all: &[AuthenticatorShown]) {
    if context.json {
        all.iter().for_each(render::json);
        return;
    }
    let mut table = Table::new(
        &[
            "authenticator",
            "kind",
            "state",
            "of",
            "since",
            "last used",
            "left",
        ],
        &[],
    );
    for a in all {
        table.row(vec![
            format!("{:#}", a.id),
            a.kind.to_string(),
            a.state.to_string(),
            a.serial.clone().or(a.issuer.clone()).unwrap_or_default(),
            text::when(a.created_at),
            a.last_used_at.map(text::when).unwrap_or_default(),
            a.left.map(|left| left.to_string()).unwrap_or_default(),
        ]);
    }
    table.end();
}
