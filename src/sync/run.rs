//! One run from its first row to its last: begin, pass, weigh, then apply, hold or fail.

use tracing::Instrument as _;

use super::pass::Pass;
use super::plan::Plan;
use super::prepare::{PassError, prepare, took_over_before, windows, windows_anew};
use super::{Ask, Engine, EngineError, uuid_v7};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::model::{
    Change, ChangeKind, ErrorCode, HeldBy, JobType, Limit, Mode, Outcome, RealmId, RealmRow, Run,
    RunId,
};
use crate::plan::brake::{Weighing, messages_of, weigh};
use crate::store::{Application, CLOCKS_DIFFER_MS, RealmLock, RealmUpdate, RunFacts, StoreError};

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As the brake says.
    ByTheBrake,
    /// Held whatever the brake says.
    Hold,
    /// Nothing is written at all.
    Dry,
}

impl Engine {
    /// A run of a realm that nobody else is running.
    pub(super) async fn run(
        &self,
        realm: &RealmId,
        ask: &Ask,
        ending: Ending,
    ) -> Result<(Run, Vec<Change>), EngineError> {
        let row = self.row(realm).await?;
        if ending != Ending::Dry
            && row.paused
            && row
                .paused_until
                .is_none_or(|until| until > self.clock.now())
        {
            return Err(EngineError::Refused(format!(
                "realm `{realm}` is paused: `resume {realm}` lets it run again"
            )));
        }
        if ask
            .tick
            .is_some_and(|tick| tick_done(&row, tick, self.clock.now()))
        {
            return Err(EngineError::TickDone);
        }
        Box::pin(self.run_whatever(realm, ask, ending)).await
    }

    /// The same, also on a paused realm: what an administrator decides about a held plan goes on there.
    pub(super) async fn run_whatever(
        &self,
        realm: &RealmId,
        ask: &Ask,
        ending: Ending,
    ) -> Result<(Run, Vec<Change>), EngineError> {
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
        // Read under the lock: another run may just have ended.
        let mut row = me.row(realm).await?;
        if let Some(held) = row.held {
            let facts = me.store.run_facts(held).await?;
            if me.expire(held, &facts).await? {
                row = me.row(realm).await?;
            }
        }
        let run = Self::new_run(realm, ask, now);
        let first = row.first_applied_at.is_none();
        if !me.store.begin_for_tick(&run, first, ask.tick).await? {
            return Err(EngineError::TickDone);
        }
        me.passed(run, config, &row, ask, ending, Some(&lock)).await
    }

