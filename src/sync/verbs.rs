//! What is asked of an engine: sync, plan, approve, reject, adopt, undo.

use super::changes::drift;
use super::engine::Engine;
use super::realm::by_hand::RealmRules;
use super::run_request::{DecisionOptions, RunPurpose, RunRequest};
use crate::model::{Mode, Outcome, RealmId, Run};
use crate::runs::undo::UndoAsk;
use crate::runs::{Decided, Lines, RunError};
use crate::store::AuditNote;

impl Engine {
    /// One run now: a delta, or a full pass where `ask.full` says so, a plan is held, or the directory cannot tell what changed
    /// ([`Run::note`] says which). A full pass that is asked for follows a delta of its own row, and counts drift.
    ///
    /// A poll or push in which nothing was told gives an `unchanged` run that the store does not know; while a plan is held it
    /// gives that plan, and marks the realm as due if something was told. Do not poll a realm whose
    /// [`Following::way`](super::Following::way) is `None`: without a cursor each poll would read everything.
    ///
    /// A failed run is `Ok` with outcome `failed`; one that confirms a held plan answers with the held run.
    pub async fn sync(&self, realm: &RealmId, ask: RunRequest) -> Result<Run, RunError> {
        let mut ending = RunPurpose::ByTheBrake;
        if drift::can_be_measured(&ask, &self.row(realm).await?) {
            // The tick is the full pass's, which comes after.
            let ahead = RunRequest {
                full: false,
                tick: None,
                audit: None,
                ..ask.clone()
            };
            let (run, _) = self.run(realm, &ahead, RunPurpose::Ahead).await?;
            // What deltas tell is told: whatever the full pass still finds, they did not.
            if matches!(run.outcome, Outcome::Applied | Outcome::Unchanged) {
                ending = RunPurpose::Measured;
            }
        }
        self.run(realm, &ask, ending).await.map(|(run, _)| run)
    }

    /// A dry run through the same code; stores nothing, unless `hold`: then the plan is kept as a held one. The lines are read
    /// after the run, page by page, and the realm is free meanwhile.
    pub async fn plan(
        &self,
        realm: &RealmId,
        ask: RunRequest,
        hold: bool,
    ) -> Result<(Run, Lines), RunError> {
        if !hold {
            return self.run(realm, &ask, RunPurpose::Dry).await;
        }
        let (run, _) = self.run(realm, &ask, RunPurpose::Hold).await?;
        let lines = if run.outcome == Outcome::Held {
            Lines::of_kept(self.store.clone(), run.clone())
        } else {
            Lines::none()
        };
        Ok((run, lines))
    }

    /// Applies a held plan exactly as shown, after a fresh look; `run` is an id or a unique prefix.
    pub async fn approve(
        &self,
        run: &str,
        asking: impl Into<DecisionOptions>,
    ) -> Result<Decided, RunError> {
        Box::pin(self.approve_held(run, asking.into())).await
    }

    /// Says no to a held plan.
    pub async fn reject(
        &self,
        run: &str,
        asking: impl Into<DecisionOptions>,
    ) -> Result<Decided, RunError> {
        let DecisionOptions { by, audit, .. } = asking.into();
        let note = self.note(audit).await?;
        self.runs().reject(run, by, None, note).await
    }

    /// The same; for so long its changes are left out of the realm's plans, while the rest goes on. Of a plan that was rejected so
    /// before, it moves the end; with 0 that is now.
    pub async fn reject_for(
        &self,
        run: &str,
        asking: impl Into<DecisionOptions>,
        for_ms: i64,
    ) -> Result<Decided, RunError> {
        let DecisionOptions { by, audit, .. } = asking.into();
        let note = self.note(audit).await?;
        self.runs().reject(run, by, Some(for_ms), note).await
    }

    /// Reads a held plan as a rebuilt directory: same name and same phone or e-mail keeps the user and takes the new id.
    pub async fn adopt(
        &self,
        run: &str,
        asking: impl Into<DecisionOptions>,
    ) -> Result<Decided, RunError> {
        let asking: DecisionOptions = asking.into();
        let (held, facts) = self.runs().held(run).await?;
        if facts.undoes.is_some() || held.mode == Mode::Import {
            let what = if held.mode == Mode::Import {
                "is a file's, and of no directory"
            } else {
                "undoes another run"
            };
            return Err(RunError::Refused(format!(
                "plan {:#} {what}: `approve` or `reject` it",
                held.run
            )));
        }
        let mut ask = asking.ask(held.run);
        ask.adopt = true;
        let (run, _) = self
            .run_whatever(&held.realm, &ask, RunPurpose::ByTheBrake)
            .await?;
        // When there is nobody to adopt, it is the same plan still.
        Ok(Decided::of_held(held.run, run))
    }

    /// A new plan that puts back what a run changed; pauses the realm as soon as the plan is made.
    pub async fn undo(
        &self,
        run: &str,
        asking: impl Into<DecisionOptions>,
    ) -> Result<Decided, RunError> {
        let asking = asking.into();
        let target = self.store.run(run).await?;
        if target.mode == Mode::Action {
            return Box::pin(self.undo_action(&target, &asking)).await;
        }
        let row = self.row(&target.realm).await?;
        let rules = self.realm_rules(&row)?;
        let note = self.note(asking.audit.clone()).await?;
        let ask = self.undo_ask(&rules, &asking, note);
        Box::pin(self.runs().undo(&target, &ask)).await
    }

    pub(super) fn undo_ask<'a>(
        &'a self,
        rules: &'a RealmRules<'_>,
        asking: &'a DecisionOptions,
        note: Option<AuditNote>,
    ) -> UndoAsk<'a> {
        let realms = self.config.realms.iter();
        UndoAsk {
            brake: &rules.brake,
            policy: &rules.policy,
            policies: realms.map(|r| (&r.id, &r.policy)).collect(),
            delivers: rules.delivery.is_some(),
            messages: Box::new(|at| {
                Box::pin(self.messages_by(rules.delivery, rules.revoke_at_once, at))
            }),
            by: asking.by.as_deref(),
            note,
            cancel: &asking.cancel,
        }
    }
}
