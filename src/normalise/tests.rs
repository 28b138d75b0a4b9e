//! Whole entries, and what is said of them.

use std::sync::Arc;

use super::*;
use crate::config::{Attributes, DisabledRule, PhoneConfig};
use crate::model::{AttributeReading, IdForm, Known, Person, PhoneReading, RawAttribute, RawEntry};

pub(super) const UUID: &str = "6f1c9a52-9f0e-4c1b-a0f1-0123456789ab";

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn attributes() -> Attributes {
    Attributes {
        username: strings(&["uid", "mail"]),
        display_name: strings(&["displayName", "cn"]),
        email: strings(&["mail"]),
        phone: strings(&["mobile", "telephoneNumber"]),
        country: strings(&["c", "preferredLanguage"]),
        directory_id: "entryUUID".to_owned(),
        id_form: IdForm::Uuid,
        disabled: DisabledRule::Equals {
            attribute: "pwdAccountLockedTime".to_owned(),
            equals: "000001010000Z".to_owned(),
        },
        explicit: Vec::new(),
    }
}

fn rules() -> PhoneConfig {
    PhoneConfig {
        region: Some("SK".to_owned()),
        mobile_only: true,
        allow_premium: false,
    }
}

pub(super) fn normaliser() -> Normaliser {
    Normaliser::new(&attributes(), &rules(), 1)
}

/// An entry of `name;options: value` pairs beside its id.
pub(super) fn entry(pairs: &[(&str, &[u8])]) -> RawEntry {
    let mut attributes: Vec<RawAttribute> = Vec::new();
    for (description, value) in std::iter::once(&("entryuuid", UUID.as_bytes())).chain(pairs) {
        let (name, options) = description.split_once(';').unwrap_or((description, ""));
        let there = attributes
            .iter_mut()
            .find(|a| &*a.name == name && &*a.options == options);
        match there {
            Some(attribute) => attribute.values.push(value.to_vec()),
            None => attributes.push(RawAttribute {
                name: name.into(),
                options: Arc::from(options),
                values: vec![value.to_vec()],
            }),
        }
    }
    RawEntry::new(b"uid=jan,ou=people,dc=example,dc=org", &attributes)
}

/// The entry with its attributes changed.
pub(super) fn changed(entry: &RawEntry, change: impl FnOnce(&mut Vec<RawAttribute>)) -> RawEntry {
    let mut attributes = entry.taken_apart();
    change(&mut attributes);
    RawEntry::new(entry.dn(), &attributes)
}

fn person(pairs: &[(&str, &[u8])]) -> Person {
    normaliser().person(&entry(pairs)).unwrap()
}

pub(super) fn readings(person: &Person) -> &[AttributeReading] {
    match &person.phone {
        PhoneReading::Read(readings) => readings,
        PhoneReading::Unknown => panic!("an entry of a full pass carries phones"),
    }
}

fn numbers(person: &Person, attribute: usize) -> Vec<&str> {
    readings(person)[attribute]
        .usable
        .iter()
        .map(|v| v.phone.as_str())
        .collect()
}

#[test]
fn a_plain_entry_is_a_person_without_faults() {
    let jan = person(&[
        ("uid", b" Jan "),
        ("cn", "Ján Novák".as_bytes()),
        ("mail", b"jan@example.org"),
        ("preferredlanguage", b"sk-SK"),
        ("mobile", b"0905 123 456"),
    ]);
    assert_eq!(jan.directory_id.display(IdForm::Uuid), UUID);
    let name = jan.username.clone().unwrap();
    assert_eq!((name.shown.as_str(), name.key.as_str()), ("Jan", "jan"));
    assert_eq!(jan.display_name, Known::Known(Some("Ján Novák".to_owned())));
    assert_eq!(jan.email, Known::Known(Some("jan@example.org".to_owned())));
    assert_eq!(jan.enabled, Known::Known(true));
    assert_eq!(jan.entry_uuid, None);
    assert_eq!(jan.refused, []);
    let [mobile, other] = readings(&jan) else {
        panic!()
    };
    assert_eq!(
        (mobile.attribute.as_str(), other.attribute.as_str()),
        ("mobile", "telephoneNumber")
    );
    assert_eq!(
        (mobile.refused, other.refused, other.usable.len()),
        (0, 0, 0)
    );
    assert_eq!(mobile.usable[0].phone.as_str(), "+421905123456");
    assert_eq!(mobile.usable[0].raw, "0905 123 456");
    assert_eq!(
        mobile.usable[0].rule,
        "national, region SK from preferredLanguage"
    );
}

