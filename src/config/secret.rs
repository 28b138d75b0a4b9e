//! A secret by reference: resolved by whoever uses it, shown by nobody. Also the environment, which is read here and nowhere else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::shown;

/// Longer than any password, key or token; a larger file is a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a secret is.
#[derive(Clone)]
pub enum Secret {
    /// `X-file`.
    File(PathBuf),
    /// `X-credential`: a name under `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `X-env`.
    Env(String),
    /// `X` itself.
    Inline(SecretString),
}

/// A secret may have been written where its place belongs, so that not every place is shown.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(&shown::path(path)).finish(),
            Self::Credential(name) => f
                .debug_tuple("Credential")
                .field(&shown::name(name))
                .finish(),
            Self::Env(name) => f.debug_tuple("Env").field(&shown::name(name)).finish(),
            Self::Inline(_) => f.debug_tuple("Inline").finish_non_exhaustive(),
        }
    }
}

/// A secret could not be read. The text names its place, never itself.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{message}")]
pub struct SecretError {
    /// A credential that only the service can see, asked for outside of the service.
    pub invisible: bool,
    /// What is wrong, and where.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Secret {
    /// The secret itself, without the line end that editors leave behind.
    ///
    /// An empty one is an error: an empty password is an anonymous bind that succeeds (RFC 4513 § 5.1.2).
    pub fn resolve(&self, environment: &Environment) -> Result<SecretString, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let file = environment.open(path)?;
                let mode = file.metadata().map_or(0, |m| m.permissions().mode());
                if mode & 0o077 != 0 {
                    return Err(error(
                        format!(
                            "{} can be read by others (mode {:04o})",
                            shown::path(path),
                            mode & 0o7777
                        ),
                        format!("chmod 600 {}", shown::path(path)),
                    ));
                }
                text(file, &shown::path(path))
            }
            Self::Credential(name) => {
                let shown = shown::name(name);
                let directory = environment.credentials_directory();
                if environment.service && directory.is_none() {
                    return Err(error(
                        format!("the credential `{shown}` was not passed on to the service"),
                        drop_in(shown),
                    ));
                }
                let Some(directory) = directory else {
                    return Err(SecretError {
                        invisible: true,
                        message: format!(
                            "the credential `{shown}` can only be seen by the service"
                        ),
                        help: format!(
                            "systemd passes it on by `LoadCredential={shown}:/path/to/file` in the unit"
                        ),
                    });
                };
                let file = environment
                    .open_as(
                        &directory.join(name),
                        &directory.join(shown).display().to_string(),
                    )
                    .map_err(|e| SecretError {
                        help: drop_in(shown),
                        ..e
                    })?;
                text(file, &format!("the credential `{shown}`"))
            }
            Self::Env(name) => {
                let shown = shown::name(name);
                let help = format!(
                    "set `{shown}` in the environment of realmsync, or use a file or a credential"
                );
                let value = environment.var(name).ok_or_else(|| {
                    error(
                        format!("the environment variable `{shown}` is not set"),
                        help.clone(),
                    )
                })?;
                let value = value.to_str().ok_or_else(|| {
                    error(
                        format!("the environment variable `{shown}` is not UTF-8"),
                        help.clone(),
                    )
                })?;
                if value.is_empty() {
                    return Err(error(
                        format!("the environment variable `{shown}` is empty"),
                        help,
                    ));
                }
                Ok(SecretString::from(value))
            }
        }
    }
}

/// How systemd is told to pass a credential on.
fn drop_in(name: &str) -> String {
    format!(
        "write `LoadCredential={name}:/path/to/file` into /etc/systemd/system/realmsync.service.d/credentials.conf (a sample is in `systemd/`), then `systemctl daemon-reload` and start the service again"
    )
}

fn error(message: String, help: impl Into<String>) -> SecretError {
    SecretError {
        invisible: false,
        message,
        help: help.into(),
    }
}

/// The file's text as a secret; its end of line is not part of it.
fn text(file: File, what: &str) -> Result<SecretString, SecretError> {
    let help = "it must hold the secret alone, in UTF-8";
    let mut bytes = Vec::new();
    if let Err(e) = file.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        return Err(error(format!("cannot read {what}: {}", reason(&e)), help));
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(error(
            format!("{what} is larger than {} KiB", MAX_BYTES / 1024),
            help,
        ));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(error(format!("{what} is not UTF-8"), help));
    };
    let secret = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
    if secret.trim().is_empty() {
        return Err(error(format!("{what} is empty"), help));
    }
    if secret.contains(['\n', '\r', '\0']) {
        return Err(error(format!("{what} holds more than one line"), help));
    }
    Ok(SecretString::from(secret))
}

/// The words of an I/O error without Rust's `(os error 2)`.
pub(super) fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

/// What a process finds round it: variables, the service's credentials, and files. Tests make their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    root: Option<PathBuf>,
    /// This process is the service itself.
    service: bool,
}

