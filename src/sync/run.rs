//! A pass of a directory within the frame of a run: begin, read, decide, and then what the frame makes of it.

use std::collections::BTreeSet;

use tracing::Instrument as _;

use super::changes::begin::{Beginning, resume};
use super::changes::drift::{learn, measure_drift};
use super::changes::drift_by_kind::ByKind;
use super::engine::Engine;
use super::pass::outcome::PassOutcome;
use super::pass::under_way::Pass;
use super::realm::following::Following;
use super::realm::prepare::prepare;
use super::realm::session::PreparedSession;
use super::run_request::{RunContext, RunPurpose, RunRequest};
use crate::clock::Timestamp;
use crate::model::{ChangeKind, DirectoryId, ErrorCode, Mode, Outcome, RealmId, RealmRow, Run};
use crate::runs::{
    Finished, Frame, Lines, PlanBuilder, RealmTurn, RunError, RunFailure, stage, window,
};
use crate::store::{CLOCKS_DIFFER_MS, CursorUpdate, RealmUpdate, RunFacts, Store};

/// What a realm is to remember of how it hears of changes.
struct Learnt {
    /// What a full pass found out about deltas.
    following: Option<Following>,
    cursor: CursorUpdate,
    /// Of a full pass that counted drift: whom deltas did not tell, by kind.
    untold: ByKind,
}

/// What [`Engine::read_and_decide`] came to.
pub(super) struct PassEnd {
    /// Of a dry run, the plan.
    pub lines: Lines,
    /// With the session, for the next run.
    pub prepared: PreparedSession,
    /// Who must wait until they are weighed with those that are still to be told.
    pub losing: BTreeSet<DirectoryId>,
}

impl PassEnd {
    fn to(lines: Lines, prepared: PreparedSession) -> Self {
        Self {
            lines,
            prepared,
            losing: BTreeSet::new(),
        }
    }
}

impl Engine {
    /// A run of a realm that nobody else is running.
    pub(super) async fn run(
        &self,
        realm: &RealmId,
        ask: &RunRequest,
        ending: RunPurpose,
    ) -> Result<(Run, Lines), RunError> {
        if ending == RunPurpose::Dry {
            return Box::pin(self.run_in_turn(realm, ask, ending, false)).await;
        }
        let row = self.row(realm).await?;
        self.may_run(&row, ask)?;
        if ask
            .tick
            .is_some_and(|tick| tick_done(&row, tick, self.clock.now()))
        {
            return Err(RunError::TickDone);
        }
        Box::pin(self.run_in_turn(realm, ask, ending, false)).await
    }

    /// The same, also on a paused realm: what an administrator decides about a held plan goes on there.
    pub(super) async fn run_whatever(
        &self,
        realm: &RealmId,
        ask: &RunRequest,
        ending: RunPurpose,
    ) -> Result<(Run, Lines), RunError> {
        self.run_in_turn(realm, ask, ending, true).await
    }

    /// Whether a realm takes a run now, by what is known of it.
    fn may_run(&self, row: &RealmRow, ask: &RunRequest) -> Result<(), RunError> {
        let realm = &row.id;
        if row.is_paused(self.clock.now()) {
            return Err(RunError::Refused(format!(
                "realm `{realm}` is paused: `resume {realm}` lets it run again"
            )));
        }
        if ask.user.is_none() {
            return Ok(());
        }
        if row.first_applied_at.is_none() {
            return Err(RunError::Refused(format!(
                "realm `{realm}` had no full pass yet: run `sync {realm}` first"
            )));
        }
        if let Some(held) = row.held {
            return Err(RunError::Refused(format!(
                "plan {held:#} of realm `{realm}` waits for a decision: `approve` or `reject` it first"
            )));
        }
        Ok(())
    }

