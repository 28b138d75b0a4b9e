//! Everybody of a held plan is read again by id before it is applied: whoever was dismissed, disabled or renamed, or changed the
//! number, while the plan waited must not be applied as shown.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::engine::Engine;
use super::realm::session::PreparedSession;
use super::realm::siblings::let_go;
use crate::clock::Timestamp;
use crate::directory::Sighting;
use crate::model::{
    DirectoryId, NumberMark, Person, RealmRow, Run, State, StateReason, User, UserId, UserName,
};
use crate::plan::decide::{Decision, DecisionContext, NameGrant, Observation, decide};
use crate::plan::phone::is_to_be_asked;
use crate::runs::RunError;
use crate::store::StagedUser;

/// Staged users looked at again at once.
const BATCH: i64 = 1000;

/// What the directory says now of somebody of the plan.
enum SecondReading {
    Same,
    Other,
    Filled(Box<StagedUser>),
}

impl Engine {
    /// Reads again everybody of the plan; fills in reasons that were left open, and when the holds end that begin now. `false`:
    /// directory or store no longer agree with it.
    pub(super) async fn look_again(
        &self,
        run: &Run,
        row: &RealmRow,
        prepared: &mut PreparedSession,
        now: Timestamp,
    ) -> Result<bool, RunError> {
        let mut refused_names = None;
        let marks = self.store.number_marks().await?;
        let mut after = 0;
        loop {
            let staged = self.store.staged_to_show(run.run, after, BATCH).await?;
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
            if !self.still_let_go(row, held.values()).await? {
                return Ok(false);
            }
            // Who is to be removed has no id any more in the plan.
            let id_of = |s: &StagedUser| {
                let before = || held.get(&s.user.id).and_then(|u| u.directory_id);
                s.user.directory_id.or_else(before)
            };
            let ids: Vec<DirectoryId> = staged.iter().filter_map(id_of).collect();
            let mut sightings = prepared.look_up(&ids).await?;
            let mut patches = vec![];
            let asked = asked(&staged, &held, &sightings, &marks, prepared);
            let unprotected = prepared.unprotected(&asked).await;
            for staged in staged {
                let before = held.get(&staged.user.id);
                if before.map_or(0, |u| u.version) != staged.base_version {
                    return Ok(false);
                }
                let sighting = id_of(&staged).and_then(|id| sightings.remove(&id));
                if staged.user.state == State::Removed {
                    if matches!(sighting, Some(Sighting::InScope(_))) {
                        return Ok(false);
                    }
                    continue;
                }
                let decision = match sighting {
                    Some(Sighting::InScope(entry)) => {
                        let Ok(mut person) = prepared.normaliser.person(&entry) else {
                            return Ok(false);
                        };
                        if let Some(before) = before {
                            person.keep_name(before);
                        }
                        match name_now(&staged, before, &person) {
                            NameNow::Same => {}
                            NameNow::Other => return Ok(false),
                            // The plan was made with it, if another had it then already.
                            NameNow::Unless(refused) => {
                                let known = match &mut refused_names {
                                    Some(known) => known,
                                    none => none.insert(self.names_refused(row).await?),
                                };
                                if !known.contains(&(person.directory_id, refused)) {
                                    return Ok(false);
                                }
                            }
                        }
                        let protected = prepared.policy.protect.is_some()
                            && !unprotected.contains(&person.directory_id);
                        here(
                            &staged,
                            before,
                            person,
                            (row, &marks, protected),
                            prepared,
                            now,
                        )
                    }
                    sighting => {
                        let reason = match sighting {
                            Some(_) => StateReason::OutOfScope,
                            None => StateReason::Deleted,
                        };
                        let context = context(&staged, before, row, prepared, now);
                        decide(before, Observation::Gone(Some(reason)), &context)
                    }
                };
                match again(&staged, decision) {
                    SecondReading::Same => {}
                    SecondReading::Other => return Ok(false),
                    SecondReading::Filled(filled) => patches.push(*filled),
                }
            }
            if !patches.is_empty() {
                self.store.patch_staged(run.run, &patches).await?;
            }
        }
    }

