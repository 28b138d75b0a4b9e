//! A connection to a server: TCP, and TLS where it is due. Both of a session's connections are opened here. Over the second one
//! a pass is read: ldap3 makes a tree of every message and a vector of every value, which was a third of a pass; here messages are
//! read where they lie in one buffer. The first one goes on to ldap3, with a guard between them (`guard`).
//!
//! ```text
//! TCP ─▶ (StartTLS) ─▶ TLS ─▶ buffer ─▶ a whole message ─▶ what it says
//! ```
//!
//! One request is under way at a time, so a message of another id is a server gone wrong, and never just overlooked.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ldap3::controls::RawControl;
use ldap3::{LdapError, LdapResult, Scope as Depth};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ber::{Extent, frame};
use super::credentials::Credentials;
use super::error::came;
use super::link::Broken;
use super::message::{BIND_RESPONSE, EXTENDED_RESPONSE, ProtocolOp, SEARCH_DONE, message};
use super::message_form::Misshapen;
use super::reach::Reach;
use super::request;
use super::unpack::Unpacker;
use crate::model::RawEntry;

/// Bytes that are read at once, with room for some hundred entries. rustls itself takes 4 KiB a call of the system.
pub(super) const CHUNK: usize = 64 << 10;

/// A buffer that grew beyond this for one huge message is given back after it.
pub(super) const KEPT: usize = 1 << 20;

/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// What carries the bytes.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

/// A connection on which one request is answered at a time.
pub(super) struct Wire {
    stream: Stream,
    /// What came; what lies before `at` was read already.
    came: Vec<u8>,
    at: usize,
    /// The id of the request that is under way.
    id: i32,
}

impl Wire {
    /// TLS, where it is due, over a connection.
    pub(super) async fn open(reach: &Reach, tcp: TcpStream) -> Result<Self, Broken> {
        let Some(tls) = &reach.tls else {
            return Ok(Self::over(Stream::Plain(tcp)));
        };
        let tcp = if reach.start_tls {
            Self::start_tls(tcp).await?
        } else {
            tcp
        };
        let name = ServerName::try_from(reach.host.clone())
            .map_err(|e| Broken::Link(LdapError::from(e)))?;
        let tcp = BufReader::with_capacity(CHUNK, tcp);
        let tls = TlsConnector::from(Arc::clone(tls))
            .connect(name, tcp)
            .await?;
        Ok(Self::over(Stream::Tls(Box::new(tls))))
    }

    /// Asks for TLS; from then on the connection carries nothing else.
    async fn start_tls(tcp: TcpStream) -> Result<TcpStream, Broken> {
        let mut wire = Self::over(Stream::Plain(tcp));
        wire.send(&request::start_tls(), &[]).await?;
        let result = wire.result(EXTENDED_RESPONSE).await?;
        if result.rc != 0 {
            return Err(Broken::Link(LdapError::LdapResult { result }));
        }
        // It must not be taken for the server's word under TLS; and a server sends nothing here, so somebody else did.
        if wire.at < wire.came.len() {
            return Err(Broken::SlippedIn);
        }
        match wire.stream {
            Stream::Plain(tcp) => Ok(tcp),
            Stream::Tls(_) => Err(Broken::Unreadable),
        }
    }

    /// The connection, and what was read of it already.
    pub(super) fn into_parts(mut self) -> (Stream, Vec<u8>) {
        self.came.drain(..self.at);
        (self.stream, self.came)
    }

    pub(super) fn over(stream: Stream) -> Self {
        Self {
            stream,
            came: Vec::with_capacity(CHUNK),
            at: 0,
            id: 0,
        }
    }

    /// Binds; `None`: there is nobody to bind as.
    pub(super) async fn bind(
        &mut self,
        credentials: &Credentials,
    ) -> Result<Option<LdapResult>, Broken> {
        let Some(request) = credentials.request() else {
            return Ok(None);
        };
        self.send(&request, &[]).await?;
        self.result(BIND_RESPONSE).await.map(Some)
    }