    async fn run_in_turn(
        &self,
        realm: &RealmId,
        ask: &RunRequest,
        ending: RunPurpose,
        whatever: bool,
    ) -> Result<(Run, Lines), RunError> {
        let config = self.realm_config(realm)?;
        let asked = |row| RunContext {
            config,
            row,
            ask,
            ending,
        };
        if ending == RunPurpose::Dry {
            // A realm that is new in the file is declared once that is in force.
            let known = self.store.realm(realm).await?;
            let row = known.unwrap_or_else(|| RealmRow::new(realm.clone(), &config.name));
            return self.run_in_frame(asked(&row), None).await;
        }
        let turn = RealmTurn::take(&self.store, realm, self.clock.now()).await?;
        let me = self.within(&turn);
        // Read under the lock: another run may just have ended, an undo for one, after which none may follow.
        let row = me.runs().realm_by_now(realm).await?;
        if !whatever {
            me.may_run(&row, ask)?;
        }
        me.run_in_frame(asked(&row), Some(&turn)).await
    }

    /// A run of a realm that is ours, to its last row.
    async fn run_in_frame(
        &self,
        asked: RunContext<'_>,
        turn: Option<&RealmTurn>,
    ) -> Result<(Run, Lines), RunError> {
        let row = asked.row;
        if let (true, Some(held)) = (asked.quiet(), row.held) {
            self.only_due(&asked).await?;
            return Ok((self.store.run(&held.to_string()).await?, Lines::none()));
        }
        let note = self.note(asked.ask.audit.clone()).await?;
        let mut frame = asked.frame(self.store.clone(), self.clock.clone(), note);
        if !asked.quiet() && !frame.begin().await? {
            return Err(RunError::TickDone);
        }
        let span = tracing::info_span!("run", run = %frame.run.run, realm = %row.id);
        let pass = Box::pin(self.pass(&mut frame, &asked)).instrument(span);
        let outcome = match turn {
            Some(turn) => turn.work(pass).await,
            None => pass.await,
        };
        match outcome {
            Ok(lines) => Ok((frame.run, lines)),
            Err(error) if error.nobody => {
                frame.forget().await?;
                Err(RunError::NotFound(error.message))
            }
            Err(error) => {
                asked.failed(&mut frame, &error).await?;
                Ok((frame.run, Lines::none()))
            }
        }
    }

    async fn pass(
        &self,
        frame: &mut Frame<'_>,
        asked: &RunContext<'_>,
    ) -> Result<Lines, RunFailure> {
        let RunContext {
            config,
            row,
            ask,
            ending,
        } = *asked;
        if row.first_applied_at.is_none() {
            // Every number is read, and connecting takes a while.
            let region = config.phone.region.clone();
            drop(tokio::task::spawn_blocking(move || {
                crate::normalise::warm_up(region.as_deref());
            }));
        }
        let mut prepared = tokio::select! {
            () = ask.cancel.cancelled() => return Err(RunFailure::cancelled()),
            prepared = stage("connect", prepare(self, config, row, ask.accept_older)) => prepared?,
        };
        frame.run.server = prepared.server();
        let beginning = tokio::select! {
            () = ask.cancel.cancelled() => return Err(RunFailure::cancelled()),
            beginning = stage("changes", self.begin(&mut frame.run, config, row, ask, &mut prepared, ending)) => beginning?,
        };
        if ending == RunPurpose::Ahead && frame.run.mode != Mode::Delta {
            return Err(RunFailure::cancelled());
        }
        if let (true, Beginning::Delta { since, delta }) = (asked.quiet(), &beginning)
            && delta.is_empty()
            && !self.waits_no_longer(row, &prepared).await?
        {
            if row.due {
                self.store.set_due(&row.id, false).await?;
            }
            if let Some(cursor) = &delta.cursor {
                self.move_cursor(&row.id, since, cursor).await?;
            }
            frame.unchanged();
            return Ok(Lines::none());
        }
        frame.begin().await?;
        let carried = self.read_and_decide(frame, asked, prepared, beginning, false);
        Ok(Box::pin(carried).await?.lines)
    }

