//! What the fuzzers call (`fuzz/`, `docs/fuzzing.md`): a function for each reader of what comes from outside. It takes any bytes, and
//! panics only if something does not hold that must. Never part of a release.

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::clock::zones::Zones;
use crate::config::{
    AttributeOverrides, Attributes, DirectoryKind, PhoneConfig, crontab, default_filter,
};
use crate::delivery::{Verdict, judge_status};
use crate::factors::otp;
use crate::factors::seeds::{self, SeedFileOptions, SeedKeys};
use crate::import::{LookAsked, look};
use crate::model::{dn, filter};
use crate::normalise::{Normaliser, imported_key, imported_line, typed_number};
use crate::service::schedule::Schedule;

pub use crate::config::fuzzing::configuration;
pub use crate::directory::fuzzing::{bulk, dirsync, guard, sync_controls, sync_cookie, sync_told};

/// A target's name, and what it calls.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets; a folder in `fuzz/corpus` and a file in `fuzz/fuzz_targets` is named after each.
pub const TARGETS: [FuzzTarget; 15] = [
    ("answer", answer),
    ("bulk", bulk),
    ("configuration", configuration),
    ("crontab_line", crontab_line),
    ("dirsync", dirsync),
    ("distinguished_name", distinguished_name),
    ("guard", guard),
    ("person", person),
    ("phone", phone),
    ("search_filter", search_filter),
    ("seed_file", seed_file),
    ("sync_controls", sync_controls),
    ("sync_cookie", sync_cookie),
    ("sync_told", sync_told),
    ("users_file", users_file),
];

/// 2026-11-24, which no verdict depends on.
const NOW: Timestamp = Timestamp(1_795_478_400_000);

/// A distinguished name: what is read is written and read again.
pub fn distinguished_name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match dn::parse(&text) {
        Ok(name) => {
            assert_eq!(dn::parse(&name.to_string()).as_ref(), Ok(&name));
            let folded = name.folded();
            let again = dn::parse(&folded).map(|n| n.folded());
            assert_eq!(again.as_ref(), Ok(&folded));
            assert!(dn::is_within(&text, &text));
            if let Some(parent) = name.parent() {
                assert!(name.within(&parent) && !parent.within(&name));
                assert!(dn::is_within(&text, &parent.to_string()));
            }
        }
        Err(e) => assert!(e.at <= text.len()),
    }
    let _unused = dn::container(&text);
}

/// A search filter: what is read is written and read again, and what is escaped is taken as it is.
pub fn search_filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match filter::parse(&text) {
        Ok(read) => {
            assert_eq!(filter::parse(&read.to_string()).as_ref(), Ok(&read));
            for attribute in read.attributes() {
                assert!(read.values_of(&attribute).len() <= text.len());
            }
            for text in [&*text, &read.to_string()] {
                crate::directory::fuzzing::search(text);
            }
        }
        Err(e) => assert!(e.at <= text.len()),
    }
    let literal = format!("(a={})", filter::escape(data));
    let equality = filter::Filter::Equality {
        attribute: "a".into(),
        value: data.to_vec(),
    };
    assert_eq!(filter::parse(&literal).as_ref(), Ok(&equality));
}

/// A line of a crontab: the next tick is later, and at a minute.
pub fn crontab_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match crontab::parse(&text) {
        Ok(_) => {
            let bratislava = Zones::built_in().get("Europe/Bratislava");
            for zone in bratislava.into_iter().chain([TimeZone::UTC]) {
                let Ok(schedule) = Schedule::new(&text, zone) else {
                    panic!("a line that was read is not read again")
                };
                if let Some(next) = schedule.next_after(NOW) {
                    assert!(next > NOW && next.0 % 60_000 == 0);
                }
            }
        }
        Err(e) => assert!(e.at + e.len <= text.len()),
    }
}

/// A number that somebody types, in a region (the first two bytes) or in none: what is read, is read as itself.
pub fn phone(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let by_region = text
        .split_at_checked(2)
        .map(|(region, rest)| (rest, Some(region)));
    for (text, region) in [Some((&*text, None)), by_region].into_iter().flatten() {
        if let Ok((number, _)) = typed_number(text, region) {
            let again = typed_number(number.as_str(), None).map(|(n, _)| n);
            assert_eq!(again.as_ref(), Ok(&number));
            assert!(!number.masked().contains(number.as_str()));
        }
    }
}

