//! What an administrator decides about a held plan, but for its approval: reject, adopt; and how long it can be decided.

use std::borrow::Cow;
use std::collections::HashMap;

use super::look::hash_name;
use super::pass::Pass;
use super::prepare::PassError;
use super::run::Ending;
use super::{Asking, Decided, Engine, EngineError};
use crate::clock::Timestamp;
use crate::directory::Sighting;
use crate::model::{DirectoryId, ErrorCode, Outcome, Person, Run, RunId, User, UserId};
use crate::plan::decide::{Context, Name, Seen, decide};
use crate::runs::Plan;
use crate::store::RunFacts;

/// New entries that are paired at once.
const BATCH: usize = 1000;

impl Engine {
    /// See [`Engine::reject`].
    pub(super) async fn reject_held(
        &self,
        run: &str,
        by: Option<String>,
        for_ms: Option<i64>,
    ) -> Result<Decided, EngineError> {
        let until = for_ms.map(|ms| self.clock.now().plus_ms(ms));
        if let Some(until) = until {
            let run = self.store.run(run).await?;
            if run.outcome != Outcome::Held {
                let lock = self.store.lock_realm(&run.realm).await?;
                let moved = self.fenced(&lock).reject_longer(run, until).await?;
                return Ok(Decided {
                    run: moved,
                    replaced: None,
                });
            }
        }
        let (run, _) = self.held_run(run).await?;
        let lock = self.store.lock_realm(&run.realm).await?;
        let me = self.fenced(&lock);
        let now = self.clock.now();
        let decided = if let Some(until) = until.filter(|until| *until > now) {
            me.reject_changes(&run, by, until).await?
        } else {
            let store = &me.store;
            store
                .decide_held(run.run, Outcome::Rejected, by, None, now)
                .await?
        };
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
                "plan {:#} undoes another run: `approve` or `reject` it",
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
    pub(super) async fn expire(&self, held: RunId) -> Result<bool, EngineError> {
        let now = self.clock.now();
        let expired = self.store.expired_held(now).await?;
        let over = expired.iter().any(|run| run.run == held);
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
            if self.expire(run.run).await? {
                return Err(EngineError::Refused(format!(
                    "plan {:#} of realm `{}` expired: `sync {}` decides anew",
                    run.run, run.realm, run.realm
                )));
            }
            return Ok((run, facts));
        }
        let instead = match facts.replaced_by {
            Some(successor) => {
                format!("it was replaced by {successor:#}: look at `runs show {successor:#}`")
            }
            None => format!("it is {}", run.outcome),
        };
        Err(EngineError::Refused(format!(
            "plan {:#} of realm `{}` is not held: {instead}",
            run.run, run.realm
        )))
    }
}

/// The plan whose place a run took; none where it confirms that plan, or came to nothing.
pub(super) fn replaced(old: &Run, run: &Run) -> Option<RunId> {
    let came_to_nothing = matches!(run.outcome, Outcome::Failed | Outcome::Cancelled);
    (run.run != old.run && !came_to_nothing).then_some(old.run)
}

pub(super) fn failed(error: PassError) -> EngineError {
    EngineError::Failed {
        code: error.code.unwrap_or(ErrorCode::Incomplete),
        message: error.message,
    }
}

impl Pass<'_> {
    /// Pairs new entries with users whose entry is gone: the same name, and the same phone or e-mail, is the same person in a
    /// rebuilt directory. They keep everything and take the new id.
    pub(super) async fn adopt(&mut self) -> Result<(), PassError> {
        for ids in self.contested_ids().chunks(BATCH) {
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
                    Seen::Here {
                        person: Cow::Borrowed(&person),
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
        engine.store.clone(),
    )
}
