//! One-time codes: HOTP (RFC 4226) and TOTP (RFC 6238).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use crate::model::OtpHash;

/// Digits that a code may have.
pub const DIGITS: std::ops::RangeInclusive<u8> = 6..=8;

/// What an authenticator makes codes with. `Debug` hides the secret.
#[derive(Clone)]
pub struct Generator {
    secret: Zeroizing<Vec<u8>>,
    hash: OtpHash,
    digits: u8,
}

impl Generator {
    /// Of a secret, which is a key of any length. `digits` is within [`DIGITS`].
    pub fn new(secret: Zeroizing<Vec<u8>>, hash: OtpHash, digits: u8) -> Self {
        debug_assert!(DIGITS.contains(&digits), "{digits} digits");
        Self {
            secret,
            hash,
            digits,
        }
    }

    /// How many digits its codes have.
    pub fn digits(&self) -> u8 {
        self.digits
    }

    /// The code of a counter, or of a step of time.
    pub fn code(&self, moving: u64) -> u32 {
        let message = moving.to_be_bytes();
        let truncated = match self.hash {
            OtpHash::Sha1 => truncate(&mac::<Hmac<Sha1>>(&self.secret, message)),
            OtpHash::Sha256 => truncate(&mac::<Hmac<Sha256>>(&self.secret, message)),
            OtpHash::Sha512 => truncate(&mac::<Hmac<Sha512>>(&self.secret, message)),
        };
        truncated % 10_u32.pow(u32::from(self.digits))
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator")
            .field("hash", &self.hash)
            .field("digits", &self.digits)
            .finish_non_exhaustive()
    }
}

fn mac<M: Mac + KeyInit>(secret: &[u8], message: [u8; 8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret) else {
        return vec![0; 20];
    };
    mac.update(&message);
    mac.finalize().into_bytes().to_vec()
}

/// RFC 4226 § 5.3: four bytes from where the last half byte says, without the sign.
fn truncate(hash: &[u8]) -> u32 {
    let at = usize::from(hash.last().copied().unwrap_or(0) & 0x0f);
    let four = hash.get(at..at + 4).unwrap_or(&[0; 4]);
    let bytes: [u8; 4] = four.try_into().unwrap_or_default();
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(secret: &[u8], hash: OtpHash, digits: u8) -> Generator {
        Generator::new(Zeroizing::new(secret.to_vec()), hash, digits)
    }

    #[test]
    fn hotp_codes_are_those_of_rfc_4226() {
        let token = generator(b"12345678901234567890", OtpHash::Sha1, 6);
        let codes = [
            755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871,
            520_489,
        ];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(token.code(counter), code, "counter {counter}");
        }
    }

    #[test]
    fn totp_codes_are_those_of_rfc_6238() {
        let seed = b"1234567890123456789012345678901234567890123456789012345678901234";
        let sha1 = generator(&seed[..20], OtpHash::Sha1, 8);
        let sha256 = generator(&seed[..32], OtpHash::Sha256, 8);
        let sha512 = generator(seed, OtpHash::Sha512, 8);
        for (seconds, one, two, three) in [
            (59_u64, 94_287_082, 46_119_246, 90_693_936),
            (1_111_111_109, 7_081_804, 68_084_774, 25_091_201),
            (1_111_111_111, 14_050_471, 67_062_674, 99_943_326),
            (1_234_567_890, 89_005_924, 91_819_424, 93_441_116),
            (2_000_000_000, 69_279_037, 90_698_825, 38_618_901),
            (20_000_000_000, 65_353_130, 77_737_706, 47_863_826),
        ] {
            let step = seconds / 30;
            assert_eq!(sha1.code(step), one, "{seconds}");
            assert_eq!(sha256.code(step), two, "{seconds}");
            assert_eq!(sha512.code(step), three, "{seconds}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", generator(b"secretsecret", OtpHash::Sha256, 6));
        assert!(
            !shown.contains("secretsecret") && !shown.contains("115"),
            "{shown}"
        );
    }
}