    /// One entry by its DN; `None`: it is not there, or may not be seen.
    pub(super) async fn one(
        &mut self,
        dn: &str,
        attributes: &[&str],
    ) -> Result<Option<RawEntry>, Broken> {
        let search = request::search(dn, Depth::Base, "(objectClass=*)", attributes)
            .ok_or(Broken::Link(LdapError::FilterParsing))?;
        self.send(&search, &[]).await?;
        let (mut unpacker, mut found) = (Unpacker::default(), None);
        loop {
            let at = self.next().await?;
            match self.said(at)? {
                Some(ProtocolOp::Entry { dn, attributes }) => {
                    let entry = unpacker.entry(dn, attributes);
                    found = Some(entry.map_err(|_| Broken::Unreadable)?.0);
                }
                Some(ProtocolOp::Result(SEARCH_DONE, result)) => {
                    return Ok(found.filter(|_| result.rc == 0));
                }
                Some(ProtocolOp::Reference(_)) | None => {}
                Some(_) => return Err(Broken::Unreadable),
            }
        }
    }

    /// Sends a request, of which the answers are read from now on.
    pub(super) async fn send(
        &mut self,
        operation: &[u8],
        controls: &[RawControl],
    ) -> Result<(), Broken> {
        // After two thousand million pages it begins anew; nothing of the first page is under way then.
        self.id = self.id.checked_add(1).unwrap_or(1);
        let message = request::message(self.id, operation, controls);
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(&message).await?,
            Stream::Tls(stream) => {
                stream.write_all(&message).await?;
                stream.flush().await?;
            }
        }
        Ok(())
    }

    /// Waits for the next message; says where it lies, until the next call.
    pub(super) async fn next(&mut self) -> Result<Range<usize>, Broken> {
        loop {
            match frame(&self.came[self.at..]) {
                Extent::Whole(length) => {
                    let begin = self.at;
                    self.at += length;
                    return Ok(begin..self.at);
                }
                Extent::Part => self.fill().await?,
                Extent::TooLong => return Err(Broken::Misshapen(Misshapen::Long)),
                Extent::Nothing => return Err(Broken::no_ldap(&self.came[self.at..])),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        if self.at == self.came.len() {
            self.came.clear();
            self.came.shrink_to(KEPT);
            self.at = 0;
        } else if self.at > 0 && self.came.capacity() - self.came.len() < CHUNK {
            self.came.drain(..self.at);
            self.at = 0;
        }
        self.came.reserve(CHUNK);
        let came = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.came).await?,
            Stream::Tls(stream) => stream.read_buf(&mut self.came).await?,
        };
        if came == 0 {
            return Err(Broken::Closed(None));
        }
        Ok(())
    }

    /// What a message says; `None`: nothing to us.
    pub(super) fn said(&self, at: Range<usize>) -> Result<Option<ProtocolOp<'_>>, Broken> {
        let message = self.came.get(at).and_then(message);
        let message = message.ok_or(Broken::Unreadable)?;
        match message.said {
            ProtocolOp::Goodbye(result) => Err(Broken::Closed(Some(came(result.rc, &result.text)))),
            // What is sent unasked and not known is to be ignored (RFC 4511 § 4.4).
            _ if message.id == 0 => Ok(None),
            _ if i64::from(message.id) != i64::from(self.id) => Err(Broken::Unreadable),
            ProtocolOp::Aside => Ok(None),
            said => Ok(Some(said)),
        }
    }

    /// The result of a request that has no other answer.
    async fn result(&mut self, kind: u8) -> Result<LdapResult, Broken> {
        loop {
            let at = self.next().await?;
            match self.said(at)? {
                Some(ProtocolOp::Result(tag, result)) if tag == kind => return Ok(result),
                None => {}
                Some(_) => return Err(Broken::Unreadable),
            }
        }
    }

    /// Says goodbye. Whether the server hears it decides nothing.
    pub(super) async fn close(mut self) {
        let farewell = async {
            self.send(&request::unbind(), &[]).await?;
            match &mut self.stream {
                Stream::Plain(stream) => stream.shutdown().await?,
                Stream::Tls(stream) => stream.shutdown().await?,
            }
            Ok::<(), Broken>(())
        };
        let _heard = tokio::time::timeout(FAREWELL, farewell).await;
    }
}
