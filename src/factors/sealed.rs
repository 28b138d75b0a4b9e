//! Secrets as the store holds them: encrypted and bound to their owner (XChaCha20-Poly1305).

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::keys::{KeyId, KeyRing, Purpose, RootKey};

/// Bytes of chance that a sealing needs: so many that chance alone never repeats one.
pub const NONCE: usize = 24;

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The key that it was encrypted with.
    pub key: KeyId,
    /// The nonce, and what was encrypted.
    pub bytes: Vec<u8>,
}

/// Why a secret cannot be read. Neither means that there is none.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealError {
    /// It was encrypted with another key.
    #[error("it was kept with the enrolment key {0}, which is not configured")]
    UnknownKey(KeyId),
    /// It is not what was encrypted, or belongs to somebody else.
    #[error("it cannot be decrypted: it was changed, or belongs to another row")]
    Broken,
}

/// Encrypts a secret. `owner` is what it belongs to: with another one it cannot be read.
///
/// `nonce` must come from the machine's randomness, and is used once.
pub fn seal(key: &RootKey, owner: &[u8], secret: &[u8], nonce: [u8; NONCE]) -> Option<Sealed> {
    let payload = Payload {
        msg: secret,
        aad: owner,
    };
    let encrypted = cipher(key).encrypt(&XNonce::from(nonce), payload).ok()?;
    Some(Sealed {
        key: key.id(),
        bytes: [&nonce[..], &encrypted].concat(),
    })
}

/// Decrypts a secret that belongs to `owner`.
pub fn open(
    keys: &KeyRing,
    owner: &[u8],
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let key = keys
        .find(sealed.key)
        .ok_or(SealError::UnknownKey(sealed.key))?;
    let (nonce, encrypted) = sealed
        .bytes
        .split_first_chunk::<NONCE>()
        .ok_or(SealError::Broken)?;
    let payload = Payload {
        msg: encrypted,
        aad: owner,
    };
    let secret = cipher(key).decrypt(&XNonce::from(*nonce), payload);
    secret.map(Zeroizing::new).map_err(|_| SealError::Broken)
}

fn cipher(key: &RootKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*key.key(Purpose::Secrets)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_by_its_owner_with_its_key_alone() {
        let (old, new) = (RootKey::new(&[1; 32]), RootKey::new(&[2; 32]));
        let sealed = seal(&old, b"jan/1", b"a secret", [9; NONCE]).expect("sealed");
        assert!(!sealed.bytes.windows(6).any(|w| w == b"secret"));

        let keys = KeyRing::of(old.clone());
        assert_eq!(
            &**open(&keys, b"jan/1", &sealed).expect("open"),
            b"a secret"
        );
        assert_eq!(open(&keys, b"eva/1", &sealed), Err(SealError::Broken));

        let lost = KeyRing::of(new.clone());
        assert_eq!(
            open(&lost, b"jan/1", &sealed),
            Err(SealError::UnknownKey(old.id()))
        );
        let rotating = KeyRing {
            previous: vec![old],
            ..KeyRing::of(new)
        };
        assert_eq!(
            &**open(&rotating, b"jan/1", &sealed).expect("open"),
            b"a secret"
        );
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let key = RootKey::new(&[1; 32]);
        let keys = KeyRing::of(key.clone());
        let sealed = seal(&key, b"", b"a secret", [9; NONCE]).expect("sealed");
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[at] ^= 1;
            assert_eq!(open(&keys, b"", &changed), Err(SealError::Broken), "{at}");
        }
        for short in [0, 1, NONCE, NONCE + 15] {
            let mut cut = sealed.clone();
            cut.bytes.truncate(short);
            assert_eq!(open(&keys, b"", &cut), Err(SealError::Broken), "{short}");
        }
    }
}
