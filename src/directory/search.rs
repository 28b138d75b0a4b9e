//! One search, and the loop over its pages. Nothing counts as read unless every page ended in success (design § 3.1).
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

use super::connect::{Broken, Ended, Session, explain, within};
use super::entry::{self, Rest};
use super::error::{DirectoryError, came, one_line, search_advice};
use super::root_dse::{DOMAIN_SCOPE, PAGED_RESULTS, at_or_below, fold_dn};
use crate::config::DirectoryKind;
use crate::model::RawEntry;

/// How long one page may take. A first page with a filter that is not indexed costs a scan, a minute or so at a million entries.
const PAGE_TIME: Duration = Duration::from_secs(300);

/// Bytes that one page may hold, and with it what waits in the channel.
const MAX_PAGE: usize = 256 << 20;

/// Parts of one attribute that are put together: Active Directory gives 1500 values a part.
const MAX_PARTS: usize = 10_000;

/// Entries of a search whose answer is kept as a whole.
const MAX_COLLECTED: usize = 100_000;

/// What to ask for.
pub(super) struct Ask<'a> {
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
    /// A result code other than success, and what was being done when it came.
    Result(LdapResult, String),
    /// Everything else.
    Error(DirectoryError),
}

/// The answer to one search.
struct Answer {
    entries: Vec<RawEntry>,
    rests: Vec<(usize, Rest)>,
    references: Vec<String>,
    result: LdapResult,
}

type Stream = ldap3::SearchStream<'static, String, Arc<[String]>>;

impl Session {
    /// Reads everything that is asked for; says how many entries that were. `what` names the deed in errors.
    pub(super) async fn search(
        &mut self,
        what: &str,
        ask: &Ask<'_>,
        sink: Sink<'_>,
    ) -> Result<u64, DirectoryError> {
        self.try_search(what, ask, sink)
            .await
            .map_err(|trouble| match trouble {
                Trouble::Error(e) => e,
                Trouble::Result(result, what) => self.refused(&what, &result),
            })
    }

    /// The error of a result code.
    pub(super) fn refused(&self, what: &str, result: &LdapResult) -> DirectoryError {
        DirectoryError::Incomplete(self.failure(
            what,
            came(result.rc, &result.text),
            search_advice(result.rc),
        ))
    }

    /// As [`Session::search`], for callers to whom a result code says something.
    pub(super) async fn try_search(
        &mut self,
        what: &str,
        ask: &Ask<'_>,
        mut sink: Sink<'_>,
    ) -> Result<u64, Trouble> {
        let paged = ask.depth != Depth::Base
            && (self.root.controls.is_empty() || self.root.has_control(PAGED_RESULTS));
        let mut count = 0;
        let mut number = 1_u64;
        let mut until = self.page_end();
        let mut stream = self.start(what, ask, paged.then(Vec::new), until).await?;
        loop {
            let page = format!("{what}, page {number}");
            let what = if paged { page.as_str() } else { what };
            let answer = self
                .collect(
                    what,
                    ask,
                    stream,
                    until,
                    (!paged).then_some(&mut sink),
                    &mut count,
                )
                .await?;
            self.nothing_hidden(what, ask, &answer.references)?;
            if answer.result.rc != 0 {
                return Err(Trouble::Result(answer.result, what.to_owned()));
            }
            let cookie = if paged {
                self.cookie(what, &answer.result)?
            } else {
                None
            };
            let mut entries = answer.entries;
            self.put_together(what, &mut entries, answer.rests, ask.elsewhere_is_fine)
                .await?;
            count += entries.len() as u64;
            let Some(cookie) = cookie else {
                self.deliver(what, &mut sink, entries).await?;
                return Ok(count);
            };
            // The server works on the next page while this one is handed on.
            until = self.page_end();
            stream = self.start(what, ask, Some(cookie), until).await?;
            self.deliver(what, &mut sink, entries).await?;
            number += 1;
        }
    }

    fn page_end(&self) -> Instant {
        self.deadline.min(Instant::now() + PAGE_TIME)
    }

