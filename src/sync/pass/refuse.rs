//! Notes what is refused, and compares it with what was refused before.

use std::collections::{BTreeSet, HashSet};

use super::refusals::{MET, Refusals, STANDS};
use super::setting::Setting;
use crate::model::{DirectoryId, Refusal};
use crate::runs::{PlanBuilder, RunFailure};
use crate::store::{RefusedDiff, RefusedKey};

/// Refusals that gather before they are staged. Fewer than that are never staged, but written with the plan. (Tests have few people.)
const BATCH: usize = if cfg!(feature = "failpoints") { 5 } else { 500 };

impl Refusals {
    /// Notes a refusal, and counts it, once a pass.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let key = refusal_key(&refusal);
        if self.mark(key, MET) {
            return;
        }
        self.entries += i64::from(refusal.entry);
        self.phones += i64::from(self.is_phone(refusal.entry, refusal.attribute.as_deref()));
        if !self.is(key, STANDS) {
            self.waiting.push((key, refusal));
        }
    }

    fn is_phone(&self, entry: bool, attribute: Option<&str>) -> bool {
        let attribute = attribute.unwrap_or_default();
        !entry
            && self
                .phone_attributes
                .iter()
                .any(|a| a.eq_ignore_ascii_case(attribute))
    }

    /// Stages what has gathered beside the plan, when it is a batch. What the realm refused before needs no row. `told`: of a
    /// delta, everybody who is looked at.
    pub(super) async fn stage(
        &mut self,
        setting: &Setting<'_>,
        plan: &PlanBuilder,
        told: Option<&BTreeSet<DirectoryId>>,
    ) -> Result<(), RunFailure> {
        if self.waiting.len() < BATCH || self.unkept {
            return Ok(());
        }
        // A delta does not know yet of whom it will tell.
        if told.is_none() {
            self.compare(setting, None).await?;
            self.drop_standing();
        }
        let rows = std::mem::take(&mut self.waiting);
        if !rows.is_empty() {
            plan.store().stage_refused(plan.run(), &rows).await?;
            self.staged += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        }
        Ok(())
    }

    /// Learns what the realm refused before: all of it in a full pass, which finds what is gone; in a delta of the people told.
    async fn compare(
        &mut self,
        setting: &Setting<'_>,
        told: Option<&BTreeSet<DirectoryId>>,
    ) -> Result<(), RunFailure> {
        if self.compared {
            return Ok(());
        }
        self.compared = true;
        let (store, realm) = (setting.store(), setting.id());
        let stands = |key| {
            self.mark(key, STANDS);
        };
        match told {
            None => store.refused_keys(realm, stands).await?,
            // Whoever was not looked at is refused as before.
            Some(told) => {
                let ids: Vec<DirectoryId> = told.iter().copied().collect();
                let keys = store.refused_keys_of(realm, &ids).await?;
                keys.into_iter().for_each(stands);
            }
        }
        Ok(())
    }

    /// Forgets what was refused of these people, also what is staged of them beside the plan: they are looked at once more.
    pub(super) async fn forget(
        &mut self,
        setting: &Setting<'_>,
        plan: &PlanBuilder,
        ids: &[DirectoryId],
    ) -> Result<(), RunFailure> {
        let among: HashSet<&DirectoryId> = ids.iter().collect();
        let is_it = |r: &Refusal| r.directory_id.is_some_and(|id| among.contains(&id));
        let mut gone: Vec<RefusedKey> = self
            .waiting
            .extract_if(.., |(_, r)| is_it(r))
            .map(|(key, r)| RefusedKey {
                key,
                attribute: r.attribute,
                entry: r.entry,
            })
            .collect();
        if self.staged > 0 {
            let unstaged = plan.store().unstage_refused(plan.run(), ids).await?;
            self.staged -= i64::try_from(unstaged.len()).unwrap_or(i64::MAX);
            gone.extend(unstaged);
        }
        if self.compared {
            // What stands already was met without a row.
            gone.extend(setting.store().refused_of(setting.id(), ids).await?);
        }
        for RefusedKey {
            key,
            attribute,
            entry,
        } in gone
        {
            if self.unmeet(key) {
                self.entries -= i64::from(entry);
                self.phones -= i64::from(self.is_phone(entry, attribute.as_deref()));
            }
        }
        Ok(())
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more. Gives away what waits.
    pub(super) async fn diff(
        &mut self,
        setting: &Setting<'_>,
        plan: &PlanBuilder,
        told: Option<&BTreeSet<DirectoryId>>,
    ) -> Result<RefusedDiff, RunFailure> {
        self.compare(setting, told).await?;
        self.drop_standing();
        Ok(RefusedDiff {
            add: std::mem::take(&mut self.waiting),
            staged: (self.staged > 0).then(|| (plan.run(), self.staged)),
            gone: self.gone(),
        })
    }
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
