//! `authenticators list` and `revoke`.

use super::args::AuthenticatorsCommand;
use super::operator::store_failure;
use super::render::Table;
use super::users::one;
use super::{CommandContext, render, text};
use crate::acts::{
    ActFailure, FailureKind, RevokeAuthenticators, RevokeRequest, authenticators_of,
};
use crate::model::{AuthenticatorId, AuthenticatorKind, AuthenticatorShown, AuthenticatorState};

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
            recovery_codes,
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
                request: RevokeRequest {
                    ids: ids?,
                    recovery_codes,
                },
            };
            let ended = operator.act(act).await;
            operator.close().await;
            let ended = ended?;
            show(context, &ended);
            if ended.is_empty() && !context.json {
                let token = all
                    .iter()
                    .find(|a| a.kind.is_hard_token() && a.state == AuthenticatorState::Active);
                let token = token.and_then(|a| a.serial.as_deref()).map(|serial| {
                    format!("; the hard token {serial} stays: see `hard-tokens revoke {serial}`")
                });
                render::line(&format!(
                    "{} in {}: no application was active: nothing was changed{}",
                    user.username,
                    user.realm,
                    token.unwrap_or_default()
                ));
            }
            let stays = |a: &&AuthenticatorShown| {
                a.kind == AuthenticatorKind::Recovery
                    && a.left.is_some_and(|left| left > 0)
                    && !ended.iter().any(|e| (e.id, e.kind) == (a.id, a.kind))
            };
            if let Some(left) = all.iter().find(stays).and_then(|a| a.left) {
                let stay = if left == 1 { "stays" } else { "stay" };
                render::talk(&format!(
                    "{} of {} {stay}: `authenticators revoke {:#} --recovery-codes` revokes what is left of them",
                    text::count(left, "recovery code"),
                    user.username,
                    user.id
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
        a.serial.as_deref() == Some(text)
            || digits.len() >= 4 && (id.starts_with(&digits) || id.ends_with(&digits))
    });
    let first = fitting.next();
    // Codes may have the id of the application that they were made with: then the application is meant.
    match (first, fitting.find(|a| first.is_none_or(|f| f.id != a.id))) {
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
    )
    .spilling();
    for a in all {
        table.row(vec![
            format!("{:#}", a.id),
            a.kind.to_string(),
            match a.left {
                // Nobody revoked them.
                Some(0) if a.last_used_at.is_some() => "used up".to_owned(),
                _ => a.state.to_string(),
            },
            a.serial.clone().or(a.issuer.clone()).unwrap_or_default(),
            text::when(a.created_at),
            a.last_used_at.map(text::when).unwrap_or_default(),
            a.left.map(|left| left.to_string()).unwrap_or_default(),
        ]);
    }
    table.end();
}
