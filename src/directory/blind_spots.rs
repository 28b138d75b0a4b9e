//! Of what a way does not tell: who is missing then is no fault of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::delta::Way;
use super::dirsync::by_groups;
use super::error::DirectoryError;
use super::read::Scope;
use super::session::Session;
use super::timestamp;
use crate::config::DirectoryKind;

/// Something that a way does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blind {
    /// Who was deleted or moved out of the base.
    Departures,
    /// Who was deleted.
    Deletions,
    /// Who came into a group, or left it.
    Groups,
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Departures => timestamp::BLIND,
            Self::Deletions => "deletions are not shown to this account, which may not list CN=Deleted Objects: only a full pass finds who is gone",
            Self::Groups => "a change of `memberOf` is one of the group: only a full pass finds it",
        })
    }
}

impl Blind {
    /// All of them in words; `None`: everything is told.
    pub fn text(all: &[Self]) -> Option<String> {
        let words: Vec<String> = all.iter().map(Self::to_string).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl Session {
    /// What the protocol of a cursor does not tell this account.
    pub async fn blind_to(
        &mut self,
        scope: &Scope,
        way: Way,
    ) -> Result<Vec<Blind>, DirectoryError> {
        let mut blind = Vec::new();
        match way {
            Way::Timestamp => blind.push(Blind::Departures),
            Way::DirSync if !self.sees_deletions().await? => blind.push(Blind::Deletions),
            Way::DirSync | Way::Push | Way::Syncrepl => {}
        }
        // Only 389-ds writes a change of the group into the member's entry.
        if by_groups(scope) && self.kind != DirectoryKind::Ds389 {
            blind.push(Blind::Groups);
        }
        Ok(blind)
    }
}
