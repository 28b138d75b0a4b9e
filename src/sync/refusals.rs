//! What a pass could not use.

use std::collections::HashSet;

use super::pass::Pass;
use super::prepare::PassError;
use crate::model::{DirectoryId, Refusal};

impl Pass<'_> {
    pub(super) fn refuse(&mut self, refusal: Refusal) {
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

    pub(super) fn is_phone(&self, refusal: &Refusal) -> bool {
        let attribute = refusal.attribute.as_deref().unwrap_or_default();
        !refusal.entry
            && self
                .prepared
                .attributes
                .phone
                .iter()
                .any(|a| a.eq_ignore_ascii_case(attribute))
    }

    pub(super) fn forget_refusals(&mut self, ids: &HashSet<DirectoryId>) {
        let gone: Vec<Refusal> = self
            .refusals
            .extract_if(.., |_, r| {
                r.directory_id.is_some_and(|id| ids.contains(&id))
            })
            .map(|(_, r)| r)
            .collect();
        self.refused_entries -= gone.iter().map(|r| i64::from(r.entry)).sum::<i64>();
        self.refused_phones -= gone
            .iter()
            .map(|r| i64::from(self.is_phone(r)))
            .sum::<i64>();
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more.
    pub(super) async fn refused_diff(&mut self) -> Result<crate::store::RefusedDiff, PassError> {
        let mut now = std::mem::take(&mut self.refusals);
        let mut gone = vec![];
        let compare = |key| {
            if now.remove(&key).is_none() {
                gone.push(key);
            }
        };
        let store = &self.engine.store;
        match &self.told {
            None => store.refused_keys(&self.row.id, compare).await?,
            // Whoever was not looked at is refused as before.
            Some(told) => {
                let ids: Vec<DirectoryId> = told.ids.iter().copied().collect();
                let keys = store.refused_keys_of(&self.row.id, &ids).await?;
                keys.into_iter().for_each(compare);
            }
        }
        Ok(crate::store::RefusedDiff {
            add: now.into_iter().collect(),
            gone,
        })
    }

    /// How many were refused, entries and values.
    pub(super) fn refused(&self) -> (i64, i64) {
        (self.refused_entries, self.refused_phones)
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
