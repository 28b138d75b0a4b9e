//! Files with the seeds of hard tokens: bytes in, tokens out, all of them or none.
//!
//! ```text
//!   bytes ─┬─ `<` ─▶ xml (guard, then the tree) ─▶ pskc (keys as the file gives them) ─┐
//!          │                     cipher: MAC first, then decrypted ─────┘              ├─▶ judge ─▶ tokens
//!          └─ else ─▶ csv ────────────────────────────────────────────────────────────┘      └──▶ every fault
//! ```
//!
//! A file with any fault gives no token: half a delivery is worse than none. Nothing secret is in a fault, a warning or `Debug`.

mod cipher;
mod csv;
mod dates;
mod guard;
mod judge;
mod pskc;
#[cfg(test)]
mod tests;
mod xml;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::clock::Timestamp;
use crate::factors::keys::{KeyRing, Purpose, RootKey};
use crate::model::{AuthenticatorKind, OtpHash};

/// The longest file, in bytes.
pub const LONGEST_FILE: usize = 16 * 1024 * 1024;
/// The most tokens of one file.
pub const MOST_TOKENS: usize = 200_000;
/// Faults that are listed; more are only counted.
const LISTED: usize = 1000;
/// Seconds that a step may last.
pub const PERIODS: std::ops::RangeInclusive<u32> = 10..=300;

/// What the values of a file are encrypted with. `Debug` hides both.
#[derive(Clone, Default)]
pub struct SeedKeys {
    /// The pre-shared key.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// The passphrase.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for SeedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedKeys")
            .field("key", &self.key.is_some())
            .field("passphrase", &self.passphrase.is_some())
            .finish()
    }
}

impl SeedKeys {
    /// Reads a pre-shared key as its file has it: 16, 24 or 32 bytes in hexadecimal digits or base64. What is both is hexadecimal.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn read_key(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let fits = |bytes: &Vec<u8>| matches!(bytes.len(), 16 | 24 | 32);
        let mut kept = Zeroizing::new(Vec::with_capacity(text.len()));
        kept.extend(text.iter().filter(|b| !b.is_ascii_whitespace()));
        let hex = data_encoding::HEXLOWER_PERMISSIVE.decode(&kept).ok();
        let read = hex.filter(fits).or_else(|| {
            let bytes = xml::base64(&kept)?;
            Some(bytes.to_vec()).filter(fits)
        });
        read.map(Zeroizing::new)
            .ok_or("16, 24 or 32 bytes are expected, in hexadecimal digits or base64")
    }

    /// A passphrase as its file has it: the line end is none of it.
    pub fn read_passphrase(text: &[u8]) -> Zeroizing<Vec<u8>> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Zeroizing::new(text.strip_suffix(b"\r").unwrap_or(text).to_vec())
    }
}

/// How a file is read.
#[derive(Clone, Default, Debug)]
pub struct SeedFileOptions {
    /// What its values are encrypted with.
    pub keys: SeedKeys,
    /// The hash of all its tokens, whatever it says.
    pub hash: Option<OtpHash>,
    /// Seconds of a step of all its tokens with a clock, whatever it says.
    pub period: Option<u32>,
}

/// The form of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeedFileForm {
    /// RFC 6030, or one of its drafts.
    Pskc,
    /// One line a token.
    Csv,
}

impl SeedFileForm {
    /// The word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pskc => "pskc",
            Self::Csv => "csv",
        }
    }
}

/// A hard token as its file describes it. `Debug` hides the seed.
#[derive(Clone, PartialEq, Eq)]
pub struct SeedToken {
    /// The line of the file.
    pub line: u32,
    /// What is printed on it, at most 64 characters.
    pub serial: String,
    /// Its seed.
    pub seed: Zeroizing<Vec<u8>>,
    /// `hotp` or `totp`.
    pub kind: AuthenticatorKind,
    /// The hash of its codes.
    pub hash: OtpHash,
    /// The digits of its codes, 6 to 8.
    pub digits: u8,
    /// Seconds of a step; 30 where it counts.
    pub period: u32,
    /// The lowest counter that was not used yet; 0 with a clock.
    pub next: i64,
    /// Whole steps by which its clock is ahead.
    pub drift: i64,
    /// Who made it.
    pub manufacturer: Option<String>,
    /// From when its codes count.
    pub valid_from: Option<Timestamp>,
    /// Until when they count.
    pub valid_until: Option<Timestamp>,
}

impl fmt::Debug for SeedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedToken")
            .field("line", &self.line)
            .field("serial", &self.serial)
            .field("kind", &self.kind)
            .field("hash", &self.hash)
            .field("digits", &self.digits)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a file, or with one of its tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedFault {
    /// The line; `None`: the whole file.
    pub line: Option<u32>,
    /// The token's serial, if it could be read.
    pub serial: Option<String>,
    /// What is wrong and what to do. Never anything secret.
    pub reason: String,
}

