//! Whether a server offers content synchronisation to this account, found out by trying; and where it is now.

use std::time::Duration;

use futures_util::FutureExt;
use ldap3::Scope as Depth;
use tokio::time::Instant;

use super::super::backlog::SearchStream;
use super::super::delta::{Cursor, NoDelta, Way};
use super::super::error::DirectoryError;
use super::super::read::Scope;
use super::super::session::Session;
use super::changes::RefreshChanges;
use super::codec::{ListenMode, REQUEST};
use super::cookie::Dialect;
use super::refresh::{SyncSearch, no_changelog};

/// How long a server may take to say that it would go on sending. It costs it one entry.
const TRIAL: Duration = Duration::from_secs(5);

impl Session {
    /// The ways by content synchronisation, best first.
    pub(in super::super) async fn sync_ways(
        &mut self,
        scope: &Scope,
    ) -> Result<Vec<Way>, DirectoryError> {
        let mut ways = Vec::new();
        match self.sync_now(scope).await {
            Ok(_) => {}
            Err(NoDelta::Directory(e)) => return Err(e),
            Err(NoDelta::StartOver(why) | NoDelta::NotOffered(why)) => {
                tracing::debug!("no content synchronisation: {why}");
                return Ok(ways);
            }
        }
        match self.sync_persists(scope).await {
            Ok(()) => ways.push(Way::Push),
            Err(NoDelta::Directory(e)) if self.ldap.is_closed() => return Err(e),
            Err(why) => tracing::debug!("no persistent search: {why}"),
        }
        ways.push(Way::Syncrepl);
        Ok(ways)
    }

    /// Where the server is now. The base object alone is asked for, without a cookie: no server's cookie depends on the depth of
    /// the search, so that this one is good for the whole tree, and nobody is read.
    pub(in super::super) async fn sync_now(&mut self, scope: &Scope) -> Result<Cursor, NoDelta> {
        if !self.root.has_control(REQUEST) {
            return Err(NoDelta::NotOffered(format!(
                "{}: the root DSE does not name the control Sync Request (RFC 4533)",
                self.server
            )));
        }
        let dialect = self.dialect(scope)?;
        if dialect.is_389() && self.changelog().await?.is_none() {
            return Err(NoDelta::NotOffered(no_changelog(&self.server)));
        }
        let filter = Self::sync_filter(dialect, scope);
        let mut cookies = Vec::with_capacity(scope.bases.len());
        for base in &scope.bases {
            let what = format!("asking where `{base}` is");
            let asked = SyncSearch {
                base,
                depth: Depth::Base,
                filter: &filter,
                cookie: dialect.begin(),
                mode: ListenMode::Refresh,
            };
            let until = self.page_end();
            let mut stream = self.sync_open(&what, &asked, until).await?;
            let end = self
                .sync_refresh(&what, &mut stream, &mut RefreshChanges::default(), until)
                .await
                .map_err(not_over)?;
            match end.cookie.filter(|c| dialect.reads(c)) {
                Some(cookie) => cookies.push(cookie),
                None => {
                    return Err(NoDelta::NotOffered(format!(
                        "{}: {what}: the server gives no cookie of a known form",
                        self.server
                    )));
                }
            }
        }
        Ok(self.sync_cursor(scope, &cookies))
    }

    /// Whether the server would go on sending: tried with the base object of the first base, and taken back.
    async fn sync_persists(&mut self, scope: &Scope) -> Result<(), NoDelta> {
        let dialect = self.dialect(scope)?;
        if dialect == Dialect::Ds389AsOpenLdap {
            // It answers unwillingToPerform, and leaves the search open all the same.
            return Err(NoDelta::NotOffered(format!(
                "{}: 389-ds pushes only to those who name people by nsUniqueId",
                self.server
            )));
        }
        let Some(base) = scope.bases.first() else {
            return Err(NoDelta::NotOffered("there is no base".into()));
        };
        let what = format!("trying a persistent search at `{base}`");
        let filter = Self::sync_filter(dialect, scope);
        let asked = SyncSearch {
            base,
            depth: Depth::Base,
            filter: &filter,
            cookie: dialect.begin(),
            mode: ListenMode::Persist,
        };
        let until = self.page_end().min(Instant::now() + TRIAL);
        let mut stream = self.sync_open(&what, &asked, until).await?;
        let tried = self
            .sync_refresh(&what, &mut stream, &mut RefreshChanges::default(), until)
            .await;
        let goes_on = stream.state() == ldap3::StreamState::Active && tried.is_ok();
        abandon(&mut stream);
        match tried {
            Ok(_) if !goes_on => Err(NoDelta::NotOffered(format!(
                "{}: {what}: the search ended at once",
                self.server
            ))),
            tried => tried.map(|_| ()),
        }
    }
}

/// Who sent no cookie cannot be told to begin anew.
fn not_over(why: NoDelta) -> NoDelta {
    match why {
        NoDelta::StartOver(why) => NoDelta::NotOffered(why),
        why => why,
    }
}

/// Takes a search back (RFC 4511 § 4.11): the request is handed to the connection's task at the first poll, and has no answer.
pub(super) fn abandon(stream: &mut SearchStream) {
    let mut line = stream.line();
    let _sent = line.abandon(stream.id()).now_or_never();
    let _forgotten = stream.finish().now_or_never();
}
