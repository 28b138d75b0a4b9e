//! Which of the two is for this server, and whether it works.

use xxhash_rust::xxh3::xxh3_64;

use super::super::delta::{Cursor, Delta, NoDelta, Way};
use super::super::error::DirectoryError;
use super::super::read::Scope;
use super::super::root_dse::fold_dn;
use super::super::session::Session;
use crate::config::DirectoryKind;

/// Of everything that a cursor depends on. Whom the filter lets in is judged by the look-up, but who was outside of another one
/// was never read.
pub(super) fn key(scope: &Scope, account: &str) -> u64 {
    let mut parts: Vec<String> = scope.bases.iter().map(|b| fold_dn(b)).collect();
    parts.sort();
    parts.extend([
        scope.filter.trim().to_owned(),
        scope.id_attribute.to_lowercase(),
        fold_dn(account),
    ]);
    xxh3_64(parts.join("\0").as_bytes())
}

impl Session {
    /// Whether timestamps can be asked for here.
    pub(in crate::directory) async fn timestamp_ways(
        &mut self,
        scope: &Scope,
    ) -> Result<Vec<Way>, DirectoryError> {
        match self.timestamp_now(scope).await {
            Ok(_) => Ok(vec![Way::Timestamp]),
            Err(NoDelta::Directory(e)) => Err(e),
            Err(NoDelta::NotOffered(_) | NoDelta::StartOver(_)) => Ok(Vec::new()),
        }
    }

    /// Where the directory is now, by its own measure wherever it shows one.
    pub(in crate::directory) async fn timestamp_now(
        &mut self,
        scope: &Scope,
    ) -> Result<Cursor, NoDelta> {
        match self.kind {
            DirectoryKind::ActiveDirectory => self.usn_place(scope).await,
            _ => self.stamp_place(scope).await,
        }
    }

    /// Who was added or changed since a cursor.
    pub(in crate::directory) async fn timestamp_changes(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        let key = key(scope, &self.account);
        let ad = self.kind == DirectoryKind::ActiveDirectory;
        let mine = if ad {
            self.invocation()
        } else {
            self.server.clone()
        };
        if let Some(why) = cursor.not_of(&mine, key) {
            return Err(NoDelta::StartOver(why));
        }
        if ad {
            self.usn_changes(scope, cursor).await
        } else {
            self.stamp_changes(scope, cursor).await
        }
    }
}
