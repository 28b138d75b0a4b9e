//! A held plan is approved: what it rests on is read again, and it is applied exactly as it was shown, or not at all.
//!
//! ```text
//! approve ─▶ the same mapping? ─▶ look again ─▶ apply
//!                 │ refused          │ no longer agrees
//!                 ▼                  ▼
//!                                another plan, held
//! ```

use std::borrow::Cow;
use std::collections::HashMap;

use super::decided::{failed, replaced};
use super::following::{Following, configuration};
use super::prepare::{PassError, Prepared, prepare, windows_anew};
use super::run::Ending;
use super::{Asking, Decided, Engine, EngineError};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::directory::Sighting;
use crate::model::{
    ChangeKind, DirectoryId, ErrorCode, Mode, Outcome, RealmRow, Run, State, StateReason, User,
    UserName,
};
use crate::plan::decide::{Context, Name, Seen, decide};
use crate::store::{
    Application, RealmLock, RealmUpdate, Resume, RunFacts, Staged, StagedUser, StoreError,
};

/// Staged users looked at again at once.
const BATCH: i64 = 1000;

impl Engine {
    /// See [`Engine::approve`].
    pub(super) async fn approve_held(
        &self,
        run: &str,
        asking: Asking,
    ) -> Result<Decided, EngineError> {
        let (run, _) = self.held_run(run).await?;
        let config = self.realm_config(&run.realm)?;
        let lock = self.store.lock_realm(&run.realm).await?;
        // Read under the lock: somebody else may just have decided.
        let (run, facts) = self.held_run(&run.run.to_string()).await?;
        if let Some(undone) = facts.undoes {
            return self.approve_undo(&lock, run, facts, undone, &asking).await;
        }
        let applied = tokio::select! {
            biased;
            applied = Box::pin(self.approve_under(&lock, &run, facts, config, &asking)) => applied?,
            // Whoever has the realm now decides about the plan; here is nothing to wait for.
            () = lock.lost() => return Err(StoreError::TakenOver.into()),
        };
        let Some(run) = applied else {
            drop(lock);
            return self.another_plan(&run, config, &asking).await;
        };
        Ok(Decided {
            run,
            replaced: None,
        })
    }

    /// Looks again and applies; `None`: directory or store no longer agree with the plan.
    async fn approve_under(
        &self,
        lock: &RealmLock,
        run: &Run,
        facts: RunFacts,
        config: &RealmConfig,
        asking: &Asking,
    ) -> Result<Option<Run>, EngineError> {
        let me = self.fenced(lock);
        let row = self.row(&run.realm).await?;
        let stopped = || {
            EngineError::Stopped(format!(
                "stopped before the end; nothing was applied, and plan {} still waits for a decision",
                run.run
            ))
        };
        let mut prepared = tokio::select! {
            () = asking.cancel.cancelled() => return Err(stopped()),
            prepared = prepare(self, config, &row, asking.accept_older) => prepared.map_err(|e| not_approved(run, e))?,
        };
        if facts.mapping_hash.as_deref() != Some(&prepared.mapping_hash) {
            let text = format!(
                "the mapping of realm `{}` (base, filter, attributes, phone rules) or what it sends (`new-users`, `on-phone-change`, `[delivery]`) is another one than when plan {} was made: run `sync {}` for a plan of the new one",
                run.realm, run.run, run.realm
            );
            return Err(EngineError::Refused(text));
        }
        let now = self.clock.now();
        let agrees = tokio::select! {
            () = asking.cancel.cancelled() => return Err(stopped()),
            agrees = me.look_again(run, &row, &mut prepared, now) => agrees?,
        };
        if !agrees {
            return Ok(None);
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
            // What was marked meanwhile may be what this plan was too early for.
            due: (whole && row.due).then_some(false),
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
            staged: Staged::default(),
        };
        match me.store.apply(application).await {
            Ok(applied) => {
                me.after_approved(&run.realm).await;
                Ok(Some(applied))
            }
            Err(StoreError::Conflict(_)) => Ok(None),
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
                Seen::Here {
                    person: Cow::Owned(person),
                    name,
                },
                &context,
            )
        }
        Some(Sighting::OutOfScope { .. }) => decide(
            Some(before),
            Seen::Gone(Some(StateReason::OutOfScope)),
            &context,
        ),
        None => decide(
            Some(before),
            Seen::Gone(Some(StateReason::Deleted)),
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
