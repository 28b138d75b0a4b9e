//! A search that stays open (refreshAndPersist, RFC 4533 § 3.4): first what changed since the cursor, then whatever changes.
//!
//! ```text
//!            each message ─────────────▶ told, and its cookie
//! next ─ waits ┤                              │ nothing more is there at once
//!            25 s of silence ─▶ a question    ▼
//!                │ no answer in 25 s        Delta
//!                ▼
//!            the peer is dead
//! ```

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::{pending, select_all};
use ldap3::{LdapError, ResultEntry, Scope as Depth};
use tokio::time::{Instant, sleep_until};

use super::super::backlog::{LdapHandle, SearchStream};
use super::super::delta::{Cursor, Delta, NoDelta};
use super::super::error::{DirectoryError, ServerFailure, came};
use super::super::link::{Broken, words};
use super::super::liveness::{Probe, SILENCE, probe};
use super::super::read::Scope;
use super::super::session::Session;
use super::changes::{self, RefreshChanges};
use super::codec::ListenMode;
use super::cookie::{self, Dialect};
use super::offer::abandon;
use super::refresh::{SyncSearch, together};

/// Messages that are gathered into one delta. A burst that is longer goes on in the next.
const GATHERED: usize = 10_000;

/// A persistent search on a session, one for each base. Dropping it takes the searches back; the session lives on.
pub struct SyncWatch {
    server: String,
    what: String,
    dialect: Dialect,
    ldap: LdapHandle,
    /// Whether the server can be asked who we are; else it is asked for its root DSE.
    who_am_i: bool,
    streams: Vec<SearchStream>,
    cookies: Vec<Vec<u8>>,
    /// The cursor as it would be with the cookies of now.
    cursor: Cursor,
    /// The cursor that was last given out.
    given: String,
    /// What is told and not yet given out; a dropped [`SyncWatch::next`] loses nothing.
    first: Option<Delta>,
    told: RefreshChanges,
    probe: Option<Probe>,
    /// When the server was last heard.
    heard: Instant,
}

impl std::fmt::Debug for SyncWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncWatch")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Opens the searches and reads what changed since the cursor, which the first [`SyncWatch::next`] gives out.
    pub(in super::super) async fn sync_watch(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<SyncWatch, NoDelta> {
        let dialect = self.dialect(scope)?;
        if dialect == Dialect::Ds389AsOpenLdap {
            return Err(NoDelta::NotOffered(format!(
                "{}: 389-ds pushes only to those who name people by nsUniqueId",
                self.server
            )));
        }
        let mut cookies = self.cookies(scope, dialect, cursor).await?;
        let held = cookies.clone();
        let filter = Self::sync_filter(dialect, scope);
        let mut watch = SyncWatch {
            server: self.server.clone(),
            what: "waiting for changes".into(),
            dialect,
            ldap: self.ldap.clone(),
            who_am_i: self.knows_who_am_i(),
            streams: Vec::new(),
            cookies: Vec::new(),
            cursor: cursor.clone(),
            given: cursor.cookie.clone(),
            first: None,
            told: RefreshChanges::default(),
            probe: None,
            heard: Instant::now(),
        };
        let mut told = Vec::with_capacity(cookies.len());
        for (base, cookie) in scope.bases.iter().zip(&mut cookies) {
            let what = format!("asking for changes under `{base}`, those to come too");
            let asked = SyncSearch {
                base,
                depth: Depth::Subtree,
                filter: &filter,
                cookie: Some(cookie),
                mode: ListenMode::Persist,
            };
            let until = self.page_end();
            watch
                .streams
                .push(self.sync_open(&what, &asked, until).await?);
            let Some(stream) = watch.streams.last_mut() else {
                continue;
            };
            let mut heard = RefreshChanges::default();
            let end = self.sync_refresh(&what, stream, &mut heard, until).await?;
            if stream.state() != ldap3::StreamState::Active {
                return Err(NoDelta::NotOffered(format!(
                    "{}: {what}: the search ended at once",
                    self.server
                )));
            }
            told.push(self.sync_judge(&what, dialect, cookie, heard, &end)?);
        }
        if dialect.is_389() {
            self.still_remembered(dialect, &held).await?;
        }
        let delta = together(told).map_err(|why| self.start_over(why))?;
        watch.cursor = self.sync_cursor(scope, &cookies);
        watch.cookies = cookies;
        watch.heard = Instant::now();
        watch.first = (!delta.is_empty()).then_some(delta);
        Ok(watch)
    }
}

/// What [`SyncWatch::hear`] heard.
enum WatchEvent {
    Item(usize, Result<Option<ResultEntry>, Broken>),
    Alive(Result<(), Broken>),
    Silence,
}

impl WatchEvent {
    /// What ldap3 gave of a search. It panics over what it cannot read; here that is an error.
    fn item(at: usize, item: std::thread::Result<Result<Option<ResultEntry>, LdapError>>) -> Self {
        Self::Item(
            at,
            match item {
                Ok(item) => item.map_err(Broken::Link),
                Err(_) => Err(Broken::Unreadable),
            },
        )
    }
}

