//! What changed since a cursor. A delta only says *whom to look at*: everybody told is read anew by id in the same session, so that
//! base, scope, filter, attributes and rights are judged by the server itself, and a deletion is believed only on evidence (design § 3.2).

use serde::{Deserialize, Serialize};

use super::dirsync::Notification;
use super::error::DirectoryError;
use super::read::Scope;
use super::session::Session;
use super::syncrepl::SyncWatch;
use crate::config::DirectoryKind;
use crate::model::DirectoryId;

/// A way of hearing of changes that a server really offers, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// refreshAndPersist (RFC 4533), or Active Directory's change notification that wakes DirSync.
    Push,
    /// refreshOnly (RFC 4533).
    Syncrepl,
    /// Active Directory's DirSync control.
    DirSync,
    /// `modifyTimestamp`, `whenChanged` or `uSNChanged`: adds and changes only.
    Timestamp,
}

impl Way {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Syncrepl => "syncrepl",
            Self::DirSync => "dirsync",
            Self::Timestamp => "timestamp",
        }
    }

    /// Several in words.
    pub fn list(ways: &[Self]) -> String {
        if ways.is_empty() {
            return "no way of hearing of changes".into();
        }
        ways.iter()
            .map(|way| way.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a realm has followed its directory. Belongs to the server that gave it; the store keeps it as JSON beside the data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// The protocol that it is of: [`Way::Syncrepl`] (also used by push), [`Way::DirSync`] or [`Way::Timestamp`].
    pub way: Way,
    /// Who gave it: the URL of the server, its server ids or `invocationId`; a cursor of another server is not used.
    pub server: String,
    /// The cookie (Base64), or the instant or USN as text.
    pub cookie: String,
    /// Of the base, filter and bind DN: a cursor of another search is not used.
    pub scope: u64,
}

impl Cursor {
    /// Why it is of no use to this server and scope; `None`: it is of use.
    pub(super) fn not_of(&self, server: &str, scope: u64) -> Option<String> {
        if self.scope != scope {
            Some(
                "the base, the filter, the attributes or the account are not those of the cursor"
                    .into(),
            )
        } else if self.server != server {
            let theirs = &self.server;
            Some(format!(
                "the cursor is of {theirs} and this server is {server}: another one, or one that was restored"
            ))
        } else {
            None
        }
    }
}

/// What changed since a cursor.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Delta {
    /// Added or modified, or perhaps so, each once.
    pub touched: Vec<DirectoryId>,
    /// Said to be deleted or out of the search, each once: to be looked up like the others.
    pub gone: Vec<DirectoryId>,
    /// A refresh that told of everybody who is there (RFC 4533 § 3.3.1): whoever is neither here nor touched is to be looked up.
    pub present: Option<Vec<DirectoryId>>,
    /// Where to go on; `None`: the old cursor stays.
    pub cursor: Option<Cursor>,
    /// What the server could not tell, for the log: `deletions are not shown to this account`.
    pub blind: Option<String>,
}

impl Delta {
    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.gone.is_empty() && self.present.is_none()
    }
}

/// Why there is no delta.
#[derive(thiserror::Error, Debug)]
pub enum NoDelta {
    /// The cursor is of no more use, as the text says: read everything.
    #[error("{0}")]
    StartOver(String),
    /// The server does not offer this way, as the text says.
    #[error("{0}")]
    NotOffered(String),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl Session {
    /// The ways that this server offers to this account, best first, found out by its root DSE and by trying once cheaply.
    pub async fn ways(&mut self, scope: &Scope) -> Result<Vec<Way>, DirectoryError> {
        let mut ways = match self.kind {
            DirectoryKind::ActiveDirectory => self.dirsync_ways(scope).await?,
            _ => self.sync_ways(scope).await?,
        };
        ways.extend(self.timestamp_ways(scope).await?);
        ways.sort_unstable();
        Ok(ways)
    }

    /// Where the directory is now: a full pass that begins after this, and the delta from this cursor, miss nothing.
    pub async fn cursor_now(&mut self, scope: &Scope, way: Way) -> Result<Cursor, NoDelta> {
        match way {
            Way::Push | Way::DirSync if self.is_active_directory() => self.dirsync_now(scope).await,
            Way::Push | Way::Syncrepl => self.sync_now(scope).await,
            Way::Timestamp => self.timestamp_now(scope).await,
            Way::DirSync => Err(self.not_offered(way)),
        }
    }

    /// What changed since a cursor.
    pub async fn changes_since(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        match cursor.way {
            Way::Push | Way::Syncrepl => self.sync_changes(scope, cursor).await,
            Way::DirSync => self.dirsync_changes(scope, cursor).await,
            Way::Timestamp => self.timestamp_changes(scope, cursor).await,
        }
    }

    /// Holds a persistent search open on this session, which stays usable for looking up meanwhile.
    pub async fn watch(&mut self, scope: &Scope, cursor: &Cursor) -> Result<Watch, NoDelta> {
        match cursor.way {
            Way::Push | Way::Syncrepl => {
                let watch = self.sync_watch(scope, cursor).await?;
                Ok(Watch(WatchKind::Sync(Box::new(watch))))
            }
            Way::DirSync => {
                let watch = self.dirsync_watch(scope, cursor).await?;
                Ok(Watch(WatchKind::DirSync(Box::new(watch))))
            }
            Way::Timestamp => Err(self.not_offered(cursor.way)),
        }
    }

    fn is_active_directory(&self) -> bool {
        self.kind == DirectoryKind::ActiveDirectory
    }

    fn not_offered(&self, way: Way) -> NoDelta {
        NoDelta::NotOffered(format!("{}: no {way} here", self.server))
    }
}

/// A directory that tells of changes as they happen. Dropping it ends that; the session lives on.
#[derive(Debug)]
pub struct Watch(WatchKind);

#[derive(Debug)]
enum WatchKind {
    Sync(Box<SyncWatch>),
    DirSync(Box<Notification>),
}

impl Watch {
    /// Waits for the next changes, and gathers what is there already; a delta in which nothing is told only moves the cursor.
    /// Cancel-safe. A dead peer is noticed within 60 s. After an error the watch is over.
    pub async fn next(&mut self) -> Result<Delta, NoDelta> {
        match &mut self.0 {
            WatchKind::Sync(watch) => watch.next().await,
            WatchKind::DirSync(watch) => watch.next().await,
        }
    }
}
