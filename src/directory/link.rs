//! The task that carries a connection, and operations on it that end: in time, without a panic, with a reason.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::{LdapConnAsync, LdapError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::ber::MAX_MESSAGE;
use super::error::one_line;
use super::tls;

/// What came when it is no LDAP.
pub(super) const UNREADABLE: &str = "the answer is no LDAP that can be read";

/// The task that carries the connection. It is ldap3's `drive`, in a set of its own so that it ends with the session.
pub(super) struct Link(JoinSet<Result<(), LdapError>>);

/// How the connection's task ended.
pub(super) enum Ended {
    /// The server closed the connection.
    Closed,
    /// Reading or writing failed; what came and what to do, if TLS says so.
    Broke(LdapError),
    /// ldap3 met a message that it cannot read, and panicked.
    Unreadable,
}

impl Link {
    pub(super) fn new(connection: LdapConnAsync) -> Self {
        let mut set = JoinSet::new();
        set.spawn(connection.drive());
        Self(set)
    }

    /// Of a session beside another one, which carries the connection.
    pub(super) fn elsewhere() -> Self {
        Self(JoinSet::new())
    }

    /// Whether and how it has ended, without waiting.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        self.0.try_join_next().map(Self::how)
    }

    /// How it ended, given a moment to do so.
    async fn end(&mut self) -> Option<Ended> {
        let moment = Duration::from_millis(200);
        tokio::time::timeout(moment, self.0.join_next())
            .await
            .ok()
            .flatten()
            .map(Self::how)
    }

    fn how(joined: Result<Result<(), LdapError>, tokio::task::JoinError>) -> Ended {
        match joined {
            Ok(Ok(())) => Ended::Closed,
            Ok(Err(e)) => Ended::Broke(e),
            Err(_) => Ended::Unreadable,
        }
    }
}

/// Why an operation has no result.
pub(super) enum Broken {
    /// Not within its time, in whole seconds.
    Late(u64),
    /// The connection, or ldap3's reading of the answer.
    Link(LdapError),
    /// The answer is no LDAP that can be read; ldap3 panicked over it.
    Unreadable,
    /// The server closed the connection, and perhaps said why before.
    Closed(Option<String>),
    /// A message that is longer than any may be.
    TooLong,
    /// Bytes between the consent to StartTLS and TLS.
    SlippedIn,
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Link(LdapError::from(error))
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
    link: Option<&mut Link>,
) -> (String, &'static str, bool) {
    const LATER: &str =
        "nothing is taken from what came so far; the next pass makes a new connection";
    const LOOK: &str = "look at the server, or at what stands between";
    const CLOSED: &str = "the server closed the connection";
    let unreadable = (UNREADABLE.into(), LOOK, false);
    let error = match broken {
        Broken::Late(seconds) => return (format!("no answer within {seconds} s"), LATER, false),
        Broken::Unreadable => return unreadable,
        Broken::Closed(None) => return (CLOSED.into(), LATER, false),
        Broken::Closed(Some(why)) => return (format!("{CLOSED}: {why}"), LATER, false),
        Broken::TooLong => {
            let came = format!("a message of more than {} MiB", MAX_MESSAGE >> 20);
            return (came, "look for entries of absurd size", false);
        }
        Broken::SlippedIn => {
            return (
                "bytes in the clear behind the consent to StartTLS".into(),
                "somebody on the way may have slipped them in: use ldaps://, and look at what stands between",
                true,
            );
        }
        Broken::Link(error) => error,
    };
    if let LdapError::FilterParsing = error {
        return ("the filter cannot be read".into(), "mend `filter`", false);
    }
    let error = match link {
        Some(link) => match link.end().await {
            Some(Ended::Broke(e)) => e,
            Some(Ended::Closed) => return (CLOSED.into(), LATER, false),
            Some(Ended::Unreadable) => return unreadable,
            None => error,
        },
        None => error,
    };
    if let LdapError::Io { source } = &error
        && let Some((came, next)) = tls::explain(source)
    {
        return (came, next, true);
    }
    (one_line(&error.to_string()), LATER, false)
}
