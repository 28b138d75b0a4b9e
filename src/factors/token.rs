//! API tokens as programs hold them: `rs_`, 32 bytes of chance, and four bytes by which a slip or a leak is told without the store.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What every token begins with, for those who search files for secrets: `rs_[A-Za-z0-9_-]{48}`.
pub const PREFIX: &str = "rs_";

/// Bytes of chance in a token.
pub const BYTES: usize = 32;

/// Bytes of the checksum.
const CHECK: usize = 4;

/// A token as it is shown once. `Debug` hides it.
#[derive(Clone)]
pub struct SecretToken(Zeroizing<String>);

impl SecretToken {
    /// Of bytes of chance.
    pub fn new(chance: &[u8; BYTES]) -> Self {
        let mut bytes = Zeroizing::new(chance.to_vec());
        bytes.extend(checksum(chance));
        Self(Zeroizing::new(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(&*bytes)
        )))
    }

    /// Reads what a program sent. `None`: no token of ours, or one with a slip in it.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        let (chance, check) = bytes.split_first_chunk::<BYTES>()?;
        (check == checksum(chance)).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, to be shown to whoever made it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store holds of it.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

fn checksum(chance: &[u8; BYTES]) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update(b"realmsync/api-token/1");
    hash.update(chance);
    let digest: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|i| digest[i])
}

impl std::fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretToken(•••)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_135_a_token_has_a_prefix_and_a_checksum_and_is_not_shown() {
        let token = SecretToken::new(&[7; BYTES]);
        let text = token.expose();
        let rest = text.strip_prefix("rs_").expect("the prefix");
        assert_eq!(rest.len(), 48, "a scanner's `rs_[A-Za-z0-9_-]{{48}}`");
        assert!(
            rest.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        );
        assert_eq!(
            SecretToken::read(text).expect("whole").sha256(),
            token.sha256()
        );
        for place in 3..text.len() {
            let mut slip = text.to_owned().into_bytes();
            slip[place] = if slip[place] == b'A' { b'B' } else { b'A' };
            let slip = String::from_utf8(slip).expect("text");
            assert!(SecretToken::read(&slip).is_none(), "{place}");
        }
        for text in ["", "rs_", "rs_AAAA", &text[3..], &format!("{text}A")] {
            assert!(SecretToken::read(text).is_none(), "{text}");
        }
        assert!(!format!("{token:?}").contains(&rest[..6]));
    }
}
