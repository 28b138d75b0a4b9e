//! Which values of an entry count, what identifies that choice, and whether they changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::VERSION;
use super::phone::LIBRARY;
use crate::config::{Attributes, DisabledRule, PhoneConfig};
use crate::model::{IdForm, RawEntry, Synonyms};

/// Fingerprints keep to 62 bits, so that both stores can hold them as a positive integer with room for marks.
const FINGERPRINT_BITS: u64 = (1 << 62) - 1;

/// An attribute as configured, ready to be looked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// As configured: what people read, and what is asked for.
    pub(super) shown: String,
    /// The name in lower case, without options.
    pub(super) name: String,
    /// Its other names: a server answers under the one that it likes best.
    also: Vec<String>,
    /// The usual one of its names, in lower case.
    usual: String,
    /// Options in lower case that a value must have; mostly none: then values with any options count.
    options: Vec<String>,
}

impl Wanted {
    fn new(configured: &str) -> Self {
        let lower = configured.trim().to_lowercase();
        let mut parts = lower.split(';').map(str::to_owned);
        let name = parts.next().unwrap_or_default();
        Self {
            shown: configured.trim().to_owned(),
            also: Vec::new(),
            usual: name.clone(),
            name,
            options: parts.collect(),
        }
    }

    fn knowing(mut self, synonyms: &Synonyms) -> Self {
        self.also = synonyms.of(&self.name);
        self.usual.clone_from(&self.also[0]);
        self.also.retain(|name| *name != self.name);
        self
    }

    /// Whether a name in lower case is one of this attribute's.
    pub(super) fn is(&self, name: &str) -> bool {
        *name == *self.name || self.also.iter().any(|also| also == name)
    }

    /// Every name of it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name)
            .chain(&self.also)
            .map(String::as_str)
    }

    /// The values of this attribute. `mobile;lang-fi` is a subtype of `mobile` (RFC 4512 § 2.5.2), so its values are mobile's.
    pub(super) fn values<'a>(&'a self, entry: &'a RawEntry) -> impl Iterator<Item = &'a [u8]> {
        let counts = |options: &str| {
            self.options
                .iter()
                .all(|wanted| options.split(';').any(|has| has == wanted))
        };
        let of_name = entry
            .attributes()
            .filter(move |a| self.is(a.name) && (self.options.is_empty() || counts(a.options)));
        of_name.flat_map(|a| a.values())
    }
}

/// Makes persons of entries, by one realm's attributes and phone rules. Cheap to share; holds no state.
#[derive(Clone, Debug)]
pub struct Normaliser {
    pub(super) username: Vec<Wanted>,
    pub(super) display_name: Vec<Wanted>,
    pub(super) email: Vec<Wanted>,
    pub(super) phone: Vec<Wanted>,
    pub(super) country: Vec<Wanted>,
    pub(super) id: Wanted,
    pub(super) id_form: IdForm,
    /// Kept beside `nsUniqueId` on 389-ds.
    pub(super) entry_uuid: Option<Wanted>,
    pub(super) disabled: Wanted,
    pub(super) rule: DisabledRule,
    pub(super) rules: PhoneConfig,
    seed: u64,
    /// The names that count for the fingerprint, each with its own seed.
    seeds: Vec<(String, u64)>,
}

impl Normaliser {
    /// `fingerprint_key`: any number that stays the same for as long as fingerprints are to be compared. The attributes, the phone
    /// rules and [`VERSION`] are mixed in here: with others, every fingerprint differs.
    pub fn new(attributes: &Attributes, phone: &PhoneConfig, fingerprint_key: u64) -> Self {
        let wanted = |configured: &[String]| {
            configured
                .iter()
                .map(|a| Wanted::new(a))
                .collect::<Vec<_>>()
        };
        let (DisabledRule::Equals { attribute, .. } | DisabledRule::Bits { attribute, .. }) =
            &attributes.disabled;
        let mut normaliser = Self {
            username: wanted(&attributes.username),
            display_name: wanted(&attributes.display_name),
            email: wanted(&attributes.email),
            phone: wanted(&attributes.phone),
            country: wanted(&attributes.country),
            id: Wanted::new(&attributes.directory_id),
            id_form: attributes.id_form,
            entry_uuid: (attributes.id_form == IdForm::NsUniqueId)
                .then(|| Wanted::new("entryUUID")),
            disabled: Wanted::new(attribute),
            rule: attributes.disabled.clone(),
            rules: phone.clone(),
            seed: xxh3_64_with_seed(
                mapping_hash(&[], "", attributes, phone).as_bytes(),
                fingerprint_key,
            ),
            seeds: Vec::new(),
        };
        normaliser.learn(&Synonyms::default());
        normaliser
    }

    /// The same, by whatever names a server's schema gives the attributes.
    #[must_use]
    pub fn knowing(mut self, synonyms: &Synonyms) -> Self {
        self.learn(synonyms);
        self
    }

    fn learn(&mut self, synonyms: &Synonyms) {
        let lists = [
            &mut self.username,
            &mut self.display_name,
            &mut self.email,
            &mut self.phone,
            &mut self.country,
        ];
        let single = [
            Some(&mut self.id),
            self.entry_uuid.as_mut(),
            Some(&mut self.disabled),
        ];
        for wanted in lists
            .into_iter()
            .flatten()
            .chain(single.into_iter().flatten())
        {
            *wanted = wanted.clone().knowing(synonyms);
        }
        let names: BTreeSet<String> = self.all().map(|w| w.name.clone()).collect();
        let seed = |name: &str| xxh3_64_with_seed(name.as_bytes(), self.seed);
        let mut seeds: Vec<(String, u64)> = names
            .iter()
            .map(|name| (name.clone(), seed(name)))
            .collect();
        // By another name the same value is the same.
        for wanted in self.all() {
            for also in &wanted.also {
                if !seeds.iter().any(|(name, _)| name == also) {
                    seeds.push((also.clone(), seed(&wanted.name)));
                }
            }
        }
        self.seeds = seeds;
    }

