//! Whom a command is about: users by name, or whoever fits a filter; and what is done to many of them.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::args::Selection;
use super::operator::{Operator, store_failure};
use super::render::Bar;
use super::users::each_one;
use super::{CommandContext, render};
use crate::acts::{
    Act as _, ActFailure, ActionRequest, CancelOperation, FailureKind, OperationShown,
    ShowOperation, StartAction,
};
use crate::model::words::count;
use crate::model::{
    ActionVerb, Operation, OperationId, OperationState, TwoFactor, User, UserFilter, UserId,
};
use crate::store::Store;

/// How often a daemon is asked how far it is.
const ASK: Duration = Duration::from_millis(150);

/// Refusals that are shown one by one.
const SHOWN: usize = 20;

/// Whom a command is about.
pub(super) enum Chosen {
    /// Users by name, each on their own.
    Named(Vec<User>),
    /// A list of them, as one selection.
    Listed(Vec<UserId>),
    /// Whoever fits.
    Filter(UserFilter),
}

/// What is done to many.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own on the command line"
)]
pub(super) struct ManyAct {
    pub(super) verb: ActionVerb,
    pub(super) methods: Vec<TwoFactor>,
    /// Of `remove`.
    pub(super) now: bool,
    /// Of `send`.
    pub(super) lost: bool,
    pub(super) yes: bool,
    /// What came of it is said beside the answer, which is something else.
    pub(super) quiet: bool,
}

impl ManyAct {
    /// The plain act.
    pub(super) fn of(verb: ActionVerb) -> Self {
        Self {
            verb,
            methods: vec![],
            now: false,
            lost: false,
            yes: false,
            quiet: false,
        }
    }
}

/// Finds them. A name that fits nobody, or several, is told of, and the others are found all the same.
pub(super) async fn choose(
    context: &CommandContext,
    store: &Store,
    selection: Selection,
) -> Result<Chosen, ActFailure> {
    let Selection {
        users,
        stdin,
        realm,
        filter,
        all,
        ..
    } = selection;
    let usage = |why: &str| Err(ActFailure::new(FailureKind::Usage, why));
    let known = context.known(store, realm.clone()).await?;
    let filter = filter.filter(known);
    if users.is_empty() && !stdin {
        return match (filter.is_everybody(), all) {
            (true, false) => usage(
                "say whom: name users, or give a filter as in `users list`, or --all for everybody",
            ),
            (false, true) => usage("either --all, or a filter"),
            _ => Ok(Chosen::Filter(filter)),
        };
    }
    let but_realm = UserFilter {
        realm: filter.realm.clone(),
        ..UserFilter::default()
    };
    if all || filter != but_realm {
        return usage("either name users, or give a filter");
    }
    let names = if stdin { read_names()? } else { users };
    let named = each_one(store, &names, realm.as_ref()).await?;
    match named.as_slice() {
        [] => usage("no names were given"),
        [_, _, ..] if stdin => Ok(Chosen::Listed(named.iter().map(|u| u.id).collect())),
        _ => Ok(Chosen::Named(named)),
    }
}

/// Names from standard input, one a line.
fn read_names() -> Result<Vec<String>, ActFailure> {
    let lines: Result<Vec<String>, std::io::Error> = std::io::stdin().lock().lines().collect();
    let lines = lines.map_err(|e| {
        ActFailure::new(
            FailureKind::Unfit,
            format!("the names cannot be read: {e}; they are lines of UTF-8"),
        )
    })?;
    Ok(lines
        .into_iter()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect())
}

/// Does something to many, once whoever asks has said how many they are; shows how far it is, and what came of it.
pub(super) async fn act_on_many(
    context: &CommandContext,
    operator: &Operator,
    store: &Store,
    chosen: &Chosen,
    act: ManyAct,
) -> Result<(Operation, u8), ActFailure> {
    let (users, filter, n) = match chosen {
        Chosen::Filter(filter) => {
            let n = store
                .count_users(filter, context.clock.now())
                .await
                .map_err(|e| store_failure(&e))?;
            (None, Some(filter.clone()), n)
        }
        Chosen::Listed(ids) => {
            let mut once = ids.clone();
            once.sort_unstable();
            once.dedup();
            let n = i64::try_from(once.len()).unwrap_or(i64::MAX);
            (Some(once), None, n)
        }
        Chosen::Named(_) => (None, None, 0),
    };
    if n == 0 {
        return Err(ActFailure::new(
            FailureKind::Refused,
            "nobody fits: nothing is done; look with `realmsync users list` and the same options",
        ));
    }
    confirm(act.verb, n, act.yes)?;
    let request = ActionRequest {
        r#do: act.verb,
        methods: act.methods,
        now: act.now,
        lost: act.lost,
        users,
        filter,
        expect: Some(n),
    };
    let begun = operator.act(StartAction { request }).await?;
    work_off(operator, begun.id).await?;
    let shown = operator
        .act(ShowOperation {
            operation: begun.id,
        })
        .await?;
    let code = tell(context, store, (act.verb, act.quiet), &shown).await?;
    Ok((shown.operation, code))
}

