//! Which of a file's keys are hard tokens that can be used here, and what is wrong with the others.

use std::collections::{BTreeMap, HashMap};

use zeroize::Zeroizing;

use super::csv::Row;
use super::dates;
use super::pskc::{GivenContainer, GivenKey};
use super::xml::PSKC;
use super::{
    PERIODS, SeedFault, SeedFile, SeedFileFaults, SeedFileForm, SeedFileOptions, SeedToken,
    SeedWarning, shown,
};
use crate::clock::Timestamp;
use crate::factors::otp::DIGITS;
use crate::model::{AuthenticatorKind, OtpHash};

/// Bytes of a seed: fewer can be guessed, and no token has more.
const SEED: std::ops::RangeInclusive<usize> = 10..=128;
/// Bytes of a seed that RFC 4226 asks for.
const ENOUGH: usize = 16;
/// The longest serial, in characters.
const SERIAL: usize = 64;
/// The highest counter: what is looked for beyond it must still be a number. Makers begin anywhere.
const COUNTER: i64 = 1 << 62;
/// Whole steps that a clock may be off.
const DRIFT: i64 = 20;

/// The tokens so far, and what is to be said of them.
struct Judged {
    tokens: Vec<SeedToken>,
    faults: Vec<SeedFault>,
    warnings: BTreeMap<SeedWarning, usize>,
}

impl Judged {
    fn new() -> Self {
        Self {
            tokens: vec![],
            faults: vec![],
            warnings: BTreeMap::new(),
        }
    }

    fn warn(&mut self, what: SeedWarning) {
        *self.warnings.entry(what).or_default() += 1;
    }

    fn fault(&mut self, line: u32, serial: Option<&str>, reason: impl Into<String>) {
        self.faults.push(SeedFault {
            line: Some(line),
            serial: serial.map(shown),
            reason: reason.into(),
        });
    }

    /// All of it, if nothing is wrong.
    fn end(mut self, form: SeedFileForm) -> Result<SeedFile, SeedFileFaults> {
        self.once_each();
        if self.faults.is_empty() && self.tokens.is_empty() {
            self.faults
                .push(SeedFault::file("there is no token in it, only PINs"));
        }
        if self.faults.is_empty() {
            return Ok(SeedFile {
                form,
                tokens: self.tokens,
                warnings: self.warnings.into_iter().collect(),
            });
        }
        self.faults.sort_by_key(|fault| fault.line);
        Err(SeedFileFaults::of(self.faults))
    }

    /// Sees that no serial and no seed is there twice.
    fn once_each(&mut self) {
        let mut serials: HashMap<&str, u32> = HashMap::new();
        let mut seeds: HashMap<&[u8], (u32, &str)> = HashMap::new();
        let mut faults = vec![];
        for token in &self.tokens {
            let fault = |reason: String| SeedFault {
                line: Some(token.line),
                serial: Some(token.serial.clone()),
                reason,
            };
            if let Some(line) = serials.insert(&token.serial, token.line) {
                faults.push(fault(format!("line {line} has this serial too")));
            } else if let Some((line, serial)) =
                seeds.insert(&token.seed, (token.line, &token.serial))
            {
                faults.push(fault(format!(
                    "it has the same seed as {serial} in line {line}: a code of one would open the other"
                )));
            }
        }
        self.faults.extend(faults);
    }
}

/// The tokens of a container.
pub(super) fn container(
    container: GivenContainer,
    options: &SeedFileOptions,
) -> Result<SeedFile, SeedFileFaults> {
    if let Some(reason) = said_of_all(&container.keys) {
        return Err(SeedFileFaults::of(vec![SeedFault::file(reason)]));
    }
    let mut judged = Judged::new();
    if container.signed {
        judged.warn(SeedWarning::Signature);
    }
    if container.open_to_changes {
        judged.warn(SeedWarning::NoMac);
    }
    if container.plain {
        judged.warn(SeedWarning::NotEncrypted);
    }
    let mut serials: HashMap<String, usize> = HashMap::new();
    for key in &container.keys {
        if let Some(serial) = key.serial.as_ref().filter(|_| !is_pin(key)) {
            *serials.entry(serial.clone()).or_default() += 1;
        }
    }
    for key in container.keys {
        if is_pin(&key) {
            judged.warn(SeedWarning::PinSkipped);
            continue;
        }
        // A device with several keys: its serial alone names none of them.
        let several = key
            .serial
            .as_ref()
            .and_then(|s| serials.get(s))
            .is_some_and(|n| *n > 1);
        let serial = match (&key.serial, &key.id) {
            (Some(serial), Some(id)) if several => Some(format!("{serial}#{id}")),
            (Some(serial), _) => Some(serial.clone()),
            (None, id) => id.clone(),
        };
        let line = key.line;
        match token(key, serial.as_deref(), options, &mut judged) {
            Ok(token) => judged.tokens.push(token),
            Err(reasons) => {
                for reason in reasons {
                    judged.fault(line, serial.as_deref(), reason);
                }
            }
        }
    }
    judged.end(SeedFileForm::Pskc)
}

