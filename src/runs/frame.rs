//! The frame of a run, whoever makes it.
//!
//! ```text
//! Turn ─▶ begin ─▶ a plan is made ─▶ finish ─▶ weighed ─┬─ passes ──────▶ applied │ unchanged
//!                        │                              ├─ does not ────▶ held
//!                        ▼                              └─ only looked at
//!                      fail ─▶ failed │ cancelled
//! ```

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::weigh::{Reason, Users, limits};
use super::{PlanBuilder, RunError, RunFailure, stage, uuid_v7};
use crate::clock::{Clock, Timestamp};
use crate::config::BrakeConfig;
use crate::model::{
    AuditEntry, ErrorCode, HeldBy, IdForm, JobType, Limit, Mode, Outcome, RealmId, RealmRow, Run,
    RunId, Trigger,
};
use crate::plan::brake::messages_of;
use crate::store::{
    Application, AuditKey, AuditNote, MessageContext, RealmUpdate, RefusedDiff, RunFacts, Store,
    StoreError,
};

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PlanDisposition {
    /// As the brake says.
    ByTheBrake,
    /// Held whatever the brake says.
    Hold,
    /// Nothing is written at all: the plan is staged in a store of its own, and only looked at.
    Dry,
}

/// A run under way, from its first row to its last.
pub(crate) struct Frame<'a> {
    /// As it will be written. Whoever makes the plan adds what they find: `seen`, `note`, `server`, `mode`.
    pub run: Run,
    /// Fenced by the realm's lock, unless it is a dry run.
    store: Store,
    clock: Clock,
    row: &'a RealmRow,
    ending: PlanDisposition,
    /// The newest tick of the schedule that it makes up for.
    tick: Option<Timestamp>,
    /// What the audit says of who asked.
    note: Option<AuditNote>,
    started: Instant,
    begun: bool,
}

/// What a run came to, to be weighed and then applied or held.
pub(crate) struct Finished<'p> {
    /// All of it.
    pub plan: &'p mut PlanBuilder,
    /// The realm's limits.
    pub brake: &'p BrakeConfig,
    /// What the limits are percentages of.
    pub users: Users,
    /// What holds the plan beside the limits. A plan that changes nobody and says nothing is never held.
    pub reasons: Vec<Reason>,
    /// What else the run is known by: `mapping_hash`, `facts` and `undoes`. The frame knows the rest.
    pub facts: RunFacts,
    /// How the realm's directory prints its ids, for whoever reads the plan.
    pub id_form: Option<IdForm>,
    /// What the realm remembers of a run that is applied or found nothing to change. Asked only then.
    pub remembers: Box<dyn FnOnce(&Run) -> RealmUpdate + Send + 'p>,
    /// What is refused by now; `None`: as before.
    pub refused: Option<RefusedDiff>,
    /// A held plan whose place this one takes if it is applied. One that is held takes the place of any.
    pub replaces: Option<RunId>,
    /// Whether there is anywhere to send messages to.
    pub delivers: bool,
    /// What messages are made with. Asked only where something is applied: a plan that is held needs no key.
    pub messages: MadeWith<'p>,
    /// The line of the audit about it, where something is applied, and the key that it is written under.
    pub audit: Option<(AuditEntry, AuditKey)>,
}

/// What the messages of a run are made with, once it is asked. The run is set by the frame.
pub(crate) type MadeWith<'m> = BoxFuture<'m, Result<MessageContext, RunError>>;

/// The first row of a run.
pub(crate) fn new_run(
    realm: &RealmId,
    mode: Mode,
    trigger: Trigger,
    by: Option<String>,
    now: Timestamp,
) -> Run {
    let run = RunId(uuid_v7(now));
    Run {
        mode,
        trigger,
        by,
        ..Run::begun(run, realm.clone(), now)
    }
}

impl<'a> Frame<'a> {
    /// A run of which the store does not know yet. `row` was read under the lock.
    pub fn new(
        store: Store,
        clock: Clock,
        row: &'a RealmRow,
        run: Run,
        ending: PlanDisposition,
    ) -> Self {
        Self {
            run,
            store,
            clock,
            row,
            ending,
            tick: None,
            note: None,
            started: Instant::now(),
            begun: false,
        }
    }

