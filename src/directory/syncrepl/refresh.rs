//! One refresh: asked, read to its end, judged; and the poll that is made of one refresh a base.

use std::collections::HashMap;
use std::sync::Arc;

use ldap3::Scope as Depth;
use ldap3::controls::RawControl;
use tokio::time::Instant;

use super::super::backlog::SearchStream;
use super::super::delta::{Cursor, Delta, NoDelta, Way};
use super::super::error::{came, one_line};
use super::super::link::within;
use super::super::read::Scope;
use super::super::search::Trouble;
use super::super::session::Session;
use super::super::state::ServerState;
use super::changes::{self, RefreshChanges, RefreshEnd, Refreshed, TooMuch};
use super::codec::{self, ListenMode, MalformedControl};
use super::cookie::{self, Csns, Dialect};
use crate::config::DirectoryKind;

/// No attributes (RFC 4511 § 4.5.1.8): the id comes in the control.
const NOTHING: &str = "1.1";

/// One search with the Sync Request control.
pub(super) struct SyncSearch<'a> {
    pub base: &'a str,
    pub depth: Depth,
    pub filter: &'a str,
    pub cookie: Option<&'a [u8]>,
    pub mode: ListenMode,
}

impl Session {
    pub(super) async fn sync_open(
        &mut self,
        what: &str,
        asked: &SyncSearch<'_>,
        until: Instant,
    ) -> Result<SearchStream, NoDelta> {
        let mut ldap = self.ldap.clone();
        ldap.with_controls(vec![RawControl {
            ctype: codec::REQUEST.into(),
            crit: true,
            val: Some(codec::request(asked.mode, asked.cookie)),
        }]);
        let attributes: Arc<[String]> = Arc::new([NOTHING.to_owned()]);
        let started = within(
            until,
            ldap.streaming_search(asked.base, asked.depth, asked.filter, attributes),
        )
        .await;
        match started {
            Ok(stream) => Ok(stream),
            Err(broken) => {
                let trouble = self.broken(what, broken).await;
                Err(self.trouble(trouble))
            }
        }
    }

    /// Reads until the refresh ends: with the search, or where live messages follow.
    pub(super) async fn sync_refresh(
        &mut self,
        what: &str,
        stream: &mut SearchStream,
        told: &mut RefreshChanges,
        until: Instant,
    ) -> Result<RefreshEnd, NoDelta> {
        loop {
            let item = match within(until, stream.next()).await {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(broken) => {
                    let trouble = self.broken(what, broken).await;
                    return Err(self.trouble(trouble));
                }
            };
            let message = changes::message(item).map_err(|e| self.unreadable(what, e))?;
            match told.refresh(message) {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(end),
                Err(TooMuch) => {
                    return Err(self.start_over(format!("{what}: more was told than can be")));
                }
            }
        }
        let result = stream.finish().await;
        if result.rc != 0 {
            return Err(self.sync_refused(what, result.rc, &result.text));
        }
        let control = result.ctrls.iter().find(|c| c.1.ctype == codec::DONE);
        let Some(value) = control.and_then(|c| c.1.val.as_deref()) else {
            let e = MalformedControl("success, but no Sync Done control in the answer");
            return Err(self.unreadable(what, e));
        };
        let done = codec::done(value).map_err(|e| self.unreadable(what, e))?;
        Ok(RefreshEnd {
            cookie: done.cookie,
            deletes: done.deletes,
        })
    }

    fn trouble(&self, trouble: Trouble) -> NoDelta {
        match trouble {
            Trouble::Error(e) => e.into(),
            Trouble::Result { code, text, what } => self.sync_refused(&what, code, &text),
        }
    }

    fn unreadable(&self, what: &str, MalformedControl(came): MalformedControl) -> NoDelta {
        let next = "nothing is taken from it: look at the server, or at what stands between";
        self.trouble(self.incomplete(what, came, next))
    }