/// What is wrong with every key alike, as with a wrong key for the file: said once.
fn said_of_all(keys: &[GivenKey]) -> Option<String> {
    let first = keys.first()?.secret.as_ref().err()?;
    let all = keys
        .iter()
        .all(|key| key.secret.as_ref().err() == Some(first));
    all.then(|| match keys.len() {
        1 => first.clone(),
        n => format!("of all {n} keys: {first}"),
    })
}

fn is_pin(key: &GivenKey) -> bool {
    key.algorithm
        .as_deref()
        .is_some_and(|name| bare(name) == "pin")
}

/// The name of an algorithm in lower case, without what stands before it in PSKC and its drafts.
fn bare(name: &str) -> String {
    let name = name.trim();
    let namespaces = PSKC
        .iter()
        .copied()
        .chain(["http://www.ietf.org/keyprov/pskc"]);
    // The longest first: one is the beginning of another.
    let mut namespaces: Vec<&str> = namespaces.collect();
    namespaces.sort_by_key(|ns| std::cmp::Reverse(ns.len()));
    let bare = namespaces.iter().find_map(|ns| {
        let (before, rest) = name.split_at_checked(ns.len())?;
        let rest = rest.strip_prefix([':', '#'])?;
        before.eq_ignore_ascii_case(ns).then_some(rest)
    });
    bare.unwrap_or(name).to_lowercase()
}

/// `hotp` or `totp`, and the hash that a maker appends.
fn algorithm(name: &str) -> Result<(AuthenticatorKind, Option<OtpHash>), String> {
    let bare = bare(name);
    let unknown = || {
        format!(
            "its algorithm is `{}`, and only HOTP and TOTP are verified here",
            shown(name)
        )
    };
    let (kind, rest) = match (bare.strip_prefix("hotp"), bare.strip_prefix("totp")) {
        (Some(rest), _) => (AuthenticatorKind::Hotp, rest),
        (_, Some(rest)) => (AuthenticatorKind::Totp, rest),
        _ => return Err(unknown()),
    };
    if rest.is_empty() {
        return Ok((kind, None));
    }
    match rest.strip_prefix(['-', '_', ':', '#']).and_then(hash) {
        Some(hash) => Ok((kind, Some(hash))),
        None => Err(unknown()),
    }
}

/// A hash by any of its names.
pub(super) fn hash(name: &str) -> Option<OtpHash> {
    let mut plain = name.trim().to_lowercase();
    plain.retain(|c| !matches!(c, '-' | '_' | ' '));
    let plain = ["hotp", "totp", "hmac"]
        .iter()
        .fold(plain.as_str(), |plain, word| {
            plain.strip_prefix(word).unwrap_or(plain)
        });
    match plain {
        "sha1" => Some(OtpHash::Sha1),
        "sha256" => Some(OtpHash::Sha256),
        "sha512" => Some(OtpHash::Sha512),
        _ => None,
    }
}

/// Collects what is wrong with a key, so that all of it is said at once.
struct Reasons(Vec<String>);

impl Reasons {
    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|reason| self.0.push(reason)).ok()
    }
}

