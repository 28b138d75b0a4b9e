//! How a server is reached: its address, and the TLS that is due. A session's second connection goes where the first one went.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ldap3::LdapError;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::Instant;
use url::Url;

use super::error::{DirectoryError, ServerFailure, came, one_line};
use super::link::{Broken, words};
use super::port_protocol::{self, PortProtocol};
use super::tls;
use crate::clock::Clock;
use crate::config::DirectoryConfig;
use crate::net::{self, Unreached};

/// A server, by the configuration and by the first connection to it.
pub(super) struct Reach {
    /// The URL as it is shown: without what may be secret.
    pub server: String,
    /// The host without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// Whether TLS comes before LDAP.
    pub ldaps: bool,
    /// Whether TLS is asked for within LDAP.
    pub start_tls: bool,
    /// Whether we show a client certificate.
    pub certificate: bool,
    /// How to open TLS; `None`: it is not due, or there was no connection yet.
    pub tls: Option<Arc<ClientConfig>>,
    /// Where the first connection went. Behind one name there may be several servers, and a pass is of one.
    peer: Option<SocketAddr>,
    /// How long a connection may take to be there.
    pub step: Duration,
    /// Whether the server said *invalid credentials* on a second connection, though it had let them in on the first: each
    /// further try would bring the account closer to being locked.
    pub once_is_enough: AtomicBool,
}

