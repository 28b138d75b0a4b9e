//! A new plan that puts back what a run changed.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::decided::undo_plan;
use super::pass::LOOK_UP;
use super::run::{count, elapsed};
use super::{Asking, Decided, Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::model::words;
use crate::model::{
    Change, ChangeKind, ErrorCode, Field, HeldBy, IdForm, Limit, Mode, Origin, Outcome, RealmId,
    RealmRow, Run, RunId, User, UserId,
};
use crate::plan::brake::{Weighing, messages_of, weigh};
use crate::plan::undo::{PutBack, put_back};
use crate::runs::{Plan, window};
use crate::store::{Application, RealmLock, RealmUpdate, Resume, RunFacts, Staged, StoreError};

/// Changes read at once.
const BATCH: i64 = 1000;

impl Engine {
    /// See [`Engine::undo`].
    pub(super) async fn undo_run(
        &self,
        prefix: &str,
        asking: Asking,
    ) -> Result<Decided, EngineError> {
        let target = self.store.run(prefix).await?;
        if target.outcome != Outcome::Applied {
            return Err(EngineError::Refused(format!(
                "run {:#} is {}: only an applied run can be undone",
                target.run, target.outcome
            )));
        }
        let lock = self.store.lock_realm(&target.realm).await?;
        let row = self.row(&target.realm).await?;
        if let Some(held) = row.held {
            return Err(EngineError::Refused(format!(
                "plan {held:#} of realm `{}` waits for a decision: `approve` or `reject` it first",
                row.id
            )));
        }
        self.undo_under(&lock, &target, &row, &asking).await
    }

    /// Undoes a run of a realm that is ours; a held plan for that, if there is one, is replaced by another one.
    async fn undo_under(
        &self,
        lock: &RealmLock,
        target: &Run,
        row: &RealmRow,
        asking: &Asking,
    ) -> Result<Decided, EngineError> {
        let config = self.realm_config(&target.realm)?;
        let me = self.fenced(lock);
        let now = self.clock.now();
        let mut run = Self::new_run(&target.realm, &asking.ask(), now);
        run.mode = Mode::Undo;
        me.store.begin_run(&run, false).await?;
        // Before anything else: what RUN wanted said and was not said yet must not go out while this is open.
        let on_hold = me.store.hold_jobs_for_undo(target.run, run.run, now).await;
        let undone = match on_hold {
            Ok(()) => tokio::select! {
                biased;
                undone = Box::pin(me.put_all_back(&mut run, target, config, row, &asking.cancel)) => undone,
                () = lock.lost() => Err(StoreError::TakenOver.into()),
            },
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &undone {
            run.outcome = Outcome::Failed;
            run.error_code = Some(match error {
                EngineError::Failed { code, .. } => *code,
                EngineError::Store(error) => error.code(),
                _ => ErrorCode::Store,
            });
            if let EngineError::Stopped(_) = error {
                (run.outcome, run.error_code) = (Outcome::Cancelled, None);
            }
            run.error = Some(error.to_string());
            run.decided_at = Some(self.clock.now());
            me.store.fail_run(&run).await?;
        }
        undone
    }

    /// Makes the plan, pauses the realm, and applies or holds it.
    async fn put_all_back(
        &self,
        run: &mut Run,
        target: &Run,
        config: &RealmConfig,
        row: &RealmRow,
        cancel: &CancellationToken,
    ) -> Result<Decided, EngineError> {
        let started = tokio::time::Instant::now();
        let now = run.started_at;
        let mut plan = undo_plan(self, run, run.by.clone(), now);
        let mut after = 0;
        let mut skipped = 0;
        let mut named = HashMap::new();
        let mut ids_after = HashMap::new();
        let untold: HashSet<UserId> = self
            .store
            .untold_by_undo(target.run)
            .await?
            .into_iter()
            .collect();
        let form = row.id_form.unwrap_or(IdForm::Uuid);
        loop {
            if cancel.is_cancelled() {
                return Err(EngineError::Stopped(format!(
                    "stopped before the end; nothing of run {:#} was put back",
                    target.run
                )));
            }
            let mut changes = self.store.changes(target.run, after, BATCH).await?;
            let Some(last) = changes.last().map(|c| c.user) else {
                break;
            };
            // The rows of one user stand together; those that the next batch may go on with wait for it.
            if i64::try_from(changes.len()).unwrap_or(0) == BATCH
                && changes.iter().any(|c| c.user != last)
            {
                changes.retain(|c| c.user != last);
            }
            after = changes.last().map_or(after, |c| c.seq);
            let ids: Vec<_> = changes.iter().map(|c| c.user).collect();
            let users = self.store.users_by_id(&ids).await?;
            for mut user in users {
                if untold.contains(&user.id) {
                    (user.phone_told, user.told) = (None, false);
                }
                let of_user: Vec<&Change> = changes.iter().filter(|c| c.user == user.id).collect();
                // Another realm has taken them over since.
                let ours = user.realm == row.id;
                let Some(home) = self.former_realm(&of_user, row).await?.filter(|_| ours) else {
                    skipped += 1;
                    continue;
                };
                let (home, realm_clock) = home;
                let policy = self
                    .realm_config(&home)
                    .map_or(&config.policy, |r| &r.policy);
                let rules = PutBack {
                    policy,
                    now,
                    realm_clock,
                    id_form: form,
                };
                let Some(decision) = put_back(&user, &of_user, &rules) else {
                    skipped += 1;
                    continue;
                };
                let is = &decision.after;
                if is.realm != user.realm && self.is_taken_in(&home, is).await? {
                    skipped += 1;
                    continue;
                }
                if let Some(id) = is
                    .directory_id
                    .filter(|_| is.directory_id != user.directory_id)
                {
                    // Whoever has that id by now keeps it.
                    let holders = self.store.users_by_directory_id(&row.id, &[id]).await?;
                    if !holders.is_empty() {
                        skipped += 1;
                        continue;
                    }
                    ids_after.insert(user.id, is.origin());
                }
                let gets_it = !user.present() || user.username_key != is.username_key;
                if is.present() && gets_it && is.realm == row.id {
                    named.insert(is.username_key.clone(), (user.id, is.origin()));
                }
                plan.add(decision).await?;
            }
        }
        plan.flush().await?;
        skipped += self
            .leave_taken_names(&row.id, &mut plan, named, &ids_after)
            .await?;
        count(run, &plan, config);
        run.seen = 0;
        run.decided_at = Some(self.clock.now());
        run.elapsed_ms = elapsed(started);
        if skipped > 0 {
            run.error = Some(format!(
                "{} changed since, or removed: left as it is now",
                words::count(skipped, "user")
            ));
        }
        let facts = RunFacts {
            plan_hash: Some(plan.hash.hex()),
            mapping_hash: row.mapping_hash.clone(),
            undoes: Some(target.run),
            ..RunFacts::default()
        };
        if plan.counts.is_empty() {
            run.outcome = Outcome::Unchanged;
            let messages = self.messages(config, Some(run.run), now).await?;
            let application = Application {
                run,
                facts,
                realm: RealmUpdate::default(),
                refused: None,
                messages: &messages,
                replaces: row.held,
                staged: plan.lies(),
            };
            return Ok(Decided {
                run: self.store.apply(application).await?,
                replaced: row.held,
            });
        }
        let of = self.store.not_removed(&row.id).await?;
        let window = window::applied(&self.store, row, now).await?;
        run.held_by = weigh(&Weighing {
            config: &config.brake,
            counts: &plan.counts,
            window: &window,
            of,
            first_pass: false,
        });
        if row.held.is_some() && run.held_by.is_empty() {
            // Whoever approved another plan has not seen this one.
            run.held_by.push(HeldBy {
                limit: "asked".into(),
                count: ChangeKind::ALL.iter().map(|k| plan.counts.of(*k)).sum(),
                of,
                allowed: 0,
            });
        }
        if run.held_by.is_empty() {
            run.outcome = Outcome::Applied;
            let run = self.apply_undo(run, plan.lies(), facts, now).await?;
            return Ok(Decided {
                run,
                replaced: None,
            });
        }
        run.outcome = Outcome::Held;
        let types: Vec<_> = Limit::ALL
            .iter()
            .filter(|l| run.held_by.iter().any(|h: &HeldBy| h.limit == l.as_str()))
            .flat_map(|l| messages_of(*l).iter().copied())
            .collect();
        self.store
            .hold(run, plan.lies(), facts, None, row.held, &types)
            .await?;
        Ok(Decided {
            run: run.clone(),
            replaced: row.held,
        })
    }

    /// The realm that somebody is in once these changes are put back, and its own clock; `None`: it is there no more.
    async fn former_realm(
        &self,
        changes: &[&Change],
        row: &RealmRow,
    ) -> Result<Option<(RealmId, i64)>, EngineError> {
        let Some(moved) = changes.iter().find(|c| c.kind == ChangeKind::Moved) else {
            return Ok(Some((row.id.clone(), row.clock_ms)));
        };
        let from = moved.before.get(Field::Realm.as_str());
        let Some(from) = from.and_then(Value::as_str) else {
            return Ok(None);
        };
        let former = self.store.realm(&RealmId::from(from)).await?;
        Ok(former.map(|row| (row.id, row.clock_ms)))
    }

    /// Whether somebody who goes back to another realm finds their id or their name taken there.
    async fn is_taken_in(&self, realm: &RealmId, is: &User) -> Result<bool, EngineError> {
        if let Some(id) = is.directory_id {
            let holders = self.store.users_by_directory_id(realm, &[id]).await?;
            if !holders.is_empty() {
                return Ok(true);
            }
        }
        let names = [is.username_key.clone()];
        Ok(is.present() && !self.store.name_holders(realm, &names).await?.is_empty())
    }

    /// Leaves as they are whose former name another has by now and does not give up in this plan; says how many.
    async fn leave_taken_names(
        &self,
        realm: &RealmId,
        plan: &mut Plan,
        mut named: HashMap<String, (UserId, Origin)>,
        ids_after: &HashMap<UserId, Origin>,
    ) -> Result<i64, EngineError> {
        let mut left = 0;
        loop {
            let keys: Vec<String> = named.keys().cloned().collect();
            let mut taken = vec![];
            for keys in keys.chunks(LOOK_UP) {
                let holders = self.store.name_holders(realm, keys).await?;
                let whom: Vec<Origin> = holders
                    .iter()
                    .map(|h| {
                        let now = Origin::of(h.directory_id, h.user);
                        ids_after.get(&h.user).copied().unwrap_or(now)
                    })
                    .collect();
                let staged = plan.staged_of(&whom).await?;
                for holder in holders {
                    let gives_it_up = staged.iter().any(|s| {
                        s.user.id == holder.user
                            && (!s.user.present()
                                || s.user.realm != *realm
                                || s.user.username_key != holder.key)
                    });
                    let own = named.get(&holder.key).map(|(user, _)| *user) == Some(holder.user);
                    if !gives_it_up && !own {
                        taken.extend(named.remove(&holder.key).map(|(_, who)| who));
                    }
                }
            }
            if taken.is_empty() {
                return Ok(left);
            }
            // Who keeps the present name may stand in the way of the next.
            plan.take_back_of(&taken).await?;
            left += i64::try_from(taken.len()).unwrap_or(i64::MAX);
        }
    }

    /// Approves a held undo plan: it contradicts the directory on purpose, so only the store is asked. Where users changed since
    /// it was made, another one is made, and held.
    pub(super) async fn approve_undo(
        &self,
        lock: &RealmLock,
        run: Run,
        facts: RunFacts,
        undone: RunId,
        asking: &Asking,
    ) -> Result<Decided, EngineError> {
        let now = self.clock.now();
        let realm = run.realm.clone();
        let mut approved = run;
        approved.outcome = Outcome::Applied;
        approved.by.clone_from(&asking.by);
        approved.decided_at = Some(now);
        let me = self.fenced(lock);
        let applied = tokio::select! {
            biased;
            applied = Box::pin(me.apply_undo(&approved, Staged::default(), facts, now)) => applied,
            () = lock.lost() => return Err(StoreError::TakenOver.into()),
        };
        match applied {
            Ok(run) => Ok(Decided {
                run,
                replaced: None,
            }),
            Err(EngineError::Store(StoreError::Conflict(_))) => {
                let target = self.store.run(&undone.to_string()).await?;
                let row = self.row(&realm).await?;
                self.undo_under(lock, &target, &row, asking).await
            }
            Err(error) => Err(error),
        }
    }

    async fn apply_undo(
        &self,
        run: &Run,
        staged: Staged,
        facts: RunFacts,
        now: Timestamp,
    ) -> Result<Run, EngineError> {
        let config = self.realm_config(&run.realm)?;
        let row = self.row(&run.realm).await?;
        let messages = self.messages(config, Some(run.run), now).await?;
        let update = RealmUpdate {
            window_from: Some(window::anew(&row, now, false)),
            // The directory still says otherwise, and no delta would: the next run reads everything.
            cursor: Resume::Nowhere,
            ..RealmUpdate::default()
        };
        let application = Application {
            run,
            facts,
            realm: update,
            refused: None,
            messages: &messages,
            replaces: None,
            staged,
        };
        Ok(self.store.apply(application).await?)
    }
}
