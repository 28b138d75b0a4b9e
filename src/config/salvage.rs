//! What can still be had of a faulty file: where the daemon is, which works by what the file said before.

use std::path::Path;

use toml::de::DeTable;

use super::check::Check;
use super::file::{Findings, Section};
use super::load::text;
use super::secret::Environment;
use super::walk::walk;
use super::{
    Config, Digest, EnrolmentConfig, LogConfig, LogFormat, LogonsConfig, StoreConfig, StoreUrl,
};
use crate::clock::zones::Zones;

/// The little that commands need which only talk to the daemon, or read beside it.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Without realms; what could not be read has its default, also the store.
    pub config: Config,
    /// Whether the file says without a fault where the store is.
    pub store: bool,
    /// Whether it says anything of that.
    pub names_store: bool,
}

/// Reads `[control]` and `[store]` of a file that is faulty elsewhere. Opens nothing that it names.
pub fn salvage(path: &Path, environment: &Environment) -> Salvaged {
    let (text, private) = text(path, environment).unwrap_or_default();
    let (document, _) = DeTable::parse_recoverable(&text);
    // The faults of the file are told by whoever loads it.
    let (_, meant) = walk(document.get_ref(), &text, &Findings::default());
    let document = Section::document(document.get_ref(), &meant);
    let findings = Findings::default();
    let zones = Zones::built_in();
    let check = Check {
        source: &text,
        findings: &findings,
        environment: None,
        path,
        private,
        zones: zones.clone(),
    };
    let control_socket = check.control_socket(&document.section("control"));
    let section = document.section("store");
    let before = findings.count();
    let store = check.store(&section);
    let known = section.has("url") && store.is_some() && findings.count() == before;
    Salvaged {
        config: Config {
            path: path.to_path_buf(),
            digest: Digest::default(),
            zone_data: zones.data().clone(),
            store: store.unwrap_or(StoreConfig {
                url: StoreUrl::Sqlite("/var/lib/realmsync/realmsync.db".into()),
                password: None,
                keep_runs_ms: 0,
            }),
            http: None,
            control_socket,
            enrolment: EnrolmentConfig {
                valid_ms: 0,
                valid_again_ms: 0,
                reminders: vec![],
                contact: None,
                applications: vec![],
                self_enrolment: false,
                key: None,
                previous_key: None,
            },
            logons: LogonsConfig::default(),
            delivery: None,
            log: LogConfig {
                format: LogFormat::Auto,
                level: tracing::Level::INFO,
            },
            realms: vec![],
        },
        store: known,
        names_store: section.has("url"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn salvaged(text: &str) -> Salvaged {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("realmsync.toml");
        std::fs::write(&file, text).unwrap();
        salvage(&file, &Environment::default())
    }

    #[test]
    fn a_faulty_file_still_says_where_the_daemon_and_the_store_are() {
        let good = "version = 1\n[store]\nurl = \"sqlite:/srv/r.db\"\n[control]\nsocket = \"/srv/r.sock\"\n";
        for fault in [
            "[[realm]]\nid = \"r\"\nshedule = \"x\"\n",
            "[[realm]]\nid = \"r\"\nschedule = \"x\n",
            "[[realm]\nid = 1\n",
            "nonsense\n",
            "[realm.directory\nservers = [\"ldaps://a\n",
        ] {
            let whole = salvaged(&format!("{good}{fault}"));
            assert_eq!(
                whole.config.control_socket,
                PathBuf::from("/srv/r.sock"),
                "{fault}"
            );
            assert!(whole.store, "{fault}");
            assert!(
                matches!(&whole.config.store.url, StoreUrl::Sqlite(path) if path == std::path::Path::new("/srv/r.db")),
                "{fault}"
            );
        }
        let none = salvaged("version = 1\n[store]\nurl = \"srv/r.db\"\n");
        assert_eq!(
            none.config.control_socket,
            PathBuf::from("/run/realmsync/control.sock")
        );
        assert!(!none.store);
        assert!(!salvaged("= = =").store);
    }
}
