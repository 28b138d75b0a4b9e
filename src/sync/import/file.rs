//! A file of users that may be read more than once, from any thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

/// A file of users, and what it is called. Cheap to clone; two are the same when they are the same open file.
#[derive(Clone, Debug)]
pub struct ImportFile {
    name: String,
    file: Arc<File>,
}

impl PartialEq for ImportFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Eq for ImportFile {}

impl ImportFile {
    /// An open file that can be read at any place. `name` is for people and for the audit, without a folder.
    pub fn new(name: &str, file: File) -> Self {
        let name = name.rsplit('/').next().unwrap_or_default();
        let name = name.chars().filter(|c| !c.is_control()).take(255).collect();
        Self {
            name,
            file: Arc::new(file),
        }
    }

    /// A new file that nobody else sees, in the first of these folders that takes one; it is gone with the process.
    ///
    /// # Errors
    /// Of the last folder.
    pub fn temporary(folders: &[PathBuf]) -> io::Result<File> {
        let mut failed = io::Error::other("no folder for a temporary file");
        for folder in folders {
            let name = format!(
                ".realmsync-import-{}",
                crate::runs::uuid_v7(crate::clock::Timestamp(0)).simple()
            );
            let path = folder.join(name);
            let made = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match made {
                Ok(file) => {
                    std::fs::remove_file(&path)?;
                    return Ok(file);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Folders for temporary files: the large one first, since the other may be memory.
    pub fn places() -> Vec<PathBuf> {
        vec![PathBuf::from("/var/tmp"), std::env::temp_dir()]
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bytes from the beginning.
    pub fn open(&self) -> impl Read + Send + use<> {
        At {
            file: Arc::clone(&self.file),
            at: 0,
        }
    }

    /// How many bytes it has; 0: not known.
    pub fn size(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }
}

/// A place in a file that others read at other places.
struct At {
    file: Arc<File>,
    at: u64,
}

impl Read for At {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
