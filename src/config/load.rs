//! From a path to a configuration, or to everything that is wrong with it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::Config;
use super::check::Check;
use super::file::{Finding, Findings, Section};
use super::mask::{self, Masked};
use super::report::{Fault, Faults, QuotedFile, Severity};
use super::secret::{Environment, reason};
use super::walk::walk;
use crate::clock::zones::{self, Zones};

/// A thousand realms fit; what is larger is no configuration.
const MAX_BYTES: u64 = 4 << 20;

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What somebody should look at all the same, in the file's order.
    pub warnings: Vec<Fault>,
}

/// The file that is read when none is named: `REALMSYNC_CONFIG`, or `/etc/realmsync/realmsync.toml`.
pub fn default_path(environment: &Environment) -> PathBuf {
    match environment.var("REALMSYNC_CONFIG") {
        Some(path) if !path.is_empty() => path.into(),
        _ => "/etc/realmsync/realmsync.toml".into(),
    }
}

/// Reads and checks a configuration with the secrets, certificates and keys that it names.
///
/// A credential that only the service can see is a warning.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
    read(path, environment, true)
}

/// Reads and checks the file alone: for commands that only talk to the daemon, and may be typed by somebody who may not read its secrets.
pub fn load_without_files(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
    read(path, environment, false)
}

fn read(path: &Path, environment: &Environment, with_files: bool) -> Result<Loaded, Faults> {
    let (text, private) = text(path, environment).map_err(|(message, help)| {
        let source = QuotedFile::new(path, Masked::new("", Vec::new()));
        Faults::new(vec![Fault::new(
            Severity::Fault,
            &source,
            None,
            message,
            Some(help.to_owned()),
        )])
    })?;
    let zones = Zones::newest(&environment.locate(Path::new(zones::SYSTEM)));
    check(
        &text,
        path,
        private,
        with_files.then_some(environment),
        zones,
    )
}

/// The file's text, and whether nobody but its owner can read it.
pub(super) fn text(
    path: &Path,
    environment: &Environment,
) -> Result<(String, bool), (String, &'static str)> {
    let io = |e: &std::io::Error| {
        let help = match e.kind() {
            std::io::ErrorKind::NotFound => {
                "name the file with `-c FILE` or REALMSYNC_CONFIG; a sample is in `config/`"
            }
            std::io::ErrorKind::PermissionDenied => {
                "run the command as root or as the user of the service; if the service itself says this, give its user the right to read the file"
            }
            _ => "check the path",
        };
        (
            format!("cannot read the configuration: {}", reason(e)),
            help,
        )
    };
    let place = environment.locate(path);
    let metadata = std::fs::metadata(&place).map_err(|e| io(&e))?;
    if metadata.is_dir() {
        return Err((
            "the configuration is a directory".into(),
            "name the file in it",
        ));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&place).map_err(|e| io(&e))?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| io(&e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err((
            format!("the configuration is larger than {} MiB", MAX_BYTES >> 20),
            "check that this is the right file",
        ));
    }
    let others = metadata.permissions().mode() & 0o077;
    let private = others == 0;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, private)),
        Err(e) => {
            let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = good.split(|b| *b == b'\n').count();
            Err((
                format!("the configuration is not UTF-8: see line {line}"),
                "save it in UTF-8",
            ))
        }
    }
}

/// Checks a text; `environment`: `None` opens nothing that the text names.
pub(super) fn check(
    text: &str,
    path: &Path,
    private: bool,
    environment: Option<&Environment>,
    zones: Zones,
) -> Result<Loaded, Faults> {
    let findings = Findings::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut hidden = if errors.is_empty() {
        Vec::new()
    } else {
        mask::in_broken(text)
    };
    let mut config = None;
    if errors.is_empty() {
        let (secrets, meant) = walk(document.get_ref(), text, &findings);
        hidden.extend(secrets);
        let check = Check {
            source: text,
            findings: &findings,
            environment,
            path,
            private,
            zones,
        };
        config = check.config(&Section::document(document.get_ref(), &meant));
    }
    for (i, error) in errors.iter().enumerate() {
        // Whatever follows the first is mostly its echo, but for keys that are there twice.
        let twice = error.message().contains("duplicate key");
        if i == 0 || twice {
            let help = twice.then(|| "keep one of them".to_owned());
            findings.add(
                false,
                error.span().or(Some(0..0)),
                error.message().to_owned(),
                help,
            );
        }
    }
    let source = QuotedFile::new(path, Masked::new(text, hidden));
    let faults: Vec<Fault> = findings
        .into_inner()
        .into_iter()
        .map(
            |Finding {
                 warning,
                 at,
                 message,
                 help,
             }| {
                let severity = if warning {
                    Severity::Warning
                } else {
                    Severity::Fault
                };
                Fault::new(severity, &source, at, message, help)
            },
        )
        .collect();
    let all = Faults::new(faults);
    match config {
        Some(config) if all.faults.is_empty() => Ok(Loaded {
            config,
            warnings: all.warnings,
        }),
        _ => Err(all),
    }
}
