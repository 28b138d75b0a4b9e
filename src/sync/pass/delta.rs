//! One delta: whoever was told is looked up by id, and with them whoever wants or holds one of their names. Nobody else is touched.
//!
//! ```text
//! told ─▶ looked up by id ─▶ as any page of a full pass ─▶ names touched? ─▶ their rivals are told too ─┐
//!  ▲                                                                                                    │
//!  └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! nobody more ─▶ not met: the evidence of a full pass ─▶ names settled
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};

use super::absent::absent;
use super::contested_names::resolve_names;
use super::delta_scope::DeltaScope;
use super::found::Found;
use super::index::Index;
use super::people::take_back_early;
use super::read::{look_at_page, look_at_waiting};
use super::reading::Reading;
use super::setting::Setting;
use super::under_way::Pass;
use crate::directory::{Delta, Sighting};
use crate::model::DirectoryId;
use crate::model::person::fold_name;
use crate::runs::{RunFailure, stage};
use crate::sync::realm::session::LOOK_UP;
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Looks at those who were told, and decides about them as a full pass would. Ends early where the connection does.
    pub async fn delta(&mut self, delta: Delta, ask: &RunRequest) -> Result<(), RunFailure> {
        let alive = self.reading.prepared.session()?.liveness();
        alive.beside(Box::pin(self.told(delta, ask))).await
    }

    async fn told(&mut self, delta: Delta, ask: &RunRequest) -> Result<(), RunFailure> {
        let Self {
            setting,
            reading,
            found,
        } = self;
        reading.told = Some(DeltaScope::default());
        found.of_delta();
        let mut next = whom(setting, &mut reading.index, delta).await?;
        let refused = refused_by_name(setting).await?;
        while !next.is_empty() {
            let looked = look_at_told(setting, reading, found, &next, &refused, ask);
            stage("look up", looked).await?;
            next = reading.rivals(&refused);
        }
        take_back_early(setting, reading, found).await?;
        stage("absent", absent(setting, reading, found, ask)).await?;
        stage("names", resolve_names(setting, reading, found, ask)).await?;
        found.plan.flush().await?;
        Ok(())
    }
}

/// Everybody told; where all who are there were told, also whoever is held and not among them, or among them and not held. The
/// index gets whoever was away already.
async fn whom(
    setting: &Setting<'_>,
    index: &mut Index,
    delta: Delta,
) -> Result<BTreeSet<DirectoryId>, RunFailure> {
    let mut whom: BTreeSet<DirectoryId> = delta.touched.into_iter().collect();
    if let Some(present) = delta.present {
        let mut present: HashSet<DirectoryId> = present.into_iter().collect();
        let mut away = vec![];
        setting
            .store()
            .index(setting.id(), |id, _, there| {
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
            index.hold(id, None, false);
        }
    }
    whom.extend(delta.gone);
    // What was done by hand is told by nobody.
    whom.extend(setting.store().to_look_at(setting.id()).await?);
    if !setting.neighbours.is_empty() {
        // What keeps them out is told to the other realm only.
        whom.extend(setting.store().refused_as_elsewhere(setting.id()).await?);
    }
    Ok(whom)
}

/// Folded name → who was refused it.
async fn refused_by_name(
    setting: &Setting<'_>,
) -> Result<HashMap<String, Vec<DirectoryId>>, RunFailure> {
    let mut refused: HashMap<String, Vec<DirectoryId>> = HashMap::new();
    for (id, name) in setting.store().refused_names(setting.id()).await? {
        refused.entry(fold_name(&name)).or_default().push(id);
    }
    Ok(refused)
}

/// Looks these people up, holds them in the index, and looks at those who are there as at a page. `refused` as
/// [`refused_by_name`] gives it.
async fn look_at_told(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
    ids: &BTreeSet<DirectoryId>,
    refused: &HashMap<String, Vec<DirectoryId>>,
    ask: &RunRequest,
) -> Result<(), RunFailure> {
    let ids: Vec<DirectoryId> = ids.iter().copied().collect();
    for ids in ids.chunks(LOOK_UP) {
        if ask.cancel.is_cancelled() {
            return Err(RunFailure::cancelled());
        }
        let held = setting.held(ids).await?;
        for (id, user) in &held {
            reading.index.hold(*id, user.fingerprint, user.present());
        }
        if let Some(told) = &mut reading.told {
            told.ids.extend(ids);
            told.names
                .extend(held.into_values().map(|user| user.username_key));
            let wanted = refused
                .iter()
                .filter(|(_, by)| by.iter().any(|id| told.ids.contains(id)));
            told.names.extend(wanted.map(|(name, _)| name.clone()));
        }
        let mut here = vec![];
        for (_, sighting) in reading.look_up(ids).await? {
            // Who is elsewhere or nowhere is looked up once more as absent: what was told may be older than now.
            if let Sighting::InScope(entry) = sighting {
                here.push(entry);
            }
        }
        look_at_page(setting, reading, found, here).await?;
        look_at_waiting(setting, reading, found).await?;
    }
    Ok(())
}
