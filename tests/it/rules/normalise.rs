//! Numbers of generated people against what they mean, against libphonenumber, and against a second opinion.

#![expect(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
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
fn people(target: &str, count: usize) -> Vec<Someone> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/people.py");
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("truth");
    let count = count.to_string();
    let made = Command::new("python3")
        .arg(script)
        .args([
            "--only-truth",
            "--target",
            target,
            "--count",
            &count,
            "--truth",
        ])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| someone(&serde_json::from_str(line).unwrap()))
        .collect()
}

fn someone(line: &Value) -> Someone {
    let truth = |v: &Value| Truth {
        raw: v["raw"].as_str().unwrap().to_owned(),
        e164: v["e164"].as_str().map(str::to_owned),
    };
    let of = |name: &'static str| {
        (
            name,
            line[name].as_array().unwrap().iter().map(truth).collect(),
        )
    };
    Someone {
        region: line["region"].as_str().unwrap().to_owned(),
        numbers: BTreeMap::from([of("mobile"), of("telephoneNumber")]),
    }
}

/// Takes whatever exists: what is measured is the reading, not a realm's rules.
fn normaliser() -> Normaliser {
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let attributes = Attributes {
        username: names(&["uid"]),
        display_name: names(&["displayName", "cn"]),
        email: names(&["mail"]),
        phone: names(&["mobile", "telephoneNumber"]),
        country: names(&["c", "preferredLanguage"]),
        directory_id: "entryUUID".to_owned(),
        id_form: IdForm::Uuid,
        disabled: DisabledRule::Equals {
            attribute: "pwdAccountLockedTime".to_owned(),
            equals: "000001010000Z".to_owned(),
        },
        explicit: Vec::new(),
    };
    Normaliser::new(
        &attributes,
        &PhoneConfig {
            region: None,
            mobile_only: false,
            allow_premium: true,
        },
        1,
    )
}

fn entry(someone: &Someone, target: &str) -> RawEntry {
    let attribute = |name: &str, values: Vec<Vec<u8>>| RawAttribute {
        name: name.into(),
        options: Arc::from(""),
        values,
    };
    let numbers = |name: &str| {
        someone.numbers[name]
            .iter()
            .map(|t| t.raw.clone().into_bytes())
            .collect()
    };
    let country = if target == "ad" {
        attribute("c", vec![someone.region.clone().into_bytes()])
    } else {
        attribute(
            "preferredlanguage",
            vec![format!("en-{}", someone.region).into_bytes()],
        )
    };
    let id = b"6f1c9a52-9f0e-4c1b-a0f1-0123456789ab".to_vec();
    RawEntry::new(
        b"uid=jan,dc=example,dc=org",
        &[
            attribute("entryuuid", vec![id]),
            attribute("uid", vec![b"jan".to_vec()]),
            country,
            attribute("mobile", numbers("mobile")),
            attribute("telephonenumber", numbers("telephoneNumber")),
        ],
    )
}

/// libphonenumber's verdict on the text as typed.
fn verdict(raw: &str, region: &str) -> Option<String> {
    let number = PHONE_NUMBER_UTIL
        .parse(raw, Region::from_code(region).ok())
        .ok()?;
    PHONE_NUMBER_UTIL.is_valid_number(&number).then(|| {
        PHONE_NUMBER_UTIL
            .format(&number, PhoneNumberFormat::E164)
            .into_owned()
    })
}

/// The second opinion's.
fn second(raw: &str, region: &str) -> Option<String> {
    let number = phonenumber::parse(region.parse().ok(), raw).ok()?;
    number
        .is_valid()
        .then(|| number.format().mode(phonenumber::Mode::E164).to_string())
}

/// The numbers of one attribute as they are read, ascending, each once; and how many are refused.
fn read(normaliser: &Normaliser, entry: &RawEntry) -> Vec<(Vec<String>, usize)> {
    let person = normaliser.person(entry).unwrap();
    let PhoneReading::Read(readings) = person.phone else {
        panic!("a full pass carries phones")
    };
    readings
        .into_iter()
        .map(|r| {
            (
                r.usable
                    .iter()
                    .map(|u| u.phone.as_str().to_owned())
                    .collect(),
                r.refused,
            )
        })
        .collect()
}

#[test]
fn no_generated_number_differs_from_libphonenumbers_verdict() {
    let normaliser = normaliser();
    for target in ["openldap", "ad"] {
        let people = people(target, PEOPLE);
        let mut numbers = 0;
        for someone in &people {
            let found = read(&normaliser, &entry(someone, target));
            for ((name, truths), found) in someone.numbers.iter().zip(found) {
                let mut expected: Vec<String> =
                    truths.iter().filter_map(|t| t.e164.clone()).collect();
                expected.sort();
                expected.dedup();
                let refused = truths.iter().filter(|t| t.e164.is_none()).count();
                let raws: Vec<&str> = truths.iter().map(|t| t.raw.as_str()).collect();
                assert_eq!(
                    found,
                    (expected, refused),
                    "{target} {} {name} {raws:?}",
                    someone.region
                );
                numbers += truths.len();
            }
        }
        assert!(numbers >= 50_000, "{numbers}");
    }
}

/// Slips of the finger and habits, and where the number is read: so many ways, one a number.
const SLIPS: usize = 18;