    fn all(&self) -> impl Iterator<Item = &Wanted> {
        let people = self
            .username
            .iter()
            .chain(&self.display_name)
            .chain(&self.email)
            .chain(&self.phone)
            .chain(&self.country);
        std::iter::once(&self.id)
            .chain(&self.entry_uuid)
            .chain(people)
            .chain(std::iter::once(&self.disabled))
    }

    /// The attribute of the directory id, by the name that a server answers under.
    pub fn id_attribute(&self) -> String {
        if self.id.usual == self.id.name {
            self.id.shown.clone()
        } else {
            self.id.usual.clone()
        }
    }

    /// Whether an entry has a value of a configured attribute.
    pub fn has(&self, entry: &RawEntry, configured: &str) -> bool {
        self.all()
            .filter(|wanted| wanted.shown == configured.trim())
            .any(|wanted| wanted.values(entry).next().is_some())
    }

    /// The attributes to ask the directory for, each once, as configured. Operational ones are among them by name.
    pub fn requested(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        // The id is read from entries before there is a person, by one name.
        std::iter::once(self.id_attribute())
            .chain(self.all().skip(1).map(|w| w.shown.clone()))
            .filter(|name| seen.insert(name.to_lowercase()))
            .collect()
    }

    /// A keyed hash (62 bits) of the DN and the raw values of the mapped attributes. The order of attributes and values is
    /// irrelevant; attributes that are not mapped do not count, so an entry looked up with more of them is the same entry.
    pub fn fingerprint(&self, entry: &RawEntry) -> u64 {
        // A sum, unlike a hash of hashes, does not know the order; unlike a xor it knows a value that is there twice.
        let mut sum = xxh3_64_with_seed(entry.dn(), self.seed);
        for attribute in entry.attributes() {
            let Some((_, seed)) = self.seeds.iter().find(|(name, _)| name == attribute.name) else {
                continue;
            };
            let seed = if attribute.options.is_empty() {
                *seed
            } else {
                xxh3_64_with_seed(attribute.options.as_bytes(), *seed)
            };
            for value in attribute.values() {
                sum = sum.wrapping_add(xxh3_64_with_seed(value, seed));
            }
        }
        xxh3_64_with_seed(&sum.to_le_bytes(), self.seed) & FINGERPRINT_BITS
    }
}

/// SHA-256 (64 hexadecimal digits) over everything that decides who is who and what they have: bases, filter, attributes in their
/// order, the disabled rule, the phone rules, [`VERSION`] and the numbering plans. The order of the bases decides nothing.
pub fn mapping_hash(
    bases: &[String],
    filter: &str,
    attributes: &Attributes,
    phone: &PhoneConfig,
) -> String {
    let Attributes {
        username,
        display_name,
        email,
        phone: phones,
        country,
        directory_id,
        id_form,
        disabled,
        explicit: _,
    } = attributes;
    let PhoneConfig {
        region,
        mobile_only,
        allow_premium,
    } = phone;
    let mut bases = bases.to_vec();
    bases.sort();
    let lower = |names: &[String]| {
        names
            .iter()
            .map(|n| n.trim().to_lowercase())
            .collect::<Vec<_>>()
    };
    // `Debug` of strings escapes quotes, so that no two configurations write the same text.
    let mut text = String::new();
    let _ = write!(
        text,
        "{VERSION} {LIBRARY:?} {bases:?} {filter:?} {:?} {:?} {:?}",
        lower(username),
        lower(display_name),
        lower(email)
    );
    let _ = write!(
        text,
        " {:?} {:?} {:?} {id_form:?}",
        lower(phones),
        lower(country),
        lower(std::slice::from_ref(directory_id))
    );
    let _ = match disabled {
        DisabledRule::Equals { attribute, equals } => {
            write!(text, " equals {:?} {equals:?}", attribute.to_lowercase())
        }
        DisabledRule::Bits { attribute, bits } => {
            write!(text, " bits {:?} {bits}", attribute.to_lowercase())
        }
    };
    let _ = write!(text, " {region:?} {mobile_only} {allow_premium}");
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, normaliser};
    use super::*;

    /// Else an upgrade, or a look at the schema, would look at everybody anew.
    #[test]
    fn other_names_of_an_attribute_change_no_fingerprint() {
        let said = entry(&[("uid", b"jan"), ("mobile", b"+421905123456")]);
        let plain = normaliser();
        let own = |name: &str, value: &[u8]| {
            xxh3_64_with_seed(value, xxh3_64_with_seed(name.as_bytes(), plain.seed))
        };
        let sum = said
            .attributes()
            .flat_map(|a| a.values().map(|v| own(a.name, v)).collect::<Vec<_>>())
            .fold(xxh3_64_with_seed(said.dn(), plain.seed), u64::wrapping_add);
        let whole = xxh3_64_with_seed(&sum.to_le_bytes(), plain.seed) & FINGERPRINT_BITS;
        assert_eq!(plain.fingerprint(&said), whole);
        let schema = Synonyms(vec![vec!["cell".into(), "mobile".into(), "1.2.3".into()]]);
        let knowing = normaliser().knowing(&schema);
        assert_eq!(knowing.fingerprint(&said), whole);
        let otherwise = entry(&[("uid", b"jan"), ("cell", b"+421905123456")]);
        assert_eq!(knowing.fingerprint(&otherwise), whole);
        assert_ne!(plain.fingerprint(&otherwise), whole);
    }
}
