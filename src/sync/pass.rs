//! One full pass: read everything, look at what differs, settle names, find evidence for who is absent.
//!
//! ```text
//! pages ─▶ unchanged? ──yes──▶ seen
//!             │ no
//!             ▼
//!         normalise ─▶ name contested? ──no──▶ decide ─▶ stage
//!                           │ yes
//!                           ▼
//!   complete ─▶ absent: look up by id ─▶ contested: settle all at once ─▶ grace over: look up once more
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::index::{Index, Met};
use super::plan::Plan;
use super::prepare::{PassError, Prepared};
use super::run::stage;
use super::{Ascending, Ask, Engine, Progress};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::directory::Sighting;
use crate::model::dn;
use crate::model::{
    ChangeKind, DirectoryId, ErrorCode, JobReason, Person, RawEntry, RealmId, RealmRow, Refusal,
    State, StateReason, User, UserId, UserName,
};
use crate::plan::brake::{Weighing, weigh};
use crate::plan::decide::{Context, Name, Seen, decide, remove};
use crate::plan::names::{Claimant, Verdict, resolve};

/// Ids looked up at once. The directory part cuts them into filters of its own size; this bounds what is in memory.
const LOOK_UP: usize = 1000;

/// Pages that wait between reading and looking: enough that neither side idles, few enough to stay small.
const PAGES_WAITING: usize = 4;

/// A pass under way.
pub(super) struct Pass<'a> {
    pub engine: &'a Engine,
    pub realm: &'a RealmConfig,
    pub row: &'a RealmRow,
    pub now: Timestamp,
    pub clock_ms: i64,
    pub prepared: Prepared,
    pub plan: Plan,
    pub index: Index,
    /// Nothing was applied to the realm yet.
    pub first: bool,
    /// Realms of the same directory whose users this one may meet.
    neighbours: Vec<RealmRow>,
    /// Folded name (hashed) → who of this pass was looked at with it.
    claims: HashMap<u64, DirectoryId>,
    contested: BTreeSet<DirectoryId>,
    /// Of users that are made.
    ids: Ascending,
    /// Who was read and differs, until there are enough to ask the store about; and whether they are held.
    waiting: Vec<(Person, bool)>,
    refusals: BTreeMap<i64, Refusal>,
    pub seen: i64,
    pub refused_entries: i64,
    pub refused_phones: i64,
    /// Containers of which everybody was found nowhere: (container, how many).
    pub gone_containers: Vec<(String, i64)>,
    /// The plan is held by its counts: nobody was looked up.
    pub not_looked_up: bool,
    /// Users of the realm that were not removed, before the pass.
    pub users_before: i64,
    /// Bases without a usable entry so far.
    empty_bases: Vec<String>,
}

impl<'a> Pass<'a> {
    /// A pass that has read nothing yet.
    pub async fn new(
        engine: &'a Engine,
        realm: &'a RealmConfig,
        row: &'a RealmRow,
        prepared: Prepared,
        plan: Plan,
        now: Timestamp,
    ) -> Result<Self, PassError> {
        let key = prepared.directory_key();
        let neighbours = engine
            .store
            .realms()
            .await?
            .into_iter()
            .filter(|r| r.id != row.id && r.directory.as_deref() == Some(&key))
            .collect();
        let clock_ms = realm_clock(row, realm.policy.grace_ms, now);
        Ok(Self {
            engine,
            realm,
            row,
            now,
            clock_ms,
            plan,
            index: Index::default(),
            first: row.first_applied_at.is_none(),
            neighbours,
            claims: HashMap::new(),
            contested: BTreeSet::new(),
            ids: Ascending::new(now),
            waiting: vec![],
            refusals: BTreeMap::new(),
            seen: 0,
            refused_entries: 0,
            refused_phones: 0,
            gone_containers: vec![],
            not_looked_up: false,
            users_before: 0,
            empty_bases: prepared.scope.bases.clone(),
            prepared,
        })
    }

