//! Notes what is refused, and compares it with what was refused before.

use super::refusals::{MET, STANDS};
use super::under_way::Pass;
use crate::model::{DirectoryId, Refusal};
use crate::runs::RunFailure;
use crate::store::{RefusedDiff, RefusedKey};

/// Refusals that gather before they are staged. Fewer than that are never staged, but written with the plan. (Tests have few people.)
const BATCH: usize = if cfg!(feature = "failpoints") { 5 } else { 500 };

impl Pass<'_> {
    pub(in crate::sync) fn refuse(&mut self, refusal: Refusal) {
        let key = refusal_key(&refusal);
        if self.found.refusals.mark(key, MET) {
            return;
        }
        self.found.refused_entries += i64::from(refusal.entry);
        self.found.refused_phones +=
            i64::from(self.is_phone(refusal.entry, refusal.attribute.as_deref()));
        if !self.found.refusals.is(key, STANDS) {
            self.found.refusals.waiting.push((key, refusal));
        }
    }

    fn is_phone(&self, entry: bool, attribute: Option<&str>) -> bool {
        let attribute = attribute.unwrap_or_default();
        !entry
            && self
                .reading
                .prepared
                .attributes
                .phone
                .iter()
                .any(|a| a.eq_ignore_ascii_case(attribute))
    }

    /// Stages what has gathered, when it is a batch. What the realm refused before needs no row.
    pub(in crate::sync) async fn stage_refusals(&mut self) -> Result<(), RunFailure> {
        if self.found.refusals.waiting.len() < BATCH || self.found.refusals.unkept {
            return Ok(());
        }
        // A delta does not know yet of whom it will tell.
        if self.reading.told.is_none() {
            self.compare().await?;
            self.found.refusals.drop_standing();
        }
        let rows = std::mem::take(&mut self.found.refusals.waiting);
        if !rows.is_empty() {
            let run = self.found.plan.run();
            self.found.plan.store().stage_refused(run, &rows).await?;
            self.found.refusals.staged += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        }
        Ok(())
    }

    /// Learns what the realm refused before: all of it in a full pass, which finds what is gone; in a delta of the people told.
    async fn compare(&mut self) -> Result<(), RunFailure> {
        if self.found.refusals.compared {
            return Ok(());
        }
        self.found.refusals.compared = true;
        let (store, realm) = (&self.setting.engine.store, &self.setting.row.id);
        let refusals = &mut self.found.refusals;
        let stands = |key| {
            refusals.mark(key, STANDS);
        };
        match &self.reading.told {
            None => store.refused_keys(realm, stands).await?,
            // Whoever was not looked at is refused as before.
            Some(told) => {
                let ids: Vec<DirectoryId> = told.ids.iter().copied().collect();
                let keys = store.refused_keys_of(realm, &ids).await?;
                keys.into_iter().for_each(stands);
            }
        }
        Ok(())
    }

    /// Forgets what was refused of these people: they are looked at once more.
    pub(in crate::sync) async fn forget_refusals(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<(), RunFailure> {
        let among: std::collections::HashSet<&DirectoryId> = ids.iter().collect();
        let is_it = |r: &Refusal| r.directory_id.is_some_and(|id| among.contains(&id));
        let mut gone: Vec<RefusedKey> = self
            .found
            .refusals
            .waiting
            .extract_if(.., |(_, r)| is_it(r))
            .map(|(key, r)| RefusedKey {
                key,
                attribute: r.attribute,
                entry: r.entry,
            })
            .collect();
        if self.found.refusals.staged > 0 {
            let run = self.found.plan.run();
            let unstaged = self.found.plan.store().unstage_refused(run, ids).await?;
            self.found.refusals.staged -= i64::try_from(unstaged.len()).unwrap_or(i64::MAX);
            gone.extend(unstaged);
        }
        if self.found.refusals.compared {
            // What stands already was met without a row.
            gone.extend(
                self.setting
                    .engine
                    .store
                    .refused_of(&self.setting.row.id, ids)
                    .await?,
            );
        }
        for RefusedKey {
            key,
            attribute,
            entry,
        } in gone
        {
            if self.found.refusals.unmeet(key) {
                self.found.refused_entries -= i64::from(entry);
                self.found.refused_phones -= i64::from(self.is_phone(entry, attribute.as_deref()));
            }
        }
        Ok(())
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more.
    pub(in crate::sync) async fn refused_diff(&mut self) -> Result<RefusedDiff, RunFailure> {
        self.compare().await?;
        self.found.refusals.drop_standing();
        Ok(RefusedDiff {
            add: std::mem::take(&mut self.found.refusals.waiting),
            staged: (self.found.refusals.staged > 0)
                .then(|| (self.found.plan.run(), self.found.refusals.staged)),
            gone: self.found.refusals.gone(),
        })
    }

    /// How many were refused, entries and values.
    pub(in crate::sync) fn refused(&self) -> (i64, i64) {
        (self.found.refused_entries, self.found.refused_phones)
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
