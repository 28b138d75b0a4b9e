//! The control socket as a file: made with mode 0600 in one step, a dead one replaced, a living one left alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Why the control socket cannot be had.
#[derive(thiserror::Error, Debug)]
pub enum SocketError {
    /// A living daemon has it.
    #[error("another daemon answers on {}: stop it first (`systemctl status realmsync`)", .0.display())]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{} is not a socket: remove it, or name another in control.socket", .0.display())]
    NoSocket(PathBuf),
    /// The system says no.
    #[error("cannot {what} {}: {why}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        why: io::Error,
    },
}

/// A bound control socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    /// What is accepted on.
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode, to remove only our own file.
    file: (u64, u64),
}

impl ControlSocket {
    /// Binds it. The folder is made if it is absent.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |what| {
            move |why| SocketError::Io {
                what,
                path: path.to_owned(),
                why,
            }
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(fail("make the folder of"))?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NoSocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path).await {
                Err(e)
                    if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {}
                // It answers, or it is not ours to ask: either way somebody has it.
                _ => return Err(SocketError::Taken(path.to_owned())),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(fail("look at")(e)),
        }
        // Bound under another name, closed to others, and only then moved into place: there is no moment at which
        // somebody else could connect.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _absent = fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).map_err(fail("bind"))?;
        let placed = fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&draft, path));
        if let Err(e) = placed {
            let _draft = fs::remove_file(&draft);
            return Err(fail("place")(e));
        }
        let found = fs::symlink_metadata(path).map_err(fail("look at"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: (found.dev(), found.ino()),
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.file)
        {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_its_folder_made() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("run/control.sock");
        let socket = ControlSocket::bind(&path).await.expect("bind");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path().join("run"))
                .expect("folder")
                .count(),
            1,
            "no draft is left"
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_living_one_is_left_alone_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("control.sock");
        let first = ControlSocket::bind(&path).await.expect("bind");
        assert!(matches!(
            ControlSocket::bind(&path).await,
            Err(SocketError::Taken(_))
        ));
        // A killed daemon leaves the file behind.
        let dead = dir.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).expect("bind"));
        assert!(dead.exists());
        let second = ControlSocket::bind(&dead).await.expect("replace");
        drop((first, second));
    }

    #[tokio::test]
    async fn other_files_are_never_removed() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("control.sock");
        fs::write(&path, "precious").expect("write");
        assert!(matches!(
            ControlSocket::bind(&path).await,
            Err(SocketError::NoSocket(_))
        ));
        // A socket that another daemon put in our place stays when we go.
        let ours = dir.path().join("ours.sock");
        let socket = ControlSocket::bind(&ours).await.expect("bind");
        fs::remove_file(&ours).expect("remove");
        let theirs = std::os::unix::net::UnixListener::bind(&ours).expect("bind");
        drop(socket);
        assert!(ours.exists());
        drop(theirs);
    }
}
