//! The listeners: a unix socket with the control API, and TCP, plain on loopback or with TLS, with what anybody may ask.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patience::{PunctualBody, end_if_unread};
use super::peer::Peer;
use super::socket::ControlSocket;
use super::{Api, control, hard_tokens, open, program, selections};

/// Connections at once on one listener: more than all commands and probes of one machine, far less than its descriptors.
const CONNECTIONS: usize = 256;

/// A peer that does not speak must not keep its place: so long for a TLS handshake, and for the head of each request. Those who
/// hold all places in this way hold others up for no longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The daemon stops, and nothing is being answered: for the last bytes of an answer that is done.
const LAST_BYTES: Duration = Duration::from_millis(300);

/// How long answers may still be written once the daemon stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Answers on the control socket until cancelled. Its places are its own: what happens on TCP holds no command up.
pub async fn unix(socket: ControlSocket, api: Api, cancel: CancellationToken) {
    let router = open::routes()
        .merge(control::routes())
        .merge(hard_tokens::routes())
        .merge(selections::routes())
        .with_state(api);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            _ended = connections.join_next(), if !connections.is_empty() => continue,
            accepted = socket.listener.accept() => accepted,
        };
        let accepted = accepted.map(|(stream, _)| stream);
        let Some((stream, place)) = admit(accepted, &places, &cancel).await else {
            continue;
        };
        // Without a peer the control routes answer 403, the open ones as ever.
        let router = match Peer::of(&stream) {
            Some(peer) => router.clone().layer(Extension(peer)),
            None => router.clone(),
        };
        let cancel = cancel.clone();
        connections.spawn(async move {
            // Answers in many lines go on until their work ends, and say that it does.
            converse(stream, router, Body::new, cancel, FAREWELL).await;
            drop(place);
        });
    }
    farewell(connections).await;
}

/// Answers on TCP until cancelled, also what `pages` has; each request carries the other end of its connection as [`SocketAddr`].
/// `tls` may change (a renewed certificate); `None`: plain.
pub async fn tcp(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    api: Api,
    pages: Router,
    cancel: CancellationToken,
) {
    let router = open::routes()
        .merge(program::routes())
        .with_state(api)
        .merge(pages);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            _ended = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let Some(((stream, from), place)) = admit(accepted, &places, &cancel).await else {
            continue;
        };
        end_if_unread(&stream);
        let router = router.clone().layer(Extension(from));
        let (router, cancel, tls) = (router.clone(), cancel.clone(), tls.borrow().clone());
        connections.spawn(async move {
            match tls {
                None => converse(stream, router, in_time, cancel, LAST_BYTES).await,
                Some(config) => {
                    let shaking = timeout(PATIENCE, TlsAcceptor::from(config).accept(stream));
                    match cancel.run_until_cancelled(shaking).await {
                        Some(Ok(Ok(stream))) => {
                            converse(stream, router, in_time, cancel, LAST_BYTES).await;
                        }
                        Some(Ok(Err(why))) => {
                            tracing::debug!(%why, "a client's TLS handshake failed");
                        }
                        Some(Err(_)) => tracing::debug!("a client's TLS handshake took too long"),
                        None => {}
                    }
                }
            }
            drop(place);
        });
    }
    // The address is free at once, whoever still talks.
    drop(listener);
    farewell(connections).await;
}

/// A connection and its place; waits when too many are open. `None`: the connection failed before it began, or the daemon stops.
async fn admit<S>(
    accepted: io::Result<S>,
    places: &Arc<Semaphore>,
    cancel: &CancellationToken,
) -> Option<(S, tokio::sync::OwnedSemaphorePermit)> {
    match accepted {
        Ok(stream) => {
            let place = cancel.run_until_cancelled(places.clone().acquire_owned());
            Some((stream, place.await?.ok()?))
        }
        Err(why) => {
            // Out of descriptors, mostly: nothing is won by asking again at once.
            tracing::warn!(%why, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(200)).await;
            None
        }
    }
}

/// A body of TCP.
fn in_time(body: Incoming) -> Body {
    Body::new(PunctualBody::new(body))
}

/// One connection from its first request to its last; `body` is how the rest of a request is read. When the daemon stops, an answer that is being made is waited for, and
/// the rest of one that is made for as long as `rest`; half of a request is not.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    body: fn(Incoming) -> Body,
    cancel: CancellationToken,
    rest: Duration,
) {
    let answering = TaskTracker::new();
    let (asked, router) = (answering.clone(), TowerToHyperService::new(router));
    let service = service_fn(move |request: Request<Incoming>| {
        let (token, answer) = (asked.token(), router.call(request.map(body)));
        async move {
            let answer = answer.await;
            drop(token);
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            if answering.is_empty() {
                timeout(rest, connection).await.unwrap_or(Ok(()))
            } else {
                connection.await
            }
        }
    };
    if let Err(why) = ended {
        tracing::debug!(%why, "a connection ended early");
    }
}

async fn farewell(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    let _all_or_not = timeout(FAREWELL, all).await;
}

/// Listens on TCP; also while connections of a former process linger.
pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| {
        format!("cannot listen on {address}: {e}; name another address in http.listen")
    })
}

/// Reads certificate chain and key (PEM) for the server.
pub fn read_tls(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| format!("http.tls-cert: cannot read {}: {e}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!(
            "http.tls-cert: no certificate in {}",
            cert.display()
        ));
    }
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| format!("http.tls-key: cannot read {}: {e}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|versions| {
            versions
                .with_no_client_auth()
                .with_single_cert(chain, key_der)
        })
        .map_err(|e| format!("http.tls-cert and tls-key do not fit: {e}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
