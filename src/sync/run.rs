//! One run from its first row to its last: begin, pass, weigh, then apply, hold or fail.

use std::collections::BTreeSet;

use tracing::Instrument as _;

use super::delta::Told;
use super::doing::Doing;
use super::drift::learn;
use super::following::{Beginning, resume};
use super::pass::Pass;
use super::prepare::{PassError, Prepared, mapping_of, prepare};
use super::{Ask, Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::model::{
    ChangeKind, DirectoryId, ErrorCode, HeldBy, JobType, Limit, Mode, Outcome, RealmId, RealmRow,
    Run, RunId,
};
use crate::plan::brake::{Weighing, messages_of, weigh};
use crate::runs::{self, Lines, Plan, window};
use crate::store::{
    Application, CLOCKS_DIFFER_MS, RealmLock, RealmUpdate, Resume, RunFacts, Staged, Store,
    StoreError,
};

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// As the brake says.
    ByTheBrake,
    /// The same, after a delta: what is found in spite of it is counted as drift.
    Measured,
    /// That delta: nothing at all where there is no cursor to go on from.
    Ahead,
    /// Held whatever the brake says.
    Hold,
    /// Nothing is written at all: the plan is staged in a store of its own, and only looked at.
    Dry,
}

/// What [`Engine::carry_out`] came to.
pub(super) struct Carried {
    /// Of a dry run, the plan.
    pub lines: Lines,
    /// With the session, for the next run.
    pub prepared: Prepared,
    /// Who must wait until they are weighed with those that are still to be told.
    pub losing: BTreeSet<DirectoryId>,
}

impl Carried {
    fn to(lines: Lines, prepared: Prepared) -> Self {
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
        ask: &Ask,
        ending: Ending,
    ) -> Result<(Run, Lines), EngineError> {
        let row = self.row(realm).await?;
        if ending != Ending::Dry {
            self.may_run(&row, ask)?;
        }
        if ask
            .tick
            .is_some_and(|tick| tick_done(&row, tick, self.clock.now()))
        {
            return Err(EngineError::TickDone);
        }
        Box::pin(self.run_locked(realm, ask, ending, false)).await
    }

    /// The same, also on a paused realm: what an administrator decides about a held plan goes on there.
    pub(super) async fn run_whatever(
        &self,
        realm: &RealmId,
        ask: &Ask,
        ending: Ending,
    ) -> Result<(Run, Lines), EngineError> {
        self.run_locked(realm, ask, ending, true).await
    }

    /// Whether a realm takes a run now, by what is known of it.
    fn may_run(&self, row: &RealmRow, ask: &Ask) -> Result<(), EngineError> {
        let realm = &row.id;
        if row.is_paused(self.clock.now()) {
            return Err(EngineError::Refused(format!(
                "realm `{realm}` is paused: `resume {realm}` lets it run again"
            )));
        }
        if ask.user.is_none() {
            return Ok(());
        }
        if row.first_applied_at.is_none() {
            return Err(EngineError::Refused(format!(
                "realm `{realm}` had no full pass yet: run `sync {realm}` first"
            )));
        }
        if let Some(held) = row.held {
            return Err(EngineError::Refused(format!(
                "plan {held:#} of realm `{realm}` waits for a decision: `approve` or `reject` it first"
            )));
        }
        Ok(())
    }

    async fn run_locked(
        &self,
        realm: &RealmId,
        ask: &Ask,
        ending: Ending,
        whatever: bool,
    ) -> Result<(Run, Lines), EngineError> {
        let config = self.realm_config(realm)?;
        let now = self.clock.now();
        if ending == Ending::Dry {
            let row = self.row(realm).await?;
            let run = Self::new_run(realm, ask, now);
            return self.passed(run, config, &row, ask, ending, None).await;
        }
        let lock = self.store.lock_realm(realm).await?;
        let me = self.fenced(&lock);
        if let Some(former) = lock.taken_over_from() {
            me.store.end_abandoned(realm, Some(former), now).await?;
        }
        // Read under the lock: another run may just have ended, an undo for one, after which none may follow.
        let mut row = me.row(realm).await?;
        if row.left_out_until.is_some_and(|end| end <= now) {
            me.end_rejected().await?;
            row = me.row(realm).await?;
        }
        if let Some(held) = row.held
            && me.expire(held).await?
        {
            row = me.row(realm).await?;
        }
        if !whatever {
            me.may_run(&row, ask)?;
        }
        let run = Self::new_run(realm, ask, now);
        me.passed(run, config, &row, ask, ending, Some(&lock)).await
    }

