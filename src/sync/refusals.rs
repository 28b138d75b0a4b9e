//! What a pass could not use. A realm may refuse something of everybody (without a `region` every national number), so what is
//! in memory of a refusal is its key; the rest is staged, unless it stands in the store already.

use std::collections::HashMap;

use super::pass::Pass;
use super::prepare::PassError;
use crate::model::{DirectoryId, Refusal};
use crate::store::{RefusedDiff, RefusedKey};

/// Refusals that gather before they are staged. Fewer than that are never staged, but written with the plan. (Tests have few people.)
const BATCH: usize = if cfg!(feature = "failpoints") { 5 } else { 500 };

/// Met in this pass.
const MET: u8 = 1;
/// Refused before this pass.
const STANDS: u8 = 2;

/// What a pass refused so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Keys, in bytes so that they lie close together, with what is known of each.
    known: HashMap<[u8; 8], u8>,
    /// What will be staged next.
    waiting: Vec<(i64, Refusal)>,
    /// How many are staged.
    staged: i64,
    /// It is known which keys the realm refused before.
    compared: bool,
    /// Nothing is kept: one person's look measures no absence, and so what is refused stays as it is.
    pub unkept: bool,
}

impl Refusals {
    /// Marks a key; says whether it had the mark already.
    fn mark(&mut self, key: i64, mark: u8) -> bool {
        let known = self.known.entry(key.to_ne_bytes()).or_default();
        let had = *known & mark != 0;
        *known |= mark;
        had
    }

    fn is(&self, key: i64, mark: u8) -> bool {
        self.known
            .get(&key.to_ne_bytes())
            .is_some_and(|known| known & mark != 0)
    }

    /// Takes the mark of being met away; says whether it was there.
    fn unmeet(&mut self, key: i64) -> bool {
        let Some(known) = self.known.get_mut(&key.to_ne_bytes()) else {
            return false;
        };
        let met = *known & MET != 0;
        *known &= !MET;
        met
    }

    /// Drops what stands already from what waits.
    fn drop_standing(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|(key, _)| !self.is(*key, STANDS));
        self.waiting = waiting;
    }

    /// The keys that were refused before, and are not any more.
    fn gone(&self) -> Vec<i64> {
        self.known
            .iter()
            .filter(|(_, known)| **known == STANDS)
            .map(|(key, _)| i64::from_ne_bytes(*key))
            .collect()
    }
}

impl Pass<'_> {
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let key = refusal_key(&refusal);
        if self.refusals.mark(key, MET) {
            return;
        }
        self.refused_entries += i64::from(refusal.entry);
        self.refused_phones +=
            i64::from(self.is_phone(refusal.entry, refusal.attribute.as_deref()));
        if !self.refusals.is(key, STANDS) {
            self.refusals.waiting.push((key, refusal));
        }
    }

    fn is_phone(&self, entry: bool, attribute: Option<&str>) -> bool {
        let attribute = attribute.unwrap_or_default();
        !entry
            && self
                .prepared
                .attributes
                .phone
                .iter()
                .any(|a| a.eq_ignore_ascii_case(attribute))
    }

    /// Stages what has gathered, when it is a batch. What the realm refused before needs no row.
    pub(super) async fn stage_refusals(&mut self) -> Result<(), PassError> {
        if self.refusals.waiting.len() < BATCH || self.refusals.unkept {
            return Ok(());
        }
        // A delta does not know yet of whom it will tell.
        if self.told.is_none() {
            self.compare().await?;
            self.refusals.drop_standing();
        }
        let rows = std::mem::take(&mut self.refusals.waiting);
        if !rows.is_empty() {
            let run = self.plan.run();
            self.plan.store().stage_refused(run, &rows).await?;
            self.refusals.staged += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        }
        Ok(())
    }

    /// Learns what the realm refused before: all of it in a full pass, which finds what is gone; in a delta of the people told.
    async fn compare(&mut self) -> Result<(), PassError> {
        if self.refusals.compared {
            return Ok(());
        }
        self.refusals.compared = true;
        let (store, realm) = (&self.engine.store, &self.row.id);
        let refusals = &mut self.refusals;
        let stands = |key| {
            refusals.mark(key, STANDS);
        };
        match &self.told {
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
    pub(super) async fn forget_refusals(&mut self, ids: &[DirectoryId]) -> Result<(), PassError> {
        let among: std::collections::HashSet<&DirectoryId> = ids.iter().collect();
        let is_it = |r: &Refusal| r.directory_id.is_some_and(|id| among.contains(&id));
        let mut gone: Vec<RefusedKey> = self
            .refusals
            .waiting
            .extract_if(.., |(_, r)| is_it(r))
            .map(|(key, r)| RefusedKey {
                key,
                attribute: r.attribute,
                entry: r.entry,
            })
            .collect();
        if self.refusals.staged > 0 {
            let run = self.plan.run();
            let unstaged = self.plan.store().unstage_refused(run, ids).await?;
            self.refusals.staged -= i64::try_from(unstaged.len()).unwrap_or(i64::MAX);
            gone.extend(unstaged);
        }
        if self.refusals.compared {
            // What stands already was met without a row.
            gone.extend(self.engine.store.refused_of(&self.row.id, ids).await?);
        }
        for RefusedKey {
            key,
            attribute,
            entry,
        } in gone
        {
            if self.refusals.unmeet(key) {
                self.refused_entries -= i64::from(entry);
                self.refused_phones -= i64::from(self.is_phone(entry, attribute.as_deref()));
            }
        }
        Ok(())
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more.
    pub(super) async fn refused_diff(&mut self) -> Result<RefusedDiff, PassError> {
        self.compare().await?;
        self.refusals.drop_standing();
        Ok(RefusedDiff {
            add: std::mem::take(&mut self.refusals.waiting),
            staged: (self.refusals.staged > 0).then(|| (self.plan.run(), self.refusals.staged)),
            gone: self.refusals.gone(),
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
