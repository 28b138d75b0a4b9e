//! How values are encrypted and protected: AES and 3DES in CBC, key wrap, HMAC, and keys from passphrases.

use aes::{Aes128, Aes192, Aes256};
use aes_kw::{KwAes128, KwAes192, KwAes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use des::{TdesEde2, TdesEde3};
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha1::{Digest, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The one thing that is said whichever step fails: where it failed would help whoever tries keys or changes bytes.
pub(super) const UNREADABLE: &str =
    "it cannot be decrypted: the key or passphrase is another one, or the file was changed";

/// The most iterations of PBKDF2.
pub(super) const ITERATIONS: u32 = 2_000_000;
/// The longest salt of PBKDF2, in bytes.
pub(super) const SALT: usize = 64;

/// What one value is encrypted with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ValueCipher {
    AesCbc(usize),
    TripleDesCbc,
    AesWrap(usize),
    TripleDesWrap,
}

/// The last part of an algorithm's name, in lower case: names come with and without the URI before it.
pub(super) fn short(name: &str) -> String {
    let last = name.trim().rsplit('#').next().unwrap_or_default();
    last.trim().to_lowercase()
}

impl ValueCipher {
    /// By the name of an algorithm, of RFC 6030 or of its drafts.
    ///
    /// # Errors
    /// It is another, which is named.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let short = short(name);
        match short.strip_prefix("pbe-").unwrap_or(&short) {
            "aes128-cbc" => Ok(Self::AesCbc(16)),
            "aes192-cbc" => Ok(Self::AesCbc(24)),
            "aes256-cbc" => Ok(Self::AesCbc(32)),
            "tripledes-cbc" | "3des-cbc" | "3des112-cbc" | "3des168-cbc" => Ok(Self::TripleDesCbc),
            "kw-aes128" => Ok(Self::AesWrap(16)),
            "kw-aes192" => Ok(Self::AesWrap(24)),
            "kw-aes256" => Ok(Self::AesWrap(32)),
            "kw-tripledes" | "kw-3des" => Ok(Self::TripleDesWrap),
            other => Err(format!(
                "it is encrypted with `{}`, which is not read; these are: AES-CBC, 3DES-CBC, and the key wrap of both",
                super::shown(other)
            )),
        }
    }

    /// Whether it begins with an initialisation vector that the file gives.
    pub(super) fn has_iv(self) -> bool {
        matches!(self, Self::AesCbc(_) | Self::TripleDesCbc)
    }

    /// Whether a changed value shows without a MAC.
    pub(super) fn shows_changes(self) -> bool {
        matches!(self, Self::AesWrap(_) | Self::TripleDesWrap)
    }

    /// The length that a derived key gets where the file does not say it.
    pub(super) fn key_length(self) -> usize {
        match self {
            Self::AesCbc(length) | Self::AesWrap(length) => length,
            Self::TripleDesCbc | Self::TripleDesWrap => 16,
        }
    }

    /// Sees that a key is as long as it must be.
    ///
    /// # Errors
    /// Which length is expected.
    pub(super) fn fits(self, key: &[u8]) -> Result<(), String> {
        match (self, key.len()) {
            (Self::AesCbc(n) | Self::AesWrap(n), there) if n == there => Ok(()),
            (Self::TripleDesCbc | Self::TripleDesWrap, 16 | 24) => Ok(()),
            (Self::AesCbc(n) | Self::AesWrap(n), there) => Err(format!(
                "it is encrypted with a key of {n} bytes, and the one given has {there}"
            )),
            (_, there) => Err(format!(
                "it is encrypted with a key of 16 or 24 bytes, and the one given has {there}"
            )),
        }
    }

    /// Decrypts a value. `iv`: of the whole file; else it stands in front of the value. `None`: it is not what was encrypted.
    pub(super) fn decrypt(
        self,
        key: &[u8],
        value: &[u8],
        iv: Option<&[u8]>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::AesCbc(16) => cbc::<Aes128>(key, value, iv, 16),
            Self::AesCbc(24) => cbc::<Aes192>(key, value, iv, 16),
            Self::AesCbc(_) => cbc::<Aes256>(key, value, iv, 16),
            Self::TripleDesCbc if key.len() == 16 => cbc::<TdesEde2>(key, value, iv, 8),
            Self::TripleDesCbc => cbc::<TdesEde3>(key, value, iv, 8),
            Self::AesWrap(_) => unwrap_aes(key, value),
            Self::TripleDesWrap if key.len() == 16 => unwrap_des::<TdesEde2>(key, value),
            Self::TripleDesWrap => unwrap_des::<TdesEde3>(key, value),
        }
    }
}

