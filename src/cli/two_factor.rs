//! `two-factor enable` and `disable`.

use std::io::{BufRead as _, IsTerminal as _};

use super::args::{Methods, ShownSelection, TwoFactorCommand};
use super::operator::{Operator, store_failure};
use super::selected::{Chosen, ManyAct, act_on_many, choose};
use super::send::{send_each, send_many};
use super::users_by_hand::{reading, tell};
use super::{CommandContext, render};
use crate::acts::{
    ActFailure, AssignToken, AssignTokenRequest, FailureKind, SwitchMethods, SwitchRequest,
};
use crate::model::words::count;
use crate::model::{ActionVerb, Operation, RunId, TwoFactor, User, UserId};
use crate::plan::notices::can_be_sent;
use crate::store::Store;

/// Changes that are read at once.
const PAGE: i64 = 1000;

/// Names that are told one by one.
const SHOWN: usize = 20;

/// What is done besides, of `enable`.
#[derive(Default)]
struct Besides {
    /// `--send` or `--no-send`; `None`: ask, where somebody can answer.
    send: Option<bool>,
    /// The hard token that is assigned.
    serial: Option<String>,
}

pub(super) async fn two_factor(
    context: &CommandContext,
    what: TwoFactorCommand,
) -> Result<u8, ActFailure> {
    let (verb, Methods(methods), whom, besides) = match what {
        TwoFactorCommand::Enable {
            methods,
            whom,
            send,
            no_send,
            serial,
        } => {
            let besides = Besides {
                send: (send || no_send).then_some(send),
                serial,
            };
            (ActionVerb::Enable, methods, whom, besides)
        }
        TwoFactorCommand::Disable { methods, whom } => {
            (ActionVerb::Disable, methods, whom, Besides::default())
        }
    };
    let usage = |why: &str| Err(ActFailure::new(FailureKind::Usage, why));
    if besides.send.is_some() && !wants_application(verb, &methods) {
        return usage("--send and --no-send belong to app-otp and app-push");
    }
    if besides.serial.is_some() && !methods.contains(&TwoFactor::HardToken) {
        return usage("--serial belongs to hard-token");
    }
    let operator = context.operator().await?;
    let done = switch(context, &operator, (verb, methods), whom, besides).await;
    operator.close().await;
    done
}

fn wants_application(verb: ActionVerb, methods: &[TwoFactor]) -> bool {
    let applications = [TwoFactor::AppOtp, TwoFactor::AppPush];
    verb == ActionVerb::Enable && methods.iter().any(|m| applications.contains(m))
}

async fn switch(
    context: &CommandContext,
    operator: &Operator,
    (verb, methods): (ActionVerb, Vec<TwoFactor>),
    whom: ShownSelection,
    besides: Besides,
) -> Result<u8, ActFailure> {
    let store = reading(context, operator).await?;
    let ShownSelection { whom, show_phones } = whom;
    let yes = whom.yes;
    let asked = wants_application(verb, &methods);
    let chosen = choose(context, &store, whom).await?;
    if let Some(serial) = besides.serial {
        let Chosen::Named(named) = &chosen else {
            return Err(one_user());
        };
        let [user] = named.as_slice() else {
            return Err(one_user());
        };
        // The token first: of a serial that is not there, or another's, nothing comes.
        let request = AssignTokenRequest { user: user.id };
        operator.act(AssignToken { serial, request }).await?;
    }
    let (found, code) = match chosen {
        Chosen::Named(named) => {
            let code = each(
                context,
                operator,
                &store,
                verb,
                &methods,
                &named,
                show_phones,
            )
            .await;
            let ids: Vec<UserId> = named.iter().map(|user| user.id).collect();
            let found = if asked {
                sendable(context, &store, &ids).await?
            } else {
                vec![]
            };
            (found, code)
        }
        chosen => {
            let act = ManyAct {
                methods,
                yes,
                ..ManyAct::of(verb)
            };
            let (operation, code) = act_on_many(context, operator, &store, &chosen, act).await?;
            let found = if asked {
                sendable_of(context, &store, &operation).await?
            } else {
                vec![]
            };
            (found, code)
        }
    };
    if found.is_empty() {
        if besides.send == Some(true) {
            render::talk(
                "nobody can be sent the application now: `realmsync users list` says what is missing",
            );
        }
        return Ok(code);
    }
    if !send_now(&found, besides.send, yes) {
        return Ok(code);
    }
    let sent = match found.as_slice() {
        [] | [_] => send_each(context, operator, &found, false).await,
        _ => {
            let ids = Chosen::Listed(found.iter().map(|user| user.id).collect());
            // Who is sent it was confirmed with the methods.
            send_many(context, operator, &store, &ids, (false, true)).await?
        }
    };
    Ok(code.max(sent))
}

