//! Everybody with a contested name is looked up once more, and all names are resolved at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::found::Found;
use super::given_entries::give_entries;
use super::index::{Index, hash_name};
use super::other_realms::Elsewhere;
use super::people::take_back_early;
use super::reading::Reading;
use super::setting::Setting;
use crate::directory::Sighting;
use crate::model::{DirectoryId, Origin, Person, RealmId, Refusal, User};
use crate::plan::decide::NameGrant;
use crate::plan::names::{Claimant, NameVerdict, resolve};
use crate::runs::RunFailure;
use crate::store::Holder;
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

/// People whose names are resolved, and who of the users they are.
type Contestants = BTreeMap<DirectoryId, (Person, Option<User>)>;

/// Looks everybody with a contested name up once more, resolves all names at once, and decides about these people. Nobody's name is
/// contested afterwards.
pub(super) async fn resolve_names(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    take_back_early(setting, reading, found).await?;
    let mut people: Contestants = Contestants::new();
    let mut asked = BTreeSet::new();
    // Who was renamed since the page may have drawn somebody new into the contest.
    while !reading.contested.is_empty() {
        let contested: Vec<DirectoryId> =
            std::mem::take(&mut reading.contested).into_iter().collect();
        asked.extend(contested.iter().copied());
        look_up_contested(setting, reading, found, &contested, &mut people, ask).await?;
        let drawn = drawn_in(&reading.index, &people, &asked);
        reading.decided_early.extend(drawn.iter().copied());
        reading.contested = drawn;
        take_back_early(setting, reading, found).await?;
    }
    if people.is_empty() {
        return Ok(());
    }
    found.had_contested(asked);
    resolve_among(setting, reading, found, people).await
}

/// Looks people up whose name is contested, and adds those who are there to `people`.
async fn look_up_contested(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    contested: &[DirectoryId],
    people: &mut Contestants,
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    for ids in contested.chunks(LOOK_UP) {
        if ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let mut held = setting.held(ids).await?;
        let mut new = vec![];
        for (id, sighting) in reading.look_up(ids).await? {
            if let Sighting::InScope(entry) = sighting {
                match reading.prepared.normaliser.person(&entry) {
                    Ok(person) => new.push((person, held.contains_key(&id))),
                    Err(refusal) => found.refuse(refusal),
                }
            }
        }
        // Who vanished between the page and this look is left to the next pass.
        let taken_over = setting.elsewhere(&new).await?;
        for (mut person, _) in new {
            let id = person.directory_id;
            let user = match taken_over.get(&id) {
                Some(Elsewhere::Take(from)) => Some((**from).clone()),
                Some(Elsewhere::StillThere(_)) => continue,
                None => held.remove(&id),
            };
            if let Some(user) = &user {
                person.keep_name(user);
            }
            people.insert(id, (person, user));
        }
    }
    give_entries(setting, found, people).await
}

/// People whose name somebody has by now who was renamed between page and look-up: they are contested too, and were not `asked`.
fn drawn_in(
    index: &Index,
    people: &Contestants,
    asked: &BTreeSet<DirectoryId>,
) -> BTreeSet<DirectoryId> {
    people
        .iter()
        .filter_map(|(id, (person, _))| {
            let name = person.username.as_ref().ok()?;
            let rival = index.claimant(hash_name(&name.key)).filter(|r| r != id)?;
            (!asked.contains(&rival)).then_some(rival)
        })
        .collect()
}

