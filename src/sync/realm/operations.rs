//! What is done to many users is worked off here, batch by batch, by whoever is there: the command that asked for it, or a daemon.
//! A crash in the middle leaves the list and how far it is: the next one goes on behind the last batch that was committed.

use std::collections::HashSet;

use tokio_util::sync::CancellationToken;

use super::by_hand::HandRules;
use crate::model::{
    ActionVerb, AuditAct, AuditEntry, Change, Mode, Operation, OperationBatch, OperationId,
    OperationWork, Run, RunId, State, User, UserId,
};
use crate::plan::action::{act, as_they_are};
use crate::plan::decide::Decision;
use crate::plan::undo::{PutBack, put_back};
use crate::runs::{Decided, RunError, uuid_v7};
use crate::store::{
    BatchLinks, BatchRefusal, BatchWrite, NewOperation, OperationUsers, StagedUser, StoreError,
};
use crate::sync::engine::Engine;
use crate::sync::run_request::DecisionOptions;

/// How often a batch is read anew where somebody changes its users at the same time.
const TRIES: u32 = 20;

/// Why nothing is sent to somebody.
const FROZEN: &str = "the user is frozen: somebody who was told of a change says that it was not theirs; say first which number counts \
                      (`realmsync users unfreeze`)";

/// Why nothing is done to somebody whose row has a word that this version does not know.
const UNREADABLE: &str =
    "this version cannot read the user, whom a newer one wrote: do it with that version";

/// What became of one user of a batch.
enum Outcome {
    Changes(Box<Decision>),
    IsSo,
    Refused(String),
}

impl Engine {
    /// The id of an operation that is made now.
    pub fn new_operation_id(&self) -> OperationId {
        OperationId(uuid_v7(self.clock.now()))
    }