/// A server answers under the name that it likes best, whatever it was asked for.
#[test]
fn an_attribute_is_the_same_by_each_of_its_names() {
    let by = |names: [&str; 7]| {
        let [id, username, display_name, email, phone, country, disabled] = names;
        let attributes = Attributes {
            username: strings(&[username]),
            display_name: strings(&[display_name]),
            email: strings(&[email]),
            phone: strings(&[phone]),
            country: strings(&[country]),
            directory_id: id.to_owned(),
            disabled: DisabledRule::Equals {
                attribute: disabled.to_owned(),
                equals: "former".to_owned(),
            },
            ..attributes()
        };
        let said = entry(&[
            ("uid", b"jan"),
            ("cn", "Ján".as_bytes()),
            ("mail", b"jan@example.org"),
            ("mobile", b"601 123 456"),
            ("preferredlanguage", b"cs-CZ"),
            ("employeetype", b"former"),
        ]);
        let normaliser = Normaliser::new(&attributes, &rules(), 1);
        (normaliser.id_attribute(), normaliser.person(&said).unwrap())
    };
    let others = [
        "1.3.6.1.1.16.4",
        "userid",
        "2.5.4.3",
        "rfc822Mailbox",
        "mobileTelephoneNumber",
        "2.16.840.1.113730.3.1.39",
        "2.16.840.1.113730.3.1.4",
    ];
    let (id, person) = by(others);
    assert_eq!(id, "entryuuid");
    assert_eq!(person.username.as_ref().unwrap().shown, "jan");
    assert_eq!(person.display_name, Known::Known(Some("Ján".into())));
    assert_eq!(person.email, Known::Known(Some("jan@example.org".into())));
    assert_eq!(numbers(&person, 0), ["+420601123456"]);
    assert_eq!(person.enabled, Known::Known(false));
}

