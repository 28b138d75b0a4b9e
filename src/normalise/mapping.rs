//! Which values of an entry count, what identifies that choice, and whether they changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::VERSION;
use super::phone::LIBRARY;
use crate::config::{Attributes, DisabledRule, PhoneConfig};
use crate::model::{IdForm, RawEntry};

/// Fingerprints keep to 62 bits, so that both stores can hold them as a positive integer with room for marks.
const FINGERPRINT_BITS: u64 = (1 << 62) - 1;

/// An attribute as configured, ready to be looked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// As configured: what people read, and what is asked for.
    pub(super) shown: String,
    /// The name in lower case, without options.
    pub(super) name: String,
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
            name,
            options: parts.collect(),
        }
    }

    /// The values of this attribute. `mobile;lang-fi` is a subtype of `mobile` (RFC 4512 § 2.5.2), so its values are mobile's.
    pub(super) fn values<'a>(&'a self, entry: &'a RawEntry) -> impl Iterator<Item = &'a [u8]> {
        let counts = |options: &str| {
            self.options
                .iter()
                .all(|wanted| options.split(';').any(|has| has == wanted))
        };
        let of_name = entry.attributes().filter(move |a| {
            *a.name == *self.name && (self.options.is_empty() || counts(a.options))
        });
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
        let names: BTreeSet<String> = normaliser.all().map(|w| w.name.clone()).collect();
        normaliser.seeds = names
            .into_iter()
            .map(|name| (xxh3_64_with_seed(name.as_bytes(), normaliser.seed), name))
            .map(|(seed, name)| (name, seed))
            .collect();
        normaliser
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

    /// The attributes to ask the directory for, each once, as configured. Operational ones are among them by name.
    pub fn requested(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        self.all()
            .filter(|w| seen.insert(w.shown.to_lowercase()))
            .map(|w| w.shown.clone())
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
