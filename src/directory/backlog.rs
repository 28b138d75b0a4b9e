//! What of a connection's searches was handed to ldap3, and is still to be taken from there. ldap3 keeps it in queues without an
//! end; here it is counted, so that the guard stops to read where too much is waiting.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ldap3::controls::RawControl;
use ldap3::exop::Exop;
use ldap3::result::ExopResult;
use ldap3::{Ldap, LdapError, LdapResult, ResultEntry, Scope as Depth, StreamState};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// How much may wait, by [`Head::weight`](super::message_form::Head::weight): an eighth of what the unit lets the daemon have.
pub(super) const MAX_WAITING: usize = 64 << 20;

/// How long nothing may be taken of that much.
const PATIENCE: Duration = Duration::from_mins(1);

/// More than [`MAX_WAITING`] waits, and nobody takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overflow;

/// The searches of one connection, by the ids of their requests.
#[derive(Default, Debug)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    less: Notify,
}

#[derive(Default, Debug)]
struct Waiting {
    /// The weights of the messages of each search, the oldest first.
    searches: HashMap<u32, VecDeque<usize>>,
    /// Those that were left before the guard had seen them asked for.
    left_early: HashSet<u32>,
    weight: usize,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A search is asked for. It may be left already: ldap3 has asked for it before the guard reads that.
    pub(super) fn began(&self, id: u32) {
        let mut waiting = self.lock();
        if !waiting.left_early.remove(&id) {
            waiting.searches.insert(id, VecDeque::new());
        }
    }

    /// A message of a search is handed on. Of one that nobody reads any more, ldap3 keeps nothing.
    pub(super) fn handed_on(&self, id: u32, weight: usize) {
        let mut waiting = self.lock();
        if let Some(search) = waiting.searches.get_mut(&id) {
            search.push_back(weight);
            waiting.weight += weight;
        }
    }

    /// The oldest message of a search is taken.
    pub(super) fn taken(&self, id: u32) {
        let mut waiting = self.lock();
        if let Some(weight) = waiting.searches.get_mut(&id).and_then(VecDeque::pop_front) {
            waiting.weight -= weight;
            drop(waiting);
            self.less.notify_one();
        }
    }

    /// Nobody reads a search any more.
    pub(super) fn left(&self, id: u32) {
        let mut waiting = self.lock();
        if let Some(search) = waiting.searches.remove(&id) {
            waiting.weight -= search.iter().sum::<usize>();
            drop(waiting);
            self.less.notify_one();
        } else {
            waiting.left_early.insert(id);
        }
    }

    /// Waits until more may be read.
    pub(super) async fn room(&self) -> Result<(), Overflow> {
        while self.lock().weight > MAX_WAITING {
            // One that comes between the look and the wait is kept for the wait.
            timeout(PATIENCE, self.less.notified())
                .await
                .map_err(|_| Overflow)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> usize {
        self.lock().weight
    }
}

/// ldap3's handle of a connection, and what waits of its searches.
#[derive(Clone)]
pub(super) struct LdapHandle {
    ldap: Ldap,
    backlog: Arc<Backlog>,
    asking: TaskTracker,
}

impl LdapHandle {
    pub(super) fn new(ldap: Ldap, backlog: Arc<Backlog>) -> Self {
        Self {
            ldap,
            backlog,
            asking: TaskTracker::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Controls of the next operation.
    pub(super) fn with_controls(&mut self, controls: Vec<RawControl>) {
        self.ldap.with_controls(controls);
    }

    pub(super) fn is_closed(&mut self) -> bool {
        self.ldap.is_closed()
    }

    pub(super) async fn simple_bind(
        &mut self,
        dn: &str,
        password: &str,
    ) -> Result<LdapResult, LdapError> {
        self.ldap.simple_bind(dn, password).await
    }

    pub(super) async fn sasl_external_bind(&mut self) -> Result<LdapResult, LdapError> {
        self.ldap.sasl_external_bind().await
    }

    pub(super) async fn extended(
        &mut self,
        operation: impl Into<Exop>,
    ) -> Result<ExopResult, LdapError> {
        self.ldap.extended(operation).await
    }

    /// Takes a search back (RFC 4511 § 4.11); has no answer.
    pub(super) async fn abandon(&mut self, id: i32) -> Result<(), LdapError> {
        self.ldap.abandon(id).await
    }

    /// Asks for entries. Cancel-safe: a search that nobody waits for any more is asked for all the same, since only then its id is
    /// known, and is left at once.
    pub(super) async fn streaming_search(
        &mut self,
        base: &str,
        depth: Depth,
        filter: &str,
        attributes: Arc<[String]>,
    ) -> Result<SearchStream, LdapError> {
        let mut line = self.clone();
        line.ldap.controls = self.ldap.controls.take();
        let (base, filter) = (base.to_owned(), filter.to_owned());
        let asking = self.asking.spawn(async move {
            let asked = line
                .ldap
                .streaming_search(&base, depth, &filter, attributes);
            let mut search = asked.await?;
            let id = search.ldap_handle().last_id();
            Ok(SearchStream { search, id, line })
        });
        asking
            .await
            .map_err(|_| std::io::Error::other("asking for it broke off"))?
    }
}

/// The answer to a search, message by message.
pub(super) struct SearchStream {
    search: ldap3::SearchStream<'static, String, Arc<[String]>>,
    id: i32,
    line: LdapHandle,
}

impl SearchStream {
    /// The next entry or the like; `None`: the search ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<ResultEntry>, LdapError> {
        let next = self.search.next().await;
        self.line.backlog.taken(self.key());
        next
    }

    /// The result, of a search whose [`SearchStream::next`] came to its end.
    pub(super) async fn finish(&mut self) -> LdapResult {
        self.search.finish().await
    }

    pub(super) fn state(&self) -> StreamState {
        self.search.state()
    }

    /// The id of its request.
    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// The connection that it comes over.
    pub(super) fn line(&self) -> LdapHandle {
        self.line.clone()
    }

    fn key(&self) -> u32 {
        self.id.unsigned_abs()
    }
}

impl Drop for SearchStream {
    fn drop(&mut self) {
        self.line.backlog.left(self.key());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_left_before_it_is_seen_is_never_counted() {
        let backlog = Backlog::default();
        backlog.left(1);
        backlog.began(1);
        backlog.handed_on(1, 5);
        assert_eq!(backlog.weight(), 0);
        backlog.began(2);
        backlog.handed_on(2, 5);
        assert_eq!(backlog.weight(), 5);
        backlog.left(2);
        assert_eq!(backlog.weight(), 0);
    }
}
