//! A held plan is approved: what it rests on is read again, and it is applied exactly as it was shown, or not at all.
//!
//! ```text
//! approve ─▶ the same mapping? ─▶ look again ─▶ apply
//!                 │ refused          │ no longer agrees
//!                 ▼                  ▼
//!                                another plan, held
//! ```

use super::changes::begin::configuration;
use super::engine::Engine;
use super::realm::following::Following;
use super::realm::prepare::prepare;
use super::run_request::{DecisionOptions, RunPurpose};
use crate::config::RealmConfig;
use crate::model::{ErrorCode, Mode, Run};
use crate::runs::{Decided, RealmTurn, RunError, RunFailure, held, window};
use crate::store::{CursorUpdate, RealmUpdate, RunFacts};

impl Engine {
    /// See [`Engine::approve`].
    pub(super) async fn approve_held(
        &self,
        run: &str,
        asking: DecisionOptions,
    ) -> Result<Decided, RunError> {
        let (run, _) = self.runs().held(run).await?;
        let row = self.row(&run.realm).await?;
        let rules = self.realm_rules(&row)?;
        let turn = RealmTurn::take(&self.store, &run.realm, self.clock.now()).await?;
        // Read under the lock: somebody else may just have decided.
        let (run, facts) = self.runs().held(&run.run.to_string()).await?;
        if let Some(undone) = facts.undoes {
            let note = self.note(asking.audit.clone()).await?;
            let ask = self.undo_ask(&rules, &asking, note);
            let runs = self.runs();
            return runs.approve_undo(&turn, (run, facts), undone, &ask).await;
        }
        if run.mode == Mode::Import {
            return self.approve_import(&turn, &run, facts, &asking).await;
        }
        let config = self.realm_config(&run.realm)?;
        let me = self.within(&turn);
        let applied = Box::pin(me.approve_in_turn(&run, facts, config, &asking));
        // Whoever has the realm by now decides about the plan; here is nothing to wait for.
        if let Some(run) = turn.work(applied).await? {
            return Ok(Decided::just(run));
        }
        drop(turn);
        self.another_plan(&run, config, &asking).await
    }

    /// Looks again and applies; `None`: directory or store no longer agree with the plan.
    async fn approve_in_turn(
        &self,
        run: &Run,
        facts: RunFacts,
        config: &RealmConfig,
        asking: &DecisionOptions,
    ) -> Result<Option<Run>, RunError> {
        let row = self.row(&run.realm).await?;
        let stopped = || {
            RunError::Stopped(format!(
                "stopped before the end; nothing was applied, and plan {:#} still waits for a decision",
                run.run
            ))
        };
        let mut prepared = tokio::select! {
            () = asking.cancel.cancelled() => return Err(stopped()),
            prepared = prepare(self, config, &row, asking.accept_older) => prepared.map_err(|e| not_approved(run, e))?,
        };
        if facts.mapping_hash.as_deref() != Some(&prepared.mapping_hash) {
            let text = format!(
                "the mapping of realm `{}` (base, filter, attributes, phone rules), what it sends (`new-users`, `on-phone-change`, `[delivery]`) or `phone-authority` is another one than when plan {:#} was made: run `sync {}` for a plan of the new one",
                run.realm, run.run, run.realm
            );
            return Err(RunError::Refused(text));
        }
        let now = self.clock.now();
        let agrees = tokio::select! {
            () = asking.cancel.cancelled() => return Err(stopped()),
            agrees = self.look_again(run, &row, &mut prepared, now) => agrees?,
        };
        if !agrees {
            return Ok(None);
        }
        // A look at some says nothing of the realm: not what another mapping does to the others, nor that all were seen.
        let whole = matches!(run.mode, Mode::Full | Mode::Adopt);
        let several = run.mode != Mode::User;
        let update = RealmUpdate {
            mapping_hash: facts.mapping_hash.clone().filter(|_| whole),
            directory: Some(prepared.directory_key()),
            first_applied_at: whole.then_some(now),
            clock_ms: None,
            last_complete_at: whole.then_some(now),
            window_from: Some(window::anew(&row, now, several && run.moved > 0)),
            seen_state: prepared
                .accepted_state()
                .filter(|_| whole)
                .or(facts.facts.clone())
                .filter(|_| several),
            id_form: Some(prepared.scope.id_form),
            // What was marked meanwhile may be what this plan was too early for.
            due: (whole && row.due).then_some(false),
            // What happened meanwhile is told from where the last applied run stood.
            cursor: CursorUpdate::Same,
            following: Following::renewed(&row, config, &configuration(config, &prepared))
                .filter(|_| whole),
        };
        let messages = self.messages(config, now).await?;
        let by = asking.by.as_deref();
        let note = self.note(asking.audit.clone()).await?;
        let applied = held::apply(
            &self.store.noting(held::approved(note, run)),
            (run, facts),
            by,
            now,
            update,
            messages,
            None,
        )
        .await?;
        if applied.is_some() {
            self.after_approved(&run.realm).await;
        }
        Ok(applied)
    }

    /// Directory or store no longer agree with the plan: a new one is made, and held.
    async fn another_plan(
        &self,
        old: &Run,
        config: &RealmConfig,
        asking: &DecisionOptions,
    ) -> Result<Decided, RunError> {
        let mut ask = asking.ask(old.run);
        ask.full = true;
        let (run, _) = self
            .run_whatever(&config.id, &ask, RunPurpose::Hold)
            .await?;
        Ok(Decided::of_held(old.run, run))
    }
}

/// A server that is behind, said to who approves.
fn not_approved(run: &Run, error: RunFailure) -> RunError {
    if error.code != Some(ErrorCode::Stale) {
        return error.into();
    }
    RunError::Failed {
        code: ErrorCode::Stale,
        message: error.message.replace(
            "`sync --accept-older` takes",
            &format!("`approve {} --accept-older` takes", run.run),
        ),
    }
}
