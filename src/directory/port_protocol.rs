//! What a port speaks, once it did not speak what was expected of it. Asked on a connection of its own, and nothing secret is said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::ber::SEQUENCE;
use super::request;
use crate::net;

/// How long the question may take: the connection failed already.
const PATIENCE: Duration = Duration::from_secs(2);

/// What answers on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PortProtocol {
    /// LDAP in the clear.
    Ldap,
    /// TLS from the first byte.
    Tls,
}

/// Asks what a port speaks that was expected to speak TLS (`tls`) or LDAP. `None`: neither of the other, or nothing.
pub(super) async fn met(peer: SocketAddr, tls: bool) -> Option<PortProtocol> {
    let question = if tls {
        request::message(1, &request::start_tls(), &[])
    } else {
        greeting()?
    };
    let asked = async {
        let until = Instant::now() + PATIENCE;
        let mut tcp = net::dial_one_of(None, vec![peer], until).await.ok()?;
        tcp.write_all(&question).await.ok()?;
        let first = tcp.read_u8().await.ok()?;
        match (first, tls) {
            (SEQUENCE, true) => Some(PortProtocol::Ldap),
            // An alert, or a handshake.
            (0x15 | 0x16, false) => Some(PortProtocol::Tls),
            _ => None,
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

/// The first message of TLS. The handshake never goes on, so that there is nothing to verify.
fn greeting() -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").ok()?;
    let mut client = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).ok()?;
    Some(bytes)
}
