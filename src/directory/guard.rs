//! What stands between a directory and ldap3: every byte of a server goes through our own reader first.
//!
//! ```text
//! server ─▶ TCP ─▶ (StartTLS) ─▶ TLS ─▶ wire ─▶ form ─▶ local socket ─▶ ldap3 ─▶ lber
//! server ◀─ TCP ◀────────────────TLS ◀─ which request is it? ◀─ local socket ◀─ ldap3
//! ```
//!
//! ldap3 and lber believe what they read; here only whole messages go on, each within our bounds, and each an answer to a request
//! that waits for one. Everything else ends the connection with a reason.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use url::Url;

use super::backlog::{Backlog, LdapHandle};
use super::ber::{Extent, INTEGER, SEQUENCE, element, expect, frame, unsigned};
use super::error::came;
use super::link::Broken;
use super::message::{BIND_RESPONSE, EXTENDED_RESPONSE, ProtocolOp, SEARCH_DONE, message};
use super::message_form::{self, Misshapen};
use super::wire::{CHUNK, KEPT, Stream, Wire};

const UNBIND: u8 = 0x42;
const SEARCH: u8 = 0x63;
const ABANDON: u8 = 0x50;

/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PendingRequest {
    /// Entries, and a result at the end.
    Search,
    /// One result.
    Result,
}

/// The requests that are under way, by their ids.
struct UnderWay {
    waits: Mutex<HashMap<u32, PendingRequest>>,
    /// What of the searches is still to be taken from ldap3.
    backlog: Arc<Backlog>,
}

impl UnderWay {
    fn waits(&self) -> MutexGuard<'_, HashMap<u32, PendingRequest>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MessageRoute {
    On,
    Aside,
}

/// The future that carries a connection; it ends with the reason of its end.
pub(super) type Carrier = std::pin::Pin<Box<dyn Future<Output = Broken> + Send>>;

/// Puts ldap3 behind a connection that is open.
pub(super) async fn guarded(wire: Wire) -> Result<(Carrier, LdapHandle), Broken> {
    let (near, far) = UnixStream::pair()?;
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(far.into_std()?));
    // Of the address ldap3 only looks at the scheme, since it has the stream already.
    let address = Url::parse("ldapi://guard").map_err(|e| Broken::Link(e.into()))?;
    let opened = LdapConnAsync::from_url_with_settings(settings, &address).await;
    let (connection, ldap) = opened.map_err(Broken::Link)?;
    let drive = connection.drive();
    let backlog = Arc::new(Backlog::default());
    let line = LdapHandle::new(ldap, Arc::clone(&backlog));
    let (stream, came) = wire.into_parts();
    let carrier: Carrier = match stream {
        Stream::Plain(tcp) => Box::pin(carry(drive, between(tcp, came, near, backlog))),
        Stream::Tls(tls) => Box::pin(carry(drive, between(*tls, came, near, backlog))),
    };
    Ok((carrier, line))
}

/// Runs ldap3 and the guard side by side. The guard knows better why a connection ended.
async fn carry(
    drive: impl Future<Output = Result<(), LdapError>>,
    guard: impl Future<Output = Broken>,
) -> Broken {
    let (mut drive, mut guard) = (pin!(drive), pin!(guard));
    tokio::select! {
        biased;
        why = &mut guard => {
            // What came before the end is still handed out.
            let _ended = tokio::time::timeout(FAREWELL, drive).await;
            why
        }
        drove = &mut drive => match drove {
            // Nobody uses the session any more.
            Ok(()) => tokio::time::timeout(FAREWELL, guard)
                .await
                .unwrap_or(Broken::Closed(None)),
            Err(error) => Broken::Link(error),
        },
    }
}

/// Carries both directions until one of them ends. `came` is what was read of the server already.
async fn between(
    server: impl AsyncRead + AsyncWrite,
    came: Vec<u8>,
    client: UnixStream,
    backlog: Arc<Backlog>,
) -> Broken {
    let (from_server, to_server) = tokio::io::split(server);
    let (from_client, to_client) = client.into_split();
    let under_way = UnderWay {
        waits: Mutex::default(),
        backlog,
    };
    let answers = answers(from_server, came, to_client, &under_way);
    let requests = requests(from_client, to_server, &under_way);
    let (mut answers, mut requests) = (pin!(answers), pin!(requests));
    tokio::select! {
        biased;
        why = &mut answers => why,
        why = &mut requests => match why {
            // A server may have said why before it stopped to listen.
            Some(broken) => tokio::time::timeout(FAREWELL, answers).await.unwrap_or(broken),
            None => Broken::Closed(None),
        },
    }
}

