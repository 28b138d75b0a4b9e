//! A pass under way.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::delta_scope::DeltaScope;
use super::index::Index;
use super::refusals::Refusals;
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::directory::Sighting;
use crate::model::{DirectoryId, Person, RealmRow, User, UserId};
use crate::plan::decide::DecisionContext;
use crate::runs::weigh::Users;
use crate::runs::{Ascending, PlanBuilder, RunFailure};
use crate::sync::changes::drift_by_kind::ByKind;
use crate::sync::engine::Engine;
use crate::sync::realm::session::PreparedSession;

/// What is known before anything is read, constant to the end.
pub(in crate::sync) struct Setting<'a> {
    pub engine: &'a Engine,
    pub realm: &'a RealmConfig,
    pub row: &'a RealmRow,
    /// When the run began.
    pub now: Timestamp,
    /// The realm's own clock, milliseconds.
    pub clock_ms: i64,
    /// Realms of the same directory whose users this one may meet.
    pub neighbours: Vec<RealmRow>,
}

/// What is being read, and what is to be remembered of it until all is read.
pub(in crate::sync) struct Reading {
    pub prepared: PreparedSession,
    pub index: Index,
    /// The index is being loaded.
    pub indexing: bool,
    /// Of users that are made.
    pub ids: Ascending,
    /// Who was read and differs, until there are enough to ask the store about; and whether they are held.
    pub waiting: Vec<(Person, bool)>,
    /// Whose name somebody else wants or holds.
    pub contested: BTreeSet<DirectoryId>,
    /// Decided before a rival for their name came along; see [`Pass::take_back_early`].
    pub decided_early: HashSet<DirectoryId>,
    /// Names (hashed) that several entries of this pass have.
    pub rivals: HashSet<u64>,
    /// Directory ids that came under more than one DN; see [`Pass::refuse_doubles`].
    pub twice: BTreeSet<DirectoryId>,
    /// Names of entries without a readable id: whoever stood there is not gone.
    pub unknown: HashSet<String>,
    /// Bases without a usable entry so far.
    pub empty_bases: Vec<String>,
    /// Of a delta: who is looked at; `None`: everybody is.
    pub told: Option<DeltaScope>,
}

/// What came of it.
pub(in crate::sync) struct Found {
    pub plan: PlanBuilder,
    pub refusals: Refusals,
    pub seen: i64,
    pub refused_entries: i64,
    pub refused_phones: i64,
    /// Users of the realm that were not removed, before the pass; 0: not counted.
    pub users_before: i64,
    /// Containers of which everybody was found nowhere: (container, how many).
    pub gone_containers: Vec<(String, i64)>,
    /// Of a full pass that counted drift: whom deltas did not tell, by kind.
    pub untold: ByKind,
}

/// A pass under way.
pub(in crate::sync) struct Pass<'a> {
    pub setting: Setting<'a>,
    pub reading: Reading,
    pub found: Found,
}

impl<'a> Pass<'a> {
    /// A pass that has read nothing yet.
    pub async fn new(
        engine: &'a Engine,
        realm: &'a RealmConfig,
        row: &'a RealmRow,
        prepared: PreparedSession,
        plan: PlanBuilder,
        now: Timestamp,
    ) -> Result<Self, RunFailure> {
        let neighbours = engine.siblings(row, &prepared.directory_key()).await?;
        let setting = Setting {
            engine,
            realm,
            row,
            now,
            clock_ms: realm_clock(row, realm.policy.grace_ms, now),
            neighbours,
        };
        let reading = Reading {
            index: Index::default(),
            indexing: false,
            ids: Ascending::new(now),
            waiting: vec![],
            contested: BTreeSet::new(),
            decided_early: HashSet::new(),
            rivals: HashSet::new(),
            twice: BTreeSet::new(),
            unknown: HashSet::new(),
            empty_bases: prepared.scope.bases.clone(),
            told: None,
            prepared,
        };
        let found = Found {
            plan,
            refusals: Refusals::default(),
            seen: 0,
            refused_entries: 0,
            refused_phones: 0,
            users_before: 0,
            gone_containers: vec![],
            untold: ByKind::default(),
        };
        Ok(Self {
            setting,
            reading,
            found,
        })
    }

    /// The realm's users that are not removed; for a delta only as many as the brake must know of.
    pub(in crate::sync) fn users(&self) -> Users {
        match self.found.users_before {
            1.. => Users::Known(self.found.users_before),
            _ if self.reading.told.is_some() => Users::AsNeeded,
            _ => Users::Counted,
        }
    }

    pub(in crate::sync) fn context(&self) -> DecisionContext<'_> {
        DecisionContext {
            realm: &self.setting.row.id,
            policy: &self.reading.prepared.policy,
            now: self.setting.now,
            realm_clock: self.setting.clock_ms,
            id_form: self.reading.prepared.scope.id_form,
            new_id: UserId(self.reading.ids.next()),
            bare: self.found.plan.first(),
            adopts: false,
        }
    }

    pub(in crate::sync) async fn held(
        &self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, User>, RunFailure> {
        let users = self
            .setting
            .engine
            .store
            .users_by_directory_id(&self.setting.row.id, ids)
            .await?;
        Ok(users
            .into_iter()
            .filter_map(|u| u.directory_id.map(|id| (id, u)))
            .collect())
    }

    pub(in crate::sync) async fn look_up(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, RunFailure> {
        self.reading.prepared.look_up(ids).await
    }
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
