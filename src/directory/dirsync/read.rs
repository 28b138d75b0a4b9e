//! Asking: what is new in each naming context since its cookie, page by page until the server has no more.

use std::sync::Arc;

use ldap3::Scope as Depth;
use ldap3::controls::RawControl;
use tokio::time::Instant;

use super::super::backlog::SearchStream;
use super::super::blind_spots::Blind;
use super::super::delta::{Cursor, Delta, NoDelta, Way};
use super::super::entry;
use super::super::error::{DirectoryError, came};
use super::super::link::within;
use super::super::read::Scope;
use super::super::search::Trouble;
use super::super::session::Session;
use super::super::state::ServerState;
use super::changes::{DirSyncChanges, Unfollowable};
use super::codec::{OBJECT_SECURITY, answer, request};
use super::place::{DirSyncPlace, asked, key};
use super::{DIRSYNC, EVERYTHING};

/// USNs after which a cursor is worth keeping though nothing was told, so that the server's own way to what is new stays short.
const WORTH_KEEPING: u64 = 1000;

/// How a naming context was asked.
pub(super) enum ContextRead {
    /// To its end; this is where to go on.
    Cookie(Vec<u8>),
    /// Something that cannot be followed.
    Odd(Unfollowable),
}

impl Session {
    /// Who gives the cursor: a domain controller is who it is until it is restored.
    pub(in crate::directory) fn invocation(&self) -> String {
        match &self.state {
            ServerState::ActiveDirectory { invocation, .. } => invocation.clone(),
            _ => self.server.clone(),
        }
    }

    /// The server's `highestCommittedUSN` now; `None`: it does not say.
    pub(in crate::directory) async fn usn_now(&mut self) -> Result<Option<u64>, DirectoryError> {
        let until = self.page_end();
        let what = "reading how far the server is";
        let found = self
            .glance(until, what, "", &["highestCommittedUSN"])
            .await?;
        Ok(found
            .as_ref()
            .and_then(|e| e.values("highestcommittedusn").next())
            .and_then(|v| std::str::from_utf8(v).ok()?.trim().parse().ok()))
    }

    /// Opens a search with controls of its own.
    pub(super) async fn open(
        &mut self,
        what: &str,
        context: &str,
        filter: &str,
        attributes: &Arc<[String]>,
        controls: Vec<RawControl>,
        until: Instant,
    ) -> Result<SearchStream, Trouble> {
        let mut ldap = self.ldap.clone();
        ldap.with_controls(controls);
        let started = within(
            until,
            ldap.streaming_search(context, Depth::Subtree, filter, Arc::clone(attributes)),
        )
        .await;
        match started {
            Ok(stream) => Ok(stream),
            Err(broken) => Err(self.broken(what, broken).await),
        }
    }

    /// Follows one naming context from a cookie (empty: from the beginning) to its end.
    pub(super) async fn follow(
        &mut self,
        context: &str,
        filter: &str,
        attributes: &Arc<[String]>,
        object_security: bool,
        mut cookie: Vec<u8>,
        told: &mut DirSyncChanges,
    ) -> Result<ContextRead, Trouble> {
        let flags = if object_security { OBJECT_SECURITY } else { 0 };
        for page in 1_u64.. {
            let what = format!("asking `{context}` for changes (DirSync), page {page}");
            let until = self.page_end();
            let control = RawControl {
                ctype: DIRSYNC.into(),
                crit: true,
                val: Some(request(flags, &cookie)),
            };
            let mut stream = self
                .open(&what, context, filter, attributes, vec![control], until)
                .await?;
            let before = told.len();
            let names = &mut self.names;
            let read = within(until, async {
                while let Some(item) = stream.next().await? {
                    // What another naming context holds is asked for there.
                    if item.is_ref() || item.is_intermediate() {
                        continue;
                    }
                    let Ok((entry, _)) = entry::entry(item.0, names) else {
                        return Ok(Some(Unfollowable::Nobody));
                    };
                    if let Err(odd) = told.take(&entry) {
                        return Ok(Some(odd));
                    }
                }
                Ok(None)
            })
            .await;
            match read {
                Ok(None) => {}
                Ok(Some(odd)) => {
                    self.leave(&mut stream).await;
                    return Ok(ContextRead::Odd(odd));
                }
                Err(broken) => return Err(self.broken(&what, broken).await),
            }
            let result = stream.finish().await;
            if result.rc != 0 {
                return Err(Trouble::result(result, what));
            }
            let control = result.ctrls.iter().find(|c| c.1.ctype == DIRSYNC);
            let Some(answer) = control.and_then(|c| c.1.val.as_deref()).and_then(answer) else {
                return Err(self.incomplete(
                    &what,
                    "success, but no DirSync control with a cookie in the answer",
                    "whether this was all cannot be known; look at what stands between",
                ));
            };
            if !answer.more {
                return Ok(ContextRead::Cookie(answer.cookie.to_vec()));
            }
            if answer.cookie == cookie && told.len() == before {
                return Err(self.incomplete(
                    &what,
                    "`there is more`, with the same cookie and nothing new",
                    "nothing is taken from what came so far; look into the server's log",
                ));
            }
            cookie = answer.cookie.to_vec();
        }
        // There are fewer pages than numbers.
        Ok(ContextRead::Odd(Unfollowable::TooMany))
    }