fn token(
    key: GivenKey,
    serial: Option<&str>,
    options: &SeedFileOptions,
    judged: &mut Judged,
) -> Result<SeedToken, Vec<String>> {
    let mut reasons = Reasons(vec![]);
    let serial = reasons.take(self::serial(serial));
    let named = key.algorithm.as_deref().ok_or_else(|| {
        "its algorithm is missing: `Algorithm` is `urn:ietf:params:xml:ns:keyprov:pskc:hotp` or `…:totp`".to_owned()
    });
    let algorithm = reasons.take(named.and_then(algorithm));
    let by_suite = match &key.suite {
        None => None,
        Some(suite) => reasons.take(hash(suite).ok_or_else(|| {
            format!(
                "its suite is `{}`: HMAC-SHA1, HMAC-SHA256 or HMAC-SHA512 is known",
                shown(suite)
            )
        })),
    };
    let by_name = algorithm.and_then(|(_, hash)| hash);
    if let (Some(one), Some(other)) = (by_name, by_suite)
        && one != other
    {
        reasons
            .0
            .push(format!("its algorithm says {one}, and its suite {other}"));
    }
    if let Some(encoding) = key.encoding.filter(|e| !e.eq_ignore_ascii_case("decimal")) {
        reasons.0.push(format!(
            "its codes are `{}`, and only decimal ones are verified here",
            shown(&encoding)
        ));
    }
    if key.check_digit {
        reasons
            .0
            .push("its codes have a check digit, which is not verified here".to_owned());
    }
    let uses = ["OTP", "HOTP", "TOTP"];
    if !key.usages.is_empty() && !key.usages.iter().any(|u| uses.contains(&u.as_str())) {
        reasons.0.push(format!(
            "it may be used for {} only, and not for one-time codes",
            shown(&key.usages.join(", "))
        ));
    }
    match key.pin.as_deref() {
        None | Some("Local") => {}
        Some(mode) => reasons.0.push(format!(
            "its PIN comes into the code (`{}`), and only one that the token itself checks is possible here",
            shown(mode)
        )),
    }
    for rule in &key.unknown_policy {
        reasons.0.push(format!(
            "its policy has `{rule}`, which cannot be obeyed here; RFC 6030 then forbids its use"
        ));
    }
    let secret = reasons.take(
        key.secret
            .and_then(|secret| secret.ok_or_else(|| "its seed is missing".to_owned())),
    );
    let counter = reasons.take(key.counter);
    let period = reasons.take(key.period);
    let drift = reasons.take(key.drift);
    let valid_from = latest(&mut reasons, &key.starts);
    let valid_until = earliest(&mut reasons, &key.ends);
    let plain = Plain {
        kind: algorithm.map(|(kind, _)| kind),
        seed: secret,
        hash: by_name.or(by_suite),
        digits: key.digits,
        period: period.flatten(),
        counter: counter.flatten(),
        drift: drift.flatten(),
    };
    let checked = check(plain, options, judged, &mut reasons);
    let (Some(serial), Some(checked), true) = (serial, checked, reasons.0.is_empty()) else {
        return Err(reasons.0);
    };
    Ok(SeedToken {
        line: key.line,
        serial,
        manufacturer: key.manufacturer.as_deref().map(shown),
        valid_from,
        valid_until,
        ..checked
    })
}

fn serial(text: Option<&str>) -> Result<String, String> {
    let serial = text.map(str::trim).filter(|serial| !serial.is_empty());
    let serial = serial.ok_or("it has no serial: neither a `SerialNo` nor an `Id`")?;
    if serial.chars().count() > SERIAL || serial.chars().any(char::is_control) {
        return Err(format!(
            "its serial has more than {SERIAL} characters, or characters that nobody can type"
        ));
    }
    Ok(serial.to_owned())
}

fn latest(reasons: &mut Reasons, texts: &[String]) -> Option<Timestamp> {
    let dates = texts.iter().filter_map(|text| {
        reasons.take(dates::read(text, false).map_err(|why| format!("its start: {why}")))
    });
    dates.max()
}

fn earliest(reasons: &mut Reasons, texts: &[String]) -> Option<Timestamp> {
    let dates = texts.iter().filter_map(|text| {
        reasons.take(dates::read(text, true).map_err(|why| format!("its expiry: {why}")))
    });
    dates.min()
}

/// What a code is made with, in either form of file.
struct Plain {
    kind: Option<AuthenticatorKind>,
    seed: Option<Zeroizing<Vec<u8>>>,
    hash: Option<OtpHash>,
    digits: Option<String>,
    period: Option<i64>,
    counter: Option<i64>,
    drift: Option<i64>,
}

