//! What an administrator decides about a held plan: approve, reject, adopt.

use std::collections::HashMap;

use super::following::{Following, configuration};
use super::look::hash_name;
use super::pass::Pass;
use super::plan::Plan;
use super::prepare::{PassError, Prepared, prepare, windows_anew};
use super::run::Ending;
use super::{Asking, Decided, Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::directory::Sighting;
use crate::model::{
    ChangeKind, DirectoryId, ErrorCode, Mode, Outcome, Person, RealmRow, Run, RunId, State,
    StateReason, User, UserId, UserName,
};
use crate::plan::decide::{Context, Name, Seen, decide};
use crate::store::{Application, RealmUpdate, Resume, RunFacts, StagedUser, StoreError};

/// Staged users looked at again at once.
const BATCH: i64 = 1000;

impl Engine {
    /// See [`Engine::approve`].
    pub(super) async fn approve_held(
        &self,
        run: &str,
        asking: Asking,
    ) -> Result<Decided, EngineError> {
        let (run, facts) = self.held_run(run).await?;
        if facts.undoes.is_some() {
            return self.approve_undo(run, facts, asking.by).await;
        }
        let config = self.realm_config(&run.realm)?;
        let lock = self.store.lock_realm(&run.realm).await?;
        let me = self.fenced(&lock);
        let row = self.row(&run.realm).await?;
        let stopped = || {
            EngineError::Stopped(format!(
                "stopped before the end; nothing was applied, and plan {} still waits for a decision",
                run.run
            ))
        };
        let mut prepared = tokio::select! {
            () = asking.cancel.cancelled() => return Err(stopped()),
            prepared = prepare(self, config, &row, asking.accept_older) => prepared.map_err(|e| not_approved(&run, e))?,
        };
        if facts.mapping_hash.as_deref() != Some(&prepared.mapping_hash) {
            let text = format!(
                "the mapping of realm `{}` (base, filter, attributes, phone rules) is another one than when plan {} was made: run `sync {}` for a plan of the new one",
                run.realm, run.run, run.realm
            );
            return Err(EngineError::Refused(text));
        }
        let now = self.clock.now();
        let agrees = tokio::select! {
            () = asking.cancel.cancelled() => return Err(stopped()),
            agrees = me.look_again(&run, &row, &mut prepared, now) => agrees?,
        };
        if !agrees {
            drop(lock);
            return self.another_plan(&run, config, &asking).await;
        }
        let mut approved = run.clone();
        approved.outcome = Outcome::Applied;
        approved.by.clone_from(&asking.by);
        approved.decided_at = Some(now);
        let messages = self.messages(config, Some(run.run), now).await?;
        // A look at some says nothing of the realm: not what another mapping does to the others, nor that all were seen.
        let whole = matches!(run.mode, Mode::Full | Mode::Adopt);
        let several = run.mode != Mode::User;
        let update = RealmUpdate {
            mapping_hash: facts.mapping_hash.clone().filter(|_| whole),
            directory: Some(prepared.directory_key()),
            first_applied_at: whole.then_some(now),
            clock_ms: None,
            last_complete_at: whole.then_some(now),
            window_from: Some(windows_anew(&row, now, several && run.moved > 0)),
            seen_state: prepared
                .accepted_state()
                .filter(|_| whole)
                .or(facts.facts.clone())
                .filter(|_| several),
            id_form: Some(prepared.scope.id_form),
            due: whole.then_some(false),
            // What happened meanwhile is told from where the last applied run stood.
            cursor: Resume::Same,
            following: Following::renewed(&row, config, &configuration(config, &prepared))
                .filter(|_| whole),
        };
        let application = Application {
            run: &approved,
            facts,
            realm: update,
            refused: None,
            messages: &messages,
            replaces: None,
        };
        match me.store.apply(application).await {
            Ok(applied) => {
                me.wake_siblings(&run.realm).await?;
                Ok(Decided {
                    run: applied,
                    replaced: None,
                })
            }
            Err(StoreError::Conflict(_)) => {
                drop(lock);
                self.another_plan(&run, config, &asking).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Directory or store no longer agree with the plan: a new one is made, and held.
    async fn another_plan(
        &self,
        old: &Run,
        config: &RealmConfig,
        asking: &Asking,
    ) -> Result<Decided, EngineError> {
        let mut ask = asking.ask();
        ask.full = true;
        let (run, _) = self.run_whatever(&config.id, &ask, Ending::Hold).await?;
        let replaced = replaced(old, &run);
        Ok(Decided { run, replaced })
    }

    /// Reads again everyone whom the plan suspends or removes or whose number it changes; fills in reasons that were left
    /// open, and when the holds end that begin now.
    async fn look_again(
        &self,
        run: &Run,
        row: &RealmRow,
        prepared: &mut Prepared,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let kinds = [
            ChangeKind::Suspended,
            ChangeKind::PhoneChanged,
            ChangeKind::PhoneLost,
            ChangeKind::Updated,
            ChangeKind::Removed,
        ];
        let mut after = 0;
        loop {
            let staged = self
                .store
                .staged_by_kind(run.run, &kinds, after, BATCH)
                .await?;
            let Some(last) = staged.last() else {
                return Ok(true);
            };
            after = last.seq;
            let users: Vec<_> = staged.iter().map(|s| s.user.id).collect();
            let held: HashMap<_, _> = self
                .store
                .users_by_id(&users)
                .await?
                .into_iter()
                .map(|u| (u.id, u))
                .collect();
            // Who is to be removed has no id any more in the plan.
            let id_of = |s: &StagedUser| {
                let before = || held.get(&s.user.id).and_then(|u| u.directory_id);
                s.user.directory_id.or_else(before)
            };
            let ids: Vec<DirectoryId> = staged.iter().filter_map(id_of).collect();
            let sightings = prepared.look_up(&ids).await.map_err(failed)?;
            let mut patches = vec![];
            for staged in staged {
                if staged.base_version == 0 {
                    continue;
                }
                let Some(before) = held
                    .get(&staged.user.id)
                    .filter(|u| u.version == staged.base_version)
                else {
                    return Ok(false);
                };
                let sighting = id_of(&staged).and_then(|id| sightings.get(&id));
                if staged.user.state == State::Removed {
                    if matches!(sighting, Some(Sighting::InScope(_))) {
                        return Ok(false);
                    }
                    continue;
                }
                match again(&staged, before, sighting, row, prepared, now) {
                    Again::Same => {}
                    Again::Other => return Ok(false),
                    Again::Filled(filled) => patches.push(*filled),
                }
            }
            if !patches.is_empty() {
                self.store.patch_staged(run.run, &patches).await?;
            }
        }
    }

    /// See [`Engine::reject`].
    pub(super) async fn reject_held(
        &self,
        run: &str,
        by: Option<String>,
    ) -> Result<Decided, EngineError> {
        let (run, facts) = self.held_run(run).await?;
        let lock = self.store.lock_realm(&run.realm).await?;
        let store = self.store.fenced(&lock);
        let decided = store
            .decide_held(run.run, Outcome::Rejected, by, None, self.clock.now())
            .await?;
        if facts.undoes.is_some() {
            store.resume(&run.realm, self.clock.now()).await?;
        }
        Ok(Decided {
            run: decided,
            replaced: None,
        })
    }

    /// See [`Engine::adopt`].
    pub(super) async fn adopt_held(
        &self,
        run: &str,
        asking: Asking,
    ) -> Result<Decided, EngineError> {
        let (held, facts) = self.held_run(run).await?;
        if facts.undoes.is_some() {
            return Err(EngineError::Refused(format!(
                "plan {} undoes another run: `approve` or `reject` it",
                held.run
            )));
        }
        let mut ask = asking.ask();
        ask.adopt = true;
        let (run, _) = self
            .run_whatever(&held.realm, &ask, Ending::ByTheBrake)
            .await?;
        // When there is nobody to adopt, it is the same plan still.
        let replaced = replaced(&held, &run);
        Ok(Decided { run, replaced })
    }

    /// Ends a held plan whose seven days are over, also where no daemon does.
    pub(super) async fn expire(&self, held: RunId, facts: &RunFacts) -> Result<bool, EngineError> {
        let now = self.clock.now();
        let over = facts.expires_at.is_some_and(|end| end <= now);
        if over {
            self.store
                .decide_held(held, Outcome::Expired, None, None, now)
                .await?;
        }
        Ok(over)
    }

    /// A plan that can still be decided.
    pub(super) async fn held_run(&self, prefix: &str) -> Result<(Run, RunFacts), EngineError> {
        let run = self.store.run(prefix).await?;
        let facts = self.store.run_facts(run.run).await?;
        if run.outcome == Outcome::Held {
            if self.expire(run.run, &facts).await? {
                return Err(EngineError::Refused(format!(
                    "plan {} of realm `{}` expired: `sync {}` decides anew",
                    run.run, run.realm, run.realm
                )));
            }
            return Ok((run, facts));
        }
        let instead = match facts.replaced_by {
            Some(successor) => {
                format!("it was replaced by {successor}: look at `runs show {successor}`")
            }
            None => format!("it is {}", run.outcome),
        };
        Err(EngineError::Refused(format!(
            "plan {} of realm `{}` is not held: {instead}",
            run.run, run.realm
        )))
    }
}

/// The plan whose place a run took; none where it confirms that plan, or came to nothing.
fn replaced(old: &Run, run: &Run) -> Option<RunId> {
    let came_to_nothing = matches!(run.outcome, Outcome::Failed | Outcome::Cancelled);
    (run.run != old.run && !came_to_nothing).then_some(old.run)
}

/// A server that is behind, said to who approves.
fn not_approved(run: &Run, error: PassError) -> EngineError {
    if error.code != Some(ErrorCode::Stale) {
        return failed(error);
    }
    EngineError::Failed {
        code: ErrorCode::Stale,
        message: error.message.replace(
            "`sync --accept-older` takes",
            &format!("`approve {} --accept-older` takes", run.run),
        ),
    }
}

pub(super) fn failed(error: PassError) -> EngineError {
    EngineError::Failed {
        code: error.code.unwrap_or(ErrorCode::Incomplete),
        message: error.message,
    }
}

enum Again {
    Same,
    Other,
    Filled(Box<StagedUser>),
}

/// Whether the directory still says what the plan was made from.
fn again(
    staged: &StagedUser,
    before: &User,
    sighting: Option<&Sighting>,
    row: &RealmRow,
    prepared: &Prepared,
    now: Timestamp,
) -> Again {
    let context = Context {
        realm: &row.id,
        policy: &prepared.policy,
        now,
        realm_clock: row.clock_ms,
        id_form: prepared.scope.id_form,
        new_id: before.id,
        bare: false,
        adopts: false,
    };
    let decision = match sighting {
        Some(Sighting::InScope(entry)) => {
            let Ok(person) = prepared.normaliser.person(entry) else {
                return Again::Other;
            };
            // Whose name it is was settled when the plan was made.
            let name = UserName {
                shown: staged.user.username.clone(),
                key: staged.user.username_key.clone(),
            };
            let name = Name::Granted(name);
            decide(
                Some(before),
                &Seen::Here {
                    person: &person,
                    name,
                },
                &context,
            )
        }
        Some(Sighting::OutOfScope { .. }) => decide(
            Some(before),
            &Seen::Gone(Some(StateReason::OutOfScope)),
            &context,
        ),
        None => decide(
            Some(before),
            &Seen::Gone(Some(StateReason::Deleted)),
            &context,
        ),
    };
    let Some(decision) = decision else {
        return Again::Other;
    };
    let (was, is) = (&staged.user, &decision.after);
    // Why somebody is gone is no part of the plan: it may have been left open, and be another one by now.
    let open = !was.present() && !is.present() && was.state_reason != is.state_reason;
    let number = |u: &User| (u.phone.clone(), u.phone_pending.clone());
    let reason_fits = open || was.state_reason == is.state_reason;
    if was.state != is.state || number(was) != number(is) || !reason_fits {
        return Again::Other;
    }
    if open {
        return Again::Filled(Box::new(StagedUser {
            user: decision.after,
            intents: decision.intents,
            ..staged.clone()
        }));
    }
    // Whoever has the old number hears of it now, and has the whole hold to object.
    if was.phone_pending_until != is.phone_pending_until {
        return Again::Filled(Box::new(StagedUser {
            user: User {
                phone_pending_until: is.phone_pending_until,
                ..was.clone()
            },
            ..staged.clone()
        }));
    }
    Again::Same
}

impl Pass<'_> {
    /// Pairs new entries with users whose entry is gone: the same name, and the same phone or e-mail, is the same person in a
    /// rebuilt directory. They keep everything and take the new id.
    pub(super) async fn adopt(&mut self) -> Result<(), PassError> {
        for ids in self
            .contested_ids()
            .chunks(usize::try_from(BATCH).unwrap_or(1000))
        {
            let people: Vec<(DirectoryId, Person)> = self
                .prepared
                .look_up(ids)
                .await?
                .into_iter()
                .filter_map(|(id, sighting)| match sighting {
                    Sighting::InScope(entry) => {
                        Some((id, self.prepared.normaliser.person(&entry).ok()?))
                    }
                    Sighting::OutOfScope { .. } => None,
                })
                // Of two who might be the same person, neither is.
                .filter(|(_, p)| {
                    p.username
                        .as_ref()
                        .is_ok_and(|n| !self.rivals.contains(&hash_name(&n.key)))
                })
                .collect();
            let keys: Vec<String> = people
                .iter()
                .filter_map(|(_, p)| Some(p.username.as_ref().ok()?.key.clone()))
                .collect();
            let mut holders = self.engine.store.name_holders(&self.row.id, &keys).await?;
            holders.retain(|h| h.directory_id.is_some_and(|old| !self.index.seen(old)));
            let users: Vec<UserId> = holders.iter().map(|h| h.user).collect();
            let mut gone: HashMap<String, User> = self
                .engine
                .store
                .users_by_id(&users)
                .await?
                .into_iter()
                .map(|u| (u.username_key.clone(), u))
                .collect();
            for (id, person) in people {
                let Ok(name) = person.username.clone() else {
                    continue;
                };
                let Some(user) = gone.remove(&name.key) else {
                    continue;
                };
                if !same_person(&user, &person) {
                    continue;
                }
                let context = Context {
                    adopts: true,
                    ..self.context()
                };
                let decision = decide(
                    Some(&user),
                    &Seen::Here {
                        person: &person,
                        name: Name::Granted(name),
                    },
                    &context,
                );
                if let Some(decision) = decision {
                    self.plan.add(decision).await?;
                }
                for refusal in person.refused {
                    self.refuse(refusal);
                }
                if let Some(old) = user.directory_id {
                    self.index.meet(old, 0, 0);
                }
                self.uncontest(id);
            }
        }
        Ok(())
    }
}

fn same_person(user: &User, person: &Person) -> bool {
    use crate::model::{Known, PhoneReading};
    let phone = match &person.phone {
        PhoneReading::Read(attributes) => attributes
            .iter()
            .flat_map(|a| &a.usable)
            .any(|v| Some(&v.phone) == user.phone.as_ref()),
        PhoneReading::Unknown => false,
    };
    let email = match &person.email {
        Known::Known(Some(email)) => user
            .email
            .as_ref()
            .is_some_and(|held| held.to_lowercase() == email.to_lowercase()),
        _ => false,
    };
    phone || email
}

/// A plan for [`Engine::undo`] needs no directory; it is built like any other.
pub(super) fn undo_plan(engine: &Engine, run: &Run, by: Option<String>, now: Timestamp) -> Plan {
    Plan::new(
        run.run,
        run.realm.clone(),
        by,
        now,
        false,
        Some(engine.store.clone()),
    )
}