    /// Whether whom the plan takes over may still be taken: an orphaned realm may have come back.
    async fn still_let_go(
        &self,
        row: &RealmRow,
        held: impl Iterator<Item = &User>,
    ) -> Result<bool, RunError> {
        let mut from: HashMap<_, RealmRow> = HashMap::new();
        for user in held.filter(|u| u.realm != row.id) {
            if !from.contains_key(&user.realm) {
                from.insert(user.realm.clone(), self.row(&user.realm).await?);
            }
            if !from.get(&user.realm).is_some_and(|from| let_go(user, from)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn names_refused(
        &self,
        row: &RealmRow,
    ) -> Result<HashSet<(DirectoryId, String)>, RunError> {
        Ok(self
            .store
            .refused_names(&row.id)
            .await?
            .into_iter()
            .collect())
    }
}

/// Whether somebody still has the name that the plan gives them.
enum NameNow {
    Same,
    Other,
    /// Another one, unless this one was refused them when the plan was made.
    Unless(String),
}

fn name_now(staged: &StagedUser, before: Option<&User>, person: &Person) -> NameNow {
    let given = &staged.user.username_key;
    match &person.username {
        Ok(name) if name.key == *given => NameNow::Same,
        Ok(name) => NameNow::Unless(name.shown.clone()),
        // The held name stays while the entry gives no usable one.
        Err(_) if before.is_some_and(|u| u.username_key == *given) => NameNow::Same,
        Err(_) => NameNow::Other,
    }
}

fn context<'a>(
    staged: &StagedUser,
    before: Option<&User>,
    row: &'a RealmRow,
    prepared: &'a PreparedSession,
    now: Timestamp,
) -> DecisionContext<'a> {
    let other_id = before.is_some_and(|u| u.directory_id != staged.user.directory_id);
    DecisionContext {
        realm: &row.id,
        policy: &prepared.policy,
        now,
        realm_clock: row.clock_ms,
        id_form: prepared.scope.id_form,
        new_id: staged.user.id,
        bare: false,
        adopts: other_id,
        number: NumberMark::default(),
        protected: false,
    }
}

/// Of whom the directory is to be asked whether they are protected.
fn asked(
    staged: &[StagedUser],
    held: &HashMap<UserId, User>,
    sightings: &HashMap<DirectoryId, Sighting>,
    marks: &HashMap<UserId, NumberMark>,
    prepared: &PreparedSession,
) -> Vec<DirectoryId> {
    if prepared.policy.protect.is_none() {
        return vec![];
    }
    let none = NumberMark::default();
    let is_asked = |one: &&StagedUser| {
        let mark = marks.get(&one.user.id).unwrap_or(&none);
        let entry = match one.user.directory_id.and_then(|id| sightings.get(&id)) {
            Some(Sighting::InScope(entry)) => prepared.normaliser.person(entry).ok(),
            _ => None,
        };
        let before = held.get(&one.user.id);
        before.zip(entry).is_some_and(|(user, person)| {
            is_to_be_asked(user, &person.phone, mark, &prepared.policy)
        })
    };
    let asked = staged.iter().filter(is_asked);
    asked.filter_map(|one| one.user.directory_id).collect()
}

fn here(
    staged: &StagedUser,
    before: Option<&User>,
    person: Person,
    (row, marks, protected): (&RealmRow, &HashMap<UserId, NumberMark>, bool),
    prepared: &PreparedSession,
    now: Timestamp,
) -> Option<Decision> {
    let name = NameGrant::Granted(UserName {
        shown: staged.user.username.clone(),
        key: staged.user.username_key.clone(),
    });
    let person = Cow::Owned(person);
    let context = DecisionContext {
        number: marks.get(&staged.user.id).cloned().unwrap_or_default(),
        protected,
        ..context(staged, before, row, prepared, now)
    };
    decide(before, Observation::Here { person, name }, &context)
}

/// Whether the directory still says what the plan was made from.
fn again(staged: &StagedUser, decision: Option<Decision>) -> SecondReading {
    let Some(decision) = decision else {
        return SecondReading::Other;
    };
    let (was, is) = (&staged.user, &decision.after);
    // Why somebody is gone is no part of the plan: it may have been left open, and be another one by now.
    let open = !was.present() && !is.present() && was.state_reason != is.state_reason;
    let number = |u: &User| (u.phone.clone(), u.phone_pending.clone());
    let reason_fits = open || was.state_reason == is.state_reason;
    // Links and notices go to the number and the e-mail address.
    let reached = number(was) == number(is) && was.email == is.email;
    if was.state != is.state || !reached || !reason_fits {
        return SecondReading::Other;
    }
    if open {
        return SecondReading::Filled(Box::new(StagedUser {
            user: decision.after,
            intents: decision.intents,
            ..staged.clone()
        }));
    }
    if was.phone_awaits_approval() != is.phone_awaits_approval() {
        return SecondReading::Other;
    }
    // Whoever has the old number hears of it now, and has the whole hold to object.
    if was.phone_pending_until != is.phone_pending_until {
        return SecondReading::Filled(Box::new(StagedUser {
            user: User {
                phone_pending_until: is.phone_pending_until,
                ..was.clone()
            },
            ..staged.clone()
        }));
    }
    SecondReading::Same
}