    /// A run that has begun, to its last row.
    async fn passed(
        &self,
        mut run: Run,
        config: &RealmConfig,
        row: &RealmRow,
        ask: &Ask,
        ending: Ending,
        lock: Option<&RealmLock>,
    ) -> Result<(Run, Vec<Change>), EngineError> {
        let started = tokio::time::Instant::now();
        let span = tracing::info_span!("run", run = %run.run, realm = %row.id);
        let pass =
            Box::pin(self.pass(&mut run, config, row, ask, ending, started)).instrument(span);
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
            Ok(changes) => Ok((run, changes)),
            Err(error) if error.nobody => {
                if ending != Ending::Dry {
                    self.store.drop_run(run.run).await?;
                }
                Err(EngineError::NotFound(error.message))
            }
            Err(error) => {
                run.outcome = if error.code.is_some() {
                    Outcome::Failed
                } else {
                    Outcome::Cancelled
                };
                run.error_code = error.code;
                run.error = Some(error.message);
                run.elapsed_ms = elapsed(started);
                run.decided_at = Some(self.clock.now());
                if ending == Ending::Dry {
                    return Ok((run, vec![]));
                }
                match self.store.fail_run(&run).await {
                    Ok(()) => {
                        // What could not be used is why there was nobody.
                        if let Some(refused) = error.refused {
                            self.store
                                .add_refused(&row.id, refused, run.started_at)
                                .await?;
                        }
                        Ok((run, vec![]))
                    }
                    Err(taken @ StoreError::TakenOver) => {
                        run.outcome = Outcome::Failed;
                        run.error_code = Some(taken.code());
                        run.error = Some(taken.to_string());
                        // What was committed before it was taken over is what counts.
                        let there = self.store.run(&run.run.to_string()).await;
                        let decided = there.ok().filter(|r| r.error_code.is_none());
                        Ok((decided.unwrap_or(run), vec![]))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn pass(
        &self,
        run: &mut Run,
        config: &RealmConfig,
        row: &RealmRow,
        ask: &Ask,
        ending: Ending,
        started: tokio::time::Instant,
    ) -> Result<Vec<Change>, PassError> {
        let prepared = tokio::select! {
            () = ask.cancel.cancelled() => return Err(PassError::cancelled()),
            prepared = stage("connect", prepare(self, config, row, ask.accept_older)) => prepared?,
        };
        run.server = prepared.server();
        let deadline = prepared.deadline;
        let store = (ending != Ending::Dry).then(|| self.store.clone());
        let plan = Plan::new(
            run.run,
            row.id.clone(),
            ask.by.clone(),
            run.started_at,
            row.first_applied_at.is_none(),
            store,
        );
        let mut pass = Pass::new(self, config, row, prepared, plan, run.started_at).await?;
        let looked = async {
            match &ask.user {
                Some(name) => pass.one(name, ask).await,
                None => pass.full(ask).await,
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
                error.refused = Some(pass.refused_diff().await?.add);
            }
            return Err(error);
        }
        crate::failpoint::hit("plan.complete");
        run.complete = ask.user.is_none();
        let held_by = self.weigh(&pass, ending).await?;
        let refused = pass.refused_diff().await?;
        let facts = RunFacts {
            plan_hash: Some(pass.plan.hash.hex()),
            mapping_hash: Some(pass.prepared.mapping_hash.clone()),
            first_pass: pass.first,
            facts: pass.prepared.seen_state(row),
            ..RunFacts::default()
        };
        count(run, &pass.plan, config);
        run.held_by = held_by;
        run.decided_at = Some(self.clock.now());
        run.elapsed_ms = elapsed(started);
        let empty = pass.plan.counts.is_empty();
        if ending == Ending::Dry {
            run.outcome = if !run.held_by.is_empty() {
                Outcome::Held
            } else if empty {
                Outcome::Unchanged
            } else {
                Outcome::Applied
            };
            return Ok(pass.plan.into_changes());
        }
        // One person's look measures no absence: what was refused elsewhere in the realm is not gone.
        let refused = if ask.user.is_some() {
            None
        } else {
            Some(refused)
        };
        if !run.held_by.is_empty() {
            run.outcome = Outcome::Held;
            // A first plan shows ids too, and nothing is applied that could remember how.
            let form = pass.prepared.scope.id_form;
            if row.id_form != Some(form) {
                self.store.remember_id_form(&row.id, form).await?;
            }
            return self.hold(run, row, facts, refused).await.map(|()| vec![]);
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
        let full = ask.user.is_none();
        let update = RealmUpdate {
            mapping_hash: full.then(|| pass.prepared.mapping_hash.clone()),
            directory: Some(pass.prepared.directory_key()),
            first_applied_at: full.then_some(run.started_at),
            clock_ms: full.then_some(pass.clock_ms),
            last_complete_at: full.then_some(run.started_at),
            window_from: (full && pass.first)
                .then(|| windows_anew(row, run.decided_at.unwrap_or(run.started_at), false)),
            seen_state: if full { facts.facts.clone() } else { None },
            id_form: Some(pass.prepared.scope.id_form),
            due: full.then_some(false),
        };
        let application = Application {
            run,
            facts,
            realm: update,
            refused,
            messages: &messages,
            replaces: if full { row.held } else { None },
        };
        *run = stage("apply", self.store.apply(application)).await?;
        Ok(vec![])
    }

    /// Everything that may hold the plan, in words that the run shows.
    async fn weigh(&self, pass: &Pass<'_>, ending: Ending) -> Result<Vec<HeldBy>, PassError> {
        let (row, plan) = (pass.row, &pass.plan);
        let of = if pass.users_before > 0 {
            pass.users_before
        } else {
            self.store.not_removed(&row.id).await?
        };
        if plan.counts.is_empty() {
            return Ok(vec![]);
        }
        let window = self.store.window(&row.id, &windows(row, pass.now)).await?;
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
            .is_some_and(|hash| *hash != pass.prepared.mapping_hash);
        if other_mapping && plan.touched() > 0 {
            also("mapping", plan.touched(), 0);
        }
        let moved = plan.counts.of(ChangeKind::Moved);
        if moved > 0 && !took_over_before(row) {
            also("moved", moved, 0);
        }
        if pass.first && plan.messages > pass.realm.brake.floor && pass.realm.delivery.is_some() {
            also("messages", plan.messages, pass.realm.brake.floor);
        }
        if pass.realm.approve {
            also(
                "approve",
                ChangeKind::ALL.iter().map(|k| plan.counts.of(*k)).sum(),
                0,
            );
        }
        if ending == Ending::Hold && held.is_empty() {
            held.push(HeldBy {
                limit: "asked".into(),
                count: ChangeKind::ALL.iter().map(|k| plan.counts.of(*k)).sum(),
                of,
                allowed: 0,
            });
        }
        Ok(held)
    }

    /// Keeps the plan for an administrator; the same plan as the one that waits already only confirms that one.
    async fn hold(
        &self,
        run: &mut Run,
        row: &RealmRow,
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
            .hold(run, facts, refused, row.held, &types)
            .await?;
        crate::failpoint::hit("hold.after");
        Ok(())
    }

    pub(super) fn new_run(realm: &RealmId, ask: &Ask, now: Timestamp) -> Run {
        Run {
            run: RunId(uuid_v7(now)),
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
