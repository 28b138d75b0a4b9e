//! Who may write to an SQLite store: one process, by a lock on a file beside it. On PostgreSQL see [`super::lease`].

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StoreError;
use crate::config::{StoreConfig, StoreUrl};

/// Held for as long as this process may write. PostgreSQL needs none.
#[derive(Debug)]
pub struct StoreLock {
    _file: Option<File>,
}

/// Takes the store for writing, and waits for it that long at most.
pub fn lock(config: &StoreConfig, wait: Duration) -> Result<StoreLock, StoreError> {
    let StoreUrl::Sqlite(path) = &config.url else {
        return Ok(StoreLock { _file: None });
    };
    let name = beside(path);
    let open = |e: std::io::Error| StoreError::Open {
        what: name.display().to_string(),
        why: advice(path, &e),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&name).map_err(open)?;
    let end = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _unread = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "unknown".to_owned()
                } else {
                    holder.trim().to_owned()
                };
                return Err(StoreError::Busy {
                    what: path.display().to_string(),
                    holder,
                });
            }
            Err(TryLockError::Error(e)) => return Err(open(e)),
        }
    }
    // No more of the command line than its command: the rest may name people.
    let arguments = std::env::args().skip(1);
    let me = format!("process {} ({})", std::process::id(), command(arguments));
    let _told = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(me.as_bytes()));
    Ok(StoreLock { _file: Some(file) })
}

/// The lock's file.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(".lock");
    PathBuf::from(name)
}

/// Whether a process has taken an SQLite store for writing. `false` also where that cannot be seen.
pub fn is_taken(config: &StoreConfig) -> bool {
    let StoreUrl::Sqlite(path) = &config.url else {
        return false;
    };
    File::open(beside(path))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The command of a command line. `-c` and `--config` have a value before it, and options may.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut arguments = arguments.skip_while(|a| a == "--json");
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-c" | "--config") {
            let _file = arguments.next();
        } else if !argument.starts_with('-') {
            let word = argument.len() <= 20
                && argument
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-');
            return if word { argument } else { "a command".into() };
        }
    }
    "a command".into()
}

/// What an administrator does about a file that cannot be opened.
pub(super) fn advice(path: &Path, error: &std::io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{error}; make the folder {folder} (`install -d -m 0700 {folder}`)")
        }
        std::io::ErrorKind::PermissionDenied => {
            "permission denied; run it as root or as the user of the service, to whom the file must belong".into()
        }
        std::io::ErrorKind::StorageFull => format!("{error}; make room on the disk of {folder}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_taken_for_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            url: StoreUrl::Sqlite(folder.path().join("r.db")),
            password: None,
            keep_runs_ms: 0,
        };
        assert!(!is_taken(&config));
        assert!(!beside(&folder.path().join("r.db")).exists());
        let held = lock(&config, Duration::ZERO).unwrap();
        assert!(is_taken(&config));
        drop(held);
        assert!(!is_taken(&config));
    }

    #[test]
    fn of_a_command_line_only_the_command_is_noted() {
        for (line, wanted) in [
            ("run", "run"),
            ("-c /etc/x.toml sync example.org --user jan", "sync"),
            (
                "--config=/x --json users set jan --phone +421905123456",
                "users",
            ),
            ("--json two-factor add jan", "two-factor"),
            ("+421905123456", "a command"),
            ("", "a command"),
        ] {
            let arguments = line.split_whitespace().map(str::to_owned);
            assert_eq!(command(arguments), wanted, "{line}");
        }
    }
}
