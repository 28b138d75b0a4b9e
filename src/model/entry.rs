//! An entry as a directory sent it, in one piece of memory: a pass makes and drops a million of them, and of every separately
//! allocated value the allocator would know more than the directory.
//!
//! ```text
//! names ──▶ [mobile][mobile;lang-fi][cn]      shared by all entries with the same attributes
//! packed:   DN │ 2 value value │ 1 value │ 1 value      each DN and value after its length, each attribute after its count
//! ```

use std::fmt;
use std::sync::Arc;

/// An attribute description, taken apart (RFC 4512 § 2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttributeName {
    /// The name without options, in lower case.
    pub name: Arc<str>,
    /// The options (`lang-fi`, `binary`) in lower case, joined by `;`; empty for none. Ranges are already put together.
    pub options: Arc<str>,
}

/// One attribute to make an entry of (RFC 4511 § 4.1.7).
#[derive(Clone, PartialEq, Eq)]
pub struct RawAttribute {
    /// The name without options, in lower case.
    pub name: Arc<str>,
    /// The options in lower case, joined by `;`; empty for none.
    pub options: Arc<str>,
    /// The values, undecoded; their order means nothing.
    pub values: Vec<Vec<u8>>,
}

/// An entry: the DN as sent, which need not be UTF-8, and the attributes that were asked for, undecoded, each name once for
/// each set of options.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RawEntry {
    names: Arc<[AttributeName]>,
    packed: Box<[u8]>,
}

/// One attribute of an entry.
#[derive(Clone)]
pub struct Attribute<'a> {
    /// The name without options, in lower case.
    pub name: &'a str,
    /// The options in lower case, joined by `;`; empty for none.
    pub options: &'a str,
    values: Values<'a>,
}

impl<'a> Attribute<'a> {
    /// The values in the server's order, which means nothing.
    pub fn values(&self) -> Values<'a> {
        self.values.clone()
    }
}

/// The values of one attribute, undecoded.
#[derive(Clone)]
pub struct Values<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (value, rest) = counted(self.rest)?;
        self.rest = rest;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Values<'_> {}

impl RawEntry {
    /// An entry of these attributes, each name with its options once.
    pub fn new(dn: &[u8], attributes: &[RawAttribute]) -> Self {
        let mut packing = Packing::default();
        packing.start(dn);
        for attribute in attributes {
            packing.attribute();
            attribute.values.iter().for_each(|v| packing.value(v));
        }
        let names = attributes.iter().map(|a| AttributeName {
            name: Arc::clone(&a.name),
            options: Arc::clone(&a.options),
        });
        packing.entry(names.collect())
    }

    /// The DN's bytes.
    pub fn dn(&self) -> &[u8] {
        counted(&self.packed).map_or(&[], |(dn, _)| dn)
    }

    /// The attributes, in the server's order, which means nothing.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut rest = counted(&self.packed).map_or(&[][..], |(_, rest)| rest);
        self.names.iter().map_while(move |names| {
            let (count, after) = number(rest)?;
            let values = Values {
                left: count,
                rest: after,
            };
            let mut over = values.clone();
            while over.next().is_some() {}
            rest = over.rest;
            Some(Attribute {
                name: &names.name,
                options: &names.options,
                values,
            })
        })
    }

    /// The attributes one by one, to change them and make another entry of them.
    pub fn taken_apart(&self) -> Vec<RawAttribute> {
        let names = self.names.iter();
        names
            .zip(self.attributes())
            .map(|(names, attribute)| RawAttribute {
                name: Arc::clone(&names.name),
                options: Arc::clone(&names.options),
                values: attribute.values().map(<[u8]>::to_vec).collect(),
            })
            .collect()
    }

    /// The values of an attribute (name in lower case), whatever its options.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.attributes()
            .filter(move |a| a.name == name)
            .flat_map(|a| a.values())
    }

    /// The DN for people: lossy where it is not UTF-8, or holds a NUL, which not every store can keep and which would
    /// then differ in each pass.
    pub fn dn_shown(&self) -> String {
        let shown = String::from_utf8_lossy(self.dn());
        if self.dn().contains(&0) {
            shown.replace('\0', "\u{fffd}")
        } else {
            shown.into_owned()
        }
    }

    /// Bytes of memory that the entry holds for itself.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.packed.len()
    }
}

