//! `approve`, `reject`, `adopt`, `undo`, `pause`, `resume`.

use super::operator::exit_of;
use super::{Context, render, text};
use crate::api::types::{Decision, Failure};
use crate::model::Outcome;

pub(super) async fn decide(
    context: &Context,
    decision: Decision,
    run: &str,
) -> Result<u8, Failure> {
    let operator = context.operator().await?;
    let decided = operator.decide(context, decision, run).await;
    operator.close().await;
    let decided = decided?;
    if context.json {
        render::json(&decided.run);
    } else {
        if let Some(old) = decided
            .replaced
            .filter(|_| decided.run.outcome == Outcome::Held)
        {
            render::line(&format!(
                "directory or store no longer agree with plan {old}; nothing was applied, and a new plan is held instead"
            ));
        }
        render::line(&text::run(&decided.run, false));
        if decision == Decision::Undo
            && matches!(decided.run.outcome, Outcome::Applied | Outcome::Held)
        {
            render::hint(&format!(
                "realm `{}` is paused, since its next pass would do all that again: mend the directory or the configuration, then `realmsync resume {}`",
                decided.run.realm, decided.run.realm
            ));
        }
    }
    Ok(exit_of(&decided.run))
}

pub(super) async fn pause(
    context: &Context,
    realm: &str,
    for_ms: Option<i64>,
) -> Result<u8, Failure> {
    let realm = context.realms(Some(realm.to_owned()))?.remove(0);
    let operator = context.operator().await?;
    operator.pause(&realm, for_ms).await?;
    operator.close().await;
    render::talk(&format!(
        "{realm} is paused{}; `realmsync resume {realm}` lets it run again",
        for_ms
            .map(|ms| format!(" for {}", text::span(ms)))
            .unwrap_or_default()
    ));
    Ok(0)
}

pub(super) async fn resume(context: &Context, realm: &str) -> Result<u8, Failure> {
    let realm = context.realms(Some(realm.to_owned()))?.remove(0);
    let operator = context.operator().await?;
    operator.resume(&realm).await?;
    operator.close().await;
    render::talk(&format!("{realm} runs again"));
    Ok(0)
}
