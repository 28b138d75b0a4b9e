//! Who is at the other end of the control socket.

use std::path::Path;

use tokio::net::UnixStream;

/// A caller of the control API, known by the kernel's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The caller's user id.
    pub uid: u32,
    /// The caller's name.
    pub name: String,
}

impl Peer {
    /// The peer of a connection; `None` if it is neither root nor the daemon's own user. (The socket's mode says so
    /// already; this holds where a socket was passed on or its mode was changed by hand.)
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let uid = stream.peer_cred().ok()?.uid();
        let own = rustix::process::geteuid().as_raw();
        (uid == 0 || uid == own).then(|| Self {
            uid,
            name: name_of(uid, Path::new("/etc/passwd")),
        })
    }

    /// Whoever this process is, for what a command does without a daemon.
    pub fn own() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            uid,
            name: name_of(uid, Path::new("/etc/passwd")),
        }
    }

    /// The name for the audit trail. Root and the daemon's own user, as whom a command of root's acts, could write anything:
    /// so they may say for whom they act (`sudo` knows).
    pub fn acting_for(&self, claimed: Option<&str>) -> String {
        match claimed.filter(|name| *name != self.name && plain(name)) {
            Some(name) if self.uid == 0 => format!("{name} as {}", self.name),
            Some(name) => name.to_owned(),
            None => self.name.clone(),
        }
    }
}

/// Whether a claimed name can stand in an audit trail: short, and without anything that could pass for another line.
fn plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@+$".contains(&b))
}

/// The name of a user id, from the local file only: a name service that hangs must not hang the daemon.
fn name_of(uid: u32, passwd: &Path) -> String {
    let users = std::fs::read_to_string(passwd).unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_file_and_unknown_ids_stay_numbers() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("passwd");
        std::fs::write(
            &file,
            "root:x:0:0:root:/root:/bin/sh\nbroken\njan:x:1000:1000::/:\n",
        )
        .expect("write");
        assert_eq!(name_of(1000, &file), "jan");
        assert_eq!(name_of(7, &file), "uid 7");
        assert_eq!(name_of(0, &dir.path().join("none")), "uid 0");
    }

    #[test]
    fn who_may_speak_for_others_does_so_in_plain_names() {
        let root = Peer {
            uid: 0,
            name: "root".into(),
        };
        assert_eq!(root.acting_for(Some("jan")), "jan as root");
        assert_eq!(root.acting_for(Some("jan\nroot")), "root");
        assert_eq!(root.acting_for(None), "root");
        let own = Peer {
            uid: 999,
            name: "realmsync".into(),
        };
        assert_eq!(own.acting_for(Some("jan")), "jan");
        assert_eq!(own.acting_for(Some("")), "realmsync");
    }
}