impl SeedFault {
    fn file(reason: impl Into<String>) -> Self {
        Self {
            line: None,
            serial: None,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for SeedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(serial) = &self.serial {
            write!(f, "token {serial}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Why a file gives no tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedFileFaults {
    /// The first thousand.
    pub listed: Vec<SeedFault>,
    /// All of them.
    pub all: usize,
}

impl SeedFileFaults {
    fn of(mut faults: Vec<SeedFault>) -> Self {
        let all = faults.len();
        faults.truncate(LISTED);
        Self {
            listed: faults,
            all,
        }
    }
}

/// Something that is odd and was taken all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SeedWarning {
    /// The seeds are not encrypted.
    NotEncrypted,
    /// Seeds are encrypted, and no MAC shows whether they, or the IV that stands beside them, were changed.
    NoMac,
    /// There is a signature, which is not looked at.
    Signature,
    /// Tokens with a seed of 32 or 64 bytes whose hash is not given: SHA-1 is taken.
    HashNotGiven,
    /// Tokens for which an option says another hash or period than the file.
    Overridden,
    /// Tokens with a seed of less than 16 bytes, which RFC 4226 forbids.
    ShortSeed,
    /// PINs that a token checks itself; they are not kept.
    PinSkipped,
}

impl SeedWarning {
    /// The word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotEncrypted => "not_encrypted",
            Self::NoMac => "no_mac",
            Self::Signature => "signature",
            Self::HashNotGiven => "hash_not_given",
            Self::Overridden => "overridden",
            Self::ShortSeed => "short_seed",
            Self::PinSkipped => "pin_skipped",
        }
    }

    /// What it is, and what to see to.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NotEncrypted => {
                "the seeds in the file are not encrypted: whoever has a copy can make the codes; delete it everywhere"
            }
            Self::NoMac => {
                "the file has no MAC over all that its seeds are made from: nothing shows whether they were changed on the way"
            }
            Self::Signature => "the file is signed, and the signature is not looked at",
            Self::HashNotGiven => {
                "the seed is as long as one for SHA-256 or SHA-512, and the file names no hash: SHA-1 is taken; prove a token, else import again with --hash"
            }
            Self::Overridden => {
                "the file says another hash or period than the options, which count"
            }
            Self::ShortSeed => "the seed has less than 128 bits",
            Self::PinSkipped => "a PIN that the token itself checks is not kept",
        }
    }
}

/// The tokens of a file without a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedFile {
    /// Its form.
    pub form: SeedFileForm,
    /// Its tokens, at least one; serials and seeds are unique.
    pub tokens: Vec<SeedToken>,
    /// What is odd, and of how many tokens; each at most once.
    pub warnings: Vec<(SeedWarning, usize)>,
}

/// Reads a file. It may wait for a passphrase to be stretched, a second or so: off the threads of other requests.
///
/// # Errors
/// All faults of the file, at least one; then none of its tokens counts.
pub fn read(bytes: &[u8], options: &SeedFileOptions) -> Result<SeedFile, SeedFileFaults> {
    let whole = |reason: String| SeedFileFaults::of(vec![SeedFault::file(reason)]);
    if bytes.len() > LONGEST_FILE {
        return Err(whole(format!(
            "it has {} bytes, and at most {LONGEST_FILE} are read: split it",
            bytes.len()
        )));
    }
    if options.period.is_some_and(|p| !PERIODS.contains(&p)) {
        return Err(whole(format!(
            "a step lasts {} to {} seconds",
            PERIODS.start(),
            PERIODS.end()
        )));
    }
    let text = xml::text(bytes).map_err(&whole)?;
    if text.trim_start().starts_with('<') {
        let container = pskc::read(&text, &options.keys).map_err(SeedFileFaults::of)?;
        judge::container(container, options)
    } else {
        let rows = csv::read(&text).map_err(SeedFileFaults::of)?;
        judge::rows(rows, options)
    }
}

/// What tells a seed from others in the store, without showing it.
pub fn fingerprint(key: &RootKey, seed: &[u8]) -> [u8; 32] {
    fingerprint_under(&key.key(Purpose::Seeds), seed)
}

/// The same under every enrolment key that tokens may have been kept with, the one in use first.
pub fn fingerprints(ring: &KeyRing, seed: &[u8]) -> Vec<[u8; 32]> {
    let key = |id| ring.digest_key(id, Purpose::Seeds);
    let keys = ring.digest_ids().into_iter().filter_map(key);
    keys.map(|key| fingerprint_under(&key, seed)).collect()
}

fn fingerprint_under(key: &[u8; 32], seed: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..32].copy_from_slice(key);
    // A key that is padded to the hash's block is the same key (RFC 2104 § 2), and cannot fail.
    let mut mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    mac.update(seed);
    mac.finalize().into_bytes().into()
}

/// Text of a file as it may be shown: one line, and not too long.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
