//! From a search result's BER to a [`RawEntry`]: an own walk that moves the values and never panics (RFC 4511 § 4.5.2).
//!
//! ldap3's `SearchEntry` panics on DNs that are not UTF-8, and moves a whole attribute elsewhere for one bad value.

use std::sync::Arc;

use lber::structure::{PL, StructureTag};

use crate::model::{AttributeName, DirectoryId, IdForm, RawAttribute, RawEntry};

/// The longest value that is kept whole. No name, number or id comes near it; what is cut is refused later by its length.
pub(super) const MAX_VALUE: usize = 64 * 1024;

/// The most values of one attribute that are kept, the smallest ones, so that the same entry always gives the same values.
pub(super) const MAX_VALUES: usize = 10_000;

/// Descriptions that are remembered. A sane search has a handful; a hostile one must not make the table grow.
const MAX_NAMES: usize = 64;

/// The message is no search result entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MalformedEntry(pub &'static str);

/// An attribute that came in part (`member;range=0-1499`, MS-ADTS 3.1.1.3.1.3.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RangeRest {
    /// Which of the entry's attributes.
    pub at: usize,
    /// What to ask for next, options included: `member;range=1500-*`.
    pub ask: String,
}

/// Attribute descriptions already taken apart, so that a million entries share a handful of names.
#[derive(Default, Debug)]
pub(super) struct Names(Vec<(Vec<u8>, Description)>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Description {
    name: Arc<str>,
    options: Arc<str>,
    range: Option<Range>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    /// The last value's index; `None`: `*`, there is no more.
    last: Option<u64>,
}

impl Names {
    fn take_apart(&mut self, raw: &[u8]) -> Description {
        if let Some((_, known)) = self.0.iter().find(|(bytes, _)| bytes == raw) {
            return known.clone();
        }
        let fresh = describe(raw);
        if self.0.len() < MAX_NAMES {
            self.0.push((raw.to_vec(), fresh.clone()));
        }
        fresh
    }

    /// The name of an attribute that came whole; `None`: it is a part of one.
    pub(super) fn whole(&mut self, raw: &[u8]) -> Option<AttributeName> {
        let Description {
            name,
            options,
            range: None,
        } = self.take_apart(raw)
        else {
            return None;
        };
        Some(AttributeName { name, options })
    }
}

fn describe(raw: &[u8]) -> Description {
    let text = String::from_utf8_lossy(raw).to_lowercase();
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default();
    let mut range = None;
    let mut options: Vec<&str> = Vec::new();
    for option in parts {
        match option
            .strip_prefix("range=")
            .and_then(|r| r.split_once('-'))
        {
            Some((first, last))
                if first.parse::<u64>().is_ok() && (last == "*" || last.parse::<u64>().is_ok()) =>
            {
                range = Some(Range {
                    last: last.parse().ok(),
                });
            }
            _ => options.push(option),
        }
    }
    // The order of options means nothing (RFC 4512 § 2.5).
    options.sort_unstable();
    Description {
        name: name.into(),
        options: options.join(";").into(),
        range,
    }
}

/// An attribute as it came: the description, options and all, and the values.
pub(super) type SentAttribute = (Vec<u8>, Vec<Vec<u8>>);

/// One entry of ldap3, and which of its attributes must be read further.
pub(super) fn entry(
    message: StructureTag,
    names: &mut Names,
) -> Result<(RawEntry, Vec<RangeRest>), MalformedEntry> {
    let mut parts = constructed(message, "the entry")?.into_iter();
    let dn = primitive(parts.next(), "the entry's name")?;
    let list = constructed(
        parts
            .next()
            .ok_or(MalformedEntry("the list of attributes is missing"))?,
        "the list of attributes",
    )?;
    let mut came = Vec::with_capacity(list.len());
    for attribute in list {
        let mut parts = constructed(attribute, "an attribute")?.into_iter();
        let raw = primitive(parts.next(), "an attribute's name")?;
        let set = constructed(
            parts
                .next()
                .ok_or(MalformedEntry("an attribute has no set of values"))?,
            "a set of values",
        )?;
        let mut values = Vec::with_capacity(set.len());
        for value in set {
            let mut value = primitive(Some(value), "a value")?;
            value.truncate(MAX_VALUE);
            values.push(value);
        }
        came.push((raw, values));
    }
    Ok(assembled(&dn, came, names))
}

/// An entry of what came: names folded, parts of one attribute put together, too many values cut.
pub(super) fn assembled(
    dn: &[u8],
    came: Vec<SentAttribute>,
    names: &mut Names,
) -> (RawEntry, Vec<RangeRest>) {
    let mut attributes: Vec<RawAttribute> = Vec::with_capacity(came.len());
    let mut rest = Vec::new();
    for (raw, values) in came {
        let Description {
            name,
            options,
            range,
        } = names.take_apart(&raw);
        let at = insert(&mut attributes, name, options, values);
        if let Some(Range { last: Some(last) }) = range {
            let found = &attributes[at];
            let options = if found.options.is_empty() {
                String::new()
            } else {
                format!(";{}", found.options)
            };
            rest.push(RangeRest {
                at,
                ask: format!("{}{options};range={}-*", found.name, last.saturating_add(1)),
            });
        }
    }
    (RawEntry::new(dn, &attributes), rest)
}

/// Adds values to the attribute of that name and options (Active Directory sends an empty `member` beside `member;range=…`).
fn insert(
    attributes: &mut Vec<RawAttribute>,
    name: Arc<str>,
    options: Arc<str>,
    values: Vec<Vec<u8>>,
) -> usize {
    let at = attributes
        .iter()
        .position(|a| a.name == name && a.options == options);
    let at = at.unwrap_or_else(|| {
        attributes.push(RawAttribute {
            name,
            options,
            values: Vec::new(),
        });
        attributes.len() - 1
    });
    let held = &mut attributes[at].values;
    if held.is_empty() {
        *held = values;
    } else {
        held.extend(values);
    }
    if held.len() > MAX_VALUES {
        held.sort_unstable();
        held.truncate(MAX_VALUES);
    }
    at
}

/// Puts a further part into the entry; says what is still missing of it. A part without the attribute is an error: values would be lost.
pub(super) fn append(
    entry: &mut RawEntry,
    wanted: &RangeRest,
    part: &RawEntry,
    more: Vec<RangeRest>,
) -> Result<Option<RangeRest>, MalformedEntry> {
    const MISSING: MalformedEntry = MalformedEntry("the rest of a range");
    let mut attributes = entry.taken_apart();
    let held = attributes.get(wanted.at).ok_or(MISSING)?;
    let (name, options) = (Arc::clone(&held.name), Arc::clone(&held.options));
    let mut parts = part.taken_apart();
    let found = parts
        .iter()
        .position(|a| a.name == name && a.options == options);
    let found = found.ok_or(MISSING)?;
    let next = more.into_iter().find(|r| r.at == found).map(|r| r.ask);
    let at = insert(
        &mut attributes,
        name,
        options,
        parts.swap_remove(found).values,
    );
    *entry = RawEntry::new(entry.dn(), &attributes);
    Ok(next.map(|ask| RangeRest { at, ask }))
}

fn constructed(tag: StructureTag, what: &'static str) -> Result<Vec<StructureTag>, MalformedEntry> {
    match tag.payload {
        PL::C(parts) => Ok(parts),
        PL::P(_) => Err(MalformedEntry(what)),
    }
}

fn primitive(tag: Option<StructureTag>, what: &'static str) -> Result<Vec<u8>, MalformedEntry> {
    match tag.map(|t| t.payload) {
        Some(PL::P(bytes)) => Ok(bytes),
        Some(PL::C(_)) | None => Err(MalformedEntry(what)),
    }
}

/// The values of an attribute in any case, whatever its options.
pub(super) fn values_of<'a>(
    entry: &'a RawEntry,
    attribute: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    entry
        .attributes()
        .filter(move |a| a.name.eq_ignore_ascii_case(attribute))
        .flat_map(|a| a.values())
}

