//! What a pass could not use. A realm may refuse something of everybody (without a `region` every national number), so what is
//! in memory of a refusal is its key; the rest is staged, unless it stands in the store already.

use std::collections::HashMap;

use crate::model::Refusal;

/// Met in this pass.
pub(super) const MET: u8 = 1;
/// Refused before this pass.
pub(super) const STANDS: u8 = 2;

/// What a pass refused so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How many entries.
    pub(super) entries: i64,
    /// How many values of phone attributes.
    pub(super) phones: i64,
    /// Attributes whose values count as phones.
    pub(super) phone_attributes: Vec<String>,
    /// Keys, in bytes so that they lie close together, with what is known of each.
    known: HashMap<[u8; 8], u8>,
    /// What will be staged next.
    pub(super) waiting: Vec<(i64, Refusal)>,
    /// How many are staged.
    pub(super) staged: i64,
    /// It is known which keys the realm refused before.
    pub(super) compared: bool,
    /// Nothing is kept: one person's look measures no absence, and so what is refused stays as it is.
    pub(super) unkept: bool,
}

impl Refusals {
    /// None yet.
    pub(super) fn new(phone_attributes: Vec<String>) -> Self {
        Self {
            phone_attributes,
            ..Self::default()
        }
    }

    /// Marks a key; says whether it had the mark already.
    pub(super) fn mark(&mut self, key: i64, mark: u8) -> bool {
        let known = self.known.entry(key.to_ne_bytes()).or_default();
        let had = *known & mark != 0;
        *known |= mark;
        had
    }

    pub(super) fn is(&self, key: i64, mark: u8) -> bool {
        self.known
            .get(&key.to_ne_bytes())
            .is_some_and(|known| known & mark != 0)
    }

    /// Takes the mark of being met away; says whether it was there.
    pub(super) fn unmeet(&mut self, key: i64) -> bool {
        let Some(known) = self.known.get_mut(&key.to_ne_bytes()) else {
            return false;
        };
        let met = *known & MET != 0;
        *known &= !MET;
        met
    }

    /// Drops what stands already from what waits.
    pub(super) fn drop_standing(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|(key, _)| !self.is(*key, STANDS));
        self.waiting = waiting;
    }

    /// The keys that were refused before, and are not any more.
    pub(super) fn gone(&self) -> Vec<i64> {
        self.known
            .iter()
            .filter(|(_, known)| **known == STANDS)
            .map(|(key, _)| i64::from_ne_bytes(*key))
            .collect()
    }
}