/// The number, typed, or `--yes`.
fn confirm(verb: ActionVerb, n: i64, yes: bool) -> Result<(), ActFailure> {
    if yes {
        return Ok(());
    }
    let users = count(n, "user");
    let fit = if n == 1 { "fits" } else { "fit" };
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(ActFailure::new(
            FailureKind::Refused,
            format!(
                "{verb}: {users} {fit}, and nothing is done; look at them with `realmsync users list`, then say --yes"
            ),
        ));
    }
    render::talk(&format!("{verb}: {users}. Type the number to go on:"));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == n.to_string() {
        Ok(())
    } else {
        Err(ActFailure::new(FailureKind::Refused, "nothing is done"))
    }
}

/// Waits for the end, or brings it about. Ctrl-C ends it after the batch under way; what was done stays.
async fn work_off(operator: &Operator, id: OperationId) -> Result<(), ActFailure> {
    let bar = Bar::working();
    let Some(at) = operator.alone() else {
        loop {
            let asked = operator
                .act(ShowOperation { operation: id })
                .await?
                .operation;
            bar.at(asked.done.unsigned_abs(), asked.total.unsigned_abs());
            if asked.is_over() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(ASK) => {}
                _ = tokio::signal::ctrl_c() => {
                    operator.act(CancelOperation { operation: id }).await?;
                }
            }
        }
    };
    let never = CancellationToken::new();
    let total = at.store().operation(id).await?.total.unsigned_abs();
    let working = at.engine.work_off(id, &never, |batch| {
        let done = batch.done.unsigned_abs() + batch.users.len() as u64;
        bar.at(done, total);
    });
    let mut working = Box::pin(working);
    loop {
        tokio::select! {
            done = &mut working => {
                done?;
                return Ok(());
            }
            _ = tokio::signal::ctrl_c() => {
                CancelOperation { operation: id }.act(at).await?;
            }
        }
    }
}

/// What came of it.
async fn tell(
    context: &CommandContext,
    store: &Store,
    (verb, quiet): (ActionVerb, bool),
    shown: &OperationShown,
) -> Result<u8, ActFailure> {
    let of = &shown.operation;
    let code = u8::from(of.refused > 0 || of.state != OperationState::Done);
    if context.json && !quiet {
        render::json(of);
        return Ok(code);
    }
    for refusal in shown.refusals.iter().take(SHOWN) {
        let user = store
            .users_by_id(&[refusal.user])
            .await
            .map_err(|e| store_failure(&e))?;
        let name = user.first().map_or_else(
            || format!("{:#}", refusal.user),
            |u| format!("{} in {}", u.username, u.realm),
        );
        render::talk(&format!("{name}: {}", refusal.reason));
    }
    let ended = match of.state {
        OperationState::Done => String::new(),
        OperationState::Failed => format!(
            "; it failed: {}",
            of.error.as_deref().unwrap_or("the log says why")
        ),
        state => format!("; {state} after {} of {}", of.done, of.total),
    };
    let came = format!(
        "{verb}: {} changed, {} unchanged, {} refused{ended}",
        count(of.changed, "user"),
        of.skipped,
        of.refused
    );
    if quiet {
        render::talk(&came);
    } else {
        render::line(&came);
    }
    let runs: Vec<String> = of
        .run
        .iter()
        .chain(&of.runs)
        .map(|run| format!("`realmsync undo {run:#}`"))
        .collect();
    if !runs.is_empty() && verb != ActionVerb::Withdraw {
        let put = if runs.len() == 1 { "puts" } else { "put" };
        render::hint(&format!("{} {put} it back", runs.join(", ")));
    }
    Ok(code)
}
