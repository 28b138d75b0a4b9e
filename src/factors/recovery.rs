//! Recovery codes, and the bypass codes of a helpdesk: made of letters that nobody mixes up, and kept as an HMAC.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::keys::{KeyId, KeyRing, Purpose, RootKey};
use crate::model::UserId;

/// Codes of one set.
pub const CODES: usize = 10;

/// Letters of a code, without the dashes between them: 71 bits.
pub const LETTERS: usize = 16;

/// Letters of a group.
const GROUP: usize = 4;

/// Upper case letters without I, L, O and U.
const ALPHABET: [u8; 22] = *b"ABCDEFGHJKMNPQRSTVWXYZ";

/// A new code, as people see it: `ABCD-EFGH-JKMN-PQRS`. `random` fills a buffer with the machine's randomness.
///
/// # Errors
/// What `random` fails with.
pub fn new_code<E>(mut random: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<String, E> {
    // Bytes beyond the largest multiple of the alphabet's length would favour its first letters.
    let even = 256 / ALPHABET.len() * ALPHABET.len();
    let mut letters = Vec::with_capacity(LETTERS);
    while letters.len() < LETTERS {
        let mut bytes = [0; LETTERS];
        random(&mut bytes)?;
        let fair = bytes.into_iter().map(usize::from).filter(|b| *b < even);
        letters.extend(fair.map(|b| char::from(ALPHABET[b % ALPHABET.len()])));
    }
    letters.truncate(LETTERS);
    let groups: Vec<String> = letters.chunks(GROUP).map(|g| g.iter().collect()).collect();
    Ok(groups.join("-"))
}

/// What the store keeps of a code of a user. `letters` is what [`super::typed::read`] gives.
pub fn digest(key: &RootKey, user: UserId, letters: &str) -> [u8; 32] {
    digest_under(&key.key(Purpose::RecoveryCodes), user, letters)
}

/// The same under the enrolment key of this name, which may be out of use by now; `None`: nobody has it.
pub fn digest_by(ring: &KeyRing, key: KeyId, user: UserId, letters: &str) -> Option<[u8; 32]> {
    let key = ring.digest_key(key, Purpose::RecoveryCodes)?;
    Some(digest_under(&key, user, letters))
}

fn digest_under(key: &[u8; 32], user: UserId, letters: &str) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(user.0.as_bytes());
    mac.update(letters.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::typed::{Typed, read};

    fn counting(from: u8) -> impl FnMut(&mut [u8]) -> Result<(), ()> {
        let mut next = from;
        move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(7);
            }
            Ok(())
        }
    }

    #[test]
    fn a_code_has_equal_groups_of_letters_that_are_told_apart() {
        for from in 0..=255 {
            let code = new_code(counting(from)).expect("a code");
            let groups: Vec<&str> = code.split('-').collect();
            assert_eq!(groups.len(), LETTERS / GROUP, "{code}");
            assert!(groups.iter().all(|g| g.len() == GROUP), "{code}");
            assert!(!code.contains(['I', 'L', 'O', 'U', '0', '1']), "{code}");
            assert_eq!(read(&code), Typed::Letters(code.replace('-', "")));
        }
    }

    #[test]
    fn every_letter_is_as_likely_as_every_other() {
        let mut counts = [0; 256];
        let mut byte = 0_u8;
        for _ in 0..242 {
            let code = new_code(|bytes: &mut [u8]| {
                for b in bytes {
                    *b = byte;
                    byte = byte.wrapping_add(1);
                }
                Ok::<(), ()>(())
            });
            for letter in code.expect("a code").bytes().filter(|b| *b != b'-') {
                counts[usize::from(letter)] += 1;
            }
        }
        let of: Vec<i32> = ALPHABET.iter().map(|l| counts[usize::from(*l)]).collect();
        let (least, most) = (of.iter().min(), of.iter().max());
        assert!(most.zip(least).is_some_and(|(m, l)| m - l <= 20), "{of:?}");
    }

    #[test]
    fn a_digest_is_of_one_user_under_one_key() {
        let user = |n| UserId(uuid::Uuid::from_u128(n));
        let (one, other) = (RootKey::new(&[1; 32]), RootKey::new(&[2; 32]));
        let mut all = vec![
            digest(&one, user(1), "ABCDEFGHJKMNPQRS"),
            digest(&one, user(2), "ABCDEFGHJKMNPQRS"),
            digest(&other, user(1), "ABCDEFGHJKMNPQRS"),
            digest(&one, user(1), "ABCDEFGHJKMNPQRT"),
        ];
        assert_eq!(all[0], digest(&one, user(1), "ABCDEFGHJKMNPQRS"));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_machine_without_randomness_makes_no_code() {
        assert_eq!(new_code(|_: &mut [u8]| Err("none")), Err("none"));
    }
}