    /// What a result code other than success says about going on.
    pub(super) fn sync_refused(&self, what: &str, code: u32, text: &str) -> NoDelta {
        match code {
            // This is how 389-ds says that it holds enough persistent searches already.
            53 if self.kind == DirectoryKind::Ds389 => {
                NoDelta::NotOffered(format!("{}: {what}: {}", self.server, came(code, text)))
            }
            // e-syncRefreshRequired; protocolError and unwillingToPerform are how slapd speaks of a cookie it cannot use.
            2 | 53 | 4096 => {
                let came = came(code, text);
                self.start_over(format!(
                    "{what}: the server does not go on from the cursor, {came}"
                ))
            }
            12 | 50 => NoDelta::NotOffered(format!(
                "{}: {what}: {}; OpenLDAP needs the overlay syncprov on this database, 389-ds the plug-in Content Synchronization",
                self.server,
                came(code, text)
            )),
            _ => self.refused(what, code, text).into(),
        }
    }

    /// The csns of the database that holds a base; `None`: it shows none.
    async fn context_csns(&mut self, base: &str) -> Result<Option<Csns>, NoDelta> {
        const WHAT: &str = "reading how far the server is";
        let context = self.root.naming_context(base).unwrap_or(base).to_owned();
        let found = self
            .glance(self.page_end(), WHAT, &context, &["contextCSN"])
            .await?;
        let values: Vec<&[u8]> = found.iter().flat_map(|e| e.values("contextcsn")).collect();
        match ServerState::from_context_csn(values.into_iter().map(|v| ("", v))) {
            ServerState::OpenLdap { csn } => Ok(Some(csn)),
            _ => Ok(None),
        }
    }

    /// The first and the last change that 389-ds still remembers; `None`: it remembers none, and must not be asked: a sync
    /// request without a retro changelog ends the server (2.3.1).
    pub(super) async fn changelog(&mut self) -> Result<Option<(u64, u64)>, NoDelta> {
        const WHAT: &str = "reading the numbers of the changes";
        let names = ["firstChangeNumber", "lastChangeNumber"];
        let root = self.glance(self.page_end(), WHAT, "", &names).await?;
        let number = |name: &str| {
            let text = root.as_ref()?.values(name).next()?;
            std::str::from_utf8(text).ok()?.trim().parse().ok()
        };
        Ok(number("firstchangenumber").zip(number("lastchangenumber")))
    }

    /// The cookies of a cursor, if this server can go on from them.
    pub(super) async fn cookies(
        &mut self,
        scope: &Scope,
        dialect: Dialect,
        cursor: &Cursor,
    ) -> Result<Vec<Vec<u8>>, NoDelta> {
        if cursor.way != Way::Syncrepl || cursor.scope != self.sync_scope(scope) {
            return Err(self
                .start_over("the cursor is of another search (way, base, filter, id or account)"));
        }
        let cookies = cookie::kept(&cursor.cookie)
            .filter(|c| c.len() == scope.bases.len() && c.iter().all(|c| dialect.reads(c)));
        let Some(cookies) = cookies else {
            return Err(self.start_over("the cursor cannot be read"));
        };
        let elsewhere = cursor.server != self.server;
        if dialect.is_389() {
            if elsewhere {
                let from = one_line(&cursor.server);
                return Err(self.start_over(format!(
                    "the cursor is of {from}, and each 389-ds counts its changes by itself"
                )));
            }
            self.still_remembered(dialect, &cookies).await?;
            return Ok(cookies);
        }
        for (base, cookie) in scope.bases.iter().zip(&cookies) {
            let server = self.context_csns(base).await?;
            let beyond = match (server, cookie::csns(cookie)) {
                (Some(server), Some(cookie)) => cookie::beyond(&cookie, &server),
                // Who shows no contextCSN judges by itself, but only its own cookies.
                _ if elsewhere => Some("it shows no contextCSN to compare with".into()),
                _ => None,
            };
            if let Some(why) = beyond {
                let from = one_line(&cursor.server);
                return Err(self.start_over(format!(
                    "the server cannot go on from the cursor of {from}: {why}"
                )));
            }
        }
        Ok(cookies)
    }