/// The URL as it is shown: without what may be secret.
fn shown(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!(
        "{}://{}{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}

impl Reach {
    /// By the configuration, which may forbid it.
    pub(super) fn of(config: &DirectoryConfig, url: &Url) -> Result<Self, DirectoryError> {
        let bracketed = url.host_str().unwrap_or_default();
        let host = bracketed
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(bracketed);
        let ldaps = url.scheme() == "ldaps";
        let reach = Self {
            server: shown(url),
            host: host.to_owned(),
            port: url.port().unwrap_or(if ldaps { 636 } else { 389 }),
            ldaps,
            start_tls: config.start_tls && !ldaps,
            certificate: config.client_cert.is_some(),
            tls: None,
            peer: None,
            step: Duration::from_millis(
                u64::try_from(config.connect_timeout_ms).unwrap_or(0).max(1),
            ),
            once_is_enough: AtomicBool::new(false),
        };
        if reach.host.is_empty() {
            return Err(DirectoryError::Config(reach.failure(
                "connecting",
                "no host is named".into(),
                "write ldaps://host",
            )));
        }
        if !reach.encrypted() {
            if !config.insecure_plaintext {
                let next = "use ldaps:// or `start-tls = true`; `insecure-plaintext = true` would send the password readable to all on the way";
                return Err(DirectoryError::Config(reach.failure(
                    "connecting",
                    "this would be without TLS".into(),
                    next,
                )));
            }
            tracing::warn!(
                server = reach.server,
                "the connection is not encrypted: the bind password and all personal data travel readable (insecure-plaintext)"
            );
        }
        Ok(reach)
    }

    fn encrypted(&self) -> bool {
        self.ldaps || self.start_tls
    }

    /// The first connection: TCP, and what the next layer needs.
    pub(super) async fn first(
        &mut self,
        config: &DirectoryConfig,
        clock: &Clock,
        until: Instant,
    ) -> Result<TcpStream, DirectoryError> {
        let tcp = self.tcp(net::dial(&self.host, self.port, until).await)?;
        self.peer = tcp.peer_addr().ok();
        if self.encrypted() {
            let tls = tls::client_config(config, clock);
            let tls =
                tls.map_err(|why| DirectoryError::Config(self.failure("setting up TLS", why, "")))?;
            self.tls = Some(tls.into());
        }
        Ok(tcp)
    }

    /// Another connection to where the first one went.
    pub(super) async fn again(&self, until: Instant) -> Result<TcpStream, DirectoryError> {
        let dialled = match self.peer {
            Some(peer) => net::dial_one_of(None, vec![peer], until).await,
            None => net::dial(&self.host, self.port, until).await,
        };
        self.tcp(dialled)
    }

    fn tcp(&self, dialled: Result<TcpStream, Unreached>) -> Result<TcpStream, DirectoryError> {
        let (came, next) = match dialled {
            Ok(tcp) => match tcp.set_nodelay(true) {
                Ok(()) => return Ok(tcp),
                Err(e) => (one_line(&e.to_string()), ""),
            },
            Err(e) => (e.to_string(), connect_advice(e.kind())),
        };
        Err(DirectoryError::Unreachable(self.failure(
            "connecting",
            came,
            next,
        )))
    }

    /// Why the connection could not be opened.
    pub(super) async fn unopened(&self, broken: Broken) -> DirectoryError {
        let what = if self.ldaps {
            "opening TLS"
        } else if self.start_tls {
            "asking for StartTLS"
        } else {
            "connecting"
        };
        if let Broken::Link(LdapError::LdapResult { result }) = &broken {
            let next = "the server refuses StartTLS, and nothing is sent without it: use ldaps://";
            return DirectoryError::Tls(self.failure(what, came(result.rc, &result.text), next));
        }
        let late = matches!(broken, Broken::Late(_));
        // It closes without a word where it has no certificate with a key that we can check.
        let hung_up = self.encrypted()
            && match &broken {
                Broken::Closed(None) => self.ldaps,
                Broken::Link(LdapError::Io { source }) => {
                    source.kind() == std::io::ErrorKind::UnexpectedEof
                }
                _ => false,
            };
        let (came, next, tls) = match self.another_language(&broken).await {
            Some((came, next)) => (came, next, false),
            None if hung_up => (
                "the server closed the connection in the handshake of TLS".into(),
                "its certificate may have a key that is not supported (P-521, DSA: issue one on P-256, P-384 or RSA with 2048 bits), \
                 or it wants a client certificate (`client-cert`)",
                true,
            ),
            None => words(broken),
        };
        let failure = self.failure(what, came, next);
        // A server that answers TCP but breaks off TLS is a matter of TLS; one that says nothing is just not there.
        if self.encrypted() && !late || tls {
            DirectoryError::Tls(failure)
        } else {
            DirectoryError::Unreachable(failure)
        }
    }

    /// Whether what answers speaks TLS where it was asked in the clear, or the other way round: what it speaks, and what to write.
    pub(super) async fn another_language(&self, broken: &Broken) -> Option<(String, &'static str)> {
        let unsure = match broken {
            Broken::Closed(None) | Broken::Link(LdapError::EndOfStream) => true,
            Broken::Link(LdapError::Io { source }) => {
                let tls = source.get_ref().and_then(|e| e.downcast_ref());
                tls.is_none_or(|tls| matches!(tls, rustls::Error::InvalidMessage(_)))
            }
            _ => false,
        };
        let met = match broken {
            Broken::SpeaksTls => PortProtocol::Tls,
            _ if unsure => port_protocol::met(self.peer?, self.ldaps).await?,
            _ => return None,
        };
        let port = self.port;
        match (met, self.ldaps, self.start_tls) {
            (PortProtocol::Ldap, true, _) => Some((
                format!("port {port} speaks plain LDAP, and not TLS"),
                "write ldap:// with `start-tls = true` for it, or ldaps:// with the port of TLS, usually 636",
            )),
            (PortProtocol::Tls, false, true) => Some((
                format!("port {port} speaks TLS from its first byte, and needs no StartTLS"),
                "write ldaps:// for it, without `start-tls`, or ldap:// with the port of plain LDAP, usually 389",
            )),
            (PortProtocol::Tls, false, false) => Some((
                format!("port {port} speaks TLS, and not plain LDAP"),
                "write ldaps:// for it, or ldap:// with the port of plain LDAP, usually 389",
            )),
            _ => None,
        }
    }

    pub(super) fn failure(&self, what: &str, came: String, next: &str) -> ServerFailure {
        ServerFailure {
            server: self.server.clone(),
            what: what.into(),
            came,
            next: next.into(),
        }
    }
}

/// What to do about a server to which no connection comes about.
fn connect_advice(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::ConnectionRefused => {
            "see that the server runs there and that `servers` names the right host and port; \
             nothing listens on it, or a firewall turns this machine away"
        }
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "see that the server is up and that a firewall lets this machine in"
        }
        _ => "see that `servers` names the right host and that this machine can find it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        assert_eq!(
            shown(&Url::parse("ldaps://user:pw@host:1636/dc=x?y").unwrap()),
            "ldaps://host:1636"
        );
        assert_eq!(
            shown(&Url::parse("ldaps://[::1]").unwrap()),
            "ldaps://[::1]"
        );
    }
}
