//! What a file says, as a hash: to tell whether two programs work by the same file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use toml::Value;

/// Comments and layout do not matter. A file may hold a secret, which somebody who knows the rest and saw this could look for by
/// trying: so it is sent to the daemon alone, compared there, and shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Digest {
    whole: String,
    settings: BTreeMap<String, [u8; 32]>,
}

impl Digest {
    /// Of a text that is TOML; of any other text it is empty, and like no other.
    pub(super) fn of(text: &str) -> Self {
        let sorted = text.parse::<toml::Table>().ok();
        let plain = sorted
            .as_ref()
            .and_then(|table| toml::to_string(table).ok());
        let whole = plain.map_or_else(String::new, |plain| {
            let mut text = String::new();
            for byte in Sha256::digest(plain.as_bytes()) {
                let _infallible = write!(text, "{byte:02x}");
            }
            text
        });
        let mut settings = BTreeMap::new();
        for (name, value) in sorted.iter().flatten() {
            each_setting(name.clone(), value, &mut settings);
        }
        Self { whole, settings }
    }

    /// A hash of the value of each setting, by its name (`realm[corp].brake.suspended`). As secret as the whole.
    pub fn settings(&self) -> &BTreeMap<String, [u8; 32]> {
        &self.settings
    }

    /// As it is sent.
    pub fn secret_text(&self) -> &str {
        &self.whole
    }

    /// Whether what was sent is of another file.
    pub fn differs_from(&self, sent: &str) -> bool {
        self.whole != sent
    }
}

fn each_setting(name: String, value: &Value, into: &mut BTreeMap<String, [u8; 32]>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                each_setting(format!("{name}.{key}"), value, into);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (place, value) in list.iter().enumerate() {
                // A section is known by its id, wherever it stands.
                let id = value.get("id").and_then(Value::as_str);
                let id = id.map_or_else(|| (place + 1).to_string(), str::to_owned);
                each_setting(format!("{name}[{id}]"), value, into);
            }
        }
        value => {
            into.insert(name, Sha256::digest(value.to_string().as_bytes()).into());
        }
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

    #[test]
    fn settings_are_known_by_name_and_sections_by_their_id() {
        let file = |suspended: &str, order: [&str; 2]| {
            let realm = |id: &str| {
                format!("[[realm]]\nid = \"{id}\"\n[realm.brake]\nsuspended = \"{suspended}\"\n")
            };
            Digest::of(&format!(
                "version = 1\n{}{}",
                realm(order[0]),
                realm(order[1])
            ))
        };
        let one = file("5 %", ["a.example", "b"]);
        assert_eq!(
            one.settings().keys().collect::<Vec<_>>(),
            [
                "realm[a.example].brake.suspended",
                "realm[a.example].id",
                "realm[b].brake.suspended",
                "realm[b].id",
                "version"
            ]
        );
        assert_eq!(one.settings(), file("5 %", ["b", "a.example"]).settings());
        assert_ne!(one.settings(), file("6 %", ["a.example", "b"]).settings());
        assert!(Digest::of("no = toml = at all").settings().is_empty());
    }
}
