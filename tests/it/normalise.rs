//! Numbers of generated people against what they mean, against libphonenumber, and against a second opinion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use phonenumber::metadata::DATABASE;
use realmsync::config::{Attributes, DisabledRule, PhoneConfig};
use realmsync::model::{IdForm, PhoneReading, RawAttribute, RawEntry};
use realmsync::normalise::Normaliser;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};
use serde_json::Value;

/// What the generator says of one number.
struct Truth {
    raw: String,
    e164: Option<String>,
}

/// One generated person: where, and the numbers by attribute.
struct Someone {
    region: String,
    numbers: BTreeMap<&'static str, Vec<Truth>>,
}

/// How many people are generated for each target; they have 1.67 numbers each.
const PEOPLE: usize = 31_000;

/// People as `tests/lab/people.py` makes them; `ad` ones also type no-break spaces, direction marks, `tel:` and `;ext=`.
fn people(target: &str) -> Vec<Someone> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/people.py");
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("truth");
    let count = PEOPLE.to_string();
    let made = Command::new("python3").arg(script).args(["--only-truth", "--target", target, "--count", &count, "--truth"]).arg(&file).status();
    assert!(made.unwrap().success());
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| someone(&serde_json::from_str(line).unwrap())).collect()
}

fn someone(line: &Value) -> Someone {
    let truth = |v: &Value| Truth { raw: v["raw"].as_str().unwrap().to_owned(), e164: v["e164"].as_str().map(str::to_owned) };
    let of = |name: &'static str| (name, line[name].as_array().unwrap().iter().map(truth).collect());
    Someone { region: line["region"].as_str().unwrap().to_owned(), numbers: BTreeMap::from([of("mobile"), of("telephoneNumber")]) }
}

fn normaliser(mobile_only: bool) -> Normaliser {
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let attributes = Attributes {
        username: names(&["uid"]),
        display_name: names(&["displayName", "cn"]),
        email: names(&["mail"]),
        phone: names(&["mobile", "telephoneNumber"]),
        country: names(&["c", "preferredLanguage"]),
        directory_id: "entryUUID".to_owned(),
        id_form: IdForm::Uuid,
        disabled: DisabledRule::Equals { attribute: "pwdAccountLockedTime".to_owned(), equals: "000001010000Z".to_owned() },
        explicit: Vec::new(),
    };
    Normaliser::new(&attributes, &PhoneConfig { region: None, mobile_only, allow_premium: false }, 1)
}

fn entry(someone: &Someone, target: &str) -> RawEntry {
    let attribute = |name: &str, values: Vec<Vec<u8>>| RawAttribute { name: name.into(), options: Arc::from(""), values };
    let numbers = |name: &str| someone.numbers[name].iter().map(|t| t.raw.clone().into_bytes()).collect();
    let country = if target == "ad" {
        attribute("c", vec![someone.region.clone().into_bytes()])
    } else {
        attribute("preferredlanguage", vec![format!("en-{}", someone.region).into_bytes()])
    };
    let id = b"6f1c9a52-9f0e-4c1b-a0f1-0123456789ab".to_vec();
    RawEntry {
        dn: b"uid=jan,dc=example,dc=org".to_vec(),
        attributes: vec![
            attribute("entryuuid", vec![id]),
            attribute("uid", vec![b"jan".to_vec()]),
            country,
            attribute("mobile", numbers("mobile")),
            attribute("telephonenumber", numbers("telephoneNumber")),
        ],
    }
}

/// libphonenumber's verdict on the text as typed.
fn verdict(raw: &str, region: &str) -> Option<String> {
    let number = PHONE_NUMBER_UTIL.parse(raw, Region::from_code(region).ok()).ok()?;
    PHONE_NUMBER_UTIL.is_valid_number(&number).then(|| PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned())
}

/// The second opinion's.
fn second(raw: &str, region: &str) -> Option<String> {
    let number = phonenumber::parse(region.parse().ok(), raw).ok()?;
    number.is_valid().then(|| number.format().mode(phonenumber::Mode::E164).to_string())
}

/// The numbers of one attribute as they are read, ascending, each once; and how many are refused.
fn read(normaliser: &Normaliser, entry: &RawEntry) -> Vec<(Vec<String>, usize)> {
    let person = normaliser.person(entry).unwrap();
    let PhoneReading::Read(readings) = person.phone else { panic!("a full pass carries phones") };
    readings.into_iter().map(|r| (r.usable.iter().map(|u| u.phone.as_str().to_owned()).collect(), r.refused)).collect()
}

#[test]
fn no_generated_number_differs_from_libphonenumbers_verdict() {
    let normaliser = normaliser(false);
    for target in ["openldap", "ad"] {
        let people = people(target);
        let mut numbers = 0;
        for someone in &people {
            let found = read(&normaliser, &entry(someone, target));
            for ((name, truths), found) in someone.numbers.iter().zip(found) {
                let mut expected: Vec<String> = truths.iter().filter_map(|t| t.e164.clone()).collect();
                expected.sort();
                expected.dedup();
                let refused = truths.iter().filter(|t| t.e164.is_none()).count();
                let raws: Vec<&str> = truths.iter().map(|t| t.raw.as_str()).collect();
                assert_eq!(found, (expected, refused), "{target} {} {name} {raws:?}", someone.region);
                for truth in truths {
                    assert_eq!(verdict(&truth.raw, &someone.region), truth.e164, "{}", truth.raw);
                }
                numbers += truths.len();
            }
        }
        assert!(numbers >= 50_000, "{numbers}");
    }
}

#[test]
fn dump() {
    // As it comes, a cache of 100 expressions thrashes: 800 numbers a second over ten regions.
    DATABASE.cache().lock().unwrap().set_capacity(10_000);
    let mut n = 0;
    let mut out = String::new();
    for target in ["openldap", "ad"] {
        for someone in people(target) {
            for truth in someone.numbers.values().flatten() {
                n += 1;
                let theirs = second(&truth.raw, &someone.region);
                if theirs != truth.e164 {
                    out += &format!("{} {:?} {:?} {:?}\n", someone.region, truth.raw, truth.e164, theirs);
                }
            }
        }
    }
    std::fs::write("/tmp/normalise-dump", out).unwrap();
    eprintln!("{n}");
}