fn cbc<C>(key: &[u8], value: &[u8], iv: Option<&[u8]>, block: usize) -> Option<Zeroizing<Vec<u8>>>
where
    C: cbc::cipher::BlockCipherDecrypt,
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    let (iv, encrypted) = match iv {
        Some(iv) => (iv, value),
        None => value.split_at_checked(block)?,
    };
    let mut plain = Zeroizing::new(encrypted.to_vec());
    let cipher = Decryptor::<C>::new_from_slices(key, iv).ok()?;
    let length = cipher.decrypt_padded::<Pkcs7>(&mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

fn unwrap_aes(key: &[u8], value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut plain = Zeroizing::new(vec![0; value.len().checked_sub(8)?]);
    let into = &mut plain[..];
    let done = match key.len() {
        16 => KwAes128::new_from_slice(key)
            .ok()?
            .unwrap_key(value, into)
            .is_ok(),
        24 => KwAes192::new_from_slice(key)
            .ok()?
            .unwrap_key(value, into)
            .is_ok(),
        _ => KwAes256::new_from_slice(key)
            .ok()?
            .unwrap_key(value, into)
            .is_ok(),
    };
    done.then_some(plain)
}

/// RFC 3217 § 3.
fn unwrap_des<C>(key: &[u8], value: &[u8]) -> Option<Zeroizing<Vec<u8>>>
where
    C: cbc::cipher::BlockCipherDecrypt,
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    const IV: [u8; 8] = [0x4a, 0xdd, 0xa2, 0x2c, 0x79, 0xe8, 0x21, 0x05];
    let without_padding = |iv: &[u8], bytes: &mut [u8]| {
        let cipher = Decryptor::<C>::new_from_slices(key, iv).ok()?;
        cipher.decrypt_padded::<NoPadding>(bytes).ok().map(|_| ())
    };
    if value.len() < 24 {
        return None;
    }
    let mut inner = Zeroizing::new(value.to_vec());
    without_padding(&IV, &mut inner)?;
    inner.reverse();
    let (iv, wrapped) = inner.split_at_checked(8)?;
    let mut plain = Zeroizing::new(wrapped.to_vec());
    without_padding(iv, &mut plain)?;
    let length = plain.len().checked_sub(8)?;
    let (secret, check) = plain.split_at_checked(length)?;
    let right = Sha1::digest(secret);
    if !bool::from(right.get(..8)?.ct_eq(check)) {
        return None;
    }
    plain.truncate(length);
    Some(plain)
}

/// The hash of an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MacHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl MacHash {
    /// By the name of an HMAC. `None`: it is another.
    pub(super) fn named(name: &str) -> Option<Self> {
        match short(name).replace('-', "").as_str() {
            "hmacsha1" => Some(Self::Sha1),
            "hmacsha224" => Some(Self::Sha224),
            "hmacsha256" => Some(Self::Sha256),
            "hmacsha384" => Some(Self::Sha384),
            "hmacsha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Whether a MAC is that of a value, in constant time.
    pub(super) fn verifies(self, key: &[u8], value: &[u8], mac: &[u8]) -> bool {
        match self {
            Self::Sha1 => verifies::<Hmac<Sha1>>(key, value, mac),
            Self::Sha224 => verifies::<Hmac<Sha224>>(key, value, mac),
            Self::Sha256 => verifies::<Hmac<Sha256>>(key, value, mac),
            Self::Sha384 => verifies::<Hmac<Sha384>>(key, value, mac),
            Self::Sha512 => verifies::<Hmac<Sha512>>(key, value, mac),
        }
    }
}

fn verifies<M: Mac + KeyInit>(key: &[u8], value: &[u8], mac: &[u8]) -> bool {
    let Ok(mut right) = <M as KeyInit>::new_from_slice(key) else {
        return false;
    };
    right.update(value);
    right.verify_slice(mac).is_ok()
}

/// How a key follows from a passphrase (PBKDF2, RFC 8018). Its numbers come from a file, and were looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) length: usize,
    pub(super) hash: MacHash,
}

impl Stretch {
    /// The key.
    pub(super) fn key(&self, passphrase: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(vec![0; self.length]);
        let (salt, n) = (&self.salt, self.iterations);
        match self.hash {
            MacHash::Sha1 => pbkdf2_hmac::<Sha1>(passphrase, salt, n, &mut key),
            MacHash::Sha224 => pbkdf2_hmac::<Sha224>(passphrase, salt, n, &mut key),
            MacHash::Sha256 => pbkdf2_hmac::<Sha256>(passphrase, salt, n, &mut key),
            MacHash::Sha384 => pbkdf2_hmac::<Sha384>(passphrase, salt, n, &mut key),
            MacHash::Sha512 => pbkdf2_hmac::<Sha512>(passphrase, salt, n, &mut key),
        }
        key
    }
}
