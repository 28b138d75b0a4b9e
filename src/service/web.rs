//! The TCP listener of `[http]`, and what a reload does to it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::serve;
use crate::config::HttpConfig;

/// A listener that is served.
#[derive(Debug)]
pub(super) struct Web {
    address: SocketAddr,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// Ends it.
    pub(super) cancel: CancellationToken,
}

/// A listener that is ready, for a configuration that is not in force yet.
#[derive(Debug)]
pub(super) struct Ready {
    address: SocketAddr,
    /// `None`: the address is the one that is listened on already.
    listener: Option<TcpListener>,
    tls: Option<Arc<ServerConfig>>,
}

/// A new listener, to be given to [`serve::tcp`].
#[derive(Debug)]
pub(super) struct ToServe {
    pub(super) listener: TcpListener,
    pub(super) tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    pub(super) cancel: CancellationToken,
}

impl Ready {
    /// Makes everything that can fail: reads the certificate, and binds the address unless it is `bound` already.
    pub(super) async fn prepare(
        config: Option<&HttpConfig>,
        bound: Option<SocketAddr>,
    ) -> Result<Option<Self>, String> {
        let Some(config) = config else {
            return Ok(None);
        };
        let tls = match &config.tls {
            Some((cert, key)) => Some(serve::read_tls(cert, key)?),
            None => None,
        };
        let listener = if bound == Some(config.listen) {
            None
        } else {
            Some(serve::bind_tcp(config.listen).await?)
        };
        Ok(Some(Self {
            address: config.listen,
            listener,
            tls,
        }))
    }
}

impl Web {
    /// The address that was configured.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a prepared listener in force: the running one with another certificate, or a new one to be served.
    pub(super) fn replace(
        current: &mut Option<Self>,
        ready: Option<Ready>,
    ) -> Option<ToServe> {
        match (ready, current.as_ref()) {
            (
                Some(Ready {
                    listener: None,
                    tls,
                    ..
                }),
                Some(web),
            ) => {
                web.tls.send_replace(tls);
                None
            }
            (ready, _) => {
                if let Some(old) = current.take() {
                    old.cancel.cancel();
                }
                let Ready {
                    address,
                    listener: Some(listener),
                    tls,
                } = ready?
                else {
                    return None;
                };
                let (tls, changes) = watch::channel(tls);
                let cancel = CancellationToken::new();
                *current = Some(Self {
                    address,
                    tls,
                    cancel: cancel.clone(),
                });
                Some(ToServe { listener, tls: changes, cancel })
            }
        }
    }
}
