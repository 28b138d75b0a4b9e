//! A realm ready to be read: a session, and the rules by which its entries are understood.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Attributes, DirectoryKind, RealmConfig};
use crate::directory::{
    Blind, Cursor, Delta, DirectoryError, NoDelta, Scope, Session, Sighting, Way,
};
use crate::model::{DirectoryId, ErrorCode, Policy, RawEntry, RealmRow, Synonyms};
use crate::normalise::Normaliser;
use crate::runs::RunFailure;

/// Ids looked up at once. The directory part cuts them into filters of its own size; this bounds what is in memory.
pub(in crate::sync) const LOOK_UP: usize = 1000;

impl From<DirectoryError> for RunFailure {
    fn from(error: DirectoryError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// A realm ready to be read.
pub(in crate::sync) struct PreparedSession {
    /// `None` while a page is being read on its own task.
    pub session: Option<Session>,
    pub scope: Scope,
    pub normaliser: Normaliser,
    pub attributes: Attributes,
    /// What the server's schema calls those that the file names.
    pub synonyms: Synonyms,
    /// Named attributes of which no schema says that they exist, until somebody has a value in them.
    pub unproved: Vec<String>,
    /// With what is due; see [`RealmRow::mapping_hash`].
    pub mapping_hash: String,
    pub policy: Policy,
    /// No step may go on after this.
    pub deadline: Instant,
    /// A server that is behind is taken as it is.
    pub accepts_older: bool,
}

impl PreparedSession {
    pub(in crate::sync) fn session(&mut self) -> Result<&mut Session, RunFailure> {
        self.session.as_mut().ok_or_else(|| {
            RunFailure::new(
                ErrorCode::Incomplete,
                "the connection ended; nothing was applied",
            )
        })
    }

    /// Gives a session that lives on the end of another run.
    pub(in crate::sync) fn extend(&mut self, realm: &RealmConfig) -> Result<(), RunFailure> {
        self.deadline = run_end(realm);
        let deadline = self.deadline;
        self.session()?.extend(deadline);
        Ok(())
    }

    /// Asks anew how far the server is.
    pub(in crate::sync) async fn look_where_it_is(&mut self) -> Result<(), RunFailure> {
        Ok(self.session()?.look_where_it_is().await?)
    }

    /// Where these ids are now; a missing one was found nowhere.
    pub(in crate::sync) async fn look_up(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<HashMap<DirectoryId, Sighting>, RunFailure> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let scope = self.scope.clone();
        Ok(Box::pin(self.session()?.look_up(&scope, ids)).await?)
    }

    /// Those of these people who are not protected (`phone-change.protect`), as the directory says. Whoever else is, or it could not be
    /// found out: then the log says why.
    pub(in crate::sync) async fn unprotected(
        &mut self,
        ids: &[DirectoryId],
    ) -> HashSet<DirectoryId> {
        let (Some(filter), false) = (self.policy.protect.clone(), ids.is_empty()) else {
            return HashSet::new();
        };
        let Some(session) = &mut self.session else {
            return HashSet::new();
        };
        match Box::pin(session.not_matching(&self.scope, &filter, ids)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    "who matches `protect` of [realm.phone-change] could not be found out: {error}; another number of {} people waits for an administrator",
                    ids.len()
                );
                HashSet::new()
            }
        }
    }

    /// The DNs in scope of each of these ids.
    pub(in crate::sync) async fn places(
        &mut self,
        ids: &[DirectoryId],
    ) -> Result<BTreeMap<DirectoryId, BTreeSet<String>>, RunFailure> {
        let scope = self.scope.clone();
        Ok(self.session()?.places(&scope, ids).await?)
    }

    /// The ways of hearing of changes that the server offers.
    pub(in crate::sync) async fn ways(&mut self) -> Result<Vec<Way>, RunFailure> {
        let scope = self.scope.clone();
        Ok(self.session()?.ways(&scope).await?)
    }

    /// Where the directory is now.
    pub(in crate::sync) async fn cursor_now(&mut self, way: Way) -> Result<Cursor, NoDelta> {
        match &mut self.session {
            Some(session) => session.cursor_now(&self.scope, way).await,
            None => Err(NoDelta::StartOver("the connection ended".into())),
        }
    }

    /// What a way does not tell.
    pub(in crate::sync) async fn blind_to(&mut self, way: Way) -> Result<Vec<Blind>, RunFailure> {
        let scope = self.scope.clone();
        Ok(self.session()?.blind_to(&scope, way).await?)
    }

    /// What changed since a cursor.
    pub(in crate::sync) async fn changes_since(
        &mut self,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        match &mut self.session {
            Some(session) => {
                let alive = session.liveness();
                let asked = session.changes_since(&self.scope, cursor);
                alive.beside(Box::pin(asked)).await
            }
            None => Err(NoDelta::StartOver("the connection ended".into())),
        }
    }

    /// Entries in scope with this user name.
    pub(in crate::sync) async fn find_by_name(
        &mut self,
        name: &str,
    ) -> Result<Vec<RawEntry>, RunFailure> {
        let (scope, attributes) = (self.scope.clone(), self.attributes.username.clone());
        Ok(self
            .session()?
            .find_by_name(&scope, &attributes, name)
            .await?)
    }

    /// Which directory it is; see [`RealmRow::directory`].
    pub(in crate::sync) fn directory_key(&self) -> String {
        self.session
            .as_ref()
            .map(Session::directory_key)
            .unwrap_or_default()
    }

    /// What kind of server it is.
    pub(in crate::sync) fn kind(&self) -> Option<DirectoryKind> {
        self.session.as_ref().map(Session::kind)
    }

    /// The server that answers.
    pub(in crate::sync) fn server(&self) -> Option<String> {
        self.session.as_ref().map(|s| s.server().to_owned())
    }

    /// Where a server that is taken as it is stands. What others were seen at counts no more: one that was replaced never comes
    /// back, and every later run would fail as stale. `None`: it was not taken so.
    pub(in crate::sync) fn accepted_state(&self) -> Option<String> {
        let session = self.session.as_ref().filter(|_| self.accepts_older)?;
        serde_json::to_string(session.state()).ok()
    }

    /// What the servers were seen at, this one included, as the store keeps it; `whole`: after everybody was read.
    pub(in crate::sync) fn seen_state(&self, row: &RealmRow, whole: bool) -> Option<String> {
        if let Some(accepted) = self.accepted_state().filter(|_| whole) {
            return Some(accepted);
        }
        let seen = row
            .seen_state
            .as_deref()
            .and_then(|s| serde_json::from_str(s).ok());
        let state = self.session.as_ref()?.state();
        serde_json::to_string(&state.merged(seen.as_ref())).ok()
    }
}

/// When a run that begins now must have ended.
pub(in crate::sync) fn run_end(realm: &RealmConfig) -> Instant {
    let run_timeout =
        Duration::from_millis(u64::try_from(realm.directory.run_timeout_ms).unwrap_or(3_600_000));
    Instant::now() + run_timeout
}