/// The directory id of an entry; `None` when it is missing, not single, or no id.
pub(super) fn directory_id(entry: &RawEntry, attribute: &str, form: IdForm) -> Option<DirectoryId> {
    let mut values = values_of(entry, attribute);
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    match form {
        IdForm::Guid => value.try_into().ok().map(DirectoryId),
        IdForm::Uuid | IdForm::NsUniqueId => {
            DirectoryId::parse(std::str::from_utf8(value).ok()?, form)
        }
    }
}

#[cfg(test)]
mod tests {
    use lber::common::TagClass;
    use proptest::prelude::*;

    use super::*;

    fn p(bytes: &[u8]) -> StructureTag {
        StructureTag {
            class: TagClass::Universal,
            id: 4,
            payload: PL::P(bytes.to_vec()),
        }
    }

    fn c(parts: Vec<StructureTag>) -> StructureTag {
        StructureTag {
            class: TagClass::Universal,
            id: 16,
            payload: PL::C(parts),
        }
    }

    fn message(dn: &[u8], attributes: &[(&str, &[&[u8]])]) -> StructureTag {
        let list = attributes
            .iter()
            .map(|(n, vs)| c(vec![p(n.as_bytes()), c(vs.iter().map(|v| p(v)).collect())]))
            .collect();
        StructureTag {
            class: TagClass::Application,
            id: 4,
            payload: PL::C(vec![p(dn), c(list)]),
        }
    }