    /// 389-ds does not notice that changes it should tell were trimmed from its changelog, nor that an imitated cookie is too new.
    pub(super) async fn still_remembered(
        &mut self,
        dialect: Dialect,
        cookies: &[Vec<u8>],
    ) -> Result<(), NoDelta> {
        let Some((first, last)) = self.changelog().await? else {
            return Err(NoDelta::NotOffered(no_changelog(&self.server)));
        };
        for number in cookies.iter().filter_map(|c| dialect.change_number(c)) {
            if number > last {
                return Err(self.start_over(format!(
                    "the cursor is at change {number}, and the server's last one is {last}"
                )));
            }
            if number.saturating_add(1) < first {
                return Err(self.start_over(format!("the cursor is at change {number}, and the server remembers those since {first} only")));
            }
        }
        Ok(())
    }

    /// What changed since a cursor, by one refreshOnly a base.
    pub(in super::super) async fn sync_changes(
        &mut self,
        scope: &Scope,
        cursor: &Cursor,
    ) -> Result<Delta, NoDelta> {
        let dialect = self.dialect(scope)?;
        let mut cookies = self.cookies(scope, dialect, cursor).await?;
        let filter = Self::sync_filter(dialect, scope);
        let mut told = Vec::with_capacity(cookies.len());
        let held = cookies.clone();
        for (base, cookie) in scope.bases.iter().zip(&mut cookies) {
            let what = format!("asking what changed under `{base}`");
            let asked = SyncSearch {
                base,
                depth: Depth::Subtree,
                filter: &filter,
                cookie: Some(cookie),
                mode: ListenMode::Refresh,
            };
            let until = self.page_end();
            let mut stream = self.sync_open(&what, &asked, until).await?;
            let mut heard = RefreshChanges::default();
            let end = self
                .sync_refresh(&what, &mut stream, &mut heard, until)
                .await?;
            told.push(self.sync_judge(&what, dialect, cookie, heard, &end)?);
        }
        self.still_sound("asking what changed")?;
        if dialect.is_389() {
            // Asked again: what was trimmed meanwhile may have been missed.
            self.still_remembered(dialect, &held).await?;
        }
        let mut delta = together(told).map_err(|why| self.start_over(why))?;
        delta.cursor = (cookies != held).then(|| self.sync_cursor(scope, &cookies));
        Ok(delta)
    }

    /// Judges a refresh, and moves its cookie.
    pub(super) fn sync_judge(
        &self,
        what: &str,
        dialect: Dialect,
        cookie: &mut Vec<u8>,
        heard: RefreshChanges,
        end: &RefreshEnd,
    ) -> Result<Refreshed, NoDelta> {
        if let Some(next) = &end.cookie {
            // An empty cookie: the server took ours for none.
            if !dialect.reads(next) {
                return Err(self.start_over(format!(
                    "{what}: the server answers with a cookie that is none"
                )));
            }
            cookie.clone_from(next);
        }
        heard.judge(dialect, end).map_err(|why| {
            self.start_over(format!("{what}: {why}; did the account lose its rights?"))
        })
    }
}

/// Why 389-ds is not asked.
pub(super) fn no_changelog(server: &str) -> String {
    format!(
        "{server}: the root DSE shows no lastChangeNumber: 389-ds needs the plug-ins Retro Changelog and Content Synchronization"
    )
}

/// What all bases told. An entry that left one base for another is touched.
pub(super) fn together(told: Vec<Refreshed>) -> Result<Delta, &'static str> {
    let full = told.iter().filter(|t| t.present.is_some()).count();
    if full != 0 && full != told.len() {
        // Who is absent would have to be looked up in the other bases one by one.
        return Err("of one base everybody was told, of another only what changed");
    }
    let mut gone: HashMap<_, bool> = HashMap::new();
    let mut present = Vec::new();
    for base in told {
        for (id, is_gone) in base.gone {
            gone.entry(id)
                .and_modify(|all| *all &= is_gone)
                .or_insert(is_gone);
        }
        present.extend(base.present.into_iter().flatten());
    }
    let mut delta = Delta {
        present: (full != 0).then_some(present),
        ..Delta::default()
    };
    for (id, is_gone) in gone {
        if is_gone {
            delta.gone.push(id);
        } else {
            delta.touched.push(id);
        }
    }
    // In an order that is the same each time.
    delta.touched.sort_unstable();
    delta.gone.sort_unstable();
    Ok(delta)
}