    /// The same for a tick of the schedule.
    pub fn for_tick(self, tick: Option<Timestamp>) -> Self {
        Self { tick, ..self }
    }

    /// The same for somebody who asked: the audit says so as soon as the store knows of the run.
    pub fn noting(self, note: Option<AuditNote>) -> Self {
        Self { note, ..self }
    }

    /// Whether the store knows of the run.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Makes the run known, once. `false`: it is a tick's, and another daemon made that.
    pub async fn begin(&mut self) -> Result<bool, StoreError> {
        if self.begun || self.ending == PlanDisposition::Dry {
            return Ok(true);
        }
        let running = Run {
            outcome: Outcome::Running,
            ..self.run.clone()
        };
        let first = self.row.first_applied_at.is_none();
        let note = self.note.take();
        let note = note.map(|note| note.about(running.run, &running.realm));
        let store = self.store.noting(note);
        self.begun = store.begin_run(&running, first, self.tick).await?;
        Ok(self.begun)
    }

    /// Nothing was found, and nothing is written.
    pub fn unchanged(&mut self) {
        self.run.outcome = Outcome::Unchanged;
        self.decided();
    }

    /// It was no run after all.
    pub async fn forget(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.begun) {
            self.store.drop_run(self.run.run).await?;
        }
        Ok(())
    }

    /// Weighs the plan, and applies or holds it, or only says what would become of it.
    ///
    /// [`Frame::run`] has the end then; where the plan is the one that is held already, it is that one's run.
    pub async fn finish(&mut self, finished: Finished<'_>) -> Result<(), RunError> {
        let Finished {
            plan,
            brake,
            users,
            reasons,
            mut facts,
            id_form,
            remembers,
            refused,
            replaces,
            delivers,
            messages,
            audit,
        } = finished;
        let empty = plan.is_empty(delivers);
        self.run.held_by = if empty {
            vec![]
        } else {
            self.weigh(plan, brake, users, &reasons).await?
        };
        plan.count_in(&mut self.run, delivers);
        self.decided();
        facts.plan_hash = Some(plan.hash.hex());
        facts.first_pass = plan.first();
        self.run.outcome = if !self.run.held_by.is_empty() {
            Outcome::Held
        } else if empty {
            Outcome::Unchanged
        } else {
            Outcome::Applied
        };
        if self.ending == PlanDisposition::Dry {
            return Ok(());
        }
        if self.run.outcome == Outcome::Held {
            // A first plan shows ids too, and nothing is applied that could remember how.
            if let Some(form) = id_form.filter(|form| self.row.id_form != Some(*form)) {
                self.store.remember_id_form(&self.row.id, form).await?;
            }
            plan.put_in_line().await?;
            return Ok(self.hold(plan, facts, refused).await?);
        }
        let messages = MessageContext {
            run: Some(self.run.run),
            ..messages.await?
        };
        let application = Application {
            run: &self.run,
            facts,
            realm: remembers(&self.run),
            refused,
            messages: &messages,
            replaces,
            staged: plan.lies(),
            // What changed nothing leaves no line.
            audit: audit
                .as_ref()
                .filter(|_| !empty)
                .map(|(entry, key)| (entry, key)),
        };
        self.run = stage("apply", Box::pin(self.store.apply(application))).await?;
        Ok(())
    }

    /// Everything that may hold the plan, in words that the run shows.
    async fn weigh(
        &self,
        plan: &PlanBuilder,
        brake: &BrakeConfig,
        users: Users,
        reasons: &[Reason],
    ) -> Result<Vec<HeldBy>, StoreError> {
        let (store, row, now) = (&self.store, self.row, self.run.started_at);
        let (mut held, of) = limits(store, row, brake, users, &plan.counts, now).await?;
        held.extend(reasons.iter().map(|reason| reason.held_by(of)));
        if self.ending == PlanDisposition::Hold && held.is_empty() {
            held.push(Reason::asked(plan).held_by(of));
        }
        if !held.is_empty() && users == Users::AsNeeded {
            let of = store.not_removed(&row.id).await?;
            for by in &mut held {
                by.of = of;
            }
        }
        Ok(held)
    }

    /// Keeps the plan for an administrator; the same plan as the one that waits already only confirms that one.
    async fn hold(
        &mut self,
        plan: &PlanBuilder,
        facts: RunFacts,
        refused: Option<RefusedDiff>,
    ) -> Result<(), StoreError> {
        let (store, row) = (&self.store, self.row);
        if let Some(waiting) = row.held {
            let its = store.run_facts(waiting).await?;
            // One that does not fit the store any more could never be approved, though it says the same.
            if its.plan_hash == facts.plan_hash
                && its.mapping_hash == facts.mapping_hash
                && store.plan_fits(waiting).await?
            {
                store.confirm_held(waiting).await?;
                store.drop_run(self.run.run).await?;
                self.run = store.run(&waiting.to_string()).await?;
                return Ok(());
            }
        }
        let run = &self.run;
        let types: Vec<JobType> = Limit::ALL
            .iter()
            .filter(|l| run.held_by.iter().any(|h| h.limit == l.as_str()))
            .flat_map(|l| messages_of(*l).iter().copied())
            .collect();
        // An undo comes again only when somebody asks for it, and so does a file.
        let comes_again = facts.undoes.is_none() && run.mode != Mode::Import;
        crate::failpoint::hit("hold.before");
        store
            .hold(run, plan.lies(), facts, refused, row.held, &types)
            .await?;
        crate::failpoint::hit("hold.after");
        if comes_again && let Some(before) = store.rejected_before(run.run).await? {
            let by = before.by.as_deref().unwrap_or("somebody");
            tracing::warn!(realm = %row.id, run = %run.run, before = %before.run, by, "{}: plan {:#} has the same changes as {:#}, which {by} rejected: its cause is still there. Mend it, or `realmsync reject {:#} --for 24h` leaves these changes out for a day while the rest goes on", row.id, run.run, before.run, run.run);
        }
        Ok(())
    }

    /// The run came to nothing. One of which the store did not hear yet is kept where that `is_news`.
    ///
    /// Where another daemon has taken the realm meanwhile, [`Frame::run`] is what was committed before that, if anything was.
    pub async fn fail(&mut self, why: &RunFailure, is_news: bool) -> Result<(), StoreError> {
        self.run.outcome = failed_as(why);
        self.run.error_code = why.code;
        self.run.error = Some(why.message.clone());
        self.decided();
        if self.ending == PlanDisposition::Dry || !(self.begun || is_news) {
            return Ok(());
        }
        match self.write_failure(why).await {
            Err(taken @ StoreError::TakenOver) => {
                self.run.outcome = Outcome::Failed;
                self.run.error_code = Some(taken.code());
                self.run.error = Some(taken.to_string());
                let there = self.store.run(&self.run.run.to_string()).await;
                if let Some(decided) = there.ok().filter(|r| r.error_code.is_none()) {
                    self.run = decided;
                }
                Ok(())
            }
            written => written,
        }
    }

    async fn write_failure(&mut self, why: &RunFailure) -> Result<(), StoreError> {
        self.begin().await?;
        // What could not be used is why there was nobody. Before the run is failed, which sweeps what it staged.
        if let Some(refused) = why.refused.clone() {
            let (realm, at) = (&self.row.id, self.run.started_at);
            self.store.add_refused(realm, refused, at).await?;
        }
        self.store.fail_run(&self.run).await
    }

    /// Whether the realm's last run failed for the same reason.
    pub async fn failed_so_before(&self, code: Option<ErrorCode>) -> Result<bool, StoreError> {
        let last = self.store.last_run(&self.row.id).await?;
        Ok(last.is_some_and(|last| (last.outcome, last.error_code) == (Outcome::Failed, code)))
    }

    fn decided(&mut self) {
        self.run.decided_at = Some(self.clock.now());
        self.run.elapsed_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
    }
}

/// Cancelled is no failure.
fn failed_as(why: &RunFailure) -> Outcome {
    if why.code.is_some() {
        Outcome::Failed
    } else {
        Outcome::Cancelled
    }
}