/// The token without its names, if everything is as it must be.
fn check(
    plain: Plain,
    options: &SeedFileOptions,
    judged: &mut Judged,
    reasons: &mut Reasons,
) -> Option<SeedToken> {
    let seed = plain.seed.and_then(|seed| {
        let length = seed.len();
        reasons.take(SEED.contains(&length).then_some(seed).ok_or_else(|| {
            format!(
                "its seed has {length} bytes: {} to {} are possible",
                SEED.start(),
                SEED.end()
            )
        }))
    });
    let digits = match plain
        .digits
        .as_deref()
        .map(str::trim)
        .filter(|d| !d.is_empty())
    {
        None => Some(6),
        Some(text) => {
            let digits = text.parse().ok().filter(|d| DIGITS.contains(d));
            reasons.take(digits.ok_or_else(|| {
                format!(
                    "its codes have `{}` digits: {} to {} are possible",
                    shown(text),
                    DIGITS.start(),
                    DIGITS.end()
                )
            }))
        }
    };
    let kind = plain.kind?;
    let timed = kind == AuthenticatorKind::Totp;
    let period = match options.period.filter(|_| timed) {
        Some(period) => {
            if plain.period.is_some_and(|there| there != i64::from(period)) {
                judged.warn(SeedWarning::Overridden);
            }
            Some(period)
        }
        None if !timed => Some(30),
        None => {
            let there = plain.period.unwrap_or(30);
            let period = u32::try_from(there).ok().filter(|p| PERIODS.contains(p));
            reasons.take(period.ok_or_else(|| {
                format!(
                    "a step of {there} seconds: {} to {} are possible; if the file is wrong, say --period",
                    PERIODS.start(),
                    PERIODS.end()
                )
            }))
        }
    };
    let next = match plain.counter.filter(|_| !timed).unwrap_or(0) {
        next if (0..=COUNTER).contains(&next) => Some(next),
        next => reasons.take(Err(format!(
            "its counter is {next}: 0 to {COUNTER} are possible"
        ))),
    };
    let drift = match plain.drift.filter(|_| timed).unwrap_or(0) {
        drift if (-DRIFT..=DRIFT).contains(&drift) => Some(drift),
        drift => reasons.take(Err(format!(
            "its clock is off by {drift} steps: -{DRIFT} to {DRIFT} are possible"
        ))),
    };
    let (seed, digits, period, next, drift) = (seed?, digits?, period?, next?, drift?);
    let hash = match (options.hash, plain.hash) {
        (Some(said), there) => {
            if there.is_some_and(|there| there != said) {
                judged.warn(SeedWarning::Overridden);
            }
            said
        }
        (None, Some(there)) => there,
        (None, None) => {
            if matches!(seed.len(), 32 | 64) {
                judged.warn(SeedWarning::HashNotGiven);
            }
            OtpHash::Sha1
        }
    };
    if seed.len() < ENOUGH {
        judged.warn(SeedWarning::ShortSeed);
    }
    Some(SeedToken {
        line: 0,
        serial: String::new(),
        seed,
        kind,
        hash,
        digits,
        period,
        next,
        drift,
        manufacturer: None,
        valid_from: None,
        valid_until: None,
    })
}

/// The tokens of the lines of a CSV file.
pub(super) fn rows(rows: Vec<Row>, options: &SeedFileOptions) -> Result<SeedFile, SeedFileFaults> {
    let mut judged = Judged::new();
    judged.warn(SeedWarning::NotEncrypted);
    for row in rows {
        let (line, named) = (row.line, row.serial.clone());
        match of_row(row, options, &mut judged) {
            Ok(token) => judged.tokens.push(token),
            Err(reasons) => {
                let named = Some(named.as_str()).filter(|serial| !serial.is_empty());
                for reason in reasons {
                    judged.fault(line, named, reason);
                }
            }
        }
    }
    judged.end(SeedFileForm::Csv)
}

fn of_row(
    row: Row,
    options: &SeedFileOptions,
    judged: &mut Judged,
) -> Result<SeedToken, Vec<String>> {
    let mut reasons = Reasons(vec![]);
    let serial = reasons.take(self::serial(Some(&row.serial)));
    let seed = reasons.take(row.seed);
    let kind = reasons.take(match row.kind.to_lowercase().as_str() {
        "hotp" => Ok(AuthenticatorKind::Hotp),
        "totp" => Ok(AuthenticatorKind::Totp),
        other => Err(format!(
            "its type is `{}`: hotp or totp is expected",
            shown(other)
        )),
    });
    let moving = match row.moving.as_str() {
        "" => None,
        text => reasons.take(
            text.parse::<i64>()
                .map_err(|_| format!("its period or counter is `{}`, and no number", shown(text))),
        ),
    };
    let hash = match row.algorithm.as_str() {
        "" => None,
        text => reasons.take(self::hash(text).ok_or_else(|| {
            format!(
                "its algorithm is `{}`: sha1, sha256 or sha512 is expected",
                shown(text)
            )
        })),
    };
    let timed = kind == Some(AuthenticatorKind::Totp);
    let plain = Plain {
        kind,
        seed,
        hash,
        digits: Some(row.digits),
        period: moving.filter(|_| timed),
        counter: moving.filter(|_| !timed),
        drift: None,
    };
    let checked = check(plain, options, judged, &mut reasons);
    let (Some(serial), Some(checked), true) = (serial, checked, reasons.0.is_empty()) else {
        return Err(reasons.0);
    };
    Ok(SeedToken {
        line: row.line,
        serial,
        manufacturer: Some(shown(&row.manufacturer)).filter(|name| !name.is_empty()),
        ..checked
    })
}