    /// Reads and decides everything. What is left to do is to weigh the plan.
    pub async fn full(&mut self, ask: &Ask) -> Result<(), PassError> {
        self.load_index().await?;
        stage("read", self.read(ask)).await?;
        if self.seen - self.refused_entries <= 0 || !self.empty_bases.is_empty() {
            let bases = if self.empty_bases.is_empty() {
                self.prepared.scope.bases.join("; ")
            } else {
                self.empty_bases.join("; ")
            };
            let text = format!(
                "no usable entries under {bases} with {}; nothing was applied. Look at the filter, the access rules of the sync account, and `refused {}`",
                self.prepared.scope.filter, self.row.id
            );
            return Err(PassError::new(ErrorCode::Empty, text));
        }
        if ask.adopt {
            self.adopt().await?;
        }
        stage("absent", self.absent(ask)).await?;
        stage("names", self.settle_names(ask)).await?;
        stage("grace", self.grace_over(ask)).await?;
        self.plan.flush().await?;
        Ok(())
    }

    /// Looks at one person's entries only; never makes anyone absent.
    pub async fn one(&mut self, name: &str, ask: &Ask) -> Result<(), PassError> {
        let held = self
            .engine
            .store
            .find_users(name, Some(&self.row.id))
            .await?;
        let ids: Vec<DirectoryId> = held.iter().filter_map(|u| u.directory_id).collect();
        for user in &held {
            if let Some(id) = user.directory_id {
                self.index.hold(id, None, user.present());
            }
        }
        let mut entries = self.prepared.find_by_name(name).await?;
        for (_, sighting) in self.look_up(&ids).await? {
            if let Sighting::InScope(entry) = sighting {
                entries.push(entry);
            }
        }
        // Who is not held under this name may be held under another one.
        let found: Vec<DirectoryId> = entries
            .iter()
            .filter_map(|e| self.prepared.normaliser.directory_id(e).ok())
            .collect();
        for user in self
            .engine
            .store
            .users_by_directory_id(&self.row.id, &found)
            .await?
        {
            if let Some(id) = user.directory_id.filter(|id| !ids.contains(id)) {
                self.index.hold(id, None, user.present());
            }
        }
        if entries.is_empty() {
            let text = format!(
                "the directory has no `{name}` in the scope of realm `{}`; only a full pass can find somebody absent",
                self.row.id
            );
            return Err(PassError::new(ErrorCode::Empty, text));
        }
        self.page(entries).await?;
        self.look_at_waiting().await?;
        self.settle_names(ask).await?;
        self.plan.flush().await?;
        Ok(())
    }

    async fn load_index(&mut self) -> Result<(), PassError> {
        self.users_before = self.engine.store.not_removed(&self.row.id).await?;
        self.index
            .reserve(usize::try_from(self.users_before).unwrap_or(0));
        let index = &mut self.index;
        self.engine
            .store
            .index(&self.row.id, |id, fingerprint, present| {
                index.hold(id, fingerprint, present);
            })
            .await?;
        Ok(())
    }

