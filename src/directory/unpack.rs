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
use super::entry::{
    MAX_VALUE, MAX_VALUES, MalformedEntry, Names, RangeRest, SentAttribute, assembled,
};
use crate::model::{AttributeName, Packing, RawEntry};

/// Sets of attributes that are remembered: who has a mobile, a second number, a title makes a handful.
const MAX_KNOWN: usize = 32;

const ATTRIBUTE: MalformedEntry = MalformedEntry("an attribute");
const VALUE: MalformedEntry = MalformedEntry("a value");

/// What the entries of a search have in common.
#[derive(Default)]
pub(super) struct Unpacker {
    packing: Packing,
    names: Names,
    /// The last one used first.
    known: Vec<AttributeLayout>,
}

/// Attributes that came together: the descriptions as sent, in their order, and what they are called.
struct AttributeLayout {
    sent: Vec<Box<[u8]>>,
    names: Arc<[AttributeName]>,
}

impl AttributeLayout {
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
    ) -> Result<(RawEntry, Vec<RangeRest>), MalformedEntry> {
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
        let known = AttributeLayout {
            sent,
            names: Arc::clone(&names),
        };
        self.known.insert(0, known);
        Some(names)
    }
}

/// The attributes with a vector for each value, for what has to be put together.
fn one_by_one(attributes: &[u8]) -> Result<Vec<SentAttribute>, MalformedEntry> {
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

#[cfg(test)]
mod tests {
    use lber::common::TagClass;
    use lber::structure::{PL, StructureTag};
    use proptest::prelude::*;

    use super::super::ber::push;
    use super::super::entry::entry;
    use super::*;

    type Parts = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

    fn written(parts: &Parts) -> Vec<u8> {
        let mut list = Vec::new();
        for (name, values) in parts {
            let (mut attribute, mut set) = (Vec::new(), Vec::new());
            for value in values {
                push(&mut set, OCTETS, value);
            }
            push(&mut attribute, OCTETS, name);
            push(&mut attribute, SET, &set);
            push(&mut list, SEQUENCE, &attribute);
        }
        list
    }

    /// The same entry by way of ldap3.
    fn other_way(dn: &[u8], parts: &Parts) -> (RawEntry, Vec<RangeRest>) {
        let tag = |class, id, payload| StructureTag { class, id, payload };
        let p = |b: &[u8]| tag(TagClass::Universal, 4, PL::P(b.to_vec()));
        let c = |all| tag(TagClass::Universal, 16, PL::C(all));
        let list = parts
            .iter()
            .map(|(name, values)| c(vec![p(name), c(values.iter().map(|v| p(v)).collect())]))
            .collect();
        let message = tag(TagClass::Application, 4, PL::C(vec![p(dn), c(list)]));
        entry(message, &mut Names::default()).unwrap()
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let names = prop::sample::select(vec![
            "uid",
            "UID",
            "mobile",
            "mobile;lang-fi",
            "cn;x-b;x-a",
            "cn;x-a;x-b",
            "member",
            "member;range=0-1",
            "member;range=2-*",
            "",
            "caf\u{e9}",
        ]);
        let values = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4);
        let part = (names, values).prop_map(|(n, v)| (n.as_bytes().to_vec(), v));
        prop::collection::vec(part, 0..7)
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same_entry(all in prop::collection::vec((any::<Vec<u8>>(), parts()), 1..12)) {
            // One unpacker for all, so that what it remembers of one entry meets the next.
            let mut unpacker = Unpacker::default();
            for (dn, parts) in &all {
                let unpacked = unpacker.entry(dn, &written(parts)).unwrap();
                prop_assert_eq!(unpacked, other_way(dn, parts));
            }
        }

        #[test]
        fn trap_36_no_bytes_panic(parts in parts(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
            let mut unpacker = Unpacker::default();
            let mut bytes = written(&parts);
            let _whole = unpacker.entry(b"cn=x", &bytes);
            if !bytes.is_empty() {
                for (at, byte) in flips {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                let _flipped = unpacker.entry(b"cn=x", &bytes);
                bytes.truncate(cut.index(bytes.len()));
                if let Ok((entry, _)) = unpacker.entry(b"cn=x", &bytes) {
                    // Whatever was taken is something that was there.
                    prop_assert!(entry.attributes().flat_map(|a| a.values()).all(|v| v.len() <= bytes.len()));
                }
            }
        }
    }

    #[test]
    fn more_kinds_of_entries_than_are_remembered() {
        let mut unpacker = Unpacker::default();
        for turn in 0..2 {
            for i in 0..MAX_KNOWN * 3 {
                let parts = vec![(format!("a{i}").into_bytes(), vec![b"v".to_vec()])];
                let (entry, _) = unpacker.entry(b"cn=x", &written(&parts)).unwrap();
                assert_eq!(entry.values(&format!("a{i}")).count(), 1, "{turn}");
            }
        }
        assert_eq!(unpacker.known.len(), MAX_KNOWN);
    }

    #[test]
    fn entries_with_the_same_attributes_share_their_names() {
        let mut unpacker = Unpacker::default();
        let parts = |value: &[u8]| vec![(b"uid".to_vec(), vec![value.to_vec()])];
        let (a, _) = unpacker.entry(b"cn=a", &written(&parts(b"a"))).unwrap();
        let _other = unpacker.entry(b"cn=b", &[]).unwrap();
        let (b, _) = unpacker.entry(b"cn=b", &written(&parts(b"b"))).unwrap();
        let name = |e: &RawEntry| e.attributes().next().map(|a| a.name.as_ptr());
        assert_eq!(name(&a), name(&b));
    }

    #[test]
    fn caps_hold() {
        let many: Vec<Vec<u8>> = (0..MAX_VALUES + 5)
            .rev()
            .map(|i| format!("{i:06}").into_bytes())
            .collect();
        let long = vec![b'1'; MAX_VALUE * 2];
        let parts = vec![(b"mobile".to_vec(), many), (b"cn".to_vec(), vec![long])];
        let (e, _) = Unpacker::default()
            .entry(b"cn=x", &written(&parts))
            .unwrap();
        assert_eq!(e.values("mobile").count(), MAX_VALUES);
        assert_eq!(e.values("mobile").next().unwrap(), b"000000");
        assert_eq!(e.values("cn").next().unwrap().len(), MAX_VALUE);
    }
}
