//! `approve`, `reject`, `adopt`, `undo`, `pause`, `resume`.

use super::operator::{Operator, exit_of};
use super::render::Bar;
use super::{CommandContext, render, sync, text};
use crate::acts::{ActFailure, Decide, DecideRequest, Pause, PauseRequest, Resume, RunDecision};
use crate::model::{Mode, Outcome, RealmId};

pub(super) async fn decide_run(
    context: &CommandContext,
    decision: RunDecision,
    run: &str,
    request: DecideRequest,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let act = Decide {
        decision,
        run: run.to_owned(),
        request,
    };
    let decided = operator.act_in_realm(act, &Bar::none()).await;
    // No pass would do again what a file did.
    let of_a_file = decision == RunDecision::Undo
        && match &decided {
            Ok(_) => context.mode_of(&operator, run).await == Some(Mode::Import),
            Err(_) => false,
        };
    let waits = operator.is_alone();
    operator.close().await;
    let decided = decided?;
    let run = &decided.run;
    if !context.json
        && run.outcome == Outcome::Held
        && let Some(old) = decided.replaced
    {
        render::talk(&format!(
            "directory or store no longer agree with plan {old:#}: nothing was applied, and a new plan is held instead"
        ));
    }
    let nothing_left = decision == RunDecision::Approve && run.outcome == Outcome::Unchanged;
    if !context.json
        && nothing_left
        && let Some(old) = decided.replaced
    {
        render::talk(&format!(
            "plan {old:#} was not applied: by now directory and store say the same without it, so there is nothing left to approve"
        ));
    }
    sync::show(context, run, waits);
    if !context.json
        && decision == RunDecision::Undo
        && !of_a_file
        && matches!(run.outcome, Outcome::Applied | Outcome::Held)
    {
        let way = if run.outcome == Outcome::Held {
            "decide the plan (`reject` ends this pause), "
        } else {
            ""
        };
        render::hint(&format!(
            "realm `{0}` is paused, since its next pass would do all that again: {way}mend the directory or the configuration, then `realmsync resume {0}`",
            run.realm
        ));
    }
    if !context.json && decision == RunDecision::Reject && run.mode != Mode::Undo {
        render::hint(&match request.for_ms {
            Some(0) => "its changes are left out no longer: the next pass reads everything".to_owned(),
            Some(ms) => format!(
                "its changes are left out for {}, and the rest of the realm goes on; `realmsync reject {:#} --for 0s` ends that",
                text::span(ms), run.run
            ),
            None => "the next pass makes the same plan again unless its cause is mended in the directory or the configuration; while a plan is held, `realmsync reject` with `--for 24h` leaves its changes out for a day, and the rest of the realm goes on".to_owned(),
        });
    }
    // 0 would say that the plan was applied.
    Ok(if nothing_left { 1 } else { exit_of(run) })
}

impl CommandContext {
    /// What kind of run it is, as far as that can be told.
    async fn mode_of(&self, operator: &Operator, run: &str) -> Option<Mode> {
        let store = match operator.alone() {
            Some(at) => at.store().clone(),
            None => self.store().await.ok()?,
        };
        Some(store.run(run).await.ok()?.mode)
    }
}

pub(super) async fn pause(
    context: &CommandContext,
    realm: &str,
    for_ms: Option<i64>,
) -> Result<u8, ActFailure> {
    // Also one of no file: its messages wait with it.
    let realm = RealmId::from(realm);
    let operator = context.operator().await?;
    let act = Pause {
        realm: realm.clone(),
        request: PauseRequest { for_ms },
    };
    operator.act(act).await?;
    operator.close().await;
    render::talk(&format!(
        "{realm} is paused{}: no passes, and no messages leave; `realmsync resume {realm}` lets it run again",
        for_ms
            .map(|ms| format!(" for {}", text::span(ms)))
            .unwrap_or_default()
    ));
    Ok(0)
}

pub(super) async fn resume(context: &CommandContext, realm: &str) -> Result<u8, ActFailure> {
    // Also one of no file: its messages wait with it.
    let realm = RealmId::from(realm);
    let operator = context.operator().await?;
    let act = Resume {
        realm: realm.clone(),
    };
    operator.act(act).await?;
    operator.close().await;
    render::talk(&format!("{realm} runs again"));
    Ok(0)
}
