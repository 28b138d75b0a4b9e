//! One search over ldap3, and the loop over its pages. Nothing counts as read unless every page ended in success (design § 3.1).
//!
//! ldap3's own paging adapter never looks at a page's result, and its stream looks finished after an error; so here each page
//! is a search of its own, its result is checked, and its cookie is only ever used on the connection that gave it.

use std::sync::Arc;
use std::time::Duration;

use lber::structure::{PL, StructureTag};
use ldap3::controls::RawControl;
use ldap3::{LdapError, LdapResult, ResultEntry, Scope as Depth};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::backlog::SearchStream;
use super::entry::{self, RangeRest};
use super::error::{
    DirectoryError, PASSWORD_OVER, asks_for_a_new_password, came, one_line, search_advice,
};
use super::link::{Broken, explain, within, words};
use super::paging;
use super::root_dse::{DOMAIN_SCOPE, PAGED_RESULTS, fold_dn};
use super::session::Session;
use crate::config::DirectoryKind;
use crate::model::{RawEntry, dn};

/// How long one page may take. A first page with a filter that is not indexed costs a scan, a minute or so at a million entries.
const PAGE_TIME: Duration = Duration::from_mins(5);

/// Bytes that one page may hold, and with it what waits in the channel.
pub(super) const MAX_PAGE: usize = 256 << 20;

/// Entries that go on together while their page still arrives. Small, so that whoever reads along finds them in the processor's
/// cache, and begins at once: with whole pages of 1,000 a tenth of a pass was waiting for memory.
pub(super) const PORTION: usize = 128;

/// Entries of a search whose answer is kept as a whole.
const MAX_COLLECTED: usize = 100_000;

/// What to ask for.
pub(super) struct SearchRequest<'a> {
    pub base: &'a str,
    pub depth: Depth,
    pub filter: &'a str,
    pub attributes: Arc<[String]>,
    /// Entries in a page; for a search of one entry it means nothing.
    pub page_size: i32,
    /// Whether a reference to another server is no loss, because nobody who is looked for can be there.
    pub elsewhere_is_fine: bool,
}