impl fmt::Debug for RawEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().map(|a| &*a.name).collect();
        f.debug_struct("RawEntry")
            .field("dn_bytes", &self.dn().len())
            .field("attributes", &names)
            .finish_non_exhaustive()
    }
}

/// Packs one entry after another: the DN, then each attribute with its values. It keeps its memory, an entry gets its own.
#[derive(Default, Debug)]
pub struct Packing {
    packed: Vec<u8>,
    /// Where the count of the attribute is to which values are added; `None` before the first.
    attribute: Option<usize>,
}

impl Packing {
    /// Begins an entry; what was not made an entry is forgotten.
    pub fn start(&mut self, dn: &[u8]) {
        self.packed.clear();
        self.attribute = None;
        self.push(dn);
    }

    /// Begins an attribute.
    pub fn attribute(&mut self) {
        self.attribute = Some(self.packed.len());
        self.packed.extend(0_u32.to_le_bytes());
    }

    /// Adds a value to the attribute; before the first attribute there is nothing to add it to.
    pub fn value(&mut self, value: &[u8]) {
        let Some(count) = self
            .attribute
            .and_then(|at| self.packed.get_mut(at..)?.first_chunk_mut::<4>())
        else {
            return;
        };
        *count = (u32::from_le_bytes(*count).saturating_add(1)).to_le_bytes();
        self.push(value);
    }

    /// The entry; `names` are those of its attributes, in the order of their beginning.
    pub fn entry(&self, names: Arc<[AttributeName]>) -> RawEntry {
        RawEntry {
            names,
            packed: self.packed.as_slice().into(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        // Nothing near four gigabytes comes here: a message has a limit far below.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.packed.extend(length.to_le_bytes());
        self.packed
            .extend(&bytes[..bytes.len().min(u32::MAX as usize)]);
    }
}

fn number(packed: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = packed.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// What stands after its length, and what follows.
fn counted(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(packed)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = Vec<(String, String, Vec<Vec<u8>>)>;

    fn parts() -> impl Strategy<Value = Parts> {
        let values = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5);
        prop::collection::vec(("[a-c]{0,2}", "[xy]?", values), 0..6)
    }

    fn attributes(parts: Parts) -> Vec<RawAttribute> {
        let attribute = |(name, options, values): (String, String, _)| RawAttribute {
            name: name.into(),
            options: options.into(),
            values,
        };
        parts.into_iter().map(attribute).collect()
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(dn in any::<Vec<u8>>(), parts in parts()) {
            let attributes = attributes(parts);
            let entry = RawEntry::new(&dn, &attributes);
            prop_assert_eq!(entry.dn(), &dn[..]);
            let back = entry.taken_apart();
            prop_assert!(back == attributes);
            prop_assert!(RawEntry::new(&dn, &back) == entry);
            for attribute in &attributes {
                let all: Vec<&[u8]> = entry.values(&attribute.name).collect();
                let of_name = attributes.iter().filter(|a| a.name == attribute.name);
                let meant: Vec<&[u8]> = of_name.flat_map(|a| &a.values).map(Vec::as_slice).collect();
                prop_assert_eq!(all, meant);
            }
            let counts = entry.attributes().map(|a| a.values().len());
            prop_assert!(counts.eq(attributes.iter().map(|a| a.values.len())));
        }
    }

    #[test]
    fn an_entry_of_nothing_has_nothing() {
        let nothing = RawEntry::default();
        assert_eq!(nothing.dn(), b"");
        assert_eq!(nothing.attributes().count(), 0);
        let mut packing = Packing::default();
        packing.start(b"cn=x");
        packing.value(b"without an attribute");
        assert_eq!(packing.entry([].into()), RawEntry::new(b"cn=x", &[]));
    }
}
