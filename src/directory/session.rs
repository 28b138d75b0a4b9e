//! A session: one server, who we are to it, and what it says about itself.

use std::sync::Arc;

use tokio::time::Instant;

use super::backlog::LdapHandle;
use super::credentials::Credentials;
use super::entry::Names;
use super::error::{DirectoryError, ServerFailure};
use super::link::ConnectionTask;
use super::reach::Reach;
use super::root_dse::{RootDse, fold_dn};
use super::spelling::Spellings;
use super::state::ServerState;
use crate::clock::Clock;
use crate::config::{DirectoryConfig, DirectoryKind};

/// A bound connection to one server. Dropping it closes the connection; after an error it is of no further use.
pub struct Session {
    pub(super) server: String,
    /// How to reach the same server again, for a pass.
    pub(super) reach: Arc<Reach>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) ldap: LdapHandle,
    pub(super) link: ConnectionTask,
    pub(super) root: RootDse,
    pub(super) kind: DirectoryKind,
    /// The DN that it is bound with; empty: by a certificate, or not at all.
    pub(super) account: String,
    pub(super) state: ServerState,
    /// What the server said instead of how far it is.
    pub(super) state_refused: Option<ServerFailure>,
    /// The bind succeeded, and the server said that the password is over.
    pub(super) password_over: bool,
    pub(super) names: Names,
    /// How ids were spelled so far.
    pub(super) spellings: Spellings,
    /// Whether anybody was found by id so far.
    pub(super) finds_by_id: bool,
    /// Only where a server says of no clock of its own (`timestamp`).
    pub(super) clock: Clock,
    /// The whole run's end.
    pub(super) deadline: Instant,
    /// The naming contexts that hold the bases, in the order of the bases, each once.
    pub(super) contexts: Vec<String>,
    /// What failed on the servers before this one.
    pub(super) failed: Vec<DirectoryError>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Why a server cannot be taken after what was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lag {
    /// It is older, as the text says.
    Behind(String),
    /// It refuses to say how far it is, which others have shown.
    Refused(DirectoryError),
}

/// An error, and whether it is in vain to ask further servers.
pub(super) type ConnectFailure = (DirectoryError, bool);

/// Whether an authorization id (RFC 4513 § 5.2.1.8) is that of an anonymous client: empty, or a DN that is.
fn nobody(who: &str) -> bool {
    who.strip_prefix("dn:").unwrap_or(who).trim().is_empty()
}

impl Session {
    /// The server's URL: `ldaps://ldap1.example.org`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The kind as configured, or by the root DSE.
    pub fn kind(&self) -> DirectoryKind {
        self.kind
    }

    /// What the server says about itself.
    pub fn root_dse(&self) -> &RootDse {
        &self.root
    }

    /// How far the server was when the session began.
    pub fn state(&self) -> &ServerState {
        &self.state
    }

    /// What failed on the servers that were tried before this one.
    pub fn failed(&self) -> &[DirectoryError] {
        &self.failed
    }

    /// The identity of the directory: the naming context of the first base, folded. Two realms with the same one share a directory.
    pub fn directory_key(&self) -> String {
        self.contexts
            .first()
            .map(|c| fold_dn(c))
            .unwrap_or_default()
    }

    /// Fails as *stale* when the server is known to be behind what was seen.
    pub fn not_behind(&self, seen: Option<&ServerState>) -> Result<(), DirectoryError> {
        match seen.and_then(|seen| self.lags(seen)) {
            Some(Lag::Behind(why)) => Err(DirectoryError::stale(&self.server, &why)),
            Some(Lag::Refused(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Why this server cannot be taken after what was `seen`; `None`: it can.
    pub fn lags(&self, seen: &ServerState) -> Option<Lag> {
        if let (Some(failure), true) = (&self.state_refused, *seen != ServerState::Unknown) {
            return Some(Lag::Refused(DirectoryError::Incomplete(failure.clone())));
        }
        self.state.behind(seen).map(Lag::Behind)
    }

    /// Gives a session that lives on another run's end.
    pub fn extend(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Asks anew how far the server is, on a session that has been open for long.
    pub async fn look_where_it_is(&mut self) -> Result<(), DirectoryError> {
        let until = self.page_end();
        self.read_state(until).await
    }

    /// A second session on the same connection, which ends with this one.
    pub(super) fn beside(&self) -> Self {
        Self {
            server: self.server.clone(),
            reach: Arc::clone(&self.reach),
            credentials: Arc::clone(&self.credentials),
            ldap: self.ldap.clone(),
            link: ConnectionTask::elsewhere(),
            root: self.root.clone(),
            kind: self.kind,
            account: self.account.clone(),
            state: self.state.clone(),
            state_refused: self.state_refused.clone(),
            password_over: self.password_over,
            names: Names::default(),
            spellings: self.spellings.clone(),
            finds_by_id: self.finds_by_id,
            clock: self.clock.clone(),
            deadline: self.deadline,
            contexts: self.contexts.clone(),
            failed: Vec::new(),
        }
    }

    pub(super) fn failure(&self, what: &str, came: impl Into<String>, next: &str) -> ServerFailure {
        ServerFailure {
            server: self.server.clone(),
            what: what.into(),
            came: came.into(),
            next: next.into(),
        }
    }

    /// Asks the server who it is, who the account is to it, and how far it is.
    pub(super) async fn introduce(
        &mut self,
        config: &DirectoryConfig,
        until: Instant,
    ) -> Result<(), DirectoryError> {
        self.read_root_dse(until).await?;
        self.kind = config
            .kind
            .or(self.root.kind)
            .unwrap_or(DirectoryKind::Generic);
        for base in &config.base {
            // A server that names no context is asked under the base itself.
            let context = self.root.naming_context(base).unwrap_or(base).to_owned();
            if !self
                .contexts
                .iter()
                .any(|c| fold_dn(c) == fold_dn(&context))
            {
                self.contexts.push(context);
            }
        }
        let bound = config.bind_dn.is_some() || config.client_cert.is_some();
        if bound && self.who(until).await?.is_some_and(|who| nobody(&who)) {
            let failure = self.failure(
                "asking who the account is",
                "nobody: the bind succeeded, but is anonymous",
                "check `bind-dn` and its password",
            );
            return Err(DirectoryError::Auth(failure));
        }
        self.read_state(until).await
    }
}