/// Where the pages go.
pub(super) enum Sink<'a> {
    /// To whoever reads along; waiting there is what keeps memory bounded.
    Channel(&'a mpsc::Sender<Vec<RawEntry>>),
    /// Into one list, for small answers.
    List(&'a mut Vec<RawEntry>),
}

/// How a search went, when it did not simply succeed.
pub(super) enum Trouble {
    /// A result code other than success.
    Result {
        /// The code.
        code: u32,
        /// The server's text.
        text: String,
        /// What was being done.
        what: String,
    },
    /// Everything else.
    Error(DirectoryError),
}

impl Trouble {
    pub(super) fn result(result: LdapResult, what: String) -> Self {
        Self::Result {
            code: result.rc,
            text: result.text,
            what,
        }
    }
}

/// The answer to one search.
pub(super) struct SearchResponse {
    pub entries: Vec<RawEntry>,
    /// Which entries have attributes that must be read further.
    pub rests: Vec<(usize, RangeRest)>,
    pub references: Vec<String>,
    pub result: LdapResult,
}

impl Session {
    /// Reads everything that is asked for; says how many entries that were. `what` names the deed in errors.
    pub(super) async fn search(
        &mut self,
        what: &str,
        ask: &SearchRequest<'_>,
        sink: Sink<'_>,
    ) -> Result<u64, DirectoryError> {
        let searched = self.try_search(what, ask, sink).await;
        searched.map_err(|trouble| self.error_of(trouble))
    }

    /// The error of whatever was not success.
    pub(super) fn error_of(&self, trouble: Trouble) -> DirectoryError {
        match trouble {
            Trouble::Error(e) => e,
            Trouble::Result { code, text, what } => self.refused(&what, code, &text),
        }
    }

    /// The error of a result code.
    pub(super) fn refused(&self, what: &str, code: u32, text: &str) -> DirectoryError {
        if self.password_is_over(code, text) {
            return DirectoryError::Auth(self.failure(what, came(code, text), PASSWORD_OVER));
        }
        DirectoryError::Incomplete(self.failure(what, came(code, text), search_advice(code)))
    }

    /// Whether a refusal is that of a server which wants the password to be changed first.
    pub(super) fn password_is_over(&self, code: u32, text: &str) -> bool {
        let refuses = matches!(code, 1 | 50 | 53);
        refuses && (self.password_over || asks_for_a_new_password(text))
    }

    /// As [`Session::search`], for callers to whom a result code says something.
    pub(super) async fn try_search(
        &mut self,
        what: &str,
        ask: &SearchRequest<'_>,
        mut sink: Sink<'_>,
    ) -> Result<u64, Trouble> {
        let paged = self.pages(ask);
        let page = |number: u64| {
            if paged {
                format!("{what}, page {number}")
            } else {
                what.to_owned()
            }
        };
        let mut count = 0;
        let mut number = 1_u64;
        let mut deed = page(number);
        let mut until = self.page_end();
        let mut stream = self.start(&deed, ask, paged.then(Vec::new), until).await?;
        loop {
            // What goes on before its page ended well is only looked at: nothing is applied unless all pages do.
            let along = matches!(sink, Sink::Channel(_)).then_some(&mut sink);
            let answer = self
                .collect(&deed, ask, stream, until, along, &mut count)
                .await?;
            self.nothing_hidden(&deed, ask, &answer.references)?;
            if answer.result.rc != 0 {
                return Err(Trouble::result(answer.result, deed));
            }
            let first = number == 1 && count == 0 && answer.entries.is_empty();
            let cookie = if paged {
                self.cookie(&deed, &answer.result, first)?
            } else {
                None
            };
            let mut entries = answer.entries;
            self.put_together(&deed, &mut entries, answer.rests, ask.elsewhere_is_fine)
                .await?;
            count += entries.len() as u64;
            let Some(cookie) = cookie else {
                self.deliver(&deed, &mut sink, entries).await?;
                return Ok(count);
            };
            // The server works on the next page while this one is handed on.
            number += 1;
            deed = page(number);
            until = self.page_end();
            stream = self.start(&deed, ask, Some(cookie), until).await?;
            self.deliver(&deed, &mut sink, entries).await?;
            // Waiting for whoever reads along is not the server's time.
            until = self.page_end();
        }
    }

    /// Whether the answer is asked for in pages.
    pub(super) fn pages(&self, ask: &SearchRequest<'_>) -> bool {
        ask.depth != Depth::Base
            && (self.root.controls.is_empty() || self.root.has_control(PAGED_RESULTS))
    }

    pub(super) fn page_end(&self) -> Instant {
        self.deadline.min(Instant::now() + PAGE_TIME)
    }

    /// The controls of a search; a cookie, empty at first, asks for a page.
    pub(super) fn controls(
        &self,
        ask: &SearchRequest<'_>,
        cookie: Option<&[u8]>,
    ) -> Vec<RawControl> {
        let mut controls = Vec::new();
        if let Some(cookie) = cookie {
            controls.push(RawControl {
                ctype: PAGED_RESULTS.into(),
                crit: true,
                val: Some(paging::request(ask.page_size, cookie)),
            });
        }
        if self.kind == DirectoryKind::ActiveDirectory
            && ask.depth != Depth::Base
            && self.root.has_control(DOMAIN_SCOPE)
        {
            controls.push(RawControl {
                ctype: DOMAIN_SCOPE.into(),
                crit: true,
                val: None,
            });
        }
        controls
    }

    pub(super) async fn start(
        &mut self,
        what: &str,
        ask: &SearchRequest<'_>,
        cookie: Option<Vec<u8>>,
        until: Instant,
    ) -> Result<SearchStream, Trouble> {
        let controls = self.controls(ask, cookie.as_deref());
        let mut ldap = self.ldap.clone();
        if !controls.is_empty() {
            ldap.with_controls(controls);
        }
        let started = within(
            until,
            ldap.streaming_search(ask.base, ask.depth, ask.filter, Arc::clone(&ask.attributes)),
        )
        .await;
        match started {
            Ok(stream) => Ok(stream),
            Err(broken) => Err(self.broken(what, broken).await),
        }
    }

    /// Reads one search to its end. The entries go on in portions meanwhile, where there is a sink.
    pub(super) async fn collect(
        &mut self,
        what: &str,
        ask: &SearchRequest<'_>,
        mut stream: SearchStream,
        until: Instant,
        mut sink: Option<&mut Sink<'_>>,
        count: &mut u64,
    ) -> Result<SearchResponse, Trouble> {
        let mut answer = SearchResponse::default();
        let paged = self.pages(ask);
        let (mut weight, mut handed_on) = (0, 0);
        loop {
            // One timer for a portion, not one for every entry.
            let portion = within(until, async {
                loop {
                    let Some(item) = stream.next().await? else {
                        return Ok(Portion::End);
                    };
                    if item.is_intermediate() {
                        continue;
                    }
                    if item.is_ref() {
                        answer.references.extend(references(item));
                        continue;
                    }
                    let Ok((entry, rests)) = entry::entry(item.0, &mut self.names) else {
                        return Ok(Portion::Not(NoPage::Malformed));
                    };
                    weight += entry.size();
                    let at = answer.entries.len();
                    answer.rests.extend(rests.into_iter().map(|r| (at, r)));
                    answer.entries.push(entry);
                    if weight > MAX_PAGE {
                        return Ok(Portion::Not(NoPage::TooHeavy));
                    }
                    let long = handed_on + answer.entries.len() > ask.longest();
                    if long && (paged || sink.is_none()) {
                        return Ok(Portion::Not(NoPage::TooLong));
                    }
                    if sink.is_some() && answer.entries.len() >= PORTION {
                        return Ok(Portion::Full);
                    }
                }
            })
            .await;
            match portion {
                Ok(Portion::End) => break,
                Ok(Portion::Full) => {
                    let next = Vec::with_capacity(PORTION);
                    let mut entries = std::mem::replace(&mut answer.entries, next);
                    let rests = std::mem::take(&mut answer.rests);
                    handed_on += entries.len();
                    self.put_together(what, &mut entries, rests, ask.elsewhere_is_fine)
                        .await?;
                    *count += entries.len() as u64;
                    weight = 0;
                    if let Some(sink) = sink.as_deref_mut() {
                        self.deliver(what, sink, entries).await?;
                    }
                }
                Ok(Portion::Not(it)) => return Err(self.no_page(what, ask, it)),
                Err(broken) => return Err(self.broken(what, broken).await),
            }
        }
        // `next` came to its end without an error, and only then is this the result of this very search.
        answer.result = stream.finish().await;
        Ok(answer)
    }

    /// The error of a page that cannot be what was asked for.
    pub(super) fn no_page(&self, what: &str, ask: &SearchRequest<'_>, why: NoPage) -> Trouble {
        let (came, next) = match why {
            NoPage::Malformed => (
                "an entry is no LDAP that can be read".to_owned(),
                "look at the server, or at what stands between",
            ),
            NoPage::TooHeavy => (
                format!("more than {} MiB in one page", MAX_PAGE >> 20),
                "lower `page-size`, and look for entries of absurd size",
            ),
            NoPage::TooLong => (
                format!("more than the {} entries that a page may have", ask.size()),
                "the server does not page: its answer cannot be told from a cut one",
            ),
        };
        self.incomplete(what, came, next)
    }

    pub(super) async fn broken(&mut self, what: &str, broken: Broken) -> Trouble {
        let config = matches!(broken, Broken::Link(LdapError::FilterParsing));
        let past = Instant::now() >= self.deadline;
        let explained = explain(broken, Some(&mut self.link)).await;
        self.broke(what, config, past, explained)
    }

    /// The same on the connection of a pass.
    pub(super) async fn broken_off(&self, what: &str, broken: Broken) -> Trouble {
        let config = matches!(broken, Broken::Link(LdapError::FilterParsing));
        let past = Instant::now() >= self.deadline;
        self.broke(what, config, past, explain(broken, None).await)
    }

    fn broke(
        &self,
        what: &str,
        config: bool,
        past: bool,
        (mut came, next, _): (String, &str, bool),
    ) -> Trouble {
        if past {
            came.push_str(", and the run's time is over (`run-timeout`)");
        }
        let failure = self.failure(what, came, next);
        Trouble::Error(if config {
            DirectoryError::Config(failure)
        } else {
            DirectoryError::Incomplete(failure)
        })
    }

    pub(super) fn incomplete(&self, what: &str, came: impl Into<String>, next: &str) -> Trouble {
        Trouble::Error(DirectoryError::Incomplete(self.failure(what, came, next)))
    }

    pub(super) async fn deliver(
        &self,
        what: &str,
        sink: &mut Sink<'_>,
        entries: Vec<RawEntry>,
    ) -> Result<(), Trouble> {
        if entries.is_empty() {
            return Ok(());
        }
        match sink {
            Sink::Channel(channel) => {
                match tokio::time::timeout_at(self.deadline, channel.send(entries)).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(self.incomplete(what, "the run was stopped", "")),
                    Err(_) => Err(self.incomplete(
                        what,
                        "the run's time is over (`run-timeout`)",
                        "nothing is taken from what came so far",
                    )),
                }
            }
            Sink::List(list) => {
                list.extend(entries);
                if list.len() > MAX_COLLECTED {
                    return Err(self.incomplete(
                        what,
                        format!("more than {MAX_COLLECTED} entries"),
                        "this search was to find a few",
                    ));
                }
                Ok(())
            }
        }
    }

    /// A reference stands for a part of the tree that another server holds: what is there was not read.
    pub(super) fn nothing_hidden(
        &self,
        what: &str,
        ask: &SearchRequest<'_>,
        references: &[String],
    ) -> Result<(), Trouble> {
        if ask.elsewhere_is_fine {
            return Ok(());
        }
        let base = ask.base;
        let hiding = references.iter().find(|url| {
            !(self.kind == DirectoryKind::ActiveDirectory && names_another_context(url, base))
        });
        match hiding {
            None => Ok(()),
            Some(url) => Err(self.incomplete(
                what,
                format!("a part of the base is on another server ({})", one_line(url)),
                "references are not followed: choose a base without that part, or give it a realm of its own",
            )),
        }
    }

    /// The next page's cookie; `None`: that was the last page. A page without the control is one of a server that does not page.
    pub(super) fn cookie(
        &self,
        what: &str,
        result: &LdapResult,
        nothing: bool,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let control = result.ctrls.iter().find(|c| c.1.ctype == PAGED_RESULTS);
        match control
            .and_then(|c| c.1.val.as_deref())
            .and_then(paging::cookie)
        {
            Some([]) => Ok(None),
            Some(cookie) => Ok(Some(cookie.to_vec())),
            // 389-ds says noSuchObject only to those who do not page.
            None if nothing => Err(Trouble::Error(DirectoryError::Empty(self.failure(
                what,
                "success, with neither an entry nor a paging control",
                "389-ds answers like this where the base does not exist: check `base`",
            )))),
            None => Err(self.incomplete(
                what,
                "success, but no paging control in the answer",
                "whether this was all cannot be known: the server does not page",
            )),
        }
    }

    /// After the last page: the connection must not have broken. A server that says goodbye after all was said is no loss.
    pub(super) fn still_sound(&mut self, what: &str) -> Result<(), DirectoryError> {
        let (came, _, _) = match self.link.ended() {
            None | Some(Broken::Closed(_)) => return Ok(()),
            Some(broken) => words(broken),
        };
        Err(DirectoryError::Incomplete(self.failure(
            what,
            came,
            "nothing is taken from what came so far",
        )))
    }
}