    /// Reads every page on a task of its own, so that the connection is served while entries are looked at.
    async fn read(&mut self, ask: &Ask) -> Result<(), PassError> {
        let (pages, mut arriving) = mpsc::channel::<Vec<RawEntry>>(PAGES_WAITING);
        let scope = self.prepared.scope.clone();
        let mut session = self.prepared.session.take().ok_or_else(no_session)?;
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let outcome = session.read(&scope, pages).await;
            (session, outcome)
        });
        let expected = self.index.held;
        loop {
            let page = tokio::select! {
                biased;
                () = ask.cancel.cancelled() => return Err(PassError::cancelled()),
                page = arriving.recv() => page,
            };
            let Some(page) = page else { break };
            self.page(page).await?;
            ask.progress.send_replace(Progress {
                seen: u64::try_from(self.seen).unwrap_or(0),
                expected,
            });
        }
        drop(arriving);
        self.look_at_waiting().await?;
        let joined = reading.join_next().await;
        let Some(Ok((session, outcome))) = joined else {
            return Err(PassError::new(
                ErrorCode::Incomplete,
                "the reading task ended unasked; nothing was applied",
            ));
        };
        self.prepared.session = Some(session);
        // Only this makes anyone absent: the type has no other maker than the directory stage.
        let _complete: crate::directory::Complete = outcome?;
        Ok(())
    }

    /// Looks at a page of entries.
    async fn page(&mut self, entries: Vec<RawEntry>) -> Result<(), PassError> {
        for entry in entries {
            self.seen += 1;
            let id = match self.prepared.normaliser.directory_id(&entry) {
                Ok(id) => id,
                Err(refusal) => {
                    self.refuse(refusal);
                    continue;
                }
            };
            let met = self
                .index
                .meet(id, self.prepared.normaliser.fingerprint(&entry));
            if met == Met::Twice {
                self.seen -= 1;
                continue;
            }
            if met != Met::Unchanged {
                match self.prepared.normaliser.person(&entry) {
                    Ok(person) => {
                        if person.username.is_err() && met == Met::New {
                            person.refused.into_iter().for_each(|r| self.refuse(r));
                            continue;
                        }
                        self.waiting.push((person, met == Met::Held));
                    }
                    Err(refusal) => {
                        self.refuse(refusal);
                        continue;
                    }
                }
            }
            self.usable(&entry);
        }
        // Who differs is mostly few, so they gather over pages: the store is asked by batches.
        if self.waiting.len() >= LOOK_UP {
            self.look_at_waiting().await?;
        }
        Ok(())
    }

    async fn look_at_waiting(&mut self) -> Result<(), PassError> {
        let persons = std::mem::take(&mut self.waiting);
        self.look(persons).await
    }

    fn usable(&mut self, entry: &RawEntry) {
        if self.empty_bases.is_empty() {
            return;
        }
        if let [_] = self.prepared.scope.bases.as_slice() {
            self.empty_bases.clear();
            return;
        }
        let dn = entry.dn_shown();
        self.empty_bases.retain(|base| !dn::is_within(&dn, base));
    }

    /// Decides about people, unless their name is contested.
    async fn look(&mut self, persons: Vec<(Person, bool)>) -> Result<(), PassError> {
        if persons.is_empty() {
            return Ok(());
        }
        let store = &self.engine.store;
        let held_ids: Vec<DirectoryId> = persons
            .iter()
            .filter(|(_, held)| *held)
            .map(|(p, _)| p.directory_id)
            .collect();
        let mut held = self.held(&held_ids).await?;
        let taken_over = self.elsewhere(&persons).await?;
        let keys: Vec<String> = persons
            .iter()
            .filter_map(|(p, _)| p.username.as_ref().ok().map(|n| n.key.clone()))
            .collect();
        let holders: HashMap<String, Option<DirectoryId>> =
            if self.users_before == 0 && self.first && self.neighbours.is_empty() {
                HashMap::new()
            } else {
                store
                    .name_holders(&self.row.id, &keys)
                    .await?
                    .into_iter()
                    .map(|h| (h.key, h.directory_id))
                    .collect()
            };
        let mut earlier: HashSet<DirectoryId> = HashSet::new();
        let mut free: Vec<(Person, Option<User>)> = vec![];
        for (person, _) in persons {
            let id = person.directory_id;
            let mut user = held.remove(&id);
            match taken_over.get(&id) {
                Some(Takeover::Take(from)) => user = Some((**from).clone()),
                Some(Takeover::StillThere(realm)) => {
                    self.refuse(still_in(&person, realm));
                    continue;
                }
                None => {}
            }
            let mut contest = false;
            match &person.username {
                Ok(name) => {
                    if let Some(rival) = self.claims.insert(hash_name(&name.key), id) {
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
                        !u.present() || self.claims.contains_key(&hash_name(&u.username_key))
                    });
                }
            }
            if contest || self.contested.contains(&id) {
                self.contested.insert(id);
            } else {
                free.push((person, user));
            }
        }
        self.contested.extend(earlier.iter().copied());
        for (person, user) in free {
            if self.contested.contains(&person.directory_id) {
                continue;
            }
            let name = match &person.username {
                Ok(name) => Name::Granted(name.clone()),
                Err(_) => Name::Keep,
            };
            self.decide(user.as_ref(), person, name).await?;
        }
        let staged_before: Vec<DirectoryId> = earlier.into_iter().collect();
        if !staged_before.is_empty() {
            self.plan.take_back(&staged_before).await?;
            for id in &staged_before {
                self.forget_refusals(*id);
            }
        }
        Ok(())
    }

    async fn decide(
        &mut self,
        held: Option<&User>,
        person: Person,
        name: Name,
    ) -> Result<(), PassError> {
        let context = self.context();
        let decision = decide(
            held,
            &Seen::Here {
                person: &person,
                name,
            },
            &context,
        );
        for refusal in person.refused {
            self.refuse(refusal);
        }
        if let Some(decision) = decision {
            self.plan.add(decision).await?;
        }
        Ok(())
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            realm: &self.row.id,
            policy: &self.prepared.policy,
            now: self.now,
            realm_clock: self.clock_ms,
            id_form: self.prepared.scope.id_form,
            new_id: UserId(self.ids.next()),
            adopts: false,
        }
    }

    pub(super) fn contested_ids(&self) -> Vec<DirectoryId> {
        self.contested.iter().copied().collect()
    }

    pub(super) fn uncontest(&mut self, id: DirectoryId) {
        self.contested.remove(&id);
    }

    async fn held(&self, ids: &[DirectoryId]) -> Result<HashMap<DirectoryId, User>, PassError> {
        let users = self
            .engine
            .store
            .users_by_directory_id(&self.row.id, ids)
            .await?;
        Ok(users
            .into_iter()
            .filter_map(|u| u.directory_id.map(|id| (id, u)))
            .collect())
    }

    /// Users of neighbouring realms that have these ids: taken over, or a reason to refuse the entry.
    async fn elsewhere(
        &self,
        persons: &[(Person, bool)],
    ) -> Result<HashMap<DirectoryId, Takeover>, PassError> {
        let new: Vec<DirectoryId> = persons
            .iter()
            .filter(|(_, held)| !held)
            .map(|(p, _)| p.directory_id)
            .collect();
        if self.neighbours.is_empty() || new.is_empty() {
            return Ok(HashMap::new());
        }
        let mut found = HashMap::new();
        for user in self
            .engine
            .store
            .same_id_elsewhere(&self.row.id, &new)
            .await?
        {
            let Some(id) = user.directory_id else {
                continue;
            };
            let Some(from) = self.neighbours.iter().find(|r| r.id == user.realm) else {
                continue;
            };
            let left = user.state == State::Suspended
                && user.state_reason == Some(StateReason::OutOfScope);
            let takeover = if left || from.orphaned {
                Takeover::Take(Box::new(user))
            } else {
                Takeover::StillThere(from.id.clone())
            };
            found.insert(id, takeover);
        }
        Ok(found)
    }

    /// Everybody whom the store holds and the pass did not meet.
    async fn absent(&mut self, ask: &Ask) -> Result<(), PassError> {
        let (present, away) = self.index.unseen();
        self.undone_and_gone(&away, ask).await?;
        if present.is_empty() {
            return Ok(());
        }
        // Counts are judged first: a plan that they hold looks nobody up.
        let mut counts = self.plan.counts.clone();
        for ids in present.chunks(LOOK_UP) {
            for user in self.held(ids).await?.values() {
                if user.state == State::Active {
                    counts.add(ChangeKind::Suspended);
                }
            }
        }
        let window = self
            .engine
            .store
            .window(&self.row.id, &super::prepare::windows(self.row, self.now))
            .await?;
        let of = self.users_before;
        let weighing = Weighing {
            config: &self.realm.brake,
            counts: &counts,
            window: &window,
            of,
            first_pass: self.first,
        };
        self.not_looked_up = weigh(&weighing).iter().any(|h| h.limit == "suspended");
        let mut nowhere: HashMap<String, i64> = HashMap::new();
        for ids in present.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let mut held = self.held(ids).await?;
            let mut sightings = if self.not_looked_up {
                HashMap::new()
            } else {
                self.look_up(ids).await?
            };
            let mut back = vec![];
            for id in ids {
                let Some(user) = held.remove(id) else {
                    continue;
                };
                let reason = match sightings.remove(id) {
                    _ if self.not_looked_up => None,
                    Some(Sighting::InScope(entry)) => {
                        back.push(entry);
                        continue;
                    }
                    Some(Sighting::OutOfScope { .. }) => Some(StateReason::OutOfScope),
                    None => {
                        if let Some(container) = user.dn.as_deref().and_then(dn::container) {
                            *nowhere.entry(container).or_default() += 1;
                        }
                        Some(StateReason::Deleted)
                    }
                };
                if let Some(decision) = decide(Some(&user), &Seen::Gone(reason), &self.context()) {
                    self.plan.add(decision).await?;
                }
            }
            self.page(back).await?;
            self.look_at_waiting().await?;
        }
        for (container, gone) in nowhere.into_iter().filter(|(_, n)| *n >= 3) {
            if self
                .engine
                .store
                .present_in_container(&self.row.id, &container)
                .await?
                <= gone
            {
                self.gone_containers.push((container, gone));
            }
        }
        self.gone_containers.sort();
        Ok(())
    }

    /// Who was undone stays so while the entry is there; once it is gone, they age like anybody deleted.
    async fn undone_and_gone(&mut self, away: &[DirectoryId], ask: &Ask) -> Result<(), PassError> {
        for ids in away.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let held = self.held(ids).await?;
            let undone: Vec<DirectoryId> = held
                .values()
                .filter(|u| u.state_reason == Some(StateReason::Undone))
                .filter_map(|u| u.directory_id)
                .collect();
            if undone.is_empty() {
                continue;
            }
            let sightings = self.look_up(&undone).await?;
            for id in undone.iter().filter(|id| !sightings.contains_key(*id)) {
                if let Some(decision) = held.get(id).and_then(|user| {
                    decide(
                        Some(user),
                        &Seen::Gone(Some(StateReason::Deleted)),
                        &self.context(),
                    )
                }) {
                    self.plan.add(decision).await?;
                }
            }
        }
        Ok(())
    }

    /// Looks everybody with a contested name up once more, and settles all names at once.
    async fn settle_names(&mut self, ask: &Ask) -> Result<(), PassError> {
        let contested: Vec<DirectoryId> = std::mem::take(&mut self.contested).into_iter().collect();
        if contested.is_empty() {
            return Ok(());
        }
        let mut people: BTreeMap<DirectoryId, (Person, Option<User>)> = BTreeMap::new();
        for ids in contested.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let mut held = self.held(ids).await?;
            let mut new = vec![];
            for (id, sighting) in self.look_up(ids).await? {
                if let Sighting::InScope(entry) = sighting {
                    match self.prepared.normaliser.person(&entry) {
                        Ok(person) => new.push((person, held.contains_key(&id))),
                        Err(refusal) => self.refuse(refusal),
                    }
                }
            }
            // Who vanished between the page and this look is left to the next pass.
            let taken_over = self.elsewhere(&new).await?;
            for (person, _) in new {
                let id = person.directory_id;
                let user = match taken_over.get(&id) {
                    Some(Takeover::Take(from)) => Some((**from).clone()),
                    Some(Takeover::StillThere(_)) => continue,
                    None => held.remove(&id),
                };
                people.insert(id, (person, user));
            }
        }
        let mut claimants: Vec<Claimant> = people
            .values()
            .map(|(person, user)| Claimant {
                id: Some(person.directory_id),
                wants: person.username.as_ref().ok().map(|n| n.key.clone()),
                holds: user
                    .as_ref()
                    .filter(|u| u.present() && u.realm == self.row.id)
                    .map(|u| u.username_key.clone()),
                dn: person.dn.clone(),
            })
            .collect();
        let decided = claimants.len();
        self.add_holders(&people, &mut claimants).await?;
        let verdicts = resolve(&claimants);
        for (claimant, verdict) in claimants.iter().zip(&verdicts).skip(decided) {
            if let (Some(id), Verdict::Refused { others }) = (claimant.id, verdict)
                && let Some(key) = claimant.wants.as_ref().filter(|_| !others.is_empty())
            {
                self.refuse(name_refusal(Some(id), &claimant.dn, key, others));
            }
        }
        for ((_, (mut person, user)), verdict) in people.into_iter().zip(verdicts) {
            let name = match verdict {
                Verdict::Granted => person
                    .username
                    .as_ref()
                    .map_or(Name::Nothing, |n: &UserName| Name::Granted(n.clone())),
                Verdict::Refused { others } => {
                    if let Ok(wanted) = &person.username {
                        person.refused.push(name_refusal(
                            Some(person.directory_id),
                            &person.dn,
                            &wanted.shown,
                            &others,
                        ));
                    }
                    if user
                        .as_ref()
                        .is_some_and(|u| u.present() && u.realm == self.row.id)
                    {
                        Name::Keep
                    } else {
                        Name::Nothing
                    }
                }
            };
            self.decide(user.as_ref(), person, name).await?;
        }
        Ok(())
    }

    /// Those who hold a wanted name and are not contested themselves: unchanged, renamed away in this plan, or made by hand.
    async fn add_holders(
        &mut self,
        people: &BTreeMap<DirectoryId, (Person, Option<User>)>,
        claimants: &mut Vec<Claimant>,
    ) -> Result<(), PassError> {
        let keys: BTreeSet<String> = claimants.iter().filter_map(|c| c.wants.clone()).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        for keys in keys.chunks(LOOK_UP) {
            let holders = self.engine.store.name_holders(&self.row.id, keys).await?;
            let others: Vec<_> = holders
                .into_iter()
                .filter(|h| h.directory_id.is_none_or(|id| !people.contains_key(&id)))
                .collect();
            let ids: Vec<DirectoryId> = others.iter().filter_map(|h| h.directory_id).collect();
            let staged = self.plan.staged(&ids).await?;
            for holder in others {
                let after = staged
                    .iter()
                    .map(|s| &s.user)
                    .find(|u| u.directory_id.is_some() && u.directory_id == holder.directory_id);
                // Suspended in this plan for another reason than `disabled`: the name is free.
                if after.is_some_and(|u| !u.present()) {
                    continue;
                }
                let wants = match (&after, holder.directory_id) {
                    (Some(after), _) => Some(after.username_key.clone()),
                    (None, Some(id)) if self.index.seen(id) => Some(holder.key.clone()),
                    (None, _) => None,
                };
                claimants.push(Claimant {
                    id: holder.directory_id,
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

    /// Who has been away for the whole grace period, by the realm's own clock, and is still away.
    async fn grace_over(&mut self, ask: &Ask) -> Result<(), PassError> {
        let mut after: Option<UserId> = None;
        loop {
            if ask.cancel.is_cancelled() {
                return Err(PassError::cancelled());
            }
            let limit = i64::try_from(LOOK_UP).unwrap_or(1000);
            let users = self
                .engine
                .store
                .grace_over(
                    &self.row.id,
                    self.clock_ms,
                    self.realm.policy.grace_ms,
                    after,
                    limit,
                )
                .await?;
            let Some(last) = users.last() else {
                return Ok(());
            };
            after = Some(last.id);
            let ids: Vec<DirectoryId> = users
                .iter()
                .filter_map(|u| u.directory_id)
                .filter(|id| !self.index.seen(*id))
                .collect();
            let sightings = self.look_up(&ids).await?;
            for user in users
                .iter()
                .filter(|u| u.directory_id.is_some_and(|id| ids.contains(&id)))
            {
                let found = user.directory_id.and_then(|id| sightings.get(&id));
                let reason = match found {
                    // It came back behind the page: the next pass restores it.
                    Some(Sighting::InScope(_)) => continue,
                    Some(Sighting::OutOfScope { .. }) => StateReason::OutOfScope,
                    None => StateReason::Deleted,
                };
                let decision = if user.state_reason == Some(reason) {
                    remove(user, JobReason::GraceOver, &self.context())
                } else {
                    decide(Some(user), &Seen::Gone(Some(reason)), &self.context())
                };
                if let Some(decision) = decision {
                    self.plan.add(decision).await?;
                }
            }
        }
    }

    async fn look_up(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, PassError> {
        self.prepared.look_up(ids).await
    }

    fn refuse(&mut self, refusal: Refusal) {
        let (entry, phone) = (refusal.entry, self.is_phone(&refusal));
        if self
            .refusals
            .insert(refusal_key(&refusal), refusal)
            .is_none()
        {
            self.refused_entries += i64::from(entry);
            self.refused_phones += i64::from(phone);
        }
    }

    fn is_phone(&self, refusal: &Refusal) -> bool {
        let attribute = refusal.attribute.as_deref().unwrap_or_default();
        !refusal.entry
            && self
                .prepared
                .attributes
                .phone
                .iter()
                .any(|a| a.eq_ignore_ascii_case(attribute))
    }

    fn forget_refusals(&mut self, id: DirectoryId) {
        let gone: Vec<Refusal> = self
            .refusals
            .extract_if(.., |_, r| r.directory_id == Some(id))
            .map(|(_, r)| r)
            .collect();
        self.refused_entries -= gone.iter().map(|r| i64::from(r.entry)).sum::<i64>();
        self.refused_phones -= gone
            .iter()
            .map(|r| i64::from(self.is_phone(r)))
            .sum::<i64>();
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more.
    pub async fn refused_diff(&mut self) -> Result<crate::store::RefusedDiff, PassError> {
        let mut now = std::mem::take(&mut self.refusals);
        let mut gone = vec![];
        self.engine
            .store
            .refused_keys(&self.row.id, |key| {
                if now.remove(&key).is_none() {
                    gone.push(key);
                }
            })
            .await?;
        Ok(crate::store::RefusedDiff {
            add: now.into_iter().collect(),
            gone,
        })
    }

    /// How many were refused, entries and values.
    pub fn refused(&self) -> (i64, i64) {
        (self.refused_entries, self.refused_phones)
    }
}

fn no_session() -> PassError {
    PassError::new(
        ErrorCode::Incomplete,
        "the connection ended; nothing was applied",
    )
}

/// What a neighbouring realm's user with the same id means.
enum Takeover {
    Take(Box<User>),
    StillThere(RealmId),
}

/// The realm's own clock: between two complete passes at most a quarter of the grace counts, so that neither an outage nor
/// a clock that jumps removes anyone.
fn realm_clock(row: &RealmRow, grace_ms: i64, now: Timestamp) -> i64 {
    let passed = row
        .last_complete_at
        .map_or(0, |last| now.since_ms(last))
        .clamp(0, grace_ms / 4);
    row.clock_ms.saturating_add(passed)
}

fn hash_name(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

fn refusal_key(refusal: &Refusal) -> i64 {
    let mut text = refusal.dn.clone();
    for part in [
        refusal.attribute.as_deref(),
        refusal.raw.as_deref(),
        Some(refusal.reason.as_str()),
    ] {
        text.push('\0');
        text.push_str(part.unwrap_or_default());
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()).cast_signed()
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