/// Hands on what the server says; says why that ended.
async fn answers(
    mut server: impl AsyncRead + Unpin,
    mut came: Vec<u8>,
    mut client: OwnedWriteHalf,
    under_way: &UnderWay,
) -> Broken {
    let mut on = Vec::new();
    loop {
        let mut at = 0;
        let end = loop {
            match frame(&came[at..]) {
                Extent::Whole(length) => match turn(&came[at..at + length], under_way) {
                    Ok(MessageRoute::On) => {
                        on.extend_from_slice(&came[at..at + length]);
                        at += length;
                    }
                    Ok(MessageRoute::Aside) => at += length,
                    Err(why) => break Some(why),
                },
                Extent::Part => break None,
                Extent::TooLong => break Some(Broken::Misshapen(Misshapen::Long)),
                Extent::Nothing => break Some(Broken::no_ldap(&came[at..])),
            }
        };
        if !on.is_empty() {
            if let Err(error) = client.write_all(&on).await {
                return end.unwrap_or_else(|| error.into());
            }
            on.clear();
            on.shrink_to(KEPT);
        }
        if let Some(why) = end {
            return why;
        }
        came.drain(..at);
        if came.is_empty() {
            came.shrink_to(KEPT);
        }
        if let Err(overflow) = under_way.backlog.room().await {
            return overflow.into();
        }
        came.reserve(CHUNK);
        match server.read_buf(&mut came).await {
            Ok(0) => return Broken::Closed(None),
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Whether a message goes on.
fn turn(bytes: &[u8], under_way: &UnderWay) -> Result<MessageRoute, Broken> {
    let head = message_form::check(bytes).map_err(Broken::Misshapen)?;
    if head.id == 0 {
        // What is sent unasked and not known is to be ignored (RFC 4511 § 4.4).
        return match message(bytes).map(|m| m.said) {
            Some(ProtocolOp::Goodbye(result)) => {
                Err(Broken::Closed(Some(came(result.rc, &result.text))))
            }
            _ => Ok(MessageRoute::Aside),
        };
    }
    let mut waits = under_way.waits();
    let result = matches!(
        head.operation,
        BIND_RESPONSE | EXTENDED_RESPONSE | SEARCH_DONE
    );
    let fits = match waits.get(&head.id) {
        // Of a search that was taken back, what was on its way still comes.
        None => return Ok(MessageRoute::Aside),
        Some(PendingRequest::Search) => !result || head.operation == SEARCH_DONE,
        Some(PendingRequest::Result) => result && head.operation != SEARCH_DONE,
    };
    if !fits {
        return Err(Broken::Misshapen(Misshapen::Form(
            "an answer to another kind of request",
        )));
    }
    if result {
        waits.remove(&head.id);
    } else {
        under_way.backlog.handed_on(head.id, head.weight);
    }
    Ok(MessageRoute::On)
}

/// Hands on what ldap3 asks; `None`: nobody asks any more.
async fn requests(
    mut client: OwnedReadHalf,
    mut server: impl AsyncWrite + Unpin,
    under_way: &UnderWay,
) -> Option<Broken> {
    let mut asked = Vec::new();
    loop {
        let mut at = 0;
        while let Extent::Whole(length) = frame(&asked[at..]) {
            note(&asked[at..at + length], under_way);
            at += length;
        }
        let sent = async {
            server.write_all(&asked[..at]).await?;
            server.flush().await
        };
        if at > 0
            && let Err(error) = sent.await
        {
            return Some(error.into());
        }
        asked.drain(..at);
        let more = client.read_buf(&mut asked).await;
        if !matches!(more, Ok(1..)) {
            // Whether the server hears it decides nothing.
            let _heard = server.shutdown().await;
            return None;
        }
    }
}

/// Remembers which answers a request waits for.
fn note(request: &[u8], under_way: &UnderWay) {
    let read = || {
        let (content, _) = expect(SEQUENCE, request)?;
        let (id, rest) = expect(INTEGER, content)?;
        let (operation, inside, _) = element(rest)?;
        Some((unsigned(id)?, operation, inside))
    };
    let Some((id, operation, inside)) = read() else {
        return;
    };
    match operation {
        ABANDON => {
            if let Some(taken_back) = unsigned(inside) {
                under_way.waits().remove(&taken_back);
            }
        }
        UNBIND => {}
        SEARCH => {
            under_way.backlog.began(id);
            under_way.waits().insert(id, PendingRequest::Search);
        }
        _ => {
            under_way.waits().insert(id, PendingRequest::Result);
        }
    }
}

/// What the fuzzer calls: the bytes of a server to a client that searches (1), waits for a result (2), and took a search back (3).
/// Whatever goes on must be what lber reads, and an answer to one of the two.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(data: &[u8]) {
    let under_way = UnderWay {
        waits: Mutex::new([(1, PendingRequest::Search), (2, PendingRequest::Result)].into()),
        backlog: Arc::default(),
    };
    let mut rest = data;
    while let Extent::Whole(length) = frame(rest) {
        let (bytes, after) = rest.split_at(length);
        match turn(bytes, &under_way) {
            Ok(MessageRoute::On) => {
                let read = lber::parse::parse_tag(bytes);
                assert!(read.is_ok_and(|(rest, _)| rest.is_empty()));
            }
            Ok(MessageRoute::Aside) => {}
            Err(_) => return,
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests;