enum Portion {
    End,
    Full,
    Not(NoPage),
}

/// Why something is no page of entries.
#[derive(Clone, Copy)]
pub(super) enum NoPage {
    Malformed,
    TooHeavy,
    TooLong,
}

impl Default for SearchResponse {
    /// Nothing, and no success either.
    fn default() -> Self {
        Self {
            entries: Vec::with_capacity(PORTION),
            rests: Vec::new(),
            references: Vec::new(),
            result: LdapResult {
                rc: 80,
                matched: String::new(),
                text: String::new(),
                refs: vec![],
                ctrls: vec![],
            },
        }
    }
}

impl SearchRequest<'_> {
    fn size(&self) -> usize {
        usize::try_from(self.page_size).unwrap_or(0).max(1)
    }

    /// A page is at most as long as was asked; twice that is a server that does not page.
    pub(super) fn longest(&self) -> usize {
        self.size().saturating_mul(2)
    }
}

fn references(item: ResultEntry) -> Vec<String> {
    let PL::C(parts) = item.0.payload else {
        return vec!["no reference that can be read".into()];
    };
    let text = |t: StructureTag| match t.payload {
        PL::P(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        PL::C(_) => "no reference that can be read".into(),
    };
    parts.into_iter().map(text).collect()
}

/// Whether a continuation of Active Directory is another naming context beneath the base (`ldap://…/DC=DomainDnsZones,…`):
/// there, each naming context is a base of its own (MS-ADTS 3.1.1.3.1.3.4).
fn names_another_context(url: &str, base: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    let Ok(dn) =
        percent_encoding::percent_decode_str(url.path().trim_start_matches('/')).decode_utf8()
    else {
        return false;
    };
    fold_dn(&dn) != fold_dn(base) && dn::is_within(&dn, base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_51_other_naming_contexts_are_beneath_the_base() {
        let base = "dc=example,dc=test";
        assert!(names_another_context(
            "ldap://example.test/CN=Configuration,DC=example,DC=test",
            base
        ));
        assert!(names_another_context(
            "ldap://DomainDnsZones.example.test/DC=DomainDnsZones,DC=example,DC=test??base",
            base
        ));
        assert!(names_another_context(
            "ldaps://x/DC=a%20b,DC=example,DC=test",
            base
        ));
        assert!(!names_another_context(
            "ldap://other/DC=example,DC=test",
            base
        ));
        assert!(!names_another_context("ldap://other/DC=other", base));
        assert!(!names_another_context("nonsense", base));
    }
}