    /// Works an operation off, and ends it. Two may do so at once: each batch is written by one.
    ///
    /// # Errors
    /// [`RunError::Stopped`] when it is to stop; `refused` when a realm is in another daemon's file. The operation is under way then, and
    /// whoever calls this next goes on.
    pub async fn work_off(
        &self,
        id: OperationId,
        cancel: &CancellationToken,
        told: impl Fn(&OperationBatch),
    ) -> Result<Operation, RunError> {
        let (work, _) = self.store.operation_work(id).await?;
        let by = self.store.operation(id).await?.by;
        let mut tries = 0;
        while let Some(batch) = self.store.next_batch(id).await? {
            if cancel.is_cancelled() {
                return Err(RunError::Stopped(
                    "stopped between two batches: what was done stays, and the rest is gone on with when the daemon is back".to_owned(),
                ));
            }
            match Box::pin(self.write_batch(&batch, &work, by.as_deref())).await {
                Ok(()) => {
                    tries = 0;
                    told(&batch);
                }
                // Somebody else wrote this one.
                Err(RunError::Store(StoreError::Conflict(0))) => tries = 0,
                Err(RunError::Store(StoreError::Conflict(_))) if tries < TRIES => tries += 1,
                // What cannot be read now cannot be read later.
                Err(RunError::Store(StoreError::Nonsense(why))) => {
                    return Ok(self
                        .store
                        .end_operation(id, Some(&why), self.clock.now())
                        .await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.store.end_operation(id, None, self.clock.now()).await?)
    }

    async fn write_batch(
        &self,
        batch: &OperationBatch,
        work: &OperationWork,
        by: Option<&str>,
    ) -> Result<(), RunError> {
        let rules = match self.hand_rules(&batch.realm).await {
            Ok(rules) => rules,
            Err(RunError::Refused(why)) => {
                let row = self.row(&batch.realm).await?;
                if !row.orphaned && !self.store.single_daemon() {
                    return Err(RunError::Refused(why));
                }
                return self.refuse_batch(batch, work, by, &why).await;
            }
            // It was removed meanwhile.
            Err(RunError::NotFound(why)) => {
                return self.refuse_batch(batch, work, by, &why).await;
            }
            Err(error) => return Err(error),
        };
        let held = self.store.readable_users(&batch.users).await?;
        let (mut outcomes, mut links) = (vec![], BatchLinks::Stay);
        match work {
            OperationWork::Act {
                verb: ActionVerb::Unlock,
                ..
            } => return Ok(self.store.unlock_batch(batch, self.clock.now()).await?),
            OperationWork::Act {
                verb,
                methods,
                now: at_once,
                lost,
            } => {
                let (mut open, mut frozen) = (HashSet::new(), HashSet::new());
                match verb {
                    ActionVerb::Send if rules.messages.enrolment.is_none() => {
                        let why = "there is no page to enrol on: set `listen` and `public-url` in `[http]`";
                        return self.refuse_batch(batch, work, by, why).await;
                    }
                    ActionVerb::Send => {
                        frozen = self.store.frozen_among(&batch.users).await?;
                        links = BatchLinks::Send {
                            lost: *lost,
                            again: self.store.had_application(&batch.users).await?,
                        };
                    }
                    ActionVerb::Withdraw => {
                        links = BatchLinks::Withdraw;
                        open = self
                            .store
                            .with_open_links(&batch.users, rules.messages.now)
                            .await?;
                    }
                    _ => {}
                }
                for user in &held {
                    let context = rules.context(rules.messages.now, user.id);
                    outcomes.push((
                        user.id,
                        match act(user, *verb, methods, *at_once, &context) {
                            _ if user.realm != batch.realm => Outcome::Refused(moved(user)),
                            Ok(Some(_))
                                if *verb == ActionVerb::Withdraw && !open.contains(&user.id) =>
                            {
                                Outcome::IsSo
                            }
                            Ok(Some(_)) if frozen.contains(&user.id) => {
                                Outcome::Refused(FROZEN.to_owned())
                            }
                            Ok(Some(decision)) => Outcome::Changes(Box::new(decision)),
                            Ok(None) => Outcome::IsSo,
                            Err(refusal) => Outcome::Refused(self.why(user, "the user", refusal)),
                        },
                    ));
                }
            }
            OperationWork::PutBack { run } => {
                links = BatchLinks::WithdrawSent(*run);
                outcomes = self.put_batch_back(&rules, &held, *run).await?;
            }
        }
        let there: HashSet<UserId> = held.iter().map(|user| user.id).collect();
        let missing = batch.users.iter().filter(|id| !there.contains(*id));
        outcomes.extend(missing.map(|id| (*id, Outcome::Refused(UNREADABLE.to_owned()))));
        self.write_outcomes(batch, work, by, &rules, (outcomes, links))
            .await
    }

    async fn put_batch_back(
        &self,
        rules: &HandRules,
        held: &[User],
        undone: RunId,
    ) -> Result<Vec<(UserId, Outcome)>, RunError> {
        let ids: Vec<UserId> = held.iter().map(|user| user.id).collect();
        let mut changes = self.store.lines_of(undone, &ids).await?;
        changes.sort_by_key(|change| change.seq);
        let untold = self.store.untold_by_undo(undone, &ids).await?;
        let (sent, open) = self.store.sent_by_run(&ids, undone).await?;
        let context = rules.context(rules.messages.now, UserId(uuid::Uuid::nil()));
        let marks = self.store.number_marks().await?;
        let putting = PutBack {
            policy: &rules.policy,
            now: context.now,
            realm_clock: context.realm_clock,
            id_form: context.id_form,
            marks: &marks,
        };
        let mut outcomes = vec![];
        for user in held {
            let mut user = user.clone();
            if untold.contains(&user.id) {
                (user.phone_told, user.told) = (None, false);
            }
            let of_user: Vec<&Change> = changes.iter().filter(|c| c.user == user.id).collect();
            let back = put_back(&user, &of_user, &putting).filter(|_| !of_user.is_empty());
            let outcome = match back {
                Some(decision) if self.name_is_taken(&user, &decision.after).await? => {
                    Outcome::Refused("the name is another's by now".to_owned())
                }
                Some(decision) => Outcome::Changes(Box::new(decision)),
                // A link that was sent is taken back as long as nothing came of it.
                None if of_user.is_empty() && open.contains(&user.id) => match as_they_are(&user) {
                    Ok(decision) => Outcome::Changes(Box::new(decision)),
                    Err(_) => Outcome::Refused("removed, and nobody any more".to_owned()),
                },
                None if of_user.is_empty() && sent.contains(&user.id) => {
                    Outcome::Refused("the link was used, or is void already".to_owned())
                }
                None if user.state == State::Removed => {
                    Outcome::Refused("removed, and nobody any more".to_owned())
                }
                None => Outcome::Refused("changed since: left as it is now".to_owned()),
            };
            outcomes.push((user.id, outcome));
        }
        Ok(outcomes)
    }

    /// Whether somebody who gets their name back finds it taken.
    async fn name_is_taken(&self, was: &User, is: &User) -> Result<bool, StoreError> {
        if was.present() || !is.present() {
            return Ok(false);
        }
        let names = [is.username_key.clone()];
        let holders = self.store.name_holders(&is.realm, &names).await?;
        Ok(holders.iter().any(|holder| holder.user != is.id))
    }

    async fn refuse_batch(
        &self,
        batch: &OperationBatch,
        work: &OperationWork,
        by: Option<&str>,
        why: &str,
    ) -> Result<(), RunError> {
        let refused: Vec<BatchRefusal> = batch
            .users
            .iter()
            .map(|user| BatchRefusal {
                user: *user,
                reason: why.to_owned(),
            })
            .collect();
        let messages = self.messages_by(None, false, self.clock.now()).await?;
        Ok(self
            .store
            .write_batch(BatchWrite {
                batch,
                users: vec![],
                changes: vec![],
                refused: &refused,
                mode: mode(work),
                by,
                undoes: None,
                links: BatchLinks::Stay,
                messages: &messages,
            })
            .await?)
    }

    async fn write_outcomes(
        &self,
        batch: &OperationBatch,
        work: &OperationWork,
        by: Option<&str>,
        rules: &HandRules,
        (outcomes, links): (Vec<(UserId, Outcome)>, BatchLinks),
    ) -> Result<(), RunError> {
        let (mut users, mut changes, mut refused) = (vec![], vec![], vec![]);
        for (seq, (user, outcome)) in (1..).zip(outcomes) {
            match outcome {
                Outcome::IsSo => {}
                Outcome::Refused(reason) => refused.push(BatchRefusal { user, reason }),
                Outcome::Changes(decision) => {
                    let Decision {
                        base_version,
                        after,
                        changes: drafts,
                        intents,
                    } = *decision;
                    let username = (after.state != State::Removed).then(|| after.username.clone());
                    changes.extend(drafts.into_iter().map(|draft| Change {
                        run: Some(batch.run),
                        seq: 0,
                        realm: after.realm.clone(),
                        user: after.id,
                        username: username.clone(),
                        by: by.map(str::to_owned),
                        kind: draft.kind,
                        before: draft.before,
                        after: draft.after,
                        at: rules.messages.now,
                    }));
                    users.push(StagedUser {
                        seq,
                        base_version,
                        container: after.dn.as_deref().and_then(crate::model::dn::container),
                        user: after,
                        intents,
                    });
                }
            }
        }
        // Who is nobody any more since the list was made.
        let undoes = match work {
            OperationWork::PutBack { run } => Some(*run),
            OperationWork::Act { .. } => None,
        };
        Ok(self
            .store
            .write_batch(BatchWrite {
                batch,
                users,
                changes,
                refused: &refused,
                mode: mode(work),
                by,
                undoes,
                links,
                messages: &rules.messages,
            })
            .await?)
    }

    /// Puts back what an action changed, by an operation of its own, which pauses no realm. Whoever changed since stays as they are.
    pub(in crate::sync) async fn undo_action(
        &self,
        target: &Run,
        asking: &DecisionOptions,
    ) -> Result<Decided, RunError> {
        if let Some(operation) = self.store.operation_of_run(target.run).await? {
            return Err(RunError::Refused(format!(
                "run {:#} is still under way (operation {operation}): wait for its end, or cancel it",
                target.run
            )));
        }
        if let Some(OperationWork::Act {
            verb: ActionVerb::Withdraw,
            ..
        }) = self.store.work_of_run(target.run).await?
        {
            return Err(RunError::Refused(format!(
                "run {:#} took links back, and a link that is void stays so: send the application again",
                target.run
            )));
        }
        let now = self.clock.now();
        let id = self.new_operation_id();
        let key = self.audit_key().await?;
        let entry = asking.audit.clone().unwrap_or_else(|| {
            AuditEntry::new(AuditAct::Action, asking.by.clone(), "command", now)
        });
        let entry = entry
            .about(target.run, &target.realm)
            .is("undoes", target.run.to_string());
        self.store
            .begin_operation(NewOperation {
                id,
                work: &OperationWork::PutBack { run: target.run },
                users: OperationUsers::Changed(target.run),
                expect: None,
                audit: (&entry, &key),
            })
            .await?;
        let operation = self.work_off(id, &asking.cancel, |_| ()).await?;
        match operation.run.or(operation.runs.first().copied()) {
            Some(run) => Ok(Decided::just(self.store.run(&run.to_string()).await?)),
            None => Err(RunError::Refused(format!(
                "nothing of run {:#} is to be put back: all of its users changed since, or were removed",
                target.run
            ))),
        }
    }
}

fn mode(work: &OperationWork) -> Mode {
    match work {
        OperationWork::Act { .. } => Mode::Action,
        OperationWork::PutBack { .. } => Mode::Undo,
    }
}

fn moved(user: &User) -> String {
    format!("moved to realm `{}` since", user.realm)
}
