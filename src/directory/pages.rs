//! Everybody under a base, page by page over a connection of the pass's own.
//!
//! ```text
//! connect again, bind, is it as far as the first? ─▶ page ─▶ portions ─▶ channel
//!                                                     ▲        │ parts of an attribute are put together over the session's connection
//!                                                     └─ cookie┘
//! ```

use std::sync::atomic::Ordering;
use std::time::Duration;

use ldap3::{LdapError, Scope as Depth};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::entry::RangeRest;
use super::error::DirectoryError;
use super::link::{Broken, explain, timely};
use super::message::{ProtocolOp, SEARCH_DONE};
use super::request;
use super::root_dse::{ATTRIBUTES, RootDse};
use super::search::{MAX_PAGE, NoPage, PORTION, SearchRequest, SearchResponse, Sink, Trouble};
use super::session::Session;
use super::state::ServerState;
use super::unpack::Unpacker;
use super::wire::Wire;
use crate::config::DirectoryKind;
use crate::model::RawEntry;

/// The session's own connection says something this often while a pass is under way: servers close one that is silent for
/// some minutes (Active Directory after 15), and who is absent is looked up over it.
const SILENCE: Duration = Duration::from_mins(3);

/// A pass under way.
pub(super) struct PagedRead<'a> {
    wire: Wire,
    unpacker: Unpacker,
    sink: Sink<'a>,
    /// When the session's own connection was last used.
    heard: Instant,
}

impl PagedRead<'_> {
    /// Every page of every base was read.
    pub(super) async fn end(self) {
        self.wire.close().await;
    }
}

/// Why reading stops for a moment.
enum PageStop {
    /// The result of the search.
    End,
    /// A portion is full.
    Full,
    Not(NoPage),
}