#[test]
fn numbers_are_ascending_each_once_and_of_any_option() {
    let jan = person(&[
        ("uid", b"jan"),
        ("mobile", b"+421 907 654 321"),
        ("mobile;lang-fi", b"0905123456"),
        ("mobile", b"+421905123456"),
        ("mobile;x-a;lang-fi", b"n/a"),
        ("telephonenumber", b"02/5555 1234"),
    ]);
    assert_eq!(numbers(&jan, 0), ["+421905123456", "+421907654321"]);
    let [mobile, telephone] = readings(&jan) else {
        panic!()
    };
    assert_eq!(
        mobile.usable[0].raw, "+421905123456",
        "of two spellings the smaller"
    );
    assert_eq!(mobile.usable[0].rule, "international");
    assert_eq!((mobile.refused, telephone.refused), (1, 1));
    let shown: Vec<_> = jan
        .refused
        .iter()
        .map(|r| {
            (
                r.attribute.as_deref().unwrap(),
                r.raw.as_deref().unwrap(),
                r.entry,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("mobile", "n/a", false),
            ("telephoneNumber", "02/5555 1234", false)
        ]
    );
    assert!(
        jan.refused
            .iter()
            .all(|r| r.directory_id == Some(jan.directory_id)
                && r.username.as_deref() == Some("jan"))
    );
}

#[test]
fn a_value_that_is_not_utf8_is_refused_alone() {
    let jan = person(&[
        ("uid", b"jan"),
        ("mobile", b"0905\xff123456"),
        ("mobile", b"0907654321"),
        ("cn", b"J\xe1n"),
        ("mail", b"\xff@example.org"),
    ]);
    assert_eq!(numbers(&jan, 0), ["+421907654321"]);
    assert_eq!(readings(&jan)[0].refused, 1);
    assert_eq!(
        (&jan.display_name, &jan.email),
        (&Known::Unknown, &Known::Unknown),
        "what is refused is kept, not emptied"
    );
    assert_eq!(
        jan.refused
            .iter()
            .map(|r| r.attribute.as_deref().unwrap())
            .collect::<Vec<_>>(),
        ["cn", "mail", "mobile"]
    );
}

#[test]
fn trap_52_a_hint_that_is_not_understood_refuses_national_numbers_only() {
    let rule = |pairs: &[(&str, &[u8])]| {
        let jan = person(
            &[
                &[
                    ("uid", b"jan".as_slice()),
                    ("mobile", b"0905123456"),
                    ("telephonenumber", b"+421907654321"),
                ],
                pairs,
            ]
            .concat(),
        );
        assert_eq!(numbers(&jan, 1), ["+421907654321"]);
        readings(&jan)[0].usable.first().map(|v| v.rule.clone())
    };
    assert_eq!(
        rule(&[]).as_deref(),
        Some("national, region SK of the realm")
    );
    assert_eq!(
        rule(&[("c", b"SK")]).as_deref(),
        Some("national, region SK from c")
    );
    assert_eq!(
        rule(&[("c", b"Slovakia"), ("preferredlanguage", b"en-US")]).as_deref(),
        Some("national, region SK from c"),
        "in the configured order"
    );
    assert_eq!(rule(&[("c", b"XX"), ("preferredlanguage", b"sk-SK")]), None);
    assert_eq!(rule(&[("c", b"S\xff")]), None);
    assert_eq!(
        rule(&[("c", b" "), ("preferredlanguage", b"sk-SK")]).as_deref(),
        Some("national, region SK from preferredLanguage")
    );
    assert_eq!(
        rule(&[("preferredlanguage", b"sk")]).as_deref(),
        Some("national, region SK of the realm")
    );
    assert_eq!(
        rule(&[("preferredlanguage", b"uk")]).as_deref(),
        Some("national, region SK of the realm"),
        "a language, not the country"
    );
    assert_eq!(
        rule(&[("c", b"uk")]),
        None,
        "the country: no such number in Great Britain"
    );
    assert_eq!(rule(&[("c", b"SK"), ("c;x-old", b"CZ")]), None);
    let nowhere = Normaliser::new(
        &attributes(),
        &PhoneConfig {
            region: None,
            ..rules()
        },
        1,
    );
    let jan = nowhere
        .person(&entry(&[("uid", b"jan"), ("mobile", b"0905123456")]))
        .unwrap();
    assert!(numbers(&jan, 0).is_empty());
    assert!(
        jan.refused[0].reason.contains("set `region`"),
        "{}",
        jan.refused[0].reason
    );
}

#[test]
fn without_a_name_the_rest_is_still_read() {
    let jan = person(&[("mobile", b"0905123456")]);
    assert!(
        jan.username
            .as_ref()
            .unwrap_err()
            .contains("`uid` or `mail`")
    );
    assert_eq!(numbers(&jan, 0), ["+421905123456"]);
    assert!(jan.refused[0].entry && jan.refused[0].attribute.is_none());

    let jan = person(&[("uid", b"ja\0n"), ("mail", b"jan@example.org")]);
    assert!(
        jan.username
            .as_ref()
            .unwrap_err()
            .contains("control character"),
        "a slip in `uid` must not rename to the address"
    );
    assert!(jan.refused[0].entry);

    let jan = person(&[("mail", b"jan@example.org")]);
    assert_eq!(jan.username.unwrap().shown, "jan@example.org");

    let jan = person(&[("uid", b"jan"), ("uid", b"\xff")]);
    assert_eq!(jan.username.unwrap().shown, "jan");
    assert!(!jan.refused[0].entry, "only the value is refused");

    let jan = person(&[("uid", b"anna"), ("uid", b"JAN")]);
    assert_eq!(jan.username.unwrap().shown, "JAN", "the one in the DN");
}

#[test]
fn an_entry_without_a_readable_id_is_refused_as_a_whole() {
    let normaliser = normaliser();
    let none = changed(&entry(&[("uid", b"jan")]), |all| {
        all.remove(0);
    });
    for bad in [none, entry(&[("entryuuid", UUID.as_bytes())])] {
        assert!(normaliser.person(&bad).unwrap_err().entry);
        assert!(normaliser.directory_id(&bad).is_err());
    }
    let bad = changed(&entry(&[]), |all| all[0].values[0] = b"6f1c".to_vec());
    assert!(
        normaliser
            .person(&bad)
            .unwrap_err()
            .reason
            .contains("cannot be read")
    );
}

#[test]
fn ids_in_the_forms_of_the_directories() {
    let bytes: Vec<u8> = (1..=16).collect();
    let of = |attribute: &str, form, value: &[u8]| {
        let attributes = Attributes {
            directory_id: attribute.to_owned(),
            id_form: form,
            ..attributes()
        };
        let normaliser = Normaliser::new(&attributes, &rules(), 1);
        let entry = changed(&entry(&[]), |all| {
            all.push(RawAttribute {
                name: attribute.to_lowercase().into(),
                options: "".into(),
                values: vec![value.to_vec()],
            });
        });
        (
            normaliser
                .person(&entry)
                .ok()
                .map(|p| (p.directory_id.display(form), p.entry_uuid.is_some())),
            normaliser.requested(),
        )
    };
    let (found, _) = of("objectGUID", IdForm::Guid, &bytes);
    assert_eq!(
        found,
        Some(("04030201-0605-0807-090a-0b0c0d0e0f10".to_owned(), false))
    );
    assert_eq!(of("objectGUID", IdForm::Guid, &bytes[1..]).0, None);
    let (found, requested) = of(
        "nsUniqueId",
        IdForm::NsUniqueId,
        b"01020304-05060708-090a0b0c-0d0e0f10",
    );
    assert_eq!(
        found,
        Some(("01020304-05060708-090a0b0c-0d0e0f10".to_owned(), true))
    );
    assert!(requested.contains(&"entryUUID".to_owned()));
    assert_eq!(of("nsUniqueId", IdForm::NsUniqueId, b"0102").0, None);
}

#[test]
fn disabled_by_the_rule_of_each_kind() {
    let state = |rule: &DisabledRule, values: &[&[u8]]| {
        let normaliser = Normaliser::new(
            &Attributes {
                disabled: rule.clone(),
                ..attributes()
            },
            &rules(),
            1,
        );
        let pairs: Vec<(&str, &[u8])> = values.iter().map(|v| ("state", *v)).collect();
        let person = normaliser
            .person(&entry(
                &[&[("uid", b"jan".as_slice())], pairs.as_slice()].concat(),
            ))
            .unwrap();
        (person.enabled, person.refused.len())
    };
    let equals = |equals: &str| DisabledRule::Equals {
        attribute: "State".to_owned(),
        equals: equals.to_owned(),
    };
    assert_eq!(
        state(&equals("000001010000Z"), &[]),
        (Known::Known(true), 0)
    );
    assert_eq!(
        state(&equals("000001010000Z"), &[b"000001010000Z"]),
        (Known::Known(false), 0)
    );
    assert_eq!(
        state(&equals("000001010000Z"), &[b"20261124030000Z"]),
        (Known::Known(true), 0),
        "locked for a while, not for ever"
    );
    assert_eq!(
        state(&equals("true"), &[b"TRUE "]),
        (Known::Known(false), 0)
    );
    assert_eq!(
        state(&equals("former"), &[b"staff", b"Former"]),
        (Known::Known(false), 0)
    );
    assert_eq!(
        state(&equals("former"), &[b"\xff"]),
        (Known::Known(true), 0)
    );
    let bits = DisabledRule::Bits {
        attribute: "state".to_owned(),
        bits: 2,
    };
    assert_eq!(state(&bits, &[]), (Known::Known(true), 0));
    assert_eq!(state(&bits, &[b"512"]), (Known::Known(true), 0));
    assert_eq!(state(&bits, &[b"514"]), (Known::Known(false), 0));
    assert_eq!(state(&bits, &[b"-2"]), (Known::Known(false), 0));
    assert_eq!(state(&bits, &[b"normal"]), (Known::Unknown, 1));
    assert_eq!(state(&bits, &[b"\xff"]), (Known::Unknown, 1));
    assert_eq!(state(&bits, &[b"512", b"?"]), (Known::Unknown, 1));
    assert_eq!(state(&bits, &[b"514", b"?"]), (Known::Known(false), 1));
}

#[test]
fn what_is_asked_for() {
    assert_eq!(
        normaliser().requested(),
        [
            "entryUUID",
            "uid",
            "mail",
            "displayName",
            "cn",
            "mobile",
            "telephoneNumber",
            "c",
            "preferredLanguage",
            "pwdAccountLockedTime"
        ]
    );
    let attributes = Attributes {
        phone: strings(&["mobile;lang-fi", "Mobile", "MOBILE"]),
        ..attributes()
    };
    let normaliser = Normaliser::new(&attributes, &rules(), 1);
    assert_eq!(
        normaliser
            .requested()
            .iter()
            .filter(|a| a.to_lowercase().starts_with("mobile"))
            .count(),
        2
    );
    let jan = normaliser
        .person(&entry(&[
            ("mobile", b"0905123456"),
            ("mobile;lang-fi;x-a", b"0907654321"),
            ("mobile;lang-fin", b"0908123456"),
        ]))
        .unwrap();
    assert_eq!(
        numbers(&jan, 0),
        ["+421907654321"],
        "of a configured option only its own values"
    );
    assert_eq!(numbers(&jan, 1).len(), 3);
}

type Edit = fn(&mut Vec<String>, &mut String, &mut Attributes, &mut PhoneConfig);

#[test]
fn the_mapping_hash_covers_everything_that_decides() {
    let bases = strings(&["ou=a,dc=example,dc=org", "ou=b,dc=example,dc=org"]);
    let hash = |change: Edit| {
        let (mut bases, mut filter, mut attributes, mut rules) =
            (bases.clone(), "(uid=*)".to_owned(), attributes(), rules());
        change(&mut bases, &mut filter, &mut attributes, &mut rules);
        mapping_hash(&bases, &filter, &attributes, &rules)
    };
    let plain = hash(|_, _, _, _| {});
    assert!(plain.len() == 64 && plain.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(
        plain,
        hash(|bases, _, _, _| bases.reverse()),
        "the order of bases decides nothing"
    );
    assert_eq!(
        plain,
        hash(|_, _, a, _| a.username[0] = "UID".to_owned()),
        "nor does the case of names"
    );
    assert_eq!(
        plain,
        hash(|_, _, a, _| a.explicit.push("uid".to_owned())),
        "nor does who named them"
    );
    let edits: [Edit; 17] = [
        |b, _, _, _| b.truncate(1),
        |_, f, _, _| f.push(' '),
        |_, _, a, _| a.username.reverse(),
        |_, _, a, _| a.display_name.reverse(),
        |_, _, a, _| a.email.push("x".to_owned()),
        |_, _, a, _| a.phone.reverse(),
        |_, _, a, _| a.country.reverse(),
        |_, _, a, _| a.country.clear(),
        |_, _, a, _| a.directory_id.push('x'),
        |_, _, a, _| a.id_form = IdForm::Guid,
        |_, _, a, _| {
            a.disabled = DisabledRule::Bits {
                attribute: "pwdAccountLockedTime".to_owned(),
                bits: 2,
            }
        },
        |_, _, a, _| {
            a.disabled = DisabledRule::Equals {
                attribute: "pwdAccountLockedTime".to_owned(),
                equals: "x".to_owned(),
            }
        },
        |_, _, a, _| a.username = vec!["uid\", \"mail".to_owned()],
        |_, _, _, p| p.region = None,
        |_, _, _, p| p.region = Some("CZ".to_owned()),
        |_, _, _, p| p.mobile_only = false,
        |_, _, _, p| p.allow_premium = true,
    ];
    let mut hashes: Vec<String> = edits.iter().map(|edit| hash(*edit)).collect();
    hashes.push(plain);
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), edits.len() + 1);
    let entry = entry(&[("uid", b"jan")]);
    let other = Normaliser::new(
        &attributes(),
        &PhoneConfig {
            region: None,
            ..rules()
        },
        1,
    );
    assert_ne!(
        normaliser().fingerprint(&entry),
        other.fingerprint(&entry),
        "another mapping looks at everybody anew"
    );
    assert_ne!(
        normaliser().fingerprint(&entry),
        Normaliser::new(&attributes(), &rules(), 2).fingerprint(&entry)
    );
}