    fn shown(e: &RawEntry) -> Vec<(String, String, usize)> {
        e.attributes()
            .map(|a| (a.name.to_owned(), a.options.to_owned(), a.values().len()))
            .collect()
    }

    #[test]
    fn trap_15_names_are_folded_and_options_kept() {
        let tag = message(
            b"cn=x",
            &[
                ("Mobile;lang-fi", &[b"1"]),
                ("mobile", &[b"2", b"3"]),
                ("userCertificate;binary", &[b"\x30"]),
                ("cn;x-b;X-A", &[b"n"]),
            ],
        );
        let (e, rest) = entry(tag, &mut Names::default()).unwrap();
        assert_eq!(rest, []);
        assert_eq!(
            shown(&e),
            [
                ("mobile", "lang-fi", 1),
                ("mobile", "", 2),
                ("usercertificate", "binary", 1),
                ("cn", "x-a;x-b", 1)
            ]
            .map(|(n, o, v)| (n.into(), o.into(), v))
        );
        assert_eq!(e.values("mobile").count(), 3);
    }

    #[test]
    fn trap_16_bytes_that_are_no_text_stay_with_their_attribute() {
        let tag = message(
            b"cn=\xff\xfe",
            &[("mobile", &[b"+421905123456", b"\xc3\x28"])],
        );
        let (e, _) = entry(tag, &mut Names::default()).unwrap();
        assert_eq!(e.dn(), b"cn=\xff\xfe");
        assert_eq!(
            e.values("mobile").collect::<Vec<_>>(),
            [&b"+421905123456"[..], b"\xc3\x28"]
        );
    }

    #[test]
    fn trap_15_a_range_joins_the_empty_attribute_beside_it_and_asks_for_the_rest() {
        let tag = message(
            b"cn=g",
            &[("member", &[]), ("member;range=0-1", &[b"a", b"b"])],
        );
        let (mut e, rest) = entry(tag, &mut Names::default()).unwrap();
        assert_eq!(shown(&e), [("member".to_owned(), String::new(), 2)]);
        assert_eq!(
            rest,
            [RangeRest {
                at: 0,
                ask: "member;range=2-*".into()
            }]
        );
        let (part, more) = entry(
            message(b"cn=g", &[("member;range=2-3", &[b"c", b"d"])]),
            &mut Names::default(),
        )
        .unwrap();
        let next = append(&mut e, &rest[0], &part, more).unwrap().unwrap();
        assert_eq!(next.ask, "member;range=4-*");
        let (part, more) = entry(
            message(b"cn=g", &[("member;range=4-*", &[b"e"])]),
            &mut Names::default(),
        )
        .unwrap();
        assert_eq!(append(&mut e, &next, &part, more), Ok(None));
        assert!(append(&mut e, &next, &RawEntry::default(), vec![]).is_err());
        assert_eq!(e.values("member").count(), 5);
    }