fn messy(raw: &str, region: &str, slip: usize) -> (String, String) {
    let digit = |from_the_end: usize| {
        let mut digits = raw.char_indices().filter(|(_, c)| c.is_ascii_digit());
        digits.nth_back(from_the_end).map_or(0, |(at, _)| at)
    };
    let typed = match slip {
        0 => raw.replace('+', ""),
        1 => raw.replacen('0', "O", 1),
        2 => format!("{raw}{}", &raw[digit(0)..]),
        3 => raw[..digit(0)].to_owned(),
        4 => raw.replace(' ', "\u{a0}"),
        5 => format!("{raw}; 0905123456"),
        6 => format!("{raw} / {raw}"),
        7 => format!("{raw} (work)"),
        8 => format!("mob. {raw}"),
        11 => format!("{}CALL", &raw[..digit(3)]),
        12 => raw.replacen('+', "00", 1),
        13 => raw.replacen('+', "+00", 1),
        14 => format!("{}+{}", &raw[..digit(5)], &raw[digit(5)..]),
        15 => raw.replace(' ', "\u{200e}"),
        16 => raw.replace(' ', "x"),
        17 => format!("{raw},,12#"),
        _ => raw.to_owned(),
    };
    let read_in = match slip {
        9 => "DE",
        10 => "US",
        _ => region,
    };
    (typed, read_in.to_owned())
}

/// Why the second opinion differs. Of each it was looked up in its source, and by hand, who is right: we are, or nobody can know.
fn why(raw: &str, region: &str, ours: Option<&str>, theirs: Option<&str>) -> &'static str {
    let number = raw
        .split([' ', ';'])
        .take_while(|part| !part.starts_with('x') && !part.starts_with("ext"));
    let letters = number.flat_map(str::chars).any(char::is_alphabetic);
    match (ours, theirs) {
        // It knows RFC 3966 parameters only after `tel:`; libphonenumber takes `;ext=` after any number, and so do we.
        (Some(_), None) if raw.contains(";ext=") => "`;ext=` without `tel:` is unknown to it",
        // U+200E and its like are no punctuation to it, nor to libphonenumber: we take them off first (TRAPS 16).
        (Some(_), None) if raw.contains('\u{200e}') => "invisible marks are unknown to it",
        // It takes the national prefix of the region it was asked to read in (1 in America, 0 in Germany) off a number of another
        // country: the rest is no number, or a stranger's.
        (Some(_), _) if raw.starts_with('+') && (region == "US" || region == "DE") => {
            "it strips its own region's prefix off a foreign number"
        }
        // Vanity letters, an O for a zero, a comment: it dials letters, or drops them. libphonenumber does, too, from three letters on.
        (None, Some(_)) if letters => "it dials letters, or drops them",
        // Without the + these are valid twice over; we refuse to choose.
        (None, Some(_)) if raw.starts_with(|c: char| c.is_ascii_digit()) => {
            "with + and without it another number"
        }
        // 00 is not what is dialled for abroad in America, so libphonenumber refuses it as we do; in Brazil a carrier follows it, and
        // both libraries read a number in Porto Alegre (`0055 51 …`) as a mobile in Peru. We refuse what is another number with a +.
        (None, Some(_)) if raw.starts_with("+00") => "it drops zeros after a +",
        _ => "unexplained",
    }
}

/// `phonenumber` is written by others from the same metadata (of an older version): where it says otherwise, there must be a reason.
/// Every disagreement is in the snapshot. The whole of 50,000 numbers as they are generated, and 400 of each way to garble one:
/// with all of them garbled the list would be 10,000 lines of the same few kinds.
#[test]
fn every_disagreement_with_the_second_opinion_is_known() {
    // As it comes, its cache of 100 expressions behind a mutex thrashes over ten regions: 800 numbers a second.
    DATABASE.cache().lock().unwrap().set_capacity(10_000);
    let normaliser = normaliser();
    let mut inputs = Vec::new();
    for target in ["openldap", "ad"] {
        let of_target = people(target, PEOPLE / 2);
        let numbers = of_target.iter().flat_map(|s| {
            s.numbers
                .values()
                .flatten()
                .map(|t| (t.raw.clone(), s.region.clone()))
        });
        inputs.extend(numbers.take(25_000));
    }
    let garbled: Vec<_> = inputs
        .iter()
        .take(400 * SLIPS)
        .enumerate()
        .map(|(n, (raw, region))| messy(raw, region, n % SLIPS))
        .collect();
    inputs.extend(garbled);
    let mut listed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (raw, region) in &inputs {
        let truth = Truth {
            raw: raw.clone(),
            e164: None,
        };
        let one = Someone {
            region: region.clone(),
            numbers: BTreeMap::from([("mobile", vec![truth]), ("telephoneNumber", Vec::new())]),
        };
        let ours = read(&normaliser, &entry(&one, "ad")).swap_remove(0).0.pop();
        let theirs = second(raw, region);
        // The first opinion may be refused, where it guesses; it is never contradicted.
        let library = verdict(raw, region);
        assert!(
            ours.is_none() || ours == library || raw.contains('\u{200e}'),
            "{region} {raw:?}: {ours:?}, libphonenumber {library:?}"
        );
        if ours != theirs {
            let why = why(raw, region, ours.as_deref(), theirs.as_deref());
            let shown = |e164: &Option<String>| e164.clone().unwrap_or_else(|| "none".to_owned());
            listed.entry(why).or_default().push(format!(
                "{region} {raw:?} {} not {}",
                shown(&ours),
                shown(&theirs)
            ));
        }
    }
    let mut text = format!(
        "{} numbers: those which are read differently, first our reading\n",
        inputs.len()
    );
    for (why, lines) in &listed {
        let _ = write!(text, "\n{why}: {}\n  {}\n", lines.len(), lines.join("\n  "));
    }
    assert!(
        !listed.contains_key("unexplained"),
        "{:#?}",
        listed["unexplained"]
    );
    insta::assert_snapshot!(text);
}