/// Resolves all names among these people and those who hold or want one of theirs, and decides about these people.
async fn resolve_among(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    people: Contestants,
) -> Result<(), RunFailure> {
    let mut protected = vec![];
    for (id, (person, user)) in &people {
        if let Some(user) = user
            && found.is_to_be_asked(setting, user, person).await?
        {
            protected.push(*id);
        }
    }
    let unprotected = reading.prepared.unprotected(&protected).await;
    found.unprotected.extend(unprotected);
    let mut claimants: Vec<Claimant> = people
        .values()
        .map(|(person, user)| Claimant {
            who: Origin::Directory(person.directory_id),
            wants: person.username.as_ref().ok().map(|n| n.key.clone()),
            holds: user
                .as_ref()
                .filter(|u| holds_here(setting.id(), Some(u)))
                .map(|u| u.username_key.clone()),
            dn: person.dn.clone(),
        })
        .collect();
    let decided = claimants.len();
    let keys = claimants.iter().filter_map(|c| c.wants.clone());
    let keys = keys.chain(
        people
            .values()
            .filter_map(|p| comes_back_as(setting.id(), p)),
    );
    let others = holders(setting, &reading.index, found, keys.collect(), &people).await?;
    claimants.extend(others);
    let (verdicts, stay) =
        resolve_without_rejected(setting, found, &people, &mut claimants).await?;
    let kept = kept_names(setting.id(), &reading.index, &people, &claimants, &verdicts);
    for (claimant, verdict) in claimants.iter().zip(&verdicts).skip(decided) {
        if let (Origin::Directory(id), NameVerdict::Refused { others }) = (claimant.who, verdict)
            && let Some(key) = claimant.wants.as_ref().filter(|_| !others.is_empty())
        {
            found.refuse(name_refusal(Some(id), &claimant.dn, key, others));
        }
    }
    for ((id, (mut person, user)), verdict) in people.into_iter().zip(verdicts) {
        if stay.contains(&id) {
            found.plan.left_out.insert(Origin::Directory(id));
            continue;
        }
        if let (NameVerdict::Refused { others }, Ok(wanted)) = (&verdict, &person.username) {
            let refusal = name_refusal(Some(id), &person.dn, &wanted.shown, others);
            person.refused.push(refusal);
        }
        let keeps = holds_here(setting.id(), user.as_ref()) || kept.contains(&id);
        let name = grant(&verdict, &person, keeps);
        found
            .decide_person(setting, user.as_ref(), person, name)
            .await?;
        found.stage_refusals(setting, reading.told_ids()).await?;
    }
    Ok(())
}

/// Whether somebody is a user who has a name in this realm.
fn holds_here(realm: &RealmId, user: Option<&User>) -> bool {
    user.is_some_and(|u| u.present() && u.realm == *realm)
}

/// The name that a verdict gives. `keeps`: who gets no other one keeps the one that they have.
fn grant(verdict: &NameVerdict, person: &Person, keeps: bool) -> NameGrant {
    match (verdict, &person.username) {
        (NameVerdict::Granted, Ok(name)) => NameGrant::Granted(name.clone()),
        (NameVerdict::Refused { .. }, _) if keeps => NameGrant::Keep,
        (NameVerdict::Granted | NameVerdict::Refused { .. }, _) => NameGrant::Nothing,
    }
}

/// Settles names; who is left out of the plan, since an administrator rejected that for now, keeps the name that they hold, and
/// gets no other one.
async fn resolve_without_rejected(
    setting: &Setting<'_>,
    found: &mut Found,
    people: &Contestants,
    claimants: &mut [Claimant],
) -> Result<(Vec<NameVerdict>, BTreeSet<DirectoryId>), RunFailure> {
    let mut stay = BTreeSet::new();
    loop {
        let verdicts = resolve(claimants);
        if found.plan.rejected.changes.is_empty() {
            return Ok((verdicts, stay));
        }
        let before = stay.len();
        for ((id, (person, user)), (claimant, verdict)) in
            people.iter().zip(claimants.iter_mut().zip(&verdicts))
        {
            let (NameVerdict::Granted, Ok(name)) = (verdict, &person.username) else {
                continue;
            };
            let name = NameGrant::Granted(name.clone());
            let decision = found
                .decision(setting, user.as_ref(), Cow::Borrowed(person), name)
                .await?;
            if decision.is_some_and(|d| found.plan.rejected.leaves_out(&d)) && stay.insert(*id) {
                claimant.wants.clone_from(&claimant.holds);
            }
        }
        if stay.len() == before {
            return Ok((verdicts, stay));
        }
    }
}