    /// From what the directory said to what is stored. Gives the session back. Where losses wait and there are some, nothing is
    /// stored and the run has no end.
    pub(super) async fn read_and_decide(
        &self,
        frame: &mut Frame<'_>,
        asked: &RunContext<'_>,
        prepared: PreparedSession,
        beginning: Beginning,
        losses_wait: bool,
    ) -> Result<PassEnd, RunFailure> {
        let RunContext {
            config,
            row,
            ask,
            ending,
        } = *asked;
        let run = &mut frame.run;
        let deadline = prepared.deadline;
        let store = if ending == RunPurpose::Dry {
            Box::pin(Store::scratch()).await?
        } else {
            self.store.clone()
        };
        let mut plan = PlanBuilder::new(
            run.run,
            row.id.clone(),
            ask.by.clone(),
            run.started_at,
            row.first_applied_at.is_none(),
            store,
        );
        let whole = matches!(beginning, Beginning::Full { .. }) && ask.user.is_none();
        if whole && ending != RunPurpose::Dry {
            plan.lay_aside().await?;
        }
        plan.learn_rejected(&self.store, row).await?;
        let mut pass = Pass::new(self, config, row, prepared, plan, run.started_at).await?;
        let is_delta = run.mode == Mode::Delta;
        let (following, cursor) = match &beginning {
            Beginning::Full {
                following: Some(following),
                cursor,
            } => (Some(following.clone()), resume(cursor.as_ref())),
            Beginning::Delta { delta, .. } if delta.cursor.is_some() => {
                (None, resume(delta.cursor.as_ref()))
            }
            _ => (None, CursorUpdate::Same),
        };
        let looked = async {
            match (&ask.user, beginning) {
                (Some(name), _) => pass.one(name, ask).await,
                (None, Beginning::Delta { delta, .. }) => pass.delta(delta, ask).await,
                (None, Beginning::Full { .. }) => pass.full(ask).await,
            }
        };
        let late = || {
            RunFailure::new(
                ErrorCode::Incomplete,
                "run-timeout is over; nothing was applied. Raise `run-timeout`, or look at what slows the directory down",
            )
        };
        let looked = tokio::time::timeout_at(deadline, looked)
            .await
            .unwrap_or_else(|_| Err(late()));
        pass.found.count_in(run);
        if let Err(mut error) = looked {
            if error.code == Some(ErrorCode::Empty) && !error.nobody {
                error.refused = Some(pass.refused_diff().await?);
            }
            return Err(error);
        }
        if losses_wait {
            let losing = pass.found.losing();
            if !losing.is_empty() {
                return Ok(PassEnd {
                    losing,
                    ..PassEnd::to(Lines::none(), pass.reading.prepared)
                });
            }
        }
        crate::failpoint::hit("plan.complete");
        let complete = ask.user.is_none() && !is_delta;
        if complete && !pass.reading.prepared.unproved.is_empty() {
            return Err(never_came(&pass.reading.prepared.unproved));
        }
        run.complete = complete;
        let (setting, plan) = (&pass.setting, &pass.found.plan);
        let (prepared, leaves) = (&mut pass.reading.prepared, following.as_ref());
        let drift = measure_drift(setting, prepared, plan, ending, leaves).await?;
        if let Some(drift) = &drift {
            drift.say(run);
        }
        // One person's look measures no absence: what was refused elsewhere in the realm is not gone.
        let refused = if ask.user.is_none() && ending != RunPurpose::Dry {
            Some(pass.refused_diff().await?)
        } else {
            None
        };
        let learnt = Learnt {
            following,
            cursor,
            untold: drift.map(|drift| drift.by_kind).unwrap_or_default(),
        };
        Box::pin(self.finish(frame, asked, pass.end(refused), learnt)).await
    }

