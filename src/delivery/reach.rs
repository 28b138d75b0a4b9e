//! Whether a receiver can be reached: its name, a connection, TLS. No message is sent.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::webhook::tls;
use crate::config::{DeliveryConfig, Environment};

/// Resolves the receiver's name, connects, and shakes hands as the delivery would, within its time-out. With a proxy only the
/// proxy is reached. Gives what was found.
///
/// # Errors
/// What did not go, and what to do, for people.
pub async fn reach(config: &DeliveryConfig, environment: &Environment) -> Result<String, String> {
    let within = Duration::from_millis(u64::try_from(config.timeout_ms).unwrap_or(0).max(1));
    match timeout(within, ask(config, environment)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "no answer within {} s; look whether a firewall stands between",
            within.as_secs().max(1)
        )),
    }
}

async fn ask(config: &DeliveryConfig, environment: &Environment) -> Result<String, String> {
    let url = config.proxy.as_ref().unwrap_or(&config.url);
    let host = url.host_str().ok_or("the URL names no host; mend `url`")?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let port = url
        .port_or_known_default()
        .ok_or("the URL names no port; mend `url`")?;
    let addresses: Vec<_> = lookup_host((name, port))
        .await
        .map_err(|e| format!("the name {name} is not found: {e}; mend `url`, or look at DNS"))?
        .collect();
    let stream = TcpStream::connect(&addresses[..])
        .await
        .map_err(|e| format!("{name}:{port} takes no connection: {e}; look whether it runs"))?;
    if config.proxy.is_some() {
        return Ok(format!(
            "the proxy {name}:{port} takes connections; what is behind it was not asked"
        ));
    }
    if url.scheme() != "https" {
        return Ok(format!("{name}:{port} takes connections"));
    }
    let server = ServerName::try_from(name.to_owned())
        .map_err(|e| format!("{name} is no name for TLS: {e}; mend `url`"))?;
    let tls = tls(config, environment).map_err(|e| e.to_string())?;
    tokio_rustls::TlsConnector::from(Arc::new(tls))
        .connect(server, stream)
        .await
        .map_err(|e| {
            format!("{name}:{port} takes connections, but TLS fails: {e}; look at its certificate, or at `ca-file` in [delivery]")
        })?;
    Ok(format!(
        "{name}:{port} takes connections, and its certificate is trusted"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::receiver::{Receiver, config};

    #[tokio::test]
    async fn a_receiver_is_asked_without_a_message() {
        let receiver = Receiver::start().await;
        let environment = Environment::default();
        let found = reach(&receiver.config(), &environment).await;
        assert!(found.is_ok_and(|said| said.contains("takes connections")));
        assert!(receiver.requests().is_empty());
        // Plain HTTP where TLS is asked for, which waits for the end of a line; nobody there; and no such name.
        for (url, within, words) in [
            (
                format!("https://127.0.0.1:{}/", receiver.port),
                1000,
                "no answer within 1 s",
            ),
            (
                "http://127.0.0.1:9/".to_owned(),
                9000,
                "takes no connection",
            ),
            ("https://nowhere.invalid/".to_owned(), 9000, "is not found"),
        ] {
            let mut broken = config(&url);
            broken.timeout_ms = within;
            let told = reach(&broken, &environment).await.unwrap_err();
            assert!(told.contains(words), "{url}: {told}");
        }
        assert!(receiver.requests().is_empty());
    }
}