/// The name of somebody who was away, or in another realm, and whose entry gives no usable one now.
fn comes_back_as(realm: &RealmId, (person, user): &(Person, Option<User>)) -> Option<String> {
    let away = user
        .as_ref()
        .filter(|u| !u.present() || u.realm != *realm)?;
    person
        .username
        .is_err()
        .then(|| away.username_key.clone())
        .filter(|key| !key.is_empty())
}

/// Who comes back so and has the name that they had: nobody has it by now, and nobody wants it.
fn kept_names(
    realm: &RealmId,
    index: &Index,
    people: &Contestants,
    claimants: &[Claimant],
    verdicts: &[NameVerdict],
) -> BTreeSet<DirectoryId> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (claimant, verdict) in claimants.iter().zip(verdicts) {
        let names = match verdict {
            NameVerdict::Granted => [&claimant.wants, &None],
            NameVerdict::Refused { .. } => [&claimant.wants, &claimant.holds],
        };
        for name in names.into_iter().flatten() {
            *taken.entry(name.clone()).or_default() += 1;
        }
    }
    let back: Vec<(DirectoryId, String)> = people
        .iter()
        .filter_map(|(id, p)| Some((*id, comes_back_as(realm, p)?)))
        .collect();
    for (_, key) in &back {
        *taken.entry(key.clone()).or_default() += 1;
    }
    back.into_iter()
        .filter(|(_, key)| taken.get(key) == Some(&1))
        .filter(|(_, key)| index.claimant(hash_name(key)).is_none())
        .map(|(id, _)| id)
        .collect()
}

/// Those who hold one of these names and are not contested themselves: unchanged, renamed away in this plan, or made by hand.
/// What the plan makes of them is staged first.
async fn holders(
    setting: &Setting<'_>,
    index: &Index,
    found: &mut Found,
    keys: BTreeSet<String>,
    people: &Contestants,
) -> Result<Vec<Claimant>, RunFailure> {
    let mut claimants = vec![];
    let keys: Vec<String> = keys.into_iter().collect();
    for keys in keys.chunks(LOOK_UP) {
        let holders = setting.store().name_holders(setting.id(), keys).await?;
        let others: Vec<_> = holders
            .into_iter()
            .filter(|h| match h.directory_id {
                Some(id) => !people.contains_key(&id),
                // Who gets an entry is among the people.
                None => !people
                    .values()
                    .any(|(_, user)| user.as_ref().is_some_and(|u| u.id == h.user)),
            })
            .collect();
        let whom: Vec<Origin> = others.iter().map(Holder::origin).collect();
        let staged = found.plan.staged(&whom).await?;
        for holder in others {
            let after = staged
                .iter()
                .map(|s| &s.user)
                .find(|u| u.origin() == holder.origin());
            // Suspended in this plan for another reason than `disabled`: the name is free.
            if after.is_some_and(|u| !u.present()) {
                continue;
            }
            let wants = match (&after, holder.directory_id) {
                (Some(after), _) => Some(after.username_key.clone()),
                (None, Some(id)) if index.seen(id) => Some(holder.key.clone()),
                (None, _) => None,
            };
            claimants.push(Claimant {
                who: holder.origin(),
                wants,
                holds: Some(holder.key.clone()),
                dn: holder.dn.unwrap_or_else(|| BY_HAND.to_owned()),
            });
        }
    }
    Ok(claimants)
}

/// In place of a DN.
const BY_HAND: &str = "a user made by hand";

fn name_refusal(id: Option<DirectoryId>, dn: &str, name: &str, others: &[String]) -> Refusal {
    Refusal {
        dn: dn.to_owned(),
        directory_id: id,
        username: Some(name.to_owned()),
        attribute: Some("username".to_owned()),
        raw: Some(name.to_owned()),
        reason: if others == [BY_HAND] {
            format!(
                "the user name is also that of {BY_HAND}: `realmsync users adopt` gives this entry to that user, or give one of them another name"
            )
        } else {
            format!(
                "the user name is also that of {}: give one of them another name",
                others.join("; ")
            )
        },
        entry: true,
    }
}