/// With other numbering plans the same value may be another number, so an update of the library must raise the mapping.
#[test]
fn the_library_named_in_the_mapping_is_the_one_that_is_built_in() {
    let lock = include_str!("../../Cargo.lock");
    let at = lock.find("name = \"rlibphonenumber\"\n").unwrap();
    let version = lock[at..]
        .lines()
        .nth(1)
        .unwrap()
        .trim_start_matches("version = ")
        .trim_matches('"');
    assert!(
        phone::LIBRARY.starts_with(&format!("rlibphonenumber {version},")),
        "after an update, put the new versions of library and metadata into phone::LIBRARY"
    );
}

#[test]
fn what_an_administrator_types() {
    let typed = |text: &str, region: Option<&str>| {
        typed_number(text, region)
            .map(|(phone, warning)| (phone.as_str().to_owned(), warning.is_some()))
    };
    let is = |number: &str, warned| Ok((number.to_owned(), warned));
    assert_eq!(typed("0987654321", Some("SK")), is("+421987654321", true));
    assert_eq!(typed("201-321-4567", Some("US")), is("+12013214567", false));
    assert_eq!(
        typed("0905 123 456", Some("sk")),
        is("+421905123456", false)
    );
    assert_eq!(typed("02/5555 1234", Some("SK")), is("+421255551234", true));
    assert_eq!(typed("+881612345678", None), is("+881612345678", true));
    assert_eq!(
        typed("+421905123456", Some("nowhere")),
        is("+421905123456", false)
    );
    assert!(
        typed("0905 123 456", None)
            .unwrap_err()
            .contains("national")
    );
    assert!(typed("0905 123 456", Some("nowhere")).is_err());
    assert!(
        typed("09O5 123 456", Some("SK"))
            .unwrap_err()
            .contains("`O`")
    );
}
