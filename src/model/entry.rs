//! An entry as a directory sent it.

use std::fmt;
use std::sync::Arc;

/// One attribute description of an entry with its values (RFC 4511 § 4.1.7), undecoded.
#[derive(Clone, PartialEq, Eq)]
pub struct RawAttribute {
    /// The attribute's name without options, in lower case.
    pub name: Arc<str>,
    /// The options (`lang-fi`, `binary`) in lower case, joined by `;`; empty for none. Ranges are already put together.
    pub options: Arc<str>,
    /// The values in the server's order, which means nothing.
    pub values: Vec<Vec<u8>>,
}

/// An entry: the DN as sent, which need not be UTF-8, and the attributes that were asked for.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RawEntry {
    /// The DN's bytes.
    pub dn: Vec<u8>,
    /// Attributes, each name once for each set of options.
    pub attributes: Vec<RawAttribute>,
}

impl RawEntry {
    /// The values of an attribute (name in lower case), whatever its options.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.attributes
            .iter()
            .filter(move |a| &*a.name == name)
            .flat_map(|a| a.values.iter().map(Vec::as_slice))
    }

    /// The DN for people: lossy where it is not UTF-8, or holds a NUL, which not every store can keep and which would
    /// then differ in each pass.
    pub fn dn_shown(&self) -> String {
        let shown = String::from_utf8_lossy(&self.dn);
        if self.dn.contains(&0) {
            shown.replace('\0', "\u{fffd}")
        } else {
            shown.into_owned()
        }
    }
}

impl fmt::Debug for RawEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.attributes.iter().map(|a| &*a.name).collect();
        f.debug_struct("RawEntry")
            .field("dn_bytes", &self.dn.len())
            .field("attributes", &names)
            .finish()
    }
}
