//! What a file says, as a hash: to tell whether two programs work by the same file.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Comments and layout do not matter. A file may hold a secret, which somebody who knows the rest and saw this could look for by
/// trying: so it is sent to the daemon alone, compared there, and shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Of a text that is TOML; of any other text it is empty, and like no other.
    pub(super) fn of(text: &str) -> Self {
        let sorted = text.parse::<toml::Table>().ok();
        let plain = sorted.and_then(|table| toml::to_string(&table).ok());
        Self(plain.map_or_else(String::new, |plain| {
            let mut text = String::new();
            for byte in Sha256::digest(plain.as_bytes()) {
                let _infallible = write!(text, "{byte:02x}");
            }
            text
        }))
    }

    /// As it is sent.
    pub fn secret_text(&self) -> &str {
        &self.0
    }

    /// Whether what was sent is of another file.
    pub fn differs_from(&self, sent: &str) -> bool {
        self.0 != sent
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn only_what_a_file_says_counts() {
        let one = Digest::of("version = 1\n[store]\nurl = \"a\" # here\n[log]\nlevel = \"info\"\n");
        let same = Digest::of("# moved\nversion=1\n[log]\nlevel = 'info'\n[store]\nurl = \"a\"\n");
        let other = Digest::of("version = 1\n[store]\nurl = \"b\"\n[log]\nlevel = \"info\"\n");
        assert_eq!(one, same);
        assert!(one.differs_from(other.secret_text()));
        assert_eq!(format!("{one:?}"), "Digest");
    }
}