    /// Everything is read and decided: what came out is given to the frame of the run.
    async fn finish(
        &self,
        frame: &mut Frame<'_>,
        asked: &RunContext<'_>,
        mut outcome: PassOutcome,
        learnt: Learnt,
    ) -> Result<PassEnd, RunFailure> {
        let RunContext {
            config,
            row,
            ask,
            ending,
        } = *asked;
        let run = &frame.run;
        let Learnt {
            following,
            cursor,
            untold,
        } = learnt;
        let whole = ask.user.is_none();
        let at = run.started_at;
        let messages = async move {
            let made_with = self.messages(config, at).await;
            made_with.map_err(|e| RunFailure::new(ErrorCode::Store, e.to_string()).into())
        };
        let facts = RunFacts {
            mapping_hash: Some(outcome.prepared.mapping_hash.clone()),
            facts: outcome.prepared.seen_state(row, run.complete),
            ..RunFacts::default()
        };
        let full = whole && run.mode != Mode::Delta;
        let id_form = outcome.prepared.scope.id_form;
        let other_mapping = outcome.other_mapping;
        let update = RealmUpdate {
            mapping_hash: full.then(|| outcome.prepared.mapping_hash.clone()),
            directory: Some(outcome.prepared.directory_key()),
            first_applied_at: full.then_some(run.started_at),
            clock_ms: full.then_some(outcome.clock_ms),
            last_complete_at: full.then_some(run.started_at),
            window_from: None,
            seen_state: if whole { facts.facts.clone() } else { None },
            id_form: Some(id_form),
            // What was marked meanwhile may be what this run was too early for.
            due: (whole && row.due).then_some(false),
            cursor,
            following: None,
        };
        let first = outcome.plan.first();
        let remembers = |run: &Run| {
            let decided_at = run.decided_at.unwrap_or(run.started_at);
            // What another mapping does to those who are left out has yet to be decided: so has the mapping.
            let decided = run.left_out == 0 || !other_mapping;
            RealmUpdate {
                mapping_hash: update.mapping_hash.filter(|_| decided),
                window_from: (full && first).then(|| window::anew(row, decided_at, false)),
                following: following.and_then(|mut following| {
                    learn(&mut following, run, &untold, config.directory.changes);
                    following.text()
                }),
                ..update
            }
        };
        let finished = Finished {
            plan: &mut outcome.plan,
            brake: &config.brake,
            users: outcome.users,
            reasons: outcome.reasons,
            facts,
            id_form: Some(id_form),
            remembers: Box::new(remembers),
            refused: outcome.refused,
            replaces: if full { row.held } else { None },
            delivers: config.delivery.is_some(),
            messages: Box::pin(messages),
            audit: None,
        };
        let weighed = frame.finish(finished).await;
        weighed.map_err(|error| RunFailure::from(&error))?;
        if ending == RunPurpose::Dry {
            let lines = outcome.plan.into_lines(&frame.run, id_form);
            return Ok(PassEnd::to(lines, outcome.prepared));
        }
        if frame.run.outcome != Outcome::Held && outcome.has_neighbours {
            let suspended = outcome.plan.counts.of(ChangeKind::Suspended);
            let directory = outcome.prepared.directory_key();
            self.after_applied(row, &directory, suspended).await;
        }
        Ok(PassEnd::to(Lines::none(), outcome.prepared))
    }
}

/// Without a schema, silence is all that a typing error brings.
fn never_came(names: &[String]) -> RunFailure {
    let text = format!(
        "nobody has any value in {}, which [realm.attributes] names, and the server shows no schema that would have it: mend the name, let the account read it, or take it out",
        names.join(", ")
    );
    RunFailure::new(ErrorCode::Config, text)
}

/// Whether the pass of a tick was made; one that a wrong clock made in the future does not count.
fn tick_done(row: &RealmRow, tick: Timestamp, now: Timestamp) -> bool {
    row.last_tick_at
        .is_some_and(|done| done >= tick && done <= now.plus_ms(CLOCKS_DIFFER_MS))
}