impl Environment {
    /// The environment of this process: the one place that reads it.
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            root: None,
            service: false,
        }
    }

    /// An environment with just these variables.
    pub fn of<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            root: None,
            service: false,
        }
    }

    /// The same for the service itself: a credential that was not passed on to it is nowhere else.
    #[must_use]
    pub fn of_the_service(mut self) -> Self {
        self.service = true;
        self
    }

    /// The same, where absolute paths are looked up below `root`: for configurations that are read on another machine than their own.
    #[must_use]
    pub fn rooted(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// A variable; an empty one counts as set.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
    }

    /// `$CREDENTIALS_DIRECTORY` (systemd.exec(5)); `None` outside of the service.
    pub fn credentials_directory(&self) -> Option<PathBuf> {
        self.var("CREDENTIALS_DIRECTORY")
            .filter(|d| !d.is_empty())
            .map(PathBuf::from)
    }

    /// Where a path of the configuration is found on this machine.
    pub fn locate(&self, path: &Path) -> PathBuf {
        match (&self.root, path.strip_prefix("/")) {
            (Some(root), Ok(below)) => root.join(below),
            _ => path.to_path_buf(),
        }
    }

    /// Opens a regular file. Anything else is refused before it is opened: a pipe would wait for ever.
    pub(super) fn open(&self, path: &Path) -> Result<File, SecretError> {
        self.open_as(path, &shown::path(path))
    }

    /// The same; `shown` stands for the path in what is told.
    fn open_as(&self, path: &Path, shown: &str) -> Result<File, SecretError> {
        let place = self.locate(path);
        let help = "check the path, and that the user of the service may read it";
        let failed =
            |e: &std::io::Error| error(format!("cannot read {shown}: {}", reason(e)), help);
        let metadata = std::fs::metadata(&place).map_err(|e| failed(&e))?;
        if !metadata.is_file() {
            return Err(error(format!("{shown} is not a regular file"), help));
        }
        File::open(&place).map_err(|e| failed(&e))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn write(path: &Path, text: &[u8], mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_gives_its_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (bytes, wanted) in [
            (&b"hunter2\n"[..], "hunter2"),
            (b"hunter2\r\n", "hunter2"),
            (b" a b ", " a b "),
            ("š".as_bytes(), "š"),
        ] {
            write(&path, bytes, 0o600);
            let secret = Secret::File(path.clone())
                .resolve(&Environment::default())
                .unwrap();
            assert_eq!(secret.expose_secret(), wanted);
        }
        for (bytes, mode, words) in [
            (&b""[..], 0o600, "is empty"),
            (b"\n", 0o600, "is empty"),
            (b"one\ntwo\n", 0o600, "more than one line"),
            (b"\xff", 0o600, "not UTF-8"),
            (&vec![b'x'; 70_000], 0o600, "larger"),
            (b"hunter2", 0o644, "mode 0644"),
            (b"hunter2", 0o640, "can be read by others"),
        ] {
            write(&path, bytes, mode);
            let e = Secret::File(path.clone())
                .resolve(&Environment::default())
                .unwrap_err();
            assert!(
                e.message.contains(words) && !e.message.contains("hunter2") && !e.invisible,
                "{e}"
            );
        }
        let e = Secret::File(folder.path().into())
            .resolve(&Environment::default())
            .unwrap_err();
        assert!(e.message.contains("not a regular file"), "{e}");
        let e = Secret::File(folder.path().join("none"))
            .resolve(&Environment::default())
            .unwrap_err();
        assert!(e.message.ends_with("no such file or directory"), "{e}");
    }

    #[test]
    fn credentials_are_seen_by_the_service_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("bind"), b"hunter2\n", 0o440);
        let outside = Secret::Credential("bind".into())
            .resolve(&Environment::default())
            .unwrap_err();
        assert!(outside.invisible, "{outside}");
        let forgotten = Secret::Credential("bind".into())
            .resolve(&Environment::default().of_the_service())
            .unwrap_err();
        assert!(
            !forgotten.invisible
                && forgotten.message.contains("`bind` was not passed on")
                && forgotten
                    .help
                    .contains("realmsync.service.d/credentials.conf"),
            "{forgotten:?}"
        );
        let inside = Environment::of([("CREDENTIALS_DIRECTORY", folder.path())]);
        assert_eq!(
            Secret::Credential("bind".into())
                .resolve(&inside)
                .unwrap()
                .expose_secret(),
            "hunter2"
        );
        let missing = Secret::Credential("other-bind".into())
            .resolve(&inside)
            .unwrap_err();
        assert!(
            !missing.invisible && missing.help.contains("LoadCredential=other-bind:"),
            "{missing:?}"
        );
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let environment = Environment::of([("BIND", "hunter2"), ("NONE", "")]);
        assert_eq!(
            Secret::Env("BIND".into())
                .resolve(&environment)
                .unwrap()
                .expose_secret(),
            "hunter2"
        );
        assert!(
            Secret::Env("NONE".into())
                .resolve(&environment)
                .unwrap_err()
                .message
                .contains("is empty")
        );
        assert!(
            Secret::Env("OTHER".into())
                .resolve(&environment)
                .unwrap_err()
                .message
                .contains("is not set")
        );
        let shown = format!(
            "{:?} {environment:?} {:?}",
            Secret::Inline("hunter2".into()),
            Secret::Env("BIND".into())
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
