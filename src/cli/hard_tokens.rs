//! `hard-tokens import`, `assign`, `unassign`, `resync`, `revoke`, `remove`, `list`.

use std::io::Read as _;
use std::path::Path;

use serde_json::json;
use zeroize::Zeroizing;

use super::args::HardTokensCommand;
use super::operator::{Operator, store_failure};
use super::render::Table;
use super::users::one;
use super::{CommandContext, render, text};
use crate::acts::{
    ActFailure, AssignToken, AssignTokenRequest, ChangeToken, FailureKind, Hidden, ImportTokens,
    ImportTokensRequest, ResyncToken, ResyncTokenRequest, TokenActed, TokenVerb, TokenVerbRequest,
    TokensImported,
};
use crate::clock::Timestamp;
use crate::factors::seeds::LONGEST_FILE;
use crate::model::words::count;
use crate::model::{AuthenticatorKind, AuthenticatorState, TwoFactor};
use crate::store::{HardTokenFilter, HardTokenRow, Store};
use crate::story::hard_tokens::object;

/// Tokens read at once.
const PAGE: i64 = 1000;

/// How long before its end a token is listed as one that expires.
const AHEAD: i64 = 60 * 86_400_000;

/// The longest file with a key or a passphrase, in bytes.
const LONGEST_KEY: usize = 64 * 1024;

pub(super) async fn hard_tokens(
    context: &CommandContext,
    what: HardTokensCommand,
) -> Result<u8, ActFailure> {
    match what {
        HardTokensCommand::Import {
            file,
            key_file,
            passphrase_file,
            hash,
            period,
        } => {
            let secret = |path: Option<&Path>| path.map(|path| read(path, LONGEST_KEY)).transpose();
            let request = ImportTokensRequest {
                file: read(&file, LONGEST_FILE)?,
                key: secret(key_file.as_deref())?,
                passphrase: secret(passphrase_file.as_deref())?,
                hash,
                period,
            };
            let operator = context.operator().await?;
            let done = operator.act(ImportTokens { request }).await;
            operator.close().await;
            let done = done.map_err(|failure| ActFailure {
                message: format!("{}: {}", file.display(), failure.message),
                ..failure
            })?;
            imported(context, &file, &done);
            Ok(0)
        }
        HardTokensCommand::Assign {
            serial,
            user,
            realm,
        } => {
            let operator = context.operator().await?;
            let store = reading(context, &operator).await?;
            let user = match one(&store, &user, realm).await {
                Ok(user) => user,
                Err(failure) => return Err(turned_round(&store, &user, failure).await),
            };
            let act = AssignToken {
                serial,
                request: AssignTokenRequest { user: user.id },
            };
            let done = operator.act(act).await;
            let code = tell(context, operator, &store, done, "assigned").await?;
            if !context.json && !user.two_factor.contains(&TwoFactor::HardToken) {
                render::talk(&format!(
                    "{} {} does not have the method hard-token: codes of the token are not accepted until `realmsync two-factor enable hard-token {1}`",
                    render::paint("1;33", "warning:"),
                    user.username
                ));
            }
            Ok(code)
        }
        HardTokensCommand::Resync {
            serial,
            first,
            second,
        } => {
            let operator = context.operator().await?;
            let store = reading(context, &operator).await?;
            let request = ResyncTokenRequest {
                codes: [first, second],
            };
            let done = operator.act(ResyncToken { serial, request }).await;
            tell(
                context,
                operator,
                &store,
                done,
                "the codes are right, and used up",
            )
            .await
        }
        HardTokensCommand::Unassign { serial } => {
            let done = "taken back: whoever gets it next proves it with two codes";
            change(context, serial, TokenVerb::Unassign, false, done).await
        }
        HardTokensCommand::Revoke { serial, lost } => {
            let done = if lost {
                "lost: it counts never again"
            } else {
                "revoked: it counts no more"
            };
            change(context, serial, TokenVerb::Revoke, lost, done).await
        }
        HardTokensCommand::Remove { serial } => {
            change(context, serial, TokenVerb::Remove, false, "removed").await
        }
        HardTokensCommand::List { state, expiring } => {
            let now = context.clock.now();
            let filter = HardTokenFilter {
                state,
                over_by: expiring.then(|| now.plus_ms(AHEAD)),
            };
            list(context, &filter, now).await
        }
    }
}

/// A user whom nobody finds may be a token: then the two were named the other way round.
async fn turned_round(store: &Store, text: &str, failure: ActFailure) -> ActFailure {
    match store.hard_token(text).await {
        Ok(Some(_)) => ActFailure {
            message: format!(
                "`{text}` is a hard token, and no user: name the token first, then the user"
            ),
            ..failure
        },
        _ => failure,
    }
}

/// A file, or what comes from standard input.
fn read(path: &Path, most: usize) -> Result<Hidden, ActFailure> {
    let unfit = |why: String| ActFailure::new(FailureKind::Unfit, why);
    // Room for all of it, so that no copy is left behind where it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.min(1024 * 1024)));
    let limit = most as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
        bytes.reserve_exact(usize::try_from(length).unwrap_or(0).min(most + 1));
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| unfit(format!("{}: {error}", path.display())))?;
    if bytes.len() > most {
        return Err(unfit(format!(
            "{}: more than {most} bytes, which are read at most",
            path.display()
        )));
    }
    Ok(Hidden(bytes))
}