    async fn start(
        &mut self,
        what: &str,
        ask: &Ask<'_>,
        cookie: Option<Vec<u8>>,
        until: Instant,
    ) -> Result<Stream, Trouble> {
        let mut controls = Vec::new();
        if let Some(cookie) = cookie {
            controls.push(RawControl {
                ctype: PAGED_RESULTS.into(),
                crit: true,
                val: Some(paged_request(ask.page_size, &cookie)),
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

    /// Reads one search to its end. Without paging the entries go on in portions meanwhile (`sink`).
    async fn collect(
        &mut self,
        what: &str,
        ask: &Ask<'_>,
        mut stream: Stream,
        until: Instant,
        mut sink: Option<&mut Sink<'_>>,
        count: &mut u64,
    ) -> Result<Answer, Trouble> {
        let size = usize::try_from(ask.page_size).unwrap_or(0).max(1);
        let mut answer = Answer {
            entries: Vec::with_capacity(size.min(1000)),
            rests: Vec::new(),
            references: Vec::new(),
            result: nothing(),
        };
        let mut weight = 0;
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
                        return Ok(Portion::Malformed);
                    };
                    weight += entry::weight(&entry);
                    let at = answer.entries.len();
                    answer.rests.extend(rests.into_iter().map(|r| (at, r)));
                    answer.entries.push(entry);
                    if weight > MAX_PAGE {
                        return Ok(Portion::TooHeavy);
                    }
                    if answer.entries.len() >= size {
                        if sink.is_some() {
                            return Ok(Portion::Full);
                        }
                        // A page is at most as long as was asked; twice that is a server that does not page.
                        if answer.entries.len() > size.saturating_mul(2) {
                            return Ok(Portion::TooLong);
                        }
                    }
                }
            })
            .await;
            let (came, next) = match portion {
                Ok(Portion::End) => break,
                Ok(Portion::Full) => {
                    let mut entries = std::mem::take(&mut answer.entries);
                    let rests = std::mem::take(&mut answer.rests);
                    self.put_together(what, &mut entries, rests, ask.elsewhere_is_fine)
                        .await?;
                    *count += entries.len() as u64;
                    weight = 0;
                    if let Some(sink) = sink.as_deref_mut() {
                        self.deliver(what, sink, entries).await?;
                    }
                    continue;
                }
                Ok(Portion::Malformed) => (
                    "an entry is no LDAP that can be read".to_owned(),
                    "look at the server, or at what stands between",
                ),
                Ok(Portion::TooHeavy) => (
                    format!("more than {} MiB in one page", MAX_PAGE >> 20),
                    "lower `page-size`, and look for entries of absurd size",
                ),
                Ok(Portion::TooLong) => (
                    format!("more than the {size} entries that a page may have"),
                    "the server does not page: its answer cannot be told from a cut one",
                ),
                Err(broken) => return Err(self.broken(what, broken).await),
            };
            return Err(self.incomplete(what, came, next));
        }
        // `next` came to its end without an error, and only then is this the result of this very search.
        answer.result = stream.finish().await;
        Ok(answer)
    }

    async fn broken(&mut self, what: &str, broken: Broken) -> Trouble {
        let config = matches!(broken, Broken::Link(LdapError::FilterParsing));
        let past = Instant::now() >= self.deadline;
        let (mut came, next, _) = explain(broken, Some(&mut self.link)).await;
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

    fn incomplete(&self, what: &str, came: impl Into<String>, next: &str) -> Trouble {
        Trouble::Error(DirectoryError::Incomplete(self.failure(what, came, next)))
    }

    async fn deliver(
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
    fn nothing_hidden(
        &self,
        what: &str,
        ask: &Ask<'_>,
        references: &[String],
    ) -> Result<(), Trouble> {
        if ask.elsewhere_is_fine {
            return Ok(());
        }
        let base = fold_dn(ask.base);
        let hiding = references.iter().find(|url| {
            !(self.kind == DirectoryKind::ActiveDirectory && names_another_context(url, &base))
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
    fn cookie(&self, what: &str, result: &LdapResult) -> Result<Option<Vec<u8>>, Trouble> {
        let control = result.ctrls.iter().find(|c| c.1.ctype == PAGED_RESULTS);
        match control
            .and_then(|c| c.1.val.as_deref())
            .and_then(paged_cookie)
        {
            Some([]) => Ok(None),
            Some(cookie) => Ok(Some(cookie.to_vec())),
            None => Err(self.incomplete(
                what,
                "success, but no paging control in the answer",
                "whether this was all cannot be known: the server does not page",
            )),
        }
    }

    /// Reads what is still missing of attributes that came in part.
    async fn put_together(
        &mut self,
        what: &str,
        entries: &mut [RawEntry],
        rests: Vec<(usize, Rest)>,
        elsewhere_is_fine: bool,
    ) -> Result<(), Trouble> {
        for (at, rest) in rests {
            let Some(found) = entries.get_mut(at) else {
                continue;
            };
            let Ok(dn) = String::from_utf8(found.dn.clone()) else {
                return Err(self.incomplete(
                    what,
                    "an attribute came in part, and the entry's DN is not UTF-8",
                    "mend that entry's name",
                ));
            };
            let mut rest = Some(rest);
            for part in 0.. {
                let Some(wanted) = rest.take() else { break };
                if part >= MAX_PARTS {
                    return Err(self.incomplete(
                        what,
                        format!("an attribute of `{dn}` came in more than {MAX_PARTS} parts"),
                        "ask for fewer attributes",
                    ));
                }
                let ask = Ask {
                    base: &dn,
                    depth: Depth::Base,
                    filter: "(objectClass=*)",
                    attributes: [wanted.ask.clone()].into(),
                    page_size: 1,
                    elsewhere_is_fine,
                };
                let deed = format!("{what}, reading `{}` of `{dn}`", wanted.ask);
                let until = self.page_end();
                let stream = self.start(&deed, &ask, None, until).await?;
                let answer =
                    Box::pin(self.collect(&deed, &ask, stream, until, None, &mut 0)).await?;
                if answer.result.rc != 0 {
                    return Err(Trouble::Result(answer.result, deed));
                }
                let mut parts = answer.entries.into_iter();
                let (Some(entry), None) = (parts.next(), parts.next()) else {
                    return Err(self.incomplete(
                        &deed,
                        "the entry is gone",
                        "the next pass reads it anew",
                    ));
                };
                let more = answer.rests.into_iter().map(|(_, r)| r).collect();
                match entry::append(found, &wanted, entry, more) {
                    Ok(next) if next.as_ref().is_some_and(|n| n.ask == wanted.ask) => {
                        return Err(self.incomplete(
                            &deed,
                            "the same part again",
                            "look at the server",
                        ));
                    }
                    Ok(next) => rest = next,
                    Err(_) => {
                        return Err(self.incomplete(
                            &deed,
                            "not there any more",
                            "the next pass reads it anew",
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// After the last page: the connection must not have broken. A server that says goodbye after all was said is no loss.
    pub(super) fn still_sound(&mut self, what: &str) -> Result<(), DirectoryError> {
        let came = match self.link.ended() {
            None | Some(Ended::Closed) => return Ok(()),
            Some(Ended::Broke(e)) => one_line(&e.to_string()),
            Some(Ended::Unreadable) => "the answer is no LDAP that can be read".into(),
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
    Malformed,
    TooHeavy,
    TooLong,
}

fn nothing() -> LdapResult {
    LdapResult {
        rc: 80,
        matched: String::new(),
        text: String::new(),
        refs: vec![],
        ctrls: vec![],
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
    let dn = fold_dn(&dn);
    dn != base && at_or_below(&dn, base)
}

/// `realSearchControlValue ::= SEQUENCE { size INTEGER, cookie OCTET STRING }` (RFC 2696).
fn paged_request(size: i32, cookie: &[u8]) -> Vec<u8> {
    let mut body = vec![0x02, 4];
    body.extend(size.to_be_bytes());
    body.push(0x04);
    push_length(&mut body, cookie.len());
    body.extend(cookie);
    let mut value = vec![0x30];
    push_length(&mut value, body.len());
    value.extend(body);
    value
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
            // At most eight bytes.
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
            out.extend(bytes);
        }
    }
}

/// The cookie of an answer's control, read by hand: ldap3's reader panics, and lber's recurses as deep as the server likes.
fn paged_cookie(value: &[u8]) -> Option<&[u8]> {
    let (0x30, sequence, []) = element(value)? else {
        return None;
    };
    let (0x02, _, rest) = element(sequence)? else {
        return None;
    };
    match element(rest)? {
        (0x04, cookie, []) => Some(cookie),
        _ => None,
    }
}

/// Tag, content and what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..0x80 => (usize::from(*short), rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
            if significant.is_empty() && bytes.is_empty() || significant.len() > size_of::<usize>()
            {
                return None;
            }
            (
                significant.iter().fold(0, |n, b| n << 8 | usize::from(*b)),
                rest,
            )
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cookie_of_any_length_comes_back(size in 1..i32::MAX, cookie in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let request = paged_request(size, &cookie);
            prop_assert_eq!(paged_cookie(&request), Some(&cookie[..]));
        }

        #[test]
        fn trap_36_no_control_value_panics(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _unused = paged_cookie(&value);
        }
    }

    #[test]
    fn trap_36_a_control_value_cut_short_or_with_a_huge_length_is_none() {
        let good = paged_request(5, b"cookie");
        for cut in 0..good.len() {
            assert_eq!(paged_cookie(&good[..cut]), None);
        }
        assert_eq!(
            paged_cookie(&[0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255, 0]),
            None
        );
        assert_eq!(paged_cookie(&[0x30, 0xff]), None);
        assert_eq!(paged_cookie(&[0x30, 0x80]), None);
        // Lengths need not be in the shortest form (RFC 4511 § 5.1 leaves that to DER).
        assert_eq!(
            paged_cookie(&[0x30, 0x84, 0, 0, 0, 6, 2, 1, 0, 4, 1, b'x']),
            Some(&b"x"[..])
        );
    }

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
