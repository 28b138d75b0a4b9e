//! From the bytes of a search result entry to a [`RawEntry`], in one walk and one allocation (RFC 4511 § 4.5.2).
//!
//! ```text
//! attributes as the entry before ─▶ its names, shared
//! attributes as some other ───────▶ that one's names
//! never seen together ────────────▶ taken apart, remembered
//! a range, a name twice, too many values ─▶ by way of `entry::assembled`
//! ```

use std::sync::Arc;

use super::ber::{OCTETS, SEQUENCE, SET, expect};
use super::entry::{Came, MAX_VALUE, MAX_VALUES, Malformed, Names, Rest, assembled};
use crate::model::{AttributeName, Packing, RawEntry};

/// Sets of attributes that are remembered: who has a mobile, a second number, a title makes a handful.
const MAX_KNOWN: usize = 32;

const ATTRIBUTE: Malformed = Malformed("an attribute");
const VALUE: Malformed = Malformed("a value");

/// What the entries of a search have in common.
#[derive(Default)]
pub(super) struct Unpacker {
    packing: Packing,
    names: Names,
    /// The last one used first.
    known: Vec<Known>,
}

/// Attributes that came together: the descriptions as sent, in their order, and what they are called.
struct Known {
    sent: Vec<Box<[u8]>>,
    names: Arc<[AttributeName]>,
}

impl Known {
    fn is(&self, attributes: &[u8]) -> bool {
        let mut rest = attributes;
        for sent in &self.sent {
            match expect(SEQUENCE, rest).and_then(|(a, after)| Some((expect(OCTETS, a)?.0, after)))
            {
                Some((name, after)) if name == &**sent => rest = after,
                _ => return false,
            }
        }
        rest.is_empty()
    }
}

impl Unpacker {
    /// One entry, and which of its attributes must be read further. `attributes` is the content of the list of attributes.
    pub(super) fn entry(
        &mut self,
        dn: &[u8],
        attributes: &[u8],
    ) -> Result<(RawEntry, Vec<Rest>), Malformed> {
        let last = self.known.first();
        let (mut same, mut count) = (last.is_some(), 0);
        let mut plain = true;
        self.packing.start(dn);
        let mut list = attributes;
        while !list.is_empty() {
            let (attribute, after) = expect(SEQUENCE, list).ok_or(ATTRIBUTE)?;
            let (name, rest) = expect(OCTETS, attribute).ok_or(ATTRIBUTE)?;
            let (mut set, []) = expect(SET, rest).ok_or(ATTRIBUTE)? else {
                return Err(ATTRIBUTE);
            };
            same = same
                && last
                    .and_then(|l| l.sent.get(count))
                    .is_some_and(|s| **s == *name);
            count += 1;
            self.packing.attribute();
            let mut values = 0;
            while !set.is_empty() {
                let (value, after) = expect(OCTETS, set).ok_or(VALUE)?;
                self.packing.value(&value[..value.len().min(MAX_VALUE)]);
                values += 1;
                set = after;
            }
            plain &= values <= MAX_VALUES;
            list = after;
        }
        if let Some(last) = last.filter(|l| same && plain && l.sent.len() == count) {
            return Ok((self.packing.entry(Arc::clone(&last.names)), Vec::new()));
        }
        match self.names(attributes) {
            Some(names) if plain => Ok((self.packing.entry(names), Vec::new())),
            _ => Ok(assembled(dn, one_by_one(attributes)?, &mut self.names)),
        }
    }

    /// The names of these attributes; `None`: they are not simply one after another.
    fn names(&mut self, attributes: &[u8]) -> Option<Arc<[AttributeName]>> {
        if let Some(at) = self.known.iter().position(|k| k.is(attributes)) {
            self.known[..=at].rotate_right(1);
            return Some(Arc::clone(&self.known[0].names));
        }
        let (mut sent, mut names) = (Vec::new(), Vec::new());
        let mut list = attributes;
        while !list.is_empty() {
            let (attribute, after) = expect(SEQUENCE, list)?;
            let (raw, _) = expect(OCTETS, attribute)?;
            let name = self.names.whole(raw)?;
            if names.contains(&name) {
                return None;
            }
            sent.push(raw.into());
            names.push(name);
            list = after;
        }
        let names: Arc<[AttributeName]> = names.into();
        self.known.truncate(MAX_KNOWN - 1);
        let known = Known {
            sent,
            names: Arc::clone(&names),
        };
        self.known.insert(0, known);
        Some(names)
    }
}

/// The attributes with a vector for each value, for what has to be put together.
fn one_by_one(attributes: &[u8]) -> Result<Vec<Came>, Malformed> {
    let mut all = Vec::new();
    let mut list = attributes;
    while !list.is_empty() {
        let (attribute, after) = expect(SEQUENCE, list).ok_or(ATTRIBUTE)?;
        let (name, rest) = expect(OCTETS, attribute).ok_or(ATTRIBUTE)?;
        let (mut set, _) = expect(SET, rest).ok_or(ATTRIBUTE)?;
        let mut values = Vec::new();
        while !set.is_empty() {
            let (value, after) = expect(OCTETS, set).ok_or(VALUE)?;
            values.push(value[..value.len().min(MAX_VALUE)].to_vec());
            set = after;
        }
        all.push((name.to_vec(), values));
        list = after;
    }
    Ok(all)
}
