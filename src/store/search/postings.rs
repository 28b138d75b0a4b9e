//! Who of a segment has a group of characters, in few bytes: a list of distances, or one bit for each user.

use std::collections::HashMap;

use super::grams::{self, Gram};

/// Users of a page: one word of a set.
pub(super) const PAGE: usize = 64;

/// Pages of a segment at most. A row with one bit for each of its users fits a quarter of a page of an SQLite file.
pub(super) const PAGES: usize = 500;

/// Users of a segment at most.
pub(super) const SEGMENT: usize = PAGE * PAGES;

const LIST: u8 = 0;
const BITS: u8 = 1;

/// Some users of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct UserSet(Vec<u64>);

impl UserSet {
    /// Nobody.
    pub(super) fn empty() -> Self {
        Self(vec![0; PAGES])
    }

    /// Those of a page, a bit for each.
    pub(super) fn page(&self, page: usize) -> u64 {
        self.0.get(page).copied().unwrap_or(0)
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those who are in both.
    pub(super) fn keep(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    fn set(&mut self, user: usize) -> Option<()> {
        *self.0.get_mut(user / PAGE)? |= 1 << (user % PAGE);
        Some(())
    }

    /// Adds those whom a row names; `None`: it is damaged.
    pub(super) fn add(&mut self, row: &[u8]) -> Option<()> {
        let (kind, bytes) = row.split_first()?;
        match *kind {
            LIST => {
                let (mut next, mut distance, mut shift) = (0_usize, 0_usize, 0_u32);
                for byte in bytes {
                    distance |= usize::from(byte & 0x7f).checked_shl(shift)?;
                    shift += 7;
                    if byte & 0x80 == 0 {
                        let user = next.checked_add(distance)?;
                        self.set(user)?;
                        (next, distance, shift) = (user + 1, 0, 0);
                    } else if shift > 28 {
                        return None;
                    }
                }
                (shift == 0).then_some(())
            }
            BITS if bytes.len() <= SEGMENT / 8 => {
                for (i, byte) in bytes.iter().enumerate() {
                    *self.0.get_mut(i / 8)? |= u64::from(*byte) << (8 * (i % 8));
                }
                Some(())
            }
            _ => None,
        }
    }
}

/// The users of a page by their numbers in it.
pub(super) fn members(word: u64) -> impl DoubleEndedIterator<Item = usize> {
    (0..PAGE).filter(move |n| word >> n & 1 == 1)
}

/// The rows of a segment in the making.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    users: usize,
    lists: HashMap<Gram, Distances>,
}

#[derive(Debug, Default)]
struct Distances {
    /// Behind the last one.
    next: usize,
    bytes: Vec<u8>,
}

impl Gathered {
    /// Adds the next user by their folded text.
    pub(super) fn add(&mut self, text: &str) {
        let user = self.users;
        self.users += 1;
        for gram in grams::of(text) {
            let list = self.lists.entry(gram).or_default();
            if list.next > user {
                continue;
            }
            let mut distance = user - list.next;
            while distance >= 0x80 {
                list.bytes
                    .push(0x80 | u8::try_from(distance & 0x7f).unwrap_or_default());
                distance >>= 7;
            }
            list.bytes.push(u8::try_from(distance).unwrap_or_default());
            list.next = user + 1;
        }
    }

    /// The rows, in the order of their groups.
    pub(super) fn rows(self) -> Vec<(Gram, Vec<u8>)> {
        let whole = self.users.div_ceil(8);
        let mut rows: Vec<(Gram, Vec<u8>)> = self
            .lists
            .into_iter()
            .map(|(gram, list)| {
                let mut row = vec![LIST];
                row.extend_from_slice(&list.bytes);
                if list.bytes.len() > whole {
                    row = bits(&row, whole).unwrap_or(row);
                }
                (gram, row)
            })
            .collect();
        rows.sort_unstable_by_key(|(gram, _)| *gram);
        rows
    }
}

/// The same with one bit for each user.
fn bits(row: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut set = UserSet::empty();
    set.add(row)?;
    let all = set.0.iter().flat_map(|word| word.to_le_bytes()).take(bytes);
    Some([BITS].into_iter().chain(all).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::search::grams::{Wanted, wanted};

    fn users(set: &UserSet) -> Vec<usize> {
        let pages = (0..PAGES).flat_map(|p| members(set.page(p)).map(move |n| p * PAGE + n));
        pages.collect()
    }

    proptest! {
        #[test]
        fn rows_name_whom_they_were_made_of(texts in prop::collection::vec("[ab]{0,5}", 0..400), needle in "[ab]{3,4}") {
            let mut gathered = Gathered::default();
            for text in &texts {
                gathered.add(text);
            }
            let rows = gathered.rows();
            let Some(Wanted::All(all)) = wanted(&needle) else { return Err(TestCaseError::fail("no groups")) };
            let mut found: Option<UserSet> = None;
            for gram in all {
                let mut set = UserSet::empty();
                for (_, row) in rows.iter().filter(|(g, _)| *g == gram) {
                    prop_assert!(row.len() <= texts.len().div_ceil(8) + 1);
                    prop_assert_eq!(set.add(row), Some(()));
                }
                match &mut found {
                    None => found = Some(set),
                    Some(found) => found.keep(&set),
                }
            }
            let found = users(&found.unwrap());
            for (n, text) in texts.iter().enumerate() {
                prop_assert!(!text.contains(&needle) || found.contains(&n));
            }
        }

        #[test]
        fn damaged_rows_are_told(row in prop::collection::vec(any::<u8>(), 0..40)) {
            let _whatever = UserSet::empty().add(&row);
        }
    }

    #[test]
    fn the_last_of_a_segment_is_found_and_nobody_behind() {
        let mut gathered = Gathered::default();
        for n in 0..SEGMENT {
            gathered.add(if n + 1 == SEGMENT { "xyz" } else { "abc" });
        }
        let rows = gathered.rows();
        let (mut few, mut many) = (UserSet::empty(), UserSet::empty());
        for (gram, row) in &rows {
            assert!(row.len() <= SEGMENT / 8 + 1);
            if *gram == grams::of("xyz").next().unwrap() {
                few.add(row).unwrap();
            }
            if *gram == grams::of("abc").next().unwrap() {
                many.add(row).unwrap();
            }
        }
        assert_eq!(users(&few), [SEGMENT - 1]);
        assert_eq!(many.len(), SEGMENT as u64 - 1);
        let mut behind = UserSet::empty();
        assert_eq!(behind.add(&[LIST, 0x80, 0xfa, 0x01]), None, "number 32,000");
        assert_eq!(behind.add(&[LIST, 0x80]), None, "cut off");
        assert_eq!(behind.add(&[7]), None);
        assert_eq!(behind.add(&[]), None);
    }
}