    #[test]
    fn a_range_that_is_none_is_an_option() {
        for odd in [
            "member;range=x-1",
            "member;range=1",
            "member;range=0-99999999999999999999999",
            "member;range=",
        ] {
            let d = describe(odd.as_bytes());
            assert_eq!((&*d.name, d.range), ("member", None), "{odd}");
            assert!(d.options.starts_with("range="));
        }
    }

    #[test]
    fn caps_hold() {
        let many: Vec<Vec<u8>> = (0..MAX_VALUES + 5)
            .rev()
            .map(|i| format!("{i:06}").into_bytes())
            .collect();
        let refs: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let long = vec![b'1'; MAX_VALUE * 2];
        let (e, _) = entry(
            message(b"cn=x", &[("mobile", &refs), ("cn", &[&long])]),
            &mut Names::default(),
        )
        .unwrap();
        assert_eq!(e.values("mobile").count(), MAX_VALUES);
        assert_eq!(e.values("mobile").next().unwrap(), b"000000");
        assert_eq!(e.values("cn").next().unwrap().len(), MAX_VALUE);
        let mut names = Names::default();
        for i in 0..1000 {
            let _unused = names.take_apart(format!("a{i}").as_bytes());
        }
        assert_eq!(names.0.len(), MAX_NAMES);
    }

    #[test]
    fn ids_are_read_by_their_form() {
        let raw: Vec<u8> = (1..=16).collect();
        let text = b"01020304-0506-0708-090a-0b0c0d0e0f10";
        let (e, _) = entry(
            message(
                b"cn=x",
                &[
                    ("entryUUID", &[text]),
                    ("objectGUID", &[&raw]),
                    ("nsUniqueId", &[b"01020304-05060708-090a0b0c-0d0e0f10"]),
                    ("two", &[text, text]),
                ],
            ),
            &mut Names::default(),
        )
        .unwrap();
        let id = DirectoryId(raw.clone().try_into().unwrap());
        assert_eq!(directory_id(&e, "entryUUID", IdForm::Uuid), Some(id));
        assert_eq!(directory_id(&e, "objectGUID", IdForm::Guid), Some(id));
        assert_eq!(directory_id(&e, "nsUniqueId", IdForm::NsUniqueId), Some(id));
        assert_eq!(directory_id(&e, "objectGUID", IdForm::Uuid), None);
        assert_eq!(directory_id(&e, "two", IdForm::Uuid), None);
        assert_eq!(directory_id(&e, "none", IdForm::Uuid), None);
    }

    fn any_tag() -> impl Strategy<Value = StructureTag> {
        let leaf = prop::collection::vec(any::<u8>(), 0..12).prop_map(|b| p(&b));
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop::collection::vec(inner, 0..6).prop_map(c)
        })
    }

    proptest! {
        #[test]
        fn trap_36_no_shape_of_message_panics(tag in any_tag(), other in any_tag()) {
            let mut names = Names::default();
            if let (Ok((mut e, rest)), Ok((part, more))) = (entry(tag, &mut names), entry(other, &mut names)) {
                for r in &rest {
                    let _unused = append(&mut e, r, &part, more.clone());
                }
                prop_assert!(e.size() >= e.dn().len());
            }
        }

        #[test]
        fn trap_36_no_description_panics(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let d = describe(&raw);
            prop_assert!(!d.name.contains(';'));
        }
    }
}
