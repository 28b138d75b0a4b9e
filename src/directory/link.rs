//! The task that carries a connection, and operations on it that end: in time, without a panic, with a reason.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::LdapError;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::backlog::{MAX_WAITING, Overflow};
use super::error::{came, one_line};
use super::guard::Carrier;
use super::message_form::Misshapen;
use crate::net;

/// What came when it is no LDAP.
pub(super) const UNREADABLE: &str = "the answer is no LDAP that can be read";

/// The task that carries the connection, in a set of its own so that it ends with the session. It says how it ended.
pub(super) struct ConnectionTask(JoinSet<Broken>);

impl ConnectionTask {
    pub(super) fn new(carrier: Carrier) -> Self {
        let mut set = JoinSet::new();
        set.spawn(carrier);
        Self(set)
    }

    /// Of a session beside another one, which carries the connection.
    pub(super) fn elsewhere() -> Self {
        Self(JoinSet::new())
    }

    /// Whether and how it has ended, without waiting.
    pub(super) fn ended(&mut self) -> Option<Broken> {
        self.0.try_join_next().map(Self::how)
    }

    /// How it ended, given a moment to do so.
    async fn end(&mut self) -> Option<Broken> {
        let moment = Duration::from_millis(500);
        tokio::time::timeout(moment, self.0.join_next())
            .await
            .ok()
            .flatten()
            .map(Self::how)
    }

    fn how(joined: Result<Broken, tokio::task::JoinError>) -> Broken {
        // ldap3 met a message that it cannot read, and panicked.
        joined.unwrap_or(Broken::Unreadable)
    }
}

/// Why an operation has no result, or a connection ended.
pub(super) enum Broken {
    /// Not within its time, in whole seconds.
    Late(u64),
    /// The connection, or ldap3's reading of the answer.
    Link(LdapError),
    /// The answer is no LDAP that can be read.
    Unreadable,
    /// The server closed the connection, and perhaps said why before.
    Closed(Option<String>),
    /// A message that is not as a message must be.
    Misshapen(Misshapen),
    /// More waits to be taken than can be kept.
    Overflow,
    /// The port speaks TLS, and was asked in the clear.
    SpeaksTls,
    /// Bytes between the consent to StartTLS and TLS.
    SlippedIn,
}

impl Broken {
    /// Of bytes that begin no message.
    pub(super) fn no_ldap(came: &[u8]) -> Self {
        match came {
            // An alert or a handshake of any version of TLS.
            [0x15 | 0x16, 3, ..] => Self::SpeaksTls,
            _ => Self::Misshapen(Misshapen::Form("no message")),
        }
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Link(LdapError::from(error))
    }
}

impl From<Overflow> for Broken {
    fn from(Overflow: Overflow) -> Self {
        Self::Overflow
    }
}

/// Runs an operation on our own connection within a time.
pub(super) async fn timely<T>(
    until: Instant,
    operation: impl Future<Output = Result<T, Broken>>,
) -> Result<T, Broken> {
    let started = Instant::now();
    match timeout_at(until, operation).await {
        Ok(done) => done,
        Err(_) => Err(Broken::Late(started.elapsed().as_secs())),
    }
}

/// Runs an operation of ldap3 within a time. ldap3 panics over results that are no UTF-8; here that is an error.
pub(super) async fn within<T>(
    until: Instant,
    operation: impl Future<Output = Result<T, LdapError>>,
) -> Result<T, Broken> {
    let started = Instant::now();
    match timeout_at(until, AssertUnwindSafe(operation).catch_unwind()).await {
        Err(_) => Err(Broken::Late(started.elapsed().as_secs())),
        Ok(Err(_)) => Err(Broken::Unreadable),
        Ok(Ok(Err(e))) => Err(Broken::Link(e)),
        Ok(Ok(Ok(value))) => Ok(value),
    }
}

/// What came, what to do, and whether TLS is at fault.
pub(super) async fn explain(
    broken: Broken,
    link: Option<&mut ConnectionTask>,
) -> (String, &'static str, bool) {
    words(why(broken, link).await)
}

/// Why the connection ended, if it did.
pub(super) async fn why(broken: Broken, link: Option<&mut ConnectionTask>) -> Broken {
    match (link, broken) {
        (_, filter @ Broken::Link(LdapError::FilterParsing)) => filter,
        // ldap3 only knows that there is no answer; the task knows why.
        (Some(link), broken @ Broken::Link(_)) => link.end().await.unwrap_or(broken),
        (_, broken) => broken,
    }
}

/// The same of what is known.
pub(super) fn words(broken: Broken) -> (String, &'static str, bool) {
    const LATER: &str =
        "nothing is taken from what came so far; the next pass makes a new connection";
    const LOOK: &str = "look at the server, or at what stands between";
    const CLOSED: &str = "the server closed the connection";
    match broken {
        Broken::Late(seconds) => (format!("no answer within {seconds} s"), LATER, false),
        Broken::Unreadable => (UNREADABLE.into(), LOOK, false),
        Broken::Closed(None) => (CLOSED.into(), LATER, false),
        Broken::Closed(Some(why)) => (format!("{CLOSED}: {why}"), LATER, false),
        Broken::Misshapen(why) => {
            let next = match why {
                Misshapen::Long | Misshapen::Many => "look for entries of absurd size",
                Misshapen::Deep | Misshapen::Form(_) => LOOK,
            };
            (why.came(), next, false)
        }
        Broken::Overflow => (
            format!(
                "more than {} MiB of answers waited to be taken",
                MAX_WAITING >> 20
            ),
            LATER,
            false,
        ),
        Broken::SpeaksTls => (
            format!("{UNREADABLE}: this port speaks TLS"),
            "write ldaps:// for it, without `start-tls`",
            false,
        ),
        Broken::SlippedIn => (
            "bytes in the clear behind the consent to StartTLS".into(),
            "somebody on the way may have slipped them in: use ldaps://, and look at what stands between",
            true,
        ),
        Broken::Link(LdapError::FilterParsing) => {
            ("the filter cannot be read".into(), "mend `filter`", false)
        }
        Broken::Link(error) => of_ldap3(error, CLOSED, LATER),
    }
}

/// ldap3's own words are about its inside.
fn of_ldap3(error: LdapError, closed: &str, later: &'static str) -> (String, &'static str, bool) {
    match error {
        LdapError::Io { source } => match net::unfit_in(&source) {
            Some(unfit) => (unfit.came, unfit.next, true),
            None if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                (closed.into(), later, false)
            }
            None => (one_line(&source.to_string()), later, false),
        },
        LdapError::LdapResult { result } => (came(result.rc, &result.text), later, false),
        LdapError::EndOfStream
        | LdapError::OpSend { .. }
        | LdapError::ResultRecv { .. }
        | LdapError::IdScrubSend { .. } => (closed.into(), later, false),
        LdapError::DNSName { .. } => (
            "the host is no name that a certificate can have".into(),
            "name the server in `servers` as its certificate does",
            true,
        ),
        _ => (UNREADABLE.into(), later, false),
    }
}