    /// A run of a realm that is ours, to its last row.
    async fn passed(
        &self,
        mut run: Run,
        config: &RealmConfig,
        row: &RealmRow,
        ask: &Ask,
        ending: Ending,
        lock: Option<&RealmLock>,
    ) -> Result<(Run, Lines), EngineError> {
        let mut doing = Doing {
            config,
            row,
            ask,
            ending,
            started: tokio::time::Instant::now(),
            begun: false,
            losses_wait: false,
        };
        if let (true, Some(held)) = (doing.quiet(), row.held) {
            self.only_due(&doing).await?;
            return Ok((self.store.run(&held.to_string()).await?, Lines::none()));
        }
        if !doing.quiet() && !doing.begin(self, &run).await? {
            return Err(EngineError::TickDone);
        }
        let span = tracing::info_span!("run", run = %run.run, realm = %row.id);
        let pass = Box::pin(self.pass(&mut run, &mut doing)).instrument(span);
        let lost = async {
            match lock {
                Some(lock) => lock.lost().await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = pass => outcome,
            () = lost => Err(StoreError::TakenOver.into()),
        };
        match outcome {
            Ok(lines) => Ok((run, lines)),
            Err(error) if error.nobody => {
                if doing.begun {
                    self.store.drop_run(run.run).await?;
                }
                Err(EngineError::NotFound(error.message))
            }
            Err(error) => {
                match doing.failed(self, &mut run, &error).await {
                    Ok(()) => Ok((run, Lines::none())),
                    Err(taken @ StoreError::TakenOver) => {
                        run.outcome = Outcome::Failed;
                        run.error_code = Some(taken.code());
                        run.error = Some(taken.to_string());
                        // What was committed before it was taken over is what counts.
                        let there = self.store.run(&run.run.to_string()).await;
                        let decided = there.ok().filter(|r| r.error_code.is_none());
                        Ok((decided.unwrap_or(run), Lines::none()))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn pass(&self, run: &mut Run, doing: &mut Doing<'_>) -> Result<Lines, PassError> {
        let (config, row, ask) = (doing.config, doing.row, doing.ask);
        if row.first_applied_at.is_none() {
            // Every number is read, and connecting takes a while.
            let region = config.phone.region.clone();
            drop(tokio::task::spawn_blocking(move || {
                crate::normalise::warm_up(region.as_deref());
            }));
        }
        let mut prepared = tokio::select! {
            () = ask.cancel.cancelled() => return Err(PassError::cancelled()),
            prepared = stage("connect", prepare(self, config, row, ask.accept_older)) => prepared?,
        };
        run.server = prepared.server();
        let beginning = tokio::select! {
            () = ask.cancel.cancelled() => return Err(PassError::cancelled()),
            beginning = stage("changes", self.begin(run, config, row, ask, &mut prepared, doing.ending)) => beginning?,
        };
        if doing.ending == Ending::Ahead && run.mode != Mode::Delta {
            return Err(PassError::cancelled());
        }
        if let (true, Beginning::Delta { since, delta }) = (doing.quiet(), &beginning)
            && delta.is_empty()
            && !self.waits_no_longer(row, &prepared).await?
        {
            if row.due {
                self.store.set_due(&row.id, false).await?;
            }
            if let Some(cursor) = &delta.cursor {
                self.move_cursor(&row.id, since, cursor).await?;
            }
            run.outcome = Outcome::Unchanged;
            run.decided_at = Some(self.clock.now());
            run.elapsed_ms = elapsed(doing.started);
            return Ok(Lines::none());
        }
        doing.begin(self, run).await?;
        let carried = Box::pin(self.carry_out(run, doing, prepared, beginning)).await?;
        Ok(carried.lines)
    }

    /// From what the directory said to what is stored. Gives the session back. Where losses wait and there are some, nothing is
    /// stored and the run has no end.
    pub(super) async fn carry_out(
        &self,
        run: &mut Run,
        doing: &Doing<'_>,
        prepared: Prepared,
        beginning: Beginning,
    ) -> Result<Carried, PassError> {
        let (config, row, ask, ending) = (doing.config, doing.row, doing.ask, doing.ending);
        let deadline = prepared.deadline;
        let store = if ending == Ending::Dry {
            Box::pin(Store::scratch()).await?
        } else {
            self.store.clone()
        };
        let mut plan = Plan::new(
            run.run,
            row.id.clone(),
            ask.by.clone(),
            run.started_at,
            row.first_applied_at.is_none(),
            store,
        );
        let whole = matches!(beginning, Beginning::Full { .. }) && ask.user.is_none();
        if whole && ending != Ending::Dry {
            plan.lay_aside().await?;
        }
        let mut pass = Pass::new(self, config, row, prepared, plan, run.started_at).await?;
        pass.learn_rejected().await?;
        let is_delta = run.mode == Mode::Delta;
        let (following, cursor) = match &beginning {
            Beginning::Full {
                following: Some(following),
                cursor,
            } => (Some(following.clone()), resume(cursor.as_ref())),
            Beginning::Delta { delta, .. } if delta.cursor.is_some() => {
                (None, resume(delta.cursor.as_ref()))
            }
            _ => (None, Resume::Same),
        };
        let looked = async {
            match (&ask.user, beginning) {
                (Some(name), _) => pass.one(name, ask).await,
                (None, Beginning::Delta { delta, .. }) => {
                    let alive = pass.prepared.session()?.liveness();
                    alive.beside(Box::pin(pass.delta(delta, ask))).await
                }
                (None, Beginning::Full { .. }) => pass.full(ask).await,
            }
        };
        let late = || {
            PassError::new(
                ErrorCode::Incomplete,
                "run-timeout is over; nothing was applied. Raise `run-timeout`, or look at what slows the directory down",
            )
        };
        let looked = tokio::time::timeout_at(deadline, looked)
            .await
            .unwrap_or_else(|_| Err(late()));
        run.seen = pass.seen;
        (run.refused_entries, run.refused_phones) = pass.refused();
        if let Err(mut error) = looked {
            if error.code == Some(ErrorCode::Empty) && !error.nobody {
                error.refused = Some(pass.refused_diff().await?);
            }
            return Err(error);
        }
        if doing.losses_wait {
            let losing = pass.told.as_ref().map(Told::wait).unwrap_or_default();
            if !losing.is_empty() {
                return Ok(Carried {
                    losing,
                    ..Carried::to(Lines::none(), pass.prepared)
                });
            }
        }
        crate::failpoint::hit("plan.complete");
        let complete = ask.user.is_none() && !is_delta;
        if complete && !pass.prepared.unproved.is_empty() {
            return Err(never_came(&pass.prepared.unproved));
        }
        run.complete = complete;
        if let Some(found) = pass.drift(ending, following.as_ref()).await? {
            found.say(run);
        }
        let held_by = self.weigh(&pass, ending).await?;
        // One person's look measures no absence: what was refused elsewhere in the realm is not gone.
        let refused = if ask.user.is_some() || ending == Ending::Dry {
            None
        } else {
            Some(pass.refused_diff().await?)
        };
        let facts = RunFacts {
            plan_hash: Some(pass.plan.hash.hex()),
            mapping_hash: Some(pass.prepared.mapping_hash.clone()),
            first_pass: pass.first,
            facts: pass.prepared.seen_state(row, run.complete),
            ..RunFacts::default()
        };
        count(run, &pass.plan, config);
        run.held_by = held_by;
        run.decided_at = Some(self.clock.now());
        run.elapsed_ms = elapsed(doing.started);
        let empty = pass.plan.is_empty(config.delivery.is_some());
        if ending == Ending::Dry {
            run.outcome = if !run.held_by.is_empty() {
                Outcome::Held
            } else if empty {
                Outcome::Unchanged
            } else {
                Outcome::Applied
            };
            let form = pass.prepared.scope.id_form;
            let lines = pass.plan.into_lines(run, form);
            return Ok(Carried::to(lines, pass.prepared));
        }
        if !run.held_by.is_empty() {
            run.outcome = Outcome::Held;
            // A first plan shows ids too, and nothing is applied that could remember how.
            let form = pass.prepared.scope.id_form;
            if row.id_form != Some(form) {
                self.store.remember_id_form(&row.id, form).await?;
            }
            pass.plan.put_in_line().await?;
            self.hold(run, row, pass.plan.lies(), facts, refused)
                .await?;
            return Ok(Carried::to(Lines::none(), pass.prepared));
        }
        let messages = self
            .messages(config, Some(run.run), run.started_at)
            .await
            .map_err(|e| PassError::new(ErrorCode::Store, e.to_string()))?;
        run.outcome = if empty {
            Outcome::Unchanged
        } else {
            Outcome::Applied
        };
        let whole = ask.user.is_none();
        let full = whole && !is_delta;
        let update = RealmUpdate {
            mapping_hash: full.then(|| pass.prepared.mapping_hash.clone()),
            directory: Some(pass.prepared.directory_key()),
            first_applied_at: full.then_some(run.started_at),
            clock_ms: full.then_some(pass.clock_ms),
            last_complete_at: full.then_some(run.started_at),
            window_from: (full && pass.first)
                .then(|| window::anew(row, run.decided_at.unwrap_or(run.started_at), false)),
            seen_state: if whole { facts.facts.clone() } else { None },
            id_form: Some(pass.prepared.scope.id_form),
            // What was marked meanwhile may be what this run was too early for.
            due: (whole && row.due).then_some(false),
            cursor,
            following: following.and_then(|mut following| {
                learn(&mut following, run, &pass.untold, config.directory.changes);
                following.text()
            }),
        };
        let application = Application {
            run,
            facts,
            realm: update,
            refused,
            messages: &messages,
            replaces: if full { row.held } else { None },
            staged: pass.plan.lies(),
        };
        *run = stage("apply", self.store.apply(application)).await?;
        self.after_applied(&pass).await;
        Ok(Carried::to(Lines::none(), pass.prepared))
    }

    /// Everything that may hold the plan, in words that the run shows.
    async fn weigh(&self, pass: &Pass<'_>, ending: Ending) -> Result<Vec<HeldBy>, PassError> {
        let (row, plan) = (pass.row, &pass.plan);
        let delivers = pass.realm.delivery.is_some();
        if plan.is_empty(delivers) {
            return Ok(vec![]);
        }
        let window = window::applied(&self.store, row, pass.now).await?;
        let of = pass.users(&plan.counts, &window).await?;
        let mut held = weigh(&Weighing {
            config: &pass.realm.brake,
            counts: &plan.counts,
            window: &window,
            of,
            first_pass: pass.first,
        });
        let mut also = |limit: &str, count: i64, allowed: i64| {
            held.push(HeldBy {
                limit: limit.into(),
                count,
                of,
                allowed,
            });
        };
        for (_, gone) in &pass.gone_containers {
            also("container", *gone, 2);
        }
        let other_mapping = row
            .mapping_hash
            .as_ref()
            .is_some_and(|hash| mapping_of(hash) != mapping_of(&pass.prepared.mapping_hash));
        if other_mapping && plan.touched() > 0 {
            also("mapping", plan.touched(), 0);
        }
        let moved = plan.counts.of(ChangeKind::Moved);
        if moved > 0 && !window::took_over_before(row) {
            also("moved", moved, 0);
        }
        let messages = if pass.first {
            plan.messages
        } else {
            plan.uncounted
        };
        if messages > pass.realm.brake.floor && delivers {
            also("messages", messages, pass.realm.brake.floor);
        }
        let changes: i64 = ChangeKind::ALL.iter().map(|k| plan.counts.of(*k)).sum();
        let decided = if changes > 0 { changes } else { plan.messages };
        if pass.realm.approve {
            also("approve", decided, 0);
        }
        if ending == Ending::Hold && held.is_empty() {
            held.push(HeldBy {
                limit: "asked".into(),
                count: decided,
                of,
                allowed: 0,
            });
        }
        if !held.is_empty() && pass.told.is_some() {
            let of = self.store.not_removed(&row.id).await?;
            for by in &mut held {
                by.of = of;
            }
        }
        Ok(held)
    }

    /// Keeps the plan for an administrator; the same plan as the one that waits already only confirms that one.
    async fn hold(
        &self,
        run: &mut Run,
        row: &RealmRow,
        staged: Staged,
        facts: RunFacts,
        refused: Option<crate::store::RefusedDiff>,
    ) -> Result<(), PassError> {
        if let Some(waiting) = row.held {
            let its = self.store.run_facts(waiting).await?;
            // One that does not fit the store any more could never be approved, though it says the same.
            if its.plan_hash == facts.plan_hash
                && its.mapping_hash == facts.mapping_hash
                && self.store.plan_fits(waiting).await?
            {
                self.store.confirm_held(waiting).await?;
                self.store.drop_run(run.run).await?;
                *run = self.store.run(&waiting.to_string()).await?;
                return Ok(());
            }
        }
        let types: Vec<JobType> = Limit::ALL
            .iter()
            .filter(|l| run.held_by.iter().any(|h| h.limit == l.as_str()))
            .flat_map(|l| messages_of(*l).iter().copied())
            .collect();
        crate::failpoint::hit("hold.before");
        self.store
            .hold(run, staged, facts, refused, row.held, &types)
            .await?;
        crate::failpoint::hit("hold.after");
        if let Some(before) = self.store.rejected_before(run.run).await? {
            let by = before.by.as_deref().unwrap_or("somebody");
            tracing::warn!(realm = %row.id, run = %run.run, before = %before.run, by, "{}: plan {:#} has the same changes as {:#}, which {by} rejected: its cause is still there. Mend it, or `realmsync reject {:#} --for 24h` leaves these changes out for a day while the rest goes on", row.id, run.run, before.run, run.run);
        }
        Ok(())
    }

    pub(super) fn new_run(realm: &RealmId, ask: &Ask, now: Timestamp) -> Run {
        Run {
            run: RunId(runs::uuid_v7(now)),
            realm: realm.clone(),
            mode: if ask.adopt {
                Mode::Adopt
            } else if ask.user.is_some() {
                Mode::User
            } else {
                Mode::Full
            },
            trigger: ask.trigger,
            by: ask.by.clone(),
            outcome: Outcome::Running,
            complete: false,
            seen: 0,
            created: 0,
            updated: 0,
            renamed: 0,
            phone_changed: 0,
            phone_lost: 0,
            suspended: 0,
            restored: 0,
            removed: 0,
            moved: 0,
            refused_entries: 0,
            refused_phones: 0,
            jobs: 0,
            held_by: vec![],
            server: None,
            started_at: now,
            decided_at: None,
            elapsed_ms: 0,
            error_code: None,
            error: None,
            note: None,
            drift: None,
            computed: None,
            left_out: 0,
            left_out_until: None,
        }
    }

    pub(super) async fn row(&self, realm: &RealmId) -> Result<RealmRow, EngineError> {
        let missing = || {
            EngineError::NotFound(format!(
                "the store has no realm `{realm}` yet: run `sync` once without naming a realm, or start the daemon"
            ))
        };
        self.store.realm(realm).await?.ok_or_else(missing)
    }
}

/// Without a schema, silence is all that a typing error brings.
fn never_came(names: &[String]) -> PassError {
    let text = format!(
        "nobody has any value in {}, which [realm.attributes] names, and the server shows no schema that would have it: mend the name, let the account read it, or take it out",
        names.join(", ")
    );
    PassError::new(ErrorCode::Config, text)
}

/// Whether the pass of a tick was made; one that a wrong clock made in the future does not count.
fn tick_done(row: &RealmRow, tick: Timestamp, now: Timestamp) -> bool {
    row.last_tick_at
        .is_some_and(|done| done >= tick && done <= now.plus_ms(CLOCKS_DIFFER_MS))
}

/// Names a stage of the data path to whoever measures and logs it.
pub(super) fn stage<F: Future>(
    name: &'static str,
    doing: F,
) -> tracing::instrument::Instrumented<F> {
    doing.instrument(tracing::info_span!("stage", stage = name))
}

/// The counters of a run are those of its plan.
pub(super) fn count(run: &mut Run, plan: &Plan, realm: &RealmConfig) {
    let n = |kind| plan.counts.of(kind);
    run.created = n(ChangeKind::Created);
    run.updated = n(ChangeKind::Updated);
    run.renamed = n(ChangeKind::Renamed);
    run.phone_changed = n(ChangeKind::PhoneChanged);
    run.phone_lost = n(ChangeKind::PhoneLost);
    run.suspended = n(ChangeKind::Suspended);
    run.restored = n(ChangeKind::Restored);
    run.removed = n(ChangeKind::Removed);
    run.moved = n(ChangeKind::Moved);
    run.left_out = i64::try_from(plan.left_out.len()).unwrap_or(i64::MAX);
    run.left_out_until = plan.rejected.until.filter(|_| run.left_out > 0);
    // Without a delivery nothing is ever said.
    run.jobs = if realm.delivery.is_some() {
        plan.messages
    } else {
        0
    };
}

pub(super) fn elapsed(started: tokio::time::Instant) -> i64 {
    i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX)
}
