//! `api-tokens create`, `list`, `revoke`.

use super::args::ApiTokensCommand;
use super::operator::store_failure;
use super::render::Table;
use super::{CommandContext, render, text};
use crate::acts::{ActFailure, MakeApiToken, MakeApiTokenRequest, RevokeApiToken};
use crate::clock::Timestamp;
use crate::model::{ApiToken, RealmId, Scope};

/// Scopes for which paths are there. Another one gives nothing yet.
const SERVED: [Scope; 3] = [Scope::Verify, Scope::Logons, Scope::Admin];

pub(super) async fn api_tokens(
    context: &CommandContext,
    what: ApiTokensCommand,
) -> Result<u8, ActFailure> {
    match what {
        ApiTokensCommand::Create {
            name,
            scopes,
            realm,
            expires,
        } => {
            let idle: Vec<&str> = scopes
                .iter()
                .filter(|scope| !SERVED.contains(scope))
                .map(|scope| scope.as_str())
                .collect();
            let idle = idle.join(", ");
            let request = MakeApiTokenRequest {
                name,
                scopes,
                realm: realm.map(RealmId::from),
                expires_ms: expires,
            };
            let operator = context.operator().await?;
            let made = operator.act(MakeApiToken { request }).await;
            operator.close().await;
            let made = made?;
            if !idle.is_empty() {
                render::talk(&format!(
                    "{} in this version nothing can be called with {idle}: the token gives nothing by it yet",
                    render::paint("1;33", "warning:")
                ));
            }
            if context.json {
                render::json(&made);
            } else {
                render::line(&made.token);
                render::talk(
                    "this is the token. It is shown once; whoever has it may use it, so keep it like a password",
                );
            }
            Ok(0)
        }
        ApiTokensCommand::List => list(context).await,
        ApiTokensCommand::Revoke { token } => {
            let operator = context.operator().await?;
            let revoked = operator.act(RevokeApiToken { token }).await;
            operator.close().await;
            let revoked = revoked?;
            if context.json {
                render::json(&revoked);
            } else {
                render::line(&format!("{}: revoked", revoked.name));
            }
            Ok(0)
        }
    }
}

async fn list(context: &CommandContext) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let tokens = store.api_tokens().await.map_err(|e| store_failure(&e))?;
    if context.json {
        tokens.iter().for_each(render::json);
        return Ok(0);
    }
    let mut table = Table::new(
        &[
            "name",
            "scopes",
            "realm",
            "made",
            "by",
            "last used",
            "stands",
        ],
        &[],
    )
    .spilling();
    let now = context.clock.now();
    for token in tokens {
        let stands = stands(&token, now);
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        table.row(vec![
            token.name,
            scopes.join(", "),
            token.realm.map(|r| r.to_string()).unwrap_or_default(),
            text::when(token.created_at),
            token.by.unwrap_or_default(),
            token.last_used_at.map(text::when).unwrap_or_default(),
            stands,
        ]);
    }
    table.end();
    Ok(0)
}

fn stands(token: &ApiToken, now: Timestamp) -> String {
    match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {}", text::when(at)),
        (None, Some(end)) if end <= now => format!("expired {}", text::when(end)),
        (None, Some(end)) => format!("until {}", text::when(end)),
        (None, None) => "until revoked".to_owned(),
    }
}
