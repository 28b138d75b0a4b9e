//! `two-factor enable` and `disable`.

use super::args::{Methods, Selection, TwoFactorCommand};
use super::operator::{Operator, store_failure};
use super::selected::{Chosen, ManyAct, act_on_many, choose};
use super::users_by_hand::{reading, tell};
use super::{CommandContext, render};
use crate::acts::{ActFailure, SwitchMethods, SwitchRequest};
use crate::model::words::count;
use crate::model::{ActionVerb, Operation, RunId, TwoFactor, User, UserId};
use crate::plan::notices::can_be_sent;
use crate::store::Store;

/// Changes that are read at once.
const PAGE: i64 = 1000;

/// Names that are told one by one.
const SHOWN: usize = 20;

pub(super) async fn two_factor(
    context: &CommandContext,
    what: TwoFactorCommand,
) -> Result<u8, ActFailure> {
    let (verb, Methods(methods), whom) = match what {
        TwoFactorCommand::Enable { methods, whom } => (ActionVerb::Enable, methods, whom),
        TwoFactorCommand::Disable { methods, whom } => (ActionVerb::Disable, methods, whom),
    };
    let operator = context.operator().await?;
    let done = switch(context, &operator, verb, methods, whom).await;
    operator.close().await;
    done
}

async fn switch(
    context: &CommandContext,
    operator: &Operator,
    verb: ActionVerb,
    methods: Vec<TwoFactor>,
    whom: Selection,
) -> Result<u8, ActFailure> {
    let store = reading(context, operator).await?;
    let (yes, show_phones) = (whom.yes, whom.show_phones);
    let wants_application = verb == ActionVerb::Enable
        && methods
            .iter()
            .any(|m| matches!(m, TwoFactor::AppOtp | TwoFactor::AppPush));
    let (sendable, code) = match choose(context, &store, whom).await? {
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
            (sendable(context, &store, &ids).await?, code)
        }
        chosen => {
            let act = ManyAct {
                verb,
                methods,
                now: false,
                yes,
            };
            let (operation, code) = act_on_many(context, operator, &store, &chosen, act).await?;
            let found = if wants_application {
                sendable_of(context, &store, &operation).await?
            } else {
                vec![]
            };
            (found, code)
        }
    };
    if wants_application && !sendable.is_empty() && !context.json {
        tell_sendable(&sendable);
    }
    Ok(code)
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
