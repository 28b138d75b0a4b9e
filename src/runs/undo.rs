//! A new plan that puts back what a run changed.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::weigh::Users;
use super::{
    Decided, Finished, Frame, MadeWith, PlanBuilder, PlanDisposition, RealmTurn, RunError,
    RunFailure, Runs, held, new_run, window,
};
use crate::clock::Timestamp;
use crate::config::BrakeConfig;
use crate::model::words;
use crate::model::{
    Change, ChangeKind, Field, IdForm, Mode, Origin, Outcome, Policy, RealmId, RealmRow, Run,
    RunId, Trigger, User, UserId,
};
use crate::plan::undo::{PutBack, put_back};
use crate::store::{AuditNote, CursorUpdate, Holder, RealmUpdate, RunFacts, StagedName};

/// Changes read at once.
const BATCH: i64 = 1000;

/// Names asked for at once.
const NAMES: i64 = 1000;

/// What is asked of an undo.
pub(crate) struct UndoAsk<'a> {
    /// The limits of the realm whose run is undone.
    pub brake: &'a BrakeConfig,
    /// Its rules.
    pub policy: &'a Policy,
    /// Those of others, to which people may go back. One that is not among them has the same.
    pub policies: BTreeMap<&'a RealmId, &'a Policy>,
    /// Whether there is anywhere to send messages to.
    pub delivers: bool,
    /// What messages are made with at that time. Asked only where something is applied.
    pub messages: Box<dyn Fn(Timestamp) -> MadeWith<'a> + Send + Sync + 'a>,
    /// Who asks.
    pub by: Option<&'a str>,
    /// What the audit says of who asks.
    pub note: Option<AuditNote>,
    /// Stops it: it commits or rolls back.
    pub cancel: &'a CancellationToken,
}

impl Runs {
    /// Makes a new plan that puts back what this run changed; pauses the realm as soon as the plan is made. It is applied, unless
    /// the brake holds it. A user who changed since is left as they are.
    pub(crate) async fn undo(&self, target: &Run, ask: &UndoAsk<'_>) -> Result<Decided, RunError> {
        if target.outcome != Outcome::Applied {
            return Err(RunError::Refused(format!(
                "run {:#} is {}: only an applied run can be undone",
                target.run, target.outcome
            )));
        }
        let turn = RealmTurn::take(&self.store, &target.realm, self.clock.now()).await?;
        let row = self.realm(&target.realm).await?;
        let beside = self.held_beside(&row.id, target.mode).await?;
        if let Some(held) = row.held.or(beside) {
            return Err(RunError::Refused(format!(
                "plan {held:#} of realm `{}` waits for a decision: `approve` or `reject` it first",
                row.id
            )));
        }
        self.within(&turn).undo_in(&turn, target, &row, ask).await
    }

    /// Approves a held plan that undoes this run: it contradicts the directory on purpose, so only the store is asked. Where users
    /// changed since it was made, another one is made, and held.
    pub(crate) async fn approve_undo(
        &self,
        turn: &RealmTurn,
        (run, facts): (Run, RunFacts),
        undone: RunId,
        ask: &UndoAsk<'_>,
    ) -> Result<Decided, RunError> {
        let me = self.within(turn);
        let now = self.clock.now();
        let row = self.realm(&run.realm).await?;
        let target = self.store.run(&undone.to_string()).await?;
        let update = once_undone(&row, &target, now);
        let noting = me.store.noting(held::approved(ask.note.clone(), &run));
        let applied = held::apply(
            &noting,
            (&run, facts),
            ask.by,
            now,
            update,
            (ask.messages)(now).await?,
            None,
        );
        if let Some(run) = turn.work(Box::pin(applied)).await? {
            return Ok(Decided::just(run));
        }
        me.undo_in(turn, &target, &row, ask).await
    }

    /// Undoes a run of a realm that is ours; a held plan for that, if there is one, is replaced by another one.
    async fn undo_in(
        &self,
        turn: &RealmTurn,
        target: &Run,
        row: &RealmRow,
        ask: &UndoAsk<'_>,
    ) -> Result<Decided, RunError> {
        let now = self.clock.now();
        let by = ask.by.map(str::to_owned);
        let run = new_run(&target.realm, Mode::Undo, Trigger::Command, by, now);
        // Whoever approved another plan has not seen this one.
        let ending = match row.held {
            Some(_) => PlanDisposition::Hold,
            None => PlanDisposition::ByTheBrake,
        };
        let note = ask.note.clone();
        let note = note.map(|note| note.is("undoes", target.run.to_string()));
        let mut frame =
            Frame::new(self.store.clone(), self.clock.clone(), row, run, ending).noting(note);
        frame.begin().await?;
        let undone = async {
            // Before anything else: what RUN wanted said and was not said yet must not go out while this is open.
            let (run, store) = (frame.run.run, &self.store);
            store.hold_jobs_for_undo(target.run, run, now).await?;
            Box::pin(self.put_all_back(&mut frame, target, row, ask)).await
        };
        if let Err(error) = turn.work(undone).await {
            frame.fail(&RunFailure::from(&error), true).await?;
            return Err(error);
        }
        Ok(match row.held {
            Some(held) => Decided::of_held(held, frame.run),
            None => Decided::just(frame.run),
        })
    }

