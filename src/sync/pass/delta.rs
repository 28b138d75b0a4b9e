//! One delta: whoever was told is looked up by id, and with them whoever wants or holds one of their names. Nobody else is touched.
//!
//! ```text
//! told ─▶ looked up by id ─▶ as any page of a full pass ─▶ names touched? ─▶ their rivals are told too ─┐
//!  ▲                                                                                                    │
//!  └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! nobody more ─▶ not met: the evidence of a full pass ─▶ names settled
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};

use super::delta_scope::DeltaScope;
use super::under_way::Pass;
use crate::directory::{Delta, Sighting};
use crate::model::DirectoryId;
use crate::model::person::fold_name;
use crate::runs::{RunFailure, stage};
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Looks at those who were told, and decides about them as a full pass would.
    pub(in crate::sync) async fn delta(
        &mut self,
        delta: Delta,
        ask: &RunRequest,
    ) -> Result<(), RunFailure> {
        self.reading.told = Some(DeltaScope::default());
        self.found.of_delta();
        let mut next = self.whom(delta).await?;
        let refused = self.refused_by_name().await?;
        while !next.is_empty() {
            stage("look up", self.look_at(&next, &refused, ask)).await?;
            next = self.reading.rivals(&refused);
        }
        self.take_back_early().await?;
        stage("absent", self.absent(ask)).await?;
        stage("names", self.resolve_names(ask)).await?;
        self.found.plan.flush().await?;
        Ok(())
    }

    /// Everybody told; where all who are there were told, also whoever is held and not among them, or among them and not held.
    async fn whom(&mut self, delta: Delta) -> Result<BTreeSet<DirectoryId>, RunFailure> {
        let mut whom: BTreeSet<DirectoryId> = delta.touched.into_iter().collect();
        if let Some(present) = delta.present {
            let mut present: HashSet<DirectoryId> = present.into_iter().collect();
            let mut away = vec![];
            self.setting
                .engine
                .store
                .index(&self.setting.row.id, |id, _, there| {
                    let told = present.remove(&id);
                    if whom.contains(&id) || told && there {
                        return;
                    }
                    if told || there {
                        whom.insert(id);
                    } else {
                        away.push(id);
                    }
                })
                .await?;
            // Told to be there unchanged, and nobody knows them: one is refused, or the directory has changed its mind (a backup).
            whom.extend(present);
            // Whoever was away already is only asked for where they were undone.
            for id in away {
                self.reading.index.hold(id, None, false);
            }
        }
        whom.extend(delta.gone);
        if !self.setting.neighbours.is_empty() {
            // What keeps them out is told to the other realm only.
            whom.extend(
                self.setting
                    .engine
                    .store
                    .refused_as_elsewhere(&self.setting.row.id)
                    .await?,
            );
        }
        Ok(whom)
    }

    /// Folded name → who was refused it.
    async fn refused_by_name(&self) -> Result<HashMap<String, Vec<DirectoryId>>, RunFailure> {
        let mut refused: HashMap<String, Vec<DirectoryId>> = HashMap::new();
        for (id, name) in self
            .setting
            .engine
            .store
            .refused_names(&self.setting.row.id)
            .await?
        {
            refused.entry(fold_name(&name)).or_default().push(id);
        }
        Ok(refused)
    }

    async fn look_at(
        &mut self,
        ids: &BTreeSet<DirectoryId>,
        refused: &HashMap<String, Vec<DirectoryId>>,
        ask: &RunRequest,
    ) -> Result<(), RunFailure> {
        let ids: Vec<DirectoryId> = ids.iter().copied().collect();
        for ids in ids.chunks(LOOK_UP) {
            if ask.cancel.is_cancelled() {
                return Err(RunFailure::cancelled());
            }
            let held = self.setting.held(ids).await?;
            for (id, user) in &held {
                self.reading
                    .index
                    .hold(*id, user.fingerprint, user.present());
            }
            if let Some(told) = &mut self.reading.told {
                told.ids.extend(ids);
                told.names
                    .extend(held.into_values().map(|user| user.username_key));
                let wanted = refused
                    .iter()
                    .filter(|(_, by)| by.iter().any(|id| told.ids.contains(id)));
                told.names.extend(wanted.map(|(name, _)| name.clone()));
            }
            let mut here = vec![];
            for (_, sighting) in self.reading.look_up(ids).await? {
                // Who is elsewhere or nowhere is looked up once more as absent: what was told may be older than now.
                if let Sighting::InScope(entry) = sighting {
                    here.push(entry);
                }
            }
            self.page(here).await?;
            self.look_at_waiting().await?;
        }
        Ok(())
    }
}
