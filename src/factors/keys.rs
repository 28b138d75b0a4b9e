//! The keys that follow from the enrolment key, one for each purpose (HKDF, RFC 5869).

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a key is for. The words are part of stored data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Secrets of authenticators, encrypted in the store.
    Secrets,
    /// Recovery codes and bypass codes, stored as an HMAC.
    RecoveryCodes,
    /// Digests of the values in the audit trail, and its chain.
    Audit,
    /// Browsers that opened an enrolment page.
    Browsers,
    /// Fingerprints of the seeds of hard tokens.
    Seeds,
    /// Links by which the owner of a former number objects.
    Freezes,
}

impl Purpose {
    const fn info(self) -> &'static [u8] {
        match self {
            Self::Secrets => b"realmsync/secrets/1",
            Self::RecoveryCodes => b"realmsync/recovery-codes/1",
            Self::Audit => b"realmsync/audit/1",
            Self::Browsers => b"realmsync/browsers/1",
            Self::Seeds => b"realmsync/seeds/1",
            Self::Freezes => b"realmsync/freezes/1",
        }
    }
}

/// The name of an enrolment key: tells which one a secret was kept with, and nothing about the key. 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Reads 16 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An enrolment key that others follow from. `Debug` shows its name only.
#[derive(Clone)]
pub struct RootKey {
    derive: Hkdf<Sha256>,
    id: KeyId,
}

impl RootKey {
    /// From the 32 bytes of `enrolment.key`, or of the store's own.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let derive = Hkdf::<Sha256>::new(Some(b"realmsync"), bytes);
        let mut id = [0; 8];
        expand(&derive, b"realmsync/key-id/1", &mut id);
        Self {
            derive,
            id: KeyId(id),
        }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key for a purpose.
    pub fn key(&self, purpose: Purpose) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        expand(&self.derive, purpose.info(), &mut *key);
        key
    }
}

/// HKDF gives up to 255 blocks; these are less than one, so it cannot fail.
fn expand(derive: &Hkdf<Sha256>, info: &[u8], into: &mut [u8]) {
    debug_assert!(into.len() <= 32);
    if derive.expand(info, into).is_err() {
        into.fill(0);
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.id)
    }
}

/// Purposes whose keys outlive an enrolment key, since what was digested cannot be digested anew. The order is part of stored data.
const DIGESTS: [Purpose; 3] = [Purpose::RecoveryCodes, Purpose::Audit, Purpose::Seeds];

/// What is kept of an enrolment key that goes out of use: the keys of digests.
#[derive(Clone)]
pub struct RetiredKey {
    id: KeyId,
    /// Of each of [`DIGESTS`], one after another.
    keys: Zeroizing<[u8; 32 * DIGESTS.len()]>,
}

impl RetiredKey {
    /// What is kept of a key.
    pub fn of(root: &RootKey) -> Self {
        let mut keys = Zeroizing::new([0; 32 * DIGESTS.len()]);
        for (place, purpose) in keys.chunks_exact_mut(32).zip(DIGESTS) {
            place.copy_from_slice(&*root.key(purpose));
        }
        Self { id: root.id, keys }
    }

    /// From what [`RetiredKey::bytes`] gave.
    pub fn read(id: KeyId, bytes: &[u8]) -> Option<Self> {
        let keys = Zeroizing::new(bytes.try_into().ok()?);
        Some(Self { id, keys })
    }

    /// The name of the key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What is to be encrypted under the key that takes its place.
    pub fn bytes(&self) -> &[u8] {
        &*self.keys
    }

    fn key(&self, purpose: Purpose) -> Option<Zeroizing<[u8; 32]>> {
        let place = DIGESTS.iter().position(|digest| *digest == purpose)?;
        let kept = self.keys.chunks_exact(32).nth(place)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(kept);
        Some(key)
    }
}

impl fmt::Debug for RetiredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetiredKey({})", self.id)
    }
}