/// An entry as it came, through the normaliser of every kind of directory.
pub fn person(data: &[u8]) {
    let phone = PhoneConfig {
        region: Some("SK".into()),
        mobile_only: false,
        allow_premium: false,
    };
    for entry in crate::directory::fuzzing::entries(data) {
        for kind in [
            DirectoryKind::OpenLdap,
            DirectoryKind::Ds389,
            DirectoryKind::ActiveDirectory,
        ] {
            let attributes = Attributes::for_kind(kind, &AttributeOverrides::default());
            let normaliser = Normaliser::new(&attributes, &phone, 7);
            let Ok(person) = normaliser.person(&entry) else {
                continue;
            };
            assert_eq!(
                normaliser.directory_id(&entry).ok(),
                Some(person.directory_id)
            );
            assert_eq!(normaliser.person(&entry).ok().as_ref(), Some(&person));
            assert_eq!(
                normaliser.fingerprint(&entry),
                normaliser.fingerprint(&entry)
            );
            assert!(filter::parse(default_filter(kind)).is_ok());
        }
    }
}

/// A file of users: it is read twice alike, in the order of its lines, and who can be used has a name.
pub fn users_file(data: &[u8]) {
    let phone = PhoneConfig {
        region: Some("SK".into()),
        mobile_only: true,
        allow_premium: false,
    };
    for region in [Some("SK"), None] {
        let asked = LookAsked {
            region,
            ..LookAsked::default()
        };
        let Ok(reading) = look(|| Ok(data), &asked) else {
            continue;
        };
        assert_eq!(look(|| Ok(data), &asked).as_ref(), Ok(&reading));
        let Ok(mut lines) = reading.lines(data) else {
            continue;
        };
        let mut before = 0;
        while let Ok(Some(line)) = lines.next() {
            assert!(line.line > before && !line.record.is_empty());
            before = line.line;
            let _bytes = reading.charset.encode(&line.record);
            if let Ok(user) = imported_line(&line.cells, &phone) {
                assert!(!user.name.key.is_empty());
                assert!(imported_key(&line.cells).is_some());
            }
        }
    }
}

/// The answer of a webhook's receiver: its status (the first two bytes) and `Retry-After`.
pub fn answer(data: &[u8]) {
    let Some((status, header)) = data.split_at_checked(2) else {
        return;
    };
    let status = u16::from_be_bytes([status[0], status[1]]);
    let header = String::from_utf8_lossy(header);
    for now in [NOW, Timestamp(0), Timestamp(i64::MAX), Timestamp(i64::MIN)] {
        if let Verdict::Again {
            retry_after_ms: Some(wait),
            ..
        } = judge_status(status, false, Some(&header), now)
        {
            assert!((0..=3_600_000).contains(&wait));
            assert!(NOW.plus_ms(wait).instant().is_some());
        }
    }
}

/// A file with the seeds of hard tokens, and a key: what is taken is whole and unique, and what is refused has a reason.
pub fn seed_file(data: &[u8]) {
    let options = SeedFileOptions {
        keys: SeedKeys {
            key: SeedKeys::read_key(b"12345678901234567890123456789012").ok(),
            passphrase: None,
        },
        ..SeedFileOptions::default()
    };
    match seeds::read(data, &options) {
        Ok(file) => {
            assert!(!file.tokens.is_empty());
            let mut serials: Vec<&str> = file.tokens.iter().map(|t| t.serial.as_str()).collect();
            serials.sort_unstable();
            serials.dedup();
            assert_eq!(serials.len(), file.tokens.len());
            for token in &file.tokens {
                assert!(otp::DIGITS.contains(&token.digits) && token.next >= 0);
                assert!(seeds::PERIODS.contains(&token.period));
                assert!(!format!("{token:?}").is_empty());
            }
        }
        Err(faults) => {
            assert!(faults.all >= faults.listed.len() && !faults.listed.is_empty());
            for fault in faults.listed {
                assert!(!fault.to_string().contains(['\n', '\0']));
            }
        }
    }
    let _unused = SeedKeys::read_key(data);
}

#[cfg(test)]
mod tests;