fn one_user() -> ActFailure {
    ActFailure::new(
        FailureKind::Usage,
        "a hard token is one user's: with --serial name one user",
    )
}

/// Whether the application is sent now: as the options say, or as whoever sits there says.
fn send_now(found: &[User], send: Option<bool>, yes: bool) -> bool {
    if send.is_none() {
        tell_sendable(found);
    }
    let here = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    match send {
        Some(send) => send,
        None if yes || !here => {
            render::talk(
                "it was not sent: `realmsync send` does it, by names or for all with `--method app-otp --enrolment none`",
            );
            false
        }
        None => {
            render::talk("Send it to them now? [y/N]");
            let mut typed = String::new();
            let read = std::io::stdin().lock().read_line(&mut typed);
            read.is_ok() && matches!(typed.trim(), "y" | "Y" | "yes")
        }
    }
}

/// Each of those who are named; one that fails does not keep the others from it.
async fn each(
    context: &CommandContext,
    operator: &Operator,
    store: &Store,
    verb: ActionVerb,
    methods: &[TwoFactor],
    named: &[User],
    show_phones: bool,
) -> u8 {
    let mut code = 0;
    for user in named {
        let mut request = SwitchRequest::default();
        match verb {
            ActionVerb::Enable => request.enable = methods.to_vec(),
            _ => request.disable = methods.to_vec(),
        }
        let act = SwitchMethods {
            user: user.id,
            request,
        };
        let told = match operator.act(act).await {
            Ok(acted) => tell(context, store, &acted, "changed", show_phones).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = told {
            code = render::failure(&failure.message, failure.exit);
        }
    }
    code
}

/// Those of these users whom the application can be sent to now.
async fn sendable(
    context: &CommandContext,
    store: &Store,
    ids: &[UserId],
) -> Result<Vec<User>, ActFailure> {
    let failed = |e| store_failure(&e);
    let users = store.users_by_id(ids).await.map_err(failed)?;
    let known = store
        .factor_facts(&users, context.clock.now())
        .await
        .map_err(failed)?;
    Ok(users
        .into_iter()
        .filter(|user| known.get(&user.id).is_some_and(|f| can_be_sent(user, f)))
        .collect())
}

/// The same of those whom an operation changed.
async fn sendable_of(
    context: &CommandContext,
    store: &Store,
    operation: &Operation,
) -> Result<Vec<User>, ActFailure> {
    let runs: Vec<RunId> = operation
        .run
        .iter()
        .chain(&operation.runs)
        .copied()
        .collect();
    let mut found = vec![];
    for run in runs {
        let mut after = 0;
        loop {
            let changes = store
                .written(run, after, PAGE)
                .await
                .map_err(|e| store_failure(&e))?;
            let Some(last) = changes.last() else { break };
            after = last.seq;
            let ids: Vec<UserId> = changes.iter().map(|change| change.user).collect();
            found.extend(sendable(context, store, &ids).await?);
        }
    }
    Ok(found)
}

fn tell_sendable(users: &[User]) {
    let n = i64::try_from(users.len()).unwrap_or(i64::MAX);
    let mut names: Vec<&str> = users
        .iter()
        .take(SHOWN)
        .map(|user| user.username.as_str())
        .collect();
    if users.len() > SHOWN {
        names.push("…");
    }
    render::talk(&format!(
        "{} can be sent the application now: {}",
        count(n, "user"),
        names.join(", ")
    ));
}