/// The keys that secrets may have been kept with: the one in use, those before while secrets are moved over, and what is left of
/// keys that were taken out.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// What new secrets are kept with.
    pub current: RootKey,
    /// Those before that are still configured, or lie in the store.
    pub previous: Vec<RootKey>,
    /// What is left of keys that went out of use.
    pub retired: Vec<RetiredKey>,
}

impl KeyRing {
    /// A key alone.
    pub fn of(current: RootKey) -> Self {
        Self {
            current,
            previous: vec![],
            retired: vec![],
        }
    }

    /// The key of digests that were made under the enrolment key of this name; `None`: nobody has it, or it is no key of digests.
    pub fn digest_key(&self, id: KeyId, purpose: Purpose) -> Option<Zeroizing<[u8; 32]>> {
        if let Some(root) = self.find(id) {
            return Some(root.key(purpose));
        }
        let retired = self.retired.iter().find(|key| key.id == id)?;
        retired.key(purpose)
    }

    /// All keys, the current one first.
    pub fn roots(&self) -> impl Iterator<Item = &RootKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// The names of all keys under which there may be digests, the current one first.
    pub fn digest_ids(&self) -> Vec<KeyId> {
        let mut ids: Vec<KeyId> = self.roots().map(RootKey::id).collect();
        for retired in &self.retired {
            if !ids.contains(&retired.id) {
                ids.push(retired.id);
            }
        }
        ids
    }

    /// The key of this name.
    pub fn find(&self, id: KeyId) -> Option<&RootKey> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_purposes_and_of_two_roots_differ_and_stay_the_same() {
        let (one, other) = (RootKey::new(&[1; 32]), RootKey::new(&[2; 32]));
        let purposes = [
            Purpose::Secrets,
            Purpose::RecoveryCodes,
            Purpose::Audit,
            Purpose::Browsers,
            Purpose::Seeds,
            Purpose::Freezes,
        ];
        let mut keys: Vec<[u8; 32]> = vec![];
        for root in [&one, &other] {
            keys.extend(purposes.iter().map(|p| *root.key(*p)));
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert_ne!(one.id(), other.id());
        // Stored data hangs on these: they may never become others.
        assert_eq!(
            one.id().to_string(),
            RootKey::new(&[1; 32]).id().to_string()
        );
        assert_eq!(KeyId::parse(&one.id().to_string()), Some(one.id()));
        assert!(KeyId::parse("").is_none() && KeyId::parse("zz").is_none());
    }

    #[test]
    fn digests_outlive_a_key_that_is_taken_out_and_secrets_do_not() {
        let (old, new) = (RootKey::new(&[1; 32]), RootKey::new(&[2; 32]));
        let retired = RetiredKey::of(&old);
        let read = RetiredKey::read(old.id(), retired.bytes()).expect("its bytes");
        assert!(RetiredKey::read(old.id(), &retired.bytes()[1..]).is_none());
        let ring = KeyRing {
            retired: vec![read],
            ..KeyRing::of(new.clone())
        };
        for purpose in DIGESTS {
            assert_eq!(
                ring.digest_key(old.id(), purpose).as_deref(),
                Some(&*old.key(purpose))
            );
            assert_eq!(
                ring.digest_key(new.id(), purpose).as_deref(),
                Some(&*new.key(purpose))
            );
        }
        assert!(ring.digest_key(old.id(), Purpose::Secrets).is_none());
        assert!(ring.find(old.id()).is_none());
        assert_eq!(ring.digest_ids(), [new.id(), old.id()]);
        assert!(!format!("{ring:?}").contains("keys"), "{ring:?}");
    }

    #[test]
    fn a_key_is_not_shown() {
        let shown = format!("{:?}", KeyRing::of(RootKey::new(&[7; 32])));
        assert!(
            shown.contains("RootKey(") && !shown.contains("07070707"),
            "{shown}"
        );
    }
}
