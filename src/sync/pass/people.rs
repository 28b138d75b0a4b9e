//! Looks at people who differ: decided at once, unless their name is contested or another realm holds them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::index::hash_name;
use super::other_realms::Elsewhere;
use super::under_way::Pass;
use crate::model::{DirectoryId, Person, RealmId, Refusal, User};
use crate::plan::decide::{NameGrant, Observation, decide};
use crate::runs::RunFailure;

impl Pass<'_> {
    /// Decides about people, unless their name is contested.
    pub(in crate::sync) async fn look(
        &mut self,
        mut persons: Vec<(Person, bool)>,
    ) -> Result<(), RunFailure> {
        if persons.is_empty() {
            return Ok(());
        }
        let store = &self.setting.engine.store;
        let held_ids: Vec<DirectoryId> = persons
            .iter()
            .filter(|(_, held)| *held)
            .map(|(p, _)| p.directory_id)
            .collect();
        let mut held = self.setting.held(&held_ids).await?;
        let taken_over = self.setting.elsewhere(&persons).await?;
        for (person, _) in &mut persons {
            if let Some(user) = held.get(&person.directory_id) {
                person.keep_name(user);
            } else if let Some(Elsewhere::Take(from)) = taken_over.get(&person.directory_id) {
                person.keep_name(from);
            }
        }
        let names = || {
            persons
                .iter()
                .filter_map(|(p, _)| Some((p.directory_id, &p.username.as_ref().ok()?.key)))
        };
        let holders: HashMap<String, Option<DirectoryId>> = if self.found.users_before == 0
            && !self.reading.indexing
            && self.found.plan.first()
            && self.setting.neighbours.is_empty()
        {
            HashMap::new()
        } else {
            // Whoever is present under a name holds it alone: that is asked about the others only.
            let others: Vec<String> = names()
                .filter(|(id, key)| {
                    let own = |u: &User| u.present() && u.username_key == **key;
                    !held.get(id).is_some_and(own)
                })
                .map(|(_, key)| key.clone())
                .collect();
            store
                .name_holders(&self.setting.row.id, &others)
                .await?
                .into_iter()
                .map(|h| (h.key, h.directory_id))
                .collect()
        };
        if let Some(told) = &mut self.reading.told {
            told.holders.extend(holders.values().flatten());
            told.names.extend(names().map(|(_, key)| key.clone()));
        }
        let mut earlier: HashSet<DirectoryId> = HashSet::new();
        let mut free: Vec<(Person, Option<Box<User>>)> = vec![];
        for (person, _) in persons {
            let id = person.directory_id;
            let mut user = held.remove(&id).map(Box::new);
            match taken_over.get(&id) {
                Some(Elsewhere::Take(from)) => user = Some(from.clone()),
                Some(Elsewhere::StillThere(realm)) => {
                    self.found.refuse(still_in(&person, realm));
                    continue;
                }
                None => {}
            }
            let mut contest = false;
            match &person.username {
                Ok(name) => {
                    let name_hash = hash_name(&name.key);
                    if let Some(rival) = self.reading.index.claim(name_hash, id) {
                        self.reading.rivals.insert(name_hash);
                        contest = true;
                        earlier.insert(rival);
                    }
                    contest |= holders
                        .get(&name.key)
                        .is_some_and(|holder| *holder != Some(id));
                }
                // Keeping a held name is a claim too: another may have taken it in this pass.
                Err(_) => {
                    contest = user.as_ref().is_some_and(|u| {
                        !u.present()
                            || self
                                .reading
                                .index
                                .claimant(hash_name(&u.username_key))
                                .is_some()
                    });
                }
            }
            if contest || self.reading.contested.contains(&id) {
                self.reading.contested.insert(id);
            } else {
                free.push((person, user));
            }
        }
        self.reading.contested.extend(earlier.iter().copied());
        for (mut person, user) in free {
            if self.reading.contested.contains(&person.directory_id) {
                continue;
            }
            // The name goes along; nothing asks the person for it any more.
            let name = match std::mem::replace(&mut person.username, Err(String::new())) {
                Ok(name) => NameGrant::Granted(name),
                Err(_) => NameGrant::Keep,
            };
            self.decide_person(user.as_deref(), person, name).await?;
        }
        self.reading.decided_early.extend(earlier);
        self.found
            .stage_refusals(&self.setting, self.reading.told_ids())
            .await
    }

    /// Takes back what was decided about people before a rival for their name came along. All at once, since a plan has no
    /// index by directory id: a look for each page would read a plan of a million rows a thousand times.
    pub(in crate::sync) async fn take_back_early(&mut self) -> Result<(), RunFailure> {
        let early = std::mem::take(&mut self.reading.decided_early);
        if early.is_empty() {
            return Ok(());
        }
        let early: Vec<DirectoryId> = early.into_iter().collect();
        self.found.take_back(&self.setting, early).await
    }

    pub(in crate::sync) async fn decide_person(
        &mut self,
        held: Option<&User>,
        person: Person,
        name: NameGrant,
    ) -> Result<(), RunFailure> {
        let context = self.found.context(&self.setting);
        let refused = person.refused.clone();
        let decision = decide(
            held,
            Observation::Here {
                person: Cow::Owned(person),
                name,
            },
            &context,
        );
        for refusal in refused {
            self.found.refuse(refusal);
        }
        if let Some(decision) = decision {
            self.found.add(decision).await?;
        }
        Ok(())
    }
}

fn still_in(person: &Person, realm: &RealmId) -> Refusal {
    Refusal {
        dn: person.dn.clone(),
        directory_id: Some(person.directory_id),
        username: person.username.as_ref().ok().map(|n| n.shown.clone()),
        attribute: None,
        raw: None,
        reason: format!(
            "still in realm {realm}: it is taken over once that realm has found it out of its scope"
        ),
        entry: true,
    }
}
