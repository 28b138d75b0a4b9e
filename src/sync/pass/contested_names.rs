//! Everybody with a contested name is looked up once more, and all names are resolved at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::index::hash_name;
use super::other_realms::Elsewhere;
use super::under_way::Pass;
use crate::directory::Sighting;
use crate::model::{DirectoryId, Origin, Person, Refusal, User, UserName};
use crate::plan::decide::{NameGrant, Observation, decide};
use crate::plan::names::{Claimant, NameVerdict, resolve};
use crate::runs::RunFailure;
use crate::store::Holder;
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Looks everybody with a contested name up once more, and resolves all names at once.
    pub(in crate::sync) async fn resolve_names(
        &mut self,
        ask: &RunRequest,
    ) -> Result<(), RunFailure> {
        self.take_back_early().await?;
        let mut people: BTreeMap<DirectoryId, (Person, Option<User>)> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        // Who was renamed since the page may have drawn somebody new into the contest.
        while !self.reading.contested.is_empty() {
            let contested: Vec<DirectoryId> = std::mem::take(&mut self.reading.contested)
                .into_iter()
                .collect();
            asked.extend(contested.iter().copied());
            self.look_up_contested(&contested, &mut people, ask).await?;
            self.draw_in(&people, &asked).await?;
        }
        if people.is_empty() {
            return Ok(());
        }
        self.found.had_contested(asked);
        self.resolve_among(people).await
    }

    /// Looks people up whose name is contested.
    async fn look_up_contested(
        &mut self,
        contested: &[DirectoryId],
        people: &mut BTreeMap<DirectoryId, (Person, Option<User>)>,
        ask: &RunRequest,
    ) -> Result<(), RunFailure> {
        for ids in contested.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            let mut held = self.setting.held(ids).await?;
            let mut new = vec![];
            for (id, sighting) in self.reading.look_up(ids).await? {
                if let Sighting::InScope(entry) = sighting {
                    match self.reading.prepared.normaliser.person(&entry) {
                        Ok(person) => new.push((person, held.contains_key(&id))),
                        Err(refusal) => self.found.refuse(refusal),
                    }
                }
            }
            // Who vanished between the page and this look is left to the next pass.
            let taken_over = self.setting.elsewhere(&new).await?;
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
        Ok(())
    }

    /// Takes back what was decided about people whose name somebody has by now who was renamed between page and look-up:
    /// they are contested too.
    async fn draw_in(
        &mut self,
        people: &BTreeMap<DirectoryId, (Person, Option<User>)>,
        asked: &BTreeSet<DirectoryId>,
    ) -> Result<(), RunFailure> {
        let drawn: BTreeSet<DirectoryId> = people
            .iter()
            .filter_map(|(id, (person, _))| {
                let name = person.username.as_ref().ok()?;
                let rival = self
                    .reading
                    .index
                    .claimant(hash_name(&name.key))
                    .filter(|r| r != id)?;
                (!asked.contains(&rival)).then_some(rival)
            })
            .collect();
        self.reading.decided_early.extend(drawn.iter().copied());
        self.reading.contested = drawn;
        self.take_back_early().await
    }

    /// Resolves all names among these people and those who hold or want one of theirs.
    async fn resolve_among(
        &mut self,
        people: BTreeMap<DirectoryId, (Person, Option<User>)>,
    ) -> Result<(), RunFailure> {
        let mut claimants: Vec<Claimant> = people
            .values()
            .map(|(person, user)| Claimant {
                who: Origin::Directory(person.directory_id),
                wants: person.username.as_ref().ok().map(|n| n.key.clone()),
                holds: user
                    .as_ref()
                    .filter(|u| u.present() && u.realm == self.setting.row.id)
                    .map(|u| u.username_key.clone()),
                dn: person.dn.clone(),
            })
            .collect();
        let decided = claimants.len();
        let keys = claimants.iter().filter_map(|c| c.wants.clone());
        let keys = keys.chain(people.values().filter_map(|p| self.comes_back_as(p)));
        self.add_holders(keys.collect(), &people, &mut claimants)
            .await?;
        let (verdicts, stay) = self.resolve_without_rejected(&people, &mut claimants);
        let kept = self.kept_names(&people, &claimants, &verdicts);
        for (claimant, verdict) in claimants.iter().zip(&verdicts).skip(decided) {
            if let (Origin::Directory(id), NameVerdict::Refused { others }) =
                (claimant.who, verdict)
                && let Some(key) = claimant.wants.as_ref().filter(|_| !others.is_empty())
            {
                self.found
                    .refuse(name_refusal(Some(id), &claimant.dn, key, others));
            }
        }
        for ((id, (mut person, user)), verdict) in people.into_iter().zip(verdicts) {
            if stay.contains(&id) {
                self.found.plan.left_out.insert(Origin::Directory(id));
                continue;
            }
            let name = match verdict {
                NameVerdict::Granted => person
                    .username
                    .as_ref()
                    .map_or(NameGrant::Nothing, |n: &UserName| {
                        NameGrant::Granted(n.clone())
                    }),
                NameVerdict::Refused { others } => {
                    if let Ok(wanted) = &person.username {
                        person.refused.push(name_refusal(
                            Some(person.directory_id),
                            &person.dn,
                            &wanted.shown,
                            &others,
                        ));
                    }
                    let has_it = user
                        .as_ref()
                        .is_some_and(|u| u.present() && u.realm == self.setting.row.id);
                    if has_it || kept.contains(&person.directory_id) {
                        NameGrant::Keep
                    } else {
                        NameGrant::Nothing
                    }
                }
            };
            self.decide_person(user.as_ref(), person, name).await?;
            self.found
                .stage_refusals(&self.setting, self.reading.told_ids())
                .await?;
        }
        Ok(())
    }

    /// Settles names; who is left out of the plan, since an administrator rejected that for now, keeps the name that they hold, and
    /// gets no other one.
    fn resolve_without_rejected(
        &self,
        people: &BTreeMap<DirectoryId, (Person, Option<User>)>,
        claimants: &mut [Claimant],
    ) -> (Vec<NameVerdict>, BTreeSet<DirectoryId>) {
        let mut stay = BTreeSet::new();
        loop {
            let verdicts = resolve(claimants);
            if self.found.plan.rejected.changes.is_empty() {
                return (verdicts, stay);
            }
            let before = stay.len();
            for ((id, (person, user)), (claimant, verdict)) in
                people.iter().zip(claimants.iter_mut().zip(&verdicts))
            {
                let (NameVerdict::Granted, Ok(name)) = (verdict, &person.username) else {
                    continue;
                };
                let seen = Observation::Here {
                    person: Cow::Borrowed(person),
                    name: NameGrant::Granted(name.clone()),
                };
                let left_out = |decision| self.found.plan.rejected.leaves_out(&decision);
                if decide(user.as_ref(), seen, &self.found.context(&self.setting))
                    .is_some_and(left_out)
                    && stay.insert(*id)
                {
                    claimant.wants.clone_from(&claimant.holds);
                }
            }
            if stay.len() == before {
                return (verdicts, stay);
            }
        }
    }

    /// The name of somebody who was away, or in another realm, and whose entry gives no usable one now.
    fn comes_back_as(&self, (person, user): &(Person, Option<User>)) -> Option<String> {
        let away = user
            .as_ref()
            .filter(|u| !u.present() || u.realm != self.setting.row.id)?;
        person
            .username
            .is_err()
            .then(|| away.username_key.clone())
            .filter(|key| !key.is_empty())
    }

    /// Who comes back so and has the name that they had: nobody has it by now, and nobody wants it.
    fn kept_names(
        &self,
        people: &BTreeMap<DirectoryId, (Person, Option<User>)>,
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
            .filter_map(|(id, p)| Some((*id, self.comes_back_as(p)?)))
            .collect();
        for (_, key) in &back {
            *taken.entry(key.clone()).or_default() += 1;
        }
        back.into_iter()
            .filter(|(_, key)| taken.get(key) == Some(&1))
            .filter(|(_, key)| self.reading.index.claimant(hash_name(key)).is_none())
            .map(|(id, _)| id)
            .collect()
    }

    /// Those who hold one of these names and are not contested themselves: unchanged, renamed away in this plan, or made by hand.
    async fn add_holders(
        &mut self,
        keys: BTreeSet<String>,
        people: &BTreeMap<DirectoryId, (Person, Option<User>)>,
        claimants: &mut Vec<Claimant>,
    ) -> Result<(), RunFailure> {
        let keys: Vec<String> = keys.into_iter().collect();
        for keys in keys.chunks(LOOK_UP) {
            let holders = self
                .setting
                .engine
                .store
                .name_holders(&self.setting.row.id, keys)
                .await?;
            let others: Vec<_> = holders
                .into_iter()
                .filter(|h| h.directory_id.is_none_or(|id| !people.contains_key(&id)))
                .collect();
            let whom: Vec<Origin> = others.iter().map(Holder::origin).collect();
            let staged = self.found.plan.staged(&whom).await?;
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
                    (None, Some(id)) if self.reading.index.seen(id) => Some(holder.key.clone()),
                    (None, _) => None,
                };
                claimants.push(Claimant {
                    who: holder.origin(),
                    wants,
                    holds: Some(holder.key.clone()),
                    dn: holder
                        .dn
                        .unwrap_or_else(|| "a user made by hand".to_owned()),
                });
            }
        }
        Ok(())
    }
}

fn name_refusal(id: Option<DirectoryId>, dn: &str, name: &str, others: &[String]) -> Refusal {
    Refusal {
        dn: dn.to_owned(),
        directory_id: id,
        username: Some(name.to_owned()),
        attribute: Some("username".to_owned()),
        raw: Some(name.to_owned()),
        reason: format!(
            "the user name is also that of {}: give one of them another name",
            others.join("; ")
        ),
        entry: true,
    }
}
