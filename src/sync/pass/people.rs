//! Looks at people who differ: decided at once, unless their name is contested or another realm holds them.

use std::collections::{HashMap, HashSet};

use super::found::Found;
use super::index::hash_name;
use super::other_realms::Elsewhere;
use super::reading::Reading;
use super::setting::Setting;
use crate::model::{DirectoryId, Person, RealmId, Refusal, User};
use crate::plan::decide::NameGrant;
use crate::runs::RunFailure;

/// Somebody to be decided about, with the user who they are.
type PersonAndUser = (Person, Option<Box<User>>);

/// Decides about people who differ, unless their name is contested; each with whether the store holds them.
pub(super) async fn look(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    mut persons: Vec<(Person, bool)>,
) -> Result<(), RunFailure> {
    if persons.is_empty() {
        return Ok(());
    }
    let held_ids: Vec<DirectoryId> = persons
        .iter()
        .filter(|(_, held)| *held)
        .map(|(p, _)| p.directory_id)
        .collect();
    let held = setting.held(&held_ids).await?;
    let taken_over = setting.elsewhere(&persons).await?;
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
    let nobody_before = found.users_before == 0
        && !reading.indexing
        && found.plan.first()
        && setting.neighbours.is_empty();
    let holders: HashMap<String, Option<DirectoryId>> = if nobody_before {
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
        setting
            .store()
            .name_holders(setting.id(), &others)
            .await?
            .into_iter()
            .map(|h| (h.key, h.directory_id))
            .collect()
    };
    if let Some(told) = &mut reading.told {
        told.holders.extend(holders.values().flatten());
        told.names.extend(names().map(|(_, key)| key.clone()));
    }
    let (free, earlier) = claim_names(reading, found, persons, held, &taken_over, &holders);
    let mut asked = vec![];
    for (person, user) in &free {
        if let Some(user) = user
            && found.is_to_be_asked(setting, user, person).await?
        {
            asked.push(person.directory_id);
        }
    }
    if reading.prepared.session.is_some() {
        found
            .unprotected
            .extend(reading.prepared.unprotected(&asked).await);
    } else {
        // Pages are being read on the connection: they are looked at once more with those whose name is contested.
        reading.contested.extend(asked);
    }
    for (mut person, user) in free {
        if reading.contested.contains(&person.directory_id) {
            continue;
        }
        // The name goes along; nothing asks the person for it any more.
        let name = match std::mem::replace(&mut person.username, Err(String::new())) {
            Ok(name) => NameGrant::Granted(name),
            Err(_) => NameGrant::Keep,
        };
        found
            .decide_person(setting, user.as_deref(), person, name)
            .await?;
    }
    reading.decided_early.extend(earlier);
    found.stage_refusals(setting, reading.told_ids()).await
}

/// Each asks for their name, and whose name is somebody else's too is contested. Gives the others, and whoever asked for one of
/// these names in an earlier batch. Who is still in another realm is refused.
fn claim_names(
    reading: &mut Reading,
    found: &mut Found,
    persons: Vec<(Person, bool)>,
    mut held: HashMap<DirectoryId, User>,
    taken_over: &HashMap<DirectoryId, Elsewhere>,
    holders: &HashMap<String, Option<DirectoryId>>,
) -> (Vec<PersonAndUser>, HashSet<DirectoryId>) {
    let mut earlier: HashSet<DirectoryId> = HashSet::new();
    let mut free: Vec<PersonAndUser> = vec![];
    for (person, _) in persons {
        let id = person.directory_id;
        let mut user = held.remove(&id).map(Box::new);
        match taken_over.get(&id) {
            Some(Elsewhere::Take(from)) => user = Some(from.clone()),
            Some(Elsewhere::StillThere(realm)) => {
                found.refuse(still_in(&person, realm));
                continue;
            }
            None => {}
        }
        let mut contest = false;
        match &person.username {
            Ok(name) => {
                let name_hash = hash_name(&name.key);
                if let Some(rival) = reading.index.claim(name_hash, id) {
                    reading.rivals.insert(name_hash);
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
                    !u.present() || reading.index.claimant(hash_name(&u.username_key)).is_some()
                });
            }
        }
        if contest || reading.contested.contains(&id) {
            reading.contested.insert(id);
        } else {
            free.push((person, user));
        }
    }
    reading.contested.extend(earlier.iter().copied());
    (free, earlier)
}

/// Takes back what was decided about people before a rival for their name came along. All at once, since a plan has no
/// index by directory id: a look for each page would read a plan of a million rows a thousand times.
pub(super) async fn take_back_early(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
) -> Result<(), RunFailure> {
    let early = std::mem::take(&mut reading.decided_early);
    if early.is_empty() {
        return Ok(());
    }
    found.take_back(setting, early.into_iter().collect()).await
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
