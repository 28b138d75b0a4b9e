//! Who somebody is to a plan.

use super::{DirectoryId, User, UserId};

/// The identity by which a person is told from all others: the directory's, or our own of whom no directory knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// Somebody of a directory. Their own id is new when they are seen for the first time.
    Directory(DirectoryId),
    /// Made by hand, imported, or removed.
    Own(UserId),
}

impl Origin {
    /// Of a user with these ids.
    pub fn of(directory: Option<DirectoryId>, own: UserId) -> Self {
        directory.map_or(Self::Own(own), Self::Directory)
    }

    /// The bytes of the id.
    pub fn bytes(&self) -> [u8; 16] {
        match self {
            Self::Directory(id) => id.0,
            Self::Own(id) => *id.0.as_bytes(),
        }
    }
}

impl User {
    /// Who it is.
    pub fn origin(&self) -> Origin {
        Origin::of(self.directory_id, self.id)
    }
}