    /// Tells the server that a search is of no more interest. What it still sends is dropped.
    pub(in crate::directory) async fn leave(&mut self, stream: &mut SearchStream) {
        let mut line = stream.line();
        let _dropped_anyway = within(self.page_end(), line.abandon(stream.id())).await;
    }

    /// What changed since a cursor of DirSync.
    pub(in crate::directory) async fn dirsync_changes(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        let key = key(scope, &self.account);
        if let Some(why) = cursor.not_of(&self.invocation(), key) {
            return Err(NoDelta::StartOver(why));
        }
        let contexts = self.contexts.clone();
        let Some((place, cookies)) = DirSyncPlace::parse(&cursor.cookie, contexts.len()) else {
            return Err(NoDelta::StartOver(
                "the cursor is no place in DirSync that can be read".into(),
            ));
        };
        let usn = self.usn_now().await?;
        if let (Some(now), Some(then)) = (usn, place.usn) {
            if now < then {
                return Err(NoDelta::StartOver(format!(
                    "the server is at USN {now}, and the cursor at {then}: it was restored from a backup"
                )));
            }
            if now == then {
                // What is never told is said though there is nothing to tell: it is asked for just after the cursor was taken.
                let blind = Blind::text(&self.blind_to(scope, Way::DirSync).await?);
                return Ok(Delta {
                    blind,
                    ..Delta::default()
                });
            }
        }
        let attributes: Arc<[String]> = asked(scope).into();
        let mut told = DirSyncChanges::default();
        let mut next = Vec::with_capacity(cookies.len());
        for (context, cookie) in contexts.iter().zip(cookies) {
            let came = self
                .follow(
                    context,
                    EVERYTHING,
                    &attributes,
                    place.object_security,
                    cookie,
                    &mut told,
                )
                .await;
            match came.map_err(|trouble| self.dirsync_over(trouble))? {
                ContextRead::Cookie(cookie) => next.push(cookie),
                ContextRead::Odd(odd) => return Err(NoDelta::StartOver(odd.text())),
            }
        }
        self.taken_along(scope, &mut told).await?;
        let blind = Blind::text(&self.blind_to(scope, Way::DirSync).await?);
        self.still_sound("asking for changes (DirSync)")?;
        let moved_on = match (usn, place.usn) {
            (Some(now), Some(then)) => now - then >= WORTH_KEEPING,
            _ => false,
        };
        let cursor = (told.len() > 0 || moved_on).then(|| Cursor {
            way: Way::DirSync,
            server: self.invocation(),
            cookie: DirSyncPlace::new(usn, place.object_security, &next).text(),
            scope: key,
        });
        let (touched, gone) = told.lists();
        Ok(Delta {
            touched,
            gone,
            present: None,
            cursor,
            blind,
        })
    }

    /// A result code that says something of the cookie or of the rights means to read everything; of the server's state, to wait.
    fn dirsync_over(&self, trouble: Trouble) -> NoDelta {
        match trouble {
            Trouble::Error(e) => NoDelta::Directory(e),
            Trouble::Result { code, text, what } if passing(code) => {
                NoDelta::Directory(self.refused(&what, code, &text))
            }
            Trouble::Result { code: 50, text, .. } => NoDelta::StartOver(format!(
                "the account no longer has the right Replicating Directory Changes: {}",
                came(50, &text)
            )),
            Trouble::Result { code, text, .. } => NoDelta::StartOver(format!(
                "the server does not take the cookie: {}",
                came(code, &text)
            )),
        }
    }
}

/// Whether a result says only that the server cannot answer now: limits, busy, unavailable.
pub(in crate::directory) fn passing(code: u32) -> bool {
    matches!(code, 3 | 4 | 11 | 51 | 52)
}