    /// Makes the plan, and applies or holds it, which pauses the realm.
    async fn put_all_back(
        &self,
        frame: &mut Frame<'_>,
        target: &Run,
        row: &RealmRow,
        ask: &UndoAsk<'_>,
    ) -> Result<(), RunError> {
        let now = frame.run.started_at;
        let mut plan = PlanBuilder::new(
            frame.run.run,
            row.id.clone(),
            frame.run.by.clone(),
            now,
            false,
            self.store.clone(),
        );
        let mut after = 0;
        let mut skipped = 0;
        let form = row.id_form.unwrap_or(IdForm::Uuid);
        let marks = self.store.number_marks().await?;
        loop {
            if ask.cancel.is_cancelled() {
                return Err(RunError::Stopped(format!(
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
            let untold = self.store.untold_by_undo(target.run, &ids).await?;
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
                let rules = PutBack {
                    policy: ask.policies.get(&home).copied().unwrap_or(ask.policy),
                    now,
                    realm_clock,
                    id_form: form,
                    marks: &marks,
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
                }
                plan.add(decision).await?;
            }
        }
        skipped += self.leave_taken_names(&row.id, &mut plan).await?;
        if skipped > 0 {
            frame.run.error = Some(format!(
                "{} changed since, removed, or not to have that number: left as it is now",
                words::count(skipped, "user")
            ));
        }
        let finished = Finished {
            plan: &mut plan,
            brake: ask.brake,
            users: Users::Counted,
            reasons: vec![],
            facts: RunFacts {
                mapping_hash: row.mapping_hash.clone(),
                undoes: Some(target.run),
                ..RunFacts::default()
            },
            id_form: None,
            remembers: Box::new(|run| match run.outcome {
                Outcome::Applied => once_undone(row, target, run.decided_at.unwrap_or(now)),
                _ => RealmUpdate::default(),
            }),
            refused: None,
            replaces: row.held,
            delivers: ask.delivers,
            messages: (ask.messages)(now),
            audit: None,
        };
        frame.finish(finished).await
    }

    /// The realm that somebody is in once these changes are put back, and its own clock; `None`: it is there no more.
    async fn former_realm(
        &self,
        changes: &[&Change],
        row: &RealmRow,
    ) -> Result<Option<(RealmId, i64)>, RunError> {
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
    async fn is_taken_in(&self, realm: &RealmId, is: &User) -> Result<bool, RunError> {
        if let Some(id) = is.directory_id {
            let holders = self.store.users_by_directory_id(realm, &[id]).await?;
            if !holders.is_empty() {
                return Ok(true);
            }
        }
        let names = [is.username_key.clone()];
        Ok(is.present() && !self.store.name_holders(realm, &names).await?.is_empty())
    }

    /// Leaves as they are whose former name another has by now and does not give up in this plan; says how many. Reads the plan name
    /// by name, since it may be about everybody.
    async fn leave_taken_names(
        &self,
        realm: &RealmId,
        plan: &mut PlanBuilder,
    ) -> Result<i64, RunError> {
        plan.flush().await?;
        let (run, mut left) = (plan.run(), 0);
        loop {
            let (mut after, mut now_left) = (0, 0);
            loop {
                let names = self.store.staged_names(run, realm, after, NAMES).await?;
                let Some(last) = names.last() else { break };
                after = last.seq;
                let taken = self.taken_names(realm, run, names).await?;
                plan.take_back(&taken).await?;
                now_left += i64::try_from(taken.len()).unwrap_or(i64::MAX);
            }
            if now_left == 0 {
                return Ok(left);
            }
            // Who keeps the present name may stand in the way of one that was looked at before.
            left += now_left;
        }
    }

    /// Of whom somebody else has the name by now, and keeps it.
    async fn taken_names(
        &self,
        realm: &RealmId,
        run: RunId,
        names: Vec<StagedName>,
    ) -> Result<Vec<Origin>, RunError> {
        let keys: Vec<String> = names.iter().map(|name| name.key.clone()).collect();
        let get: HashMap<String, (UserId, Origin)> = names
            .into_iter()
            .map(|name| (name.key, (name.user, name.who)))
            .collect();
        let mut holders = self.store.name_holders(realm, &keys).await?;
        holders.retain(|holder| get.get(&holder.key).map(|own| own.0) != Some(holder.user));
        if holders.is_empty() {
            return Ok(vec![]);
        }
        let ids: Vec<UserId> = holders.iter().map(|holder| holder.user).collect();
        let staged = self.store.staged_by_user(run, &ids).await?;
        let keeps = |holder: &Holder| {
            !staged.iter().any(|s| {
                let is = &s.user;
                is.id == holder.user
                    && (!is.present() || is.realm != *realm || is.username_key != holder.key)
            })
        };
        let taken = holders.iter().filter(|holder| keeps(holder));
        Ok(taken
            .filter_map(|h| get.get(&h.key).map(|own| own.1))
            .collect())
    }
}

/// What the realm remembers of an undo: the directory still says otherwise, and no delta would, so that the next run reads everything.
/// Of a file it says nothing.
fn once_undone(row: &RealmRow, target: &Run, now: Timestamp) -> RealmUpdate {
    RealmUpdate {
        window_from: Some(window::anew(row, now, false)),
        cursor: if target.mode == Mode::Import {
            CursorUpdate::Same
        } else {
            CursorUpdate::Nowhere
        },
        ..RealmUpdate::default()
    }
}