impl SyncWatch {
    /// Waits for the next changes, and gathers what is there already. A delta in which nothing is told only moves the cursor.
    /// Cancel-safe. After an error the watch is over.
    pub async fn next(&mut self) -> Result<Delta, NoDelta> {
        loop {
            let mut gathered = 0;
            while gathered < GATHERED
                && let Some(heard) = self.hear_now()
            {
                self.take(heard).await?;
                gathered += 1;
            }
            if self.first.is_some() || !self.told.is_empty() {
                return self.give();
            }
            match self.hear().await {
                WatchEvent::Silence => {
                    // Time passed without anybody's change: other people's moved the cursor, and it is worth keeping.
                    self.ask();
                    if self.cursor.cookie != self.given {
                        return self.give();
                    }
                }
                heard => self.take(heard).await?,
            }
        }
    }

    fn give(&mut self) -> Result<Delta, NoDelta> {
        let mut told = Vec::new();
        if !self.told.is_empty() {
            told.push(self.told.told_live());
        }
        let live = together(told).map_err(|why| NoDelta::StartOver(why.into()))?;
        let mut delta = self.first.take().unwrap_or_default();
        delta.touched.extend(live.touched);
        delta.gone.extend(live.gone);
        for ids in [&mut delta.touched, &mut delta.gone] {
            ids.sort_unstable();
            ids.dedup();
        }
        if self.cursor.cookie != self.given {
            self.given.clone_from(&self.cursor.cookie);
            delta.cursor = Some(self.cursor.clone());
        }
        Ok(delta)
    }

    /// What is there without waiting.
    fn hear_now(&mut self) -> Option<WatchEvent> {
        self.streams
            .iter_mut()
            .enumerate()
            .find_map(|(at, stream)| {
                let item = AssertUnwindSafe(stream.next())
                    .catch_unwind()
                    .now_or_never()?;
                Some(WatchEvent::item(at, item))
            })
    }

    async fn hear(&mut self) -> WatchEvent {
        let probe = &mut self.probe;
        let nexts = self
            .streams
            .iter_mut()
            .map(|s| Box::pin(AssertUnwindSafe(s.next()).catch_unwind()));
        let asked = probe.is_some();
        tokio::select! {
            biased;
            (item, at, _) = select_all(nexts) => WatchEvent::item(at, item),
            answer = async { match probe { Some(probe) => probe.await, None => pending().await } } => WatchEvent::Alive(answer),
            () = sleep_until(self.heard + SILENCE), if !asked => WatchEvent::Silence,
        }
    }

    /// Asks something cheap on the same connection.
    fn ask(&mut self) {
        self.probe = Some(probe(self.ldap.clone(), self.who_am_i));
    }

    async fn take(&mut self, heard: WatchEvent) -> Result<(), NoDelta> {
        let (at, item) = match heard {
            WatchEvent::Silence => return Ok(()),
            WatchEvent::Alive(answer) => {
                self.probe = None;
                self.heard = Instant::now();
                return match answer {
                    Ok(()) => Ok(()),
                    Err(broken) => Err(self.broken(broken)),
                };
            }
            WatchEvent::Item(at, item) => (at, item),
        };
        self.heard = Instant::now();
        let item = match item {
            Ok(Some(item)) => item,
            Ok(None) => return Err(self.ended(at).await),
            Err(broken) => return Err(self.broken(broken)),
        };
        let message = match changes::message(item) {
            Ok(message) => message,
            Err(e) => {
                let failure = self.failure(
                    e.0.into(),
                    "nothing is taken from it: look at the server, or at what stands between",
                );
                return Err(DirectoryError::Incomplete(failure).into());
            }
        };
        if let (Some(cookie), Some(held)) = (self.told.live(message), self.cookies.get_mut(at))
            && let Some(next) = self.dialect.follow(held, &cookie)
            && next != *held
        {
            *held = next;
            self.cursor.cookie = cookie::keep(&self.cookies);
        }
        Ok(())
    }

    fn failure(&self, came: String, next: &str) -> ServerFailure {
        ServerFailure {
            server: self.server.clone(),
            what: self.what.clone(),
            came,
            next: next.into(),
        }
    }

    fn broken(&self, broken: Broken) -> NoDelta {
        let (came, _, _) = words(broken);
        let failure = self.failure(came, "a new connection goes on from the last cursor");
        DirectoryError::Unreachable(failure).into()
    }

    /// The server ended a search that was to stay open.
    async fn ended(&mut self, at: usize) -> NoDelta {
        let result = match self.streams.get_mut(at) {
            Some(stream) => stream.finish().await,
            None => return self.broken(Broken::Unreadable),
        };
        let came = came(result.rc, &result.text);
        if result.rc == 4096 {
            return NoDelta::StartOver(format!(
                "{}: {}: {came}: everything is read",
                self.server, self.what
            ));
        }
        let came = format!("the server ended the search, {came}");
        let failure = self.failure(came, "a new connection goes on from the last cursor");
        DirectoryError::Incomplete(failure).into()
    }
}

impl Drop for SyncWatch {
    fn drop(&mut self) {
        self.streams.iter_mut().for_each(abandon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ldap3_cannot_read_is_an_error_and_no_panic() {
        let panicking = async {
            std::panic::resume_unwind(Box::new("as ldap3 does"));
        };
        let panicked = AssertUnwindSafe(panicking).catch_unwind().now_or_never();
        let item = panicked.map(|p: std::thread::Result<()>| p.map(|()| Ok(None)));
        assert!(matches!(
            WatchEvent::item(0, item.unwrap()),
            WatchEvent::Item(0, Err(Broken::Unreadable))
        ));
    }
}