fn imported(context: &CommandContext, file: &Path, done: &TokensImported) {
    if context.json {
        render::json(done);
        return;
    }
    for warning in &done.warnings {
        render::talk(&format!(
            "{} {}",
            render::paint("1;33", "warning:"),
            warning.detail
        ));
    }
    let tokens = count(i64::try_from(done.tokens).unwrap_or(i64::MAX), "token");
    render::line(&format!(
        "{}: {tokens}: {} imported, {} unchanged",
        file.display(),
        done.imported,
        done.unchanged
    ));
    if done.imported > 0 {
        render::hint(
            "prove one of them, with two codes that it shows one after the other: `realmsync hard-tokens resync SERIAL CODE CODE`",
        );
    }
}

async fn change(
    context: &CommandContext,
    serial: String,
    verb: TokenVerb,
    lost: bool,
    done: &str,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let store = reading(context, &operator).await?;
    let act = ChangeToken {
        serial,
        verb,
        request: TokenVerbRequest { lost },
    };
    let acted = operator.act(act).await;
    tell(context, operator, &store, acted, done).await
}

/// The store, to look users and tokens up in it.
async fn reading(context: &CommandContext, operator: &Operator) -> Result<Store, ActFailure> {
    match operator.alone() {
        Some(at) => Ok(at.store().clone()),
        None => context.store().await,
    }
}

/// Shows a token after an act.
async fn tell(
    context: &CommandContext,
    operator: Operator,
    store: &Store,
    acted: Result<TokenActed, ActFailure>,
    done: &str,
) -> Result<u8, ActFailure> {
    let shown = match acted {
        Ok(acted) => show(context, store, &acted, done).await,
        Err(failure) => Err(failure),
    };
    operator.close().await;
    shown.map(|()| 0)
}

async fn show(
    context: &CommandContext,
    store: &Store,
    acted: &TokenActed,
    done: &str,
) -> Result<(), ActFailure> {
    let token = store
        .hard_token(&acted.serial)
        .await
        .map_err(|e| store_failure(&e))?;
    if context.json {
        match token {
            Some(token) => render::json(&object(&token)),
            None => render::json(&json!({ "serial": acted.serial, "state": "removed" })),
        }
        return Ok(());
    }
    let done = if acted.changed {
        done
    } else {
        "is so already: nothing was changed"
    };
    let holder = token.as_ref().and_then(holder);
    let holder = holder.map_or_else(String::new, |holder| format!(" ({holder})"));
    render::line(&format!("{}{holder}: {done}", acted.serial));
    if let Some(token) = token
        && acted.changed
        && let Some(from) = token.kept.authenticator.valid_from
        && from > context.clock.now()
    {
        render::talk(&format!("its codes count from {} on", text::when(from)));
    }
    Ok(())
}

fn holder(row: &HardTokenRow) -> Option<String> {
    let (name, realm) = (row.username.as_ref()?, row.realm.as_ref()?);
    Some(format!("{name} in {realm}"))
}

async fn list(
    context: &CommandContext,
    filter: &HardTokenFilter,
    now: Timestamp,
) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let mut table = Table::new(
        &[
            "serial",
            "type",
            "state",
            "user",
            "last used",
            "drift",
            "until",
            "maker",
        ],
        &["drift"],
    )
    .spilling();
    let mut after = String::new();
    loop {
        let rows = store
            .hard_tokens(filter, &after, PAGE)
            .await
            .map_err(|e| store_failure(&e))?;
        let Some(last) = rows.last() else {
            break;
        };
        after = last.kept.authenticator.serial.clone().unwrap_or_default();
        for row in &rows {
            if context.json {
                render::json(&object(row));
            } else {
                table.row(cells(row, now));
            }
        }
        if render::gone() {
            break;
        }
    }
    if !context.json && !table.end() {
        render::talk("no hard tokens fit");
    }
    Ok(0)
}

fn cells(row: &HardTokenRow, now: Timestamp) -> Vec<String> {
    let token = &row.kept.authenticator;
    let over = token.valid_until.is_some_and(|until| until <= now);
    let state = match token.state {
        AuthenticatorState::Pending if over => "expired",
        AuthenticatorState::Active if over => "assigned, expired",
        AuthenticatorState::Pending if token.two_codes => "free, returned",
        AuthenticatorState::Pending => "free",
        AuthenticatorState::Active => "assigned",
        ended => ended.as_str(),
    };
    let drift = match token.kind {
        AuthenticatorKind::Totp if token.drift != 0 => format!("{:+}", token.drift),
        _ => String::new(),
    };
    vec![
        text::one_line(token.serial.as_deref().unwrap_or_default()),
        token.kind.to_string(),
        state.to_owned(),
        holder(row).unwrap_or_default(),
        token.last_used_at.map(text::when).unwrap_or_default(),
        drift,
        token.valid_until.map(text::when).unwrap_or_default(),
        text::one_line(token.issuer.as_deref().unwrap_or_default()),
    ]
}