impl Session {
    /// Connects to the session's server once more, as the same account. `None`: that cannot be, and the session's own
    /// connection reads as well, only more slowly. Its errors are then the ones that count.
    pub(super) async fn begin_pass<'a>(
        &self,
        pages: &'a mpsc::Sender<Vec<RawEntry>>,
    ) -> Option<PagedRead<'a>> {
        if self.reach.once_is_enough.load(Ordering::Relaxed) {
            return None;
        }
        let why = match self.connect_again().await {
            Ok(wire) => {
                return Some(PagedRead {
                    wire,
                    unpacker: Unpacker::default(),
                    sink: Sink::Channel(pages),
                    heard: Instant::now(),
                });
            }
            Err(e) => e,
        };
        tracing::info!(
            server = self.server,
            "no second connection for this pass, so it is read over the first one, more slowly: {why}"
        );
        None
    }

    async fn connect_again(&self) -> Result<Wire, DirectoryError> {
        let (reach, credentials) = (&*self.reach, &*self.credentials);
        let until = || self.deadline.min(Instant::now() + reach.step);
        let tcp = reach.again(until()).await?;
        let mut wire = match timely(until(), Wire::open(reach, tcp)).await {
            Ok(wire) => wire,
            Err(broken) => return Err(reach.unopened(broken).await),
        };
        match timely(until(), wire.bind(credentials)).await {
            Ok(None) => {}
            Ok(Some(result)) => credentials.judged(reach, &result).map_err(|(e, in_vain)| {
                reach.once_is_enough.fetch_or(in_vain, Ordering::Relaxed);
                e
            })?,
            Err(broken) => return Err(credentials.unanswered(reach, broken, None).await),
        }
        match timely(until(), self.is_no_older(&mut wire)).await {
            Ok(None) => Ok(wire),
            Ok(Some(why)) => Err(DirectoryError::stale(&self.server, &why)),
            Err(broken) => {
                let (came, next, _) = explain(broken, None).await;
                let what = "reading how far the server is";
                Err(DirectoryError::Unreachable(self.failure(what, came, next)))
            }
        }
    }

    /// Behind one address there may be several servers, and what the session knows is of the one it asked: this one must be as
    /// far. Says why it is not.
    async fn is_no_older(&self, wire: &mut Wire) -> Result<Option<String>, Broken> {
        if self.state == ServerState::Unknown {
            return Ok(None);
        }
        let fresh = match self.kind {
            DirectoryKind::ActiveDirectory => {
                let dse = wire.one("", &ATTRIBUTES).await?;
                Some(dse.as_ref().map(RootDse::read).unwrap_or_default())
            }
            _ => None,
        };
        let root = fresh.as_ref().unwrap_or(&self.root);
        let mut answers = Vec::new();
        for (dn, attribute) in self.state_questions(root) {
            answers.push(wire.one(&dn, &[attribute]).await?);
        }
        Ok(self.state_by(root, &answers).behind(&self.state))
    }

    /// Reads a base to its end; says how many entries it had.
    pub(super) async fn read_base(
        &mut self,
        pass: &mut PagedRead<'_>,
        what: &str,
        ask: &SearchRequest<'_>,
    ) -> Result<u64, Trouble> {
        let paged = self.pages(ask);
        let deed = |number: u64| {
            if paged {
                format!("{what}, page {number}")
            } else {
                what.to_owned()
            }
        };
        let mut count = 0;
        let mut number = 1_u64;
        let mut page = deed(number);
        let Some(search) = request::search(ask.base, ask.depth, ask.filter, &ask.attributes) else {
            let none = Broken::Link(LdapError::FilterParsing);
            return Err(self.broken_off(&page, none).await);
        };
        let mut until = self.page_end();
        let first = paged.then_some(&[][..]);
        self.ask(pass, &page, &search, ask, first, until).await?;
        loop {
            let answer = self.page(pass, &page, ask, until, &mut count).await?;
            let nothing = number == 1 && count == 0 && answer.entries.is_empty();
            self.nothing_hidden(&page, ask, &answer.references)?;
            if answer.result.rc != 0 {
                return Err(Trouble::result(answer.result, page));
            }
            let cookie = if paged {
                self.cookie(&page, &answer.result, nothing)?
            } else {
                None
            };
            let last = self.whole(&page, ask, answer.entries, answer.rests).await?;
            count += last.len() as u64;
            let Some(cookie) = cookie else {
                self.deliver(&page, &mut pass.sink, last).await?;
                return Ok(count);
            };
            // The server works on the next page while this one is handed on.
            number += 1;
            page = deed(number);
            until = self.page_end();
            self.ask(pass, &page, &search, ask, Some(&cookie), until)
                .await?;
            self.deliver(&page, &mut pass.sink, last).await?;
            self.stay_awake(pass).await?;
            // Waiting for whoever reads along is not the server's time.
            until = self.page_end();
        }
    }

    async fn ask(
        &self,
        pass: &mut PagedRead<'_>,
        page: &str,
        search: &[u8],
        ask: &SearchRequest<'_>,
        cookie: Option<&[u8]>,
        until: Instant,
    ) -> Result<(), Trouble> {
        let controls = self.controls(ask, cookie);
        match timely(until, pass.wire.send(search, &controls)).await {
            Ok(()) => Ok(()),
            Err(broken) => Err(self.broken_off(page, broken).await),
        }
    }

    /// Reads one page to its result; the entries go on in portions meanwhile, the last portion comes back.
    async fn page(
        &mut self,
        pass: &mut PagedRead<'_>,
        page: &str,
        ask: &SearchRequest<'_>,
        until: Instant,
        count: &mut u64,
    ) -> Result<SearchResponse, Trouble> {
        let paged = self.pages(ask);
        let mut answer = SearchResponse::default();
        let mut handed_on = 0;
        loop {
            answer.entries.reserve(PORTION);
            let longest = if paged { ask.longest() } else { usize::MAX };
            let left = longest.saturating_sub(handed_on);
            // One timer for a portion, not one for every entry.
            let stop = timely(until, portion(pass, &mut answer, left)).await;
            match stop {
                Ok(PageStop::End) => return Ok(answer),
                Ok(PageStop::Full) => {}
                Ok(PageStop::Not(it)) => return Err(self.no_page(page, ask, it)),
                Err(broken) => return Err(self.broken_off(page, broken).await),
            }
            // What goes on before its page ended well is only looked at: nothing is applied unless all pages do.
            let (entries, rests) = (
                std::mem::take(&mut answer.entries),
                std::mem::take(&mut answer.rests),
            );
            let entries = self.whole(page, ask, entries, rests).await?;
            handed_on += entries.len();
            *count += entries.len() as u64;
            self.deliver(page, &mut pass.sink, entries).await?;
        }
    }

    async fn whole(
        &mut self,
        page: &str,
        ask: &SearchRequest<'_>,
        mut entries: Vec<RawEntry>,
        rests: Vec<(usize, RangeRest)>,
    ) -> Result<Vec<RawEntry>, Trouble> {
        if !rests.is_empty() {
            self.put_together(page, &mut entries, rests, ask.elsewhere_is_fine)
                .await?;
        }
        Ok(entries)
    }

    /// Uses the session's own connection, if it was silent for long.
    async fn stay_awake(&mut self, pass: &mut PagedRead<'_>) -> Result<(), Trouble> {
        if pass.heard.elapsed() < SILENCE {
            return Ok(());
        }
        pass.heard = Instant::now();
        let ask = SearchRequest {
            base: "",
            depth: Depth::Base,
            filter: "(objectClass=*)",
            attributes: ["1.1".to_owned()].into(),
            page_size: 1,
            elsewhere_is_fine: true,
        };
        let mut found = Vec::new();
        let sink = Sink::List(&mut found);
        match self
            .try_search("keeping the connection open", &ask, sink)
            .await
        {
            // Whatever it says: it is there.
            Ok(_) | Err(Trouble::Result { .. }) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }
}

/// Reads on until the result, or until a portion is full.
async fn portion(
    pass: &mut PagedRead<'_>,
    answer: &mut SearchResponse,
    left: usize,
) -> Result<PageStop, Broken> {
    let mut weight = 0;
    loop {
        let at = pass.wire.next().await?;
        match pass.wire.said(at)? {
            Some(ProtocolOp::Entry { dn, attributes }) => {
                let Ok((entry, rests)) = pass.unpacker.entry(dn, attributes) else {
                    return Ok(PageStop::Not(NoPage::Malformed));
                };
                weight += entry.size();
                let at = answer.entries.len();
                answer.rests.extend(rests.into_iter().map(|r| (at, r)));
                answer.entries.push(entry);
                if weight > MAX_PAGE {
                    return Ok(PageStop::Not(NoPage::TooHeavy));
                }
                if answer.entries.len() > left {
                    return Ok(PageStop::Not(NoPage::TooLong));
                }
                if answer.entries.len() >= PORTION {
                    return Ok(PageStop::Full);
                }
            }
            Some(ProtocolOp::Reference(urls)) => {
                weight += urls.iter().map(|u| size_of_val(u) + u.len()).sum::<usize>();
                answer.references.extend(urls);
                if weight > MAX_PAGE {
                    return Ok(PageStop::Not(NoPage::TooHeavy));
                }
            }
            Some(ProtocolOp::Result(SEARCH_DONE, result)) => {
                answer.result = result;
                return Ok(PageStop::End);
            }
            None => {}
            Some(_) => return Err(Broken::Unreadable),
        }
    }
}
