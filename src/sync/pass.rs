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

use std::collections::{BTreeSet, HashMap, HashSet};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::delta::Told;
use super::drift_by_kind::ByKind;
use super::index::{Index, Met};
use super::prepare::{PassError, Prepared};
use super::refusals::Refusals;
use super::{Ask, Engine, Progress};
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::directory::Sighting;
use crate::model::dn;
use crate::model::{DirectoryId, ErrorCode, Person, RawEntry, RealmId, RealmRow, User, UserId};
use crate::plan::decide::Context;
use crate::runs::weigh::Users;
use crate::runs::{Ascending, Plan, stage};
use crate::store::Indexed;

/// Ids looked up at once. The directory part cuts them into filters of its own size; this bounds what is in memory.
pub(super) const LOOK_UP: usize = 1000;

/// People who differ that gather before the store is asked about them. What is left of them at the end is waited for alone.
const WAITING: usize = 250;

/// Portions of a page that wait between reading and looking: enough that the server need not wait while the store is asked about a
/// batch of people, few enough to stay small.
const PORTIONS_WAITING: usize = 24;

/// Bytes of entries that wait for the rest of the index, some forty people; then reading waits too. Few do where the directory has
/// the store's order, which it mostly has. (Tests have few people, and meet all of this with them.)
const EARLY: usize = if cfg!(feature = "failpoints") {
    40
} else {
    16_384
};

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
    pub neighbours: Vec<RealmRow>,
    pub contested: BTreeSet<DirectoryId>,
    /// Decided before a rival for their name came along; see [`Pass::take_back_early`].
    pub decided_early: HashSet<DirectoryId>,
    /// Names (hashed) that several entries of this pass have.
    pub rivals: HashSet<u64>,
    /// Of users that are made.
    pub ids: Ascending,
    /// Who was read and differs, until there are enough to ask the store about; and whether they are held.
    pub waiting: Vec<(Person, bool)>,
    pub refusals: Refusals,
    /// Directory ids that came under more than one DN; see [`Pass::refuse_doubles`].
    pub twice: BTreeSet<DirectoryId>,
    /// Names of entries without a readable id: whoever stood there is not gone.
    pub unknown: HashSet<String>,
    pub seen: i64,
    pub refused_entries: i64,
    pub refused_phones: i64,
    /// Containers of which everybody was found nowhere: (container, how many).
    pub gone_containers: Vec<(String, i64)>,
    /// The plan is held by its counts: nobody was looked up.
    pub not_looked_up: bool,
    /// Users of the realm that were not removed, before the pass.
    pub users_before: i64,
    /// The index is being loaded.
    pub indexing: bool,
    /// Bases without a usable entry so far.
    pub empty_bases: Vec<String>,
    /// Of a delta: who is looked at; `None`: everybody is.
    pub told: Option<Told>,
    /// Of a full pass that counted drift: whom deltas did not tell, by kind.
    pub untold: ByKind,
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
        let neighbours = engine.siblings(row, &key).await?;
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
            contested: BTreeSet::new(),
            decided_early: HashSet::new(),
            rivals: HashSet::new(),
            ids: Ascending::new(now),
            waiting: vec![],
            refusals: Refusals::default(),
            twice: BTreeSet::new(),
            unknown: HashSet::new(),
            seen: 0,
            refused_entries: 0,
            refused_phones: 0,
            gone_containers: vec![],
            not_looked_up: false,
            users_before: 0,
            indexing: false,
            empty_bases: prepared.scope.bases.clone(),
            told: None,
            untold: ByKind::default(),
            prepared,
        })
    }

    /// Reads and decides everything. What is left to do is to weigh the plan.
    pub async fn full(&mut self, ask: &Ask) -> Result<(), PassError> {
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
        self.refuse_doubles().await?;
        self.take_back_early().await?;
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
        self.refusals.unkept = true;
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
            return Err(nobody(name, &self.row.id, !held.is_empty()));
        }
        self.page(entries).await?;
        self.look_at_waiting().await?;
        self.refuse_doubles().await?;
        self.settle_names(ask).await?;
        self.plan.flush().await?;
        Ok(())
    }

    /// Reads every page on a task of its own, so that the connection is served while entries are looked at, and on another one the
    /// index. Both have about the same order, and the index is the faster one: whoever comes is mostly in it by then.
    async fn read(&mut self, ask: &Ask) -> Result<(), PassError> {
        let (pages, mut arriving) = mpsc::channel::<Vec<RawEntry>>(PORTIONS_WAITING);
        let scope = self.prepared.scope.clone();
        let mut session = self.prepared.session.take().ok_or_else(no_session)?;
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let outcome = session.read(&scope, pages).await;
            (session, outcome)
        });
        let (chunks, mut index) = mpsc::channel::<Vec<Indexed>>(1);
        let (store, realm) = (self.engine.store.clone(), self.row.id.clone());
        let mut indexing = JoinSet::new();
        indexing.spawn(async move {
            let mut after = 0;
            while let Some((users, last)) = store.index_chunk(&realm, after).await? {
                after = last;
                if chunks.send(users).await.is_err() {
                    break;
                }
            }
            store.not_indexed(&realm).await
        });
        self.indexing = true;
        // Whom the index does not know yet.
        let (mut early, mut size) = (vec![], 0);
        loop {
            tokio::select! {
                biased;
                () = ask.cancel.cancelled() => return Err(PassError::cancelled()),
                chunk = index.recv(), if self.indexing => {
                    if let Some(chunk) = chunk {
                        self.hold(chunk);
                        continue;
                    }
                    let Some(Ok(others)) = indexing.join_next().await else {
                        return Err(unasked("index"));
                    };
                    self.users_before = i64::try_from(self.index.held).unwrap_or(i64::MAX) + others?;
                    self.indexing = false;
                    let mut left = std::mem::take(&mut early).into_iter();
                    size = 0;
                    while left.len() > 0 {
                        self.page(left.by_ref().take(WAITING).collect()).await?;
                    }
                }
                page = arriving.recv(), if size < EARLY => match page {
                    Some(page) if self.indexing => {
                        let (known, others) = self.known(page);
                        size += others.iter().map(RawEntry::size).sum::<usize>();
                        early.extend(others);
                        self.page(known).await?;
                    }
                    Some(page) => self.page(page).await?,
                    None if self.indexing => {
                        // Nobody more comes.
                        while let Some(chunk) = index.recv().await {
                            self.hold(chunk);
                        }
                    }
                    None => break,
                },
            }
            ask.progress.send_replace(Progress {
                seen: u64::try_from(self.seen).unwrap_or(0),
                expected: if self.indexing { 0 } else { self.index.held },
            });
        }
        drop(arriving);
        self.look_at_waiting().await?;
        let joined = reading.join_next().await;
        let Some(Ok((session, outcome))) = joined else {
            return Err(unasked("reading"));
        };
        self.prepared.session = Some(session);
        // Only this makes anyone absent: the type has no other maker than the directory stage.
        let _complete: crate::directory::Complete = outcome?;
        Ok(())
    }

    /// Takes a part of the index in.
    fn hold(&mut self, users: Vec<Indexed>) {
        for (id, fingerprint, present) in users {
            self.index.hold(id, fingerprint, present);
        }
    }

    /// Parts a page into those whom the index knows already, and the others.
    fn known(&self, page: Vec<RawEntry>) -> (Vec<RawEntry>, Vec<RawEntry>) {
        page.into_iter().partition(|entry| {
            let id = self.prepared.normaliser.directory_id(entry);
            id.is_ok_and(|id| self.index.knows(id))
        })
    }

    /// Looks at a page of entries.
    pub(super) async fn page(&mut self, entries: Vec<RawEntry>) -> Result<(), PassError> {
        for entry in entries {
            self.seen += 1;
            if !self.prepared.unproved.is_empty() {
                let normaliser = &self.prepared.normaliser;
                self.prepared
                    .unproved
                    .retain(|name| !normaliser.has(&entry, name));
            }
            let id = match self.prepared.normaliser.directory_id(&entry) {
                Ok(id) => id,
                Err(refusal) => {
                    self.unknown.insert(refusal.dn.clone());
                    self.refuse(refusal);
                    continue;
                }
            };
            let place = xxhash_rust::xxh3::xxh3_64(entry.dn());
            let met = self
                .index
                .meet(id, self.prepared.normaliser.fingerprint(&entry), place);
            if met == Met::Again {
                self.seen -= 1;
                continue;
            }
            if met == Met::Twice {
                self.twice.insert(id);
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
        if self.waiting.len() >= WAITING {
            self.look_at_waiting().await?;
        }
        self.stage_refusals().await
    }

    pub(super) async fn look_at_waiting(&mut self) -> Result<(), PassError> {
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

    /// The realm's users that are not removed; for a delta only as many as the brake must know of.
    pub(super) fn users(&self) -> Users {
        match self.users_before {
            1.. => Users::Known(self.users_before),
            _ if self.told.is_some() => Users::AsNeeded,
            _ => Users::Counted,
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            realm: &self.row.id,
            policy: &self.prepared.policy,
            now: self.now,
            realm_clock: self.clock_ms,
            id_form: self.prepared.scope.id_form,
            new_id: UserId(self.ids.next()),
            bare: self.plan.first(),
            adopts: false,
        }
    }

    pub(super) async fn held(
        &self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, User>, PassError> {
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

    pub(super) async fn look_up(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, PassError> {
        self.prepared.look_up(ids).await
    }
}

/// A name that is not there to be read. Who is held may be gone, which only a full pass can find out.
fn nobody(name: &str, realm: &RealmId, held: bool) -> PassError {
    PassError::nobody(if held {
        format!(
            "the directory has no `{name}` in the scope of realm `{realm}` any more; only a full pass can find somebody absent: run `sync {realm}`"
        )
    } else {
        format!(
            "neither the directory, in the scope of realm `{realm}`, nor the store knows `{name}`: check the name, or look for it with `users list --realm {realm} --search {name}`"
        )
    })
}

/// A task of the pass that ended without an answer.
fn unasked(which: &str) -> PassError {
    let text = format!("the {which} task ended unasked; nothing was applied");
    PassError::new(ErrorCode::Incomplete, text)
}

fn no_session() -> PassError {
    PassError::new(
        ErrorCode::Incomplete,
        "the connection ended; nothing was applied",
    )
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
