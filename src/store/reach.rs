//! How PostgreSQL is reached, and why it is not, in words without the driver's inside.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};
use tokio::time::Instant;

use crate::net;

/// How long a server may take to accept a connection. The pool would ask one that is down for as long as it waits for a free
/// connection, and not say why.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sees that the server is there, and chooses one of its addresses if the first is silent: the driver would wait for that one
/// alone. Where the certificate's name is checked (`verify-full`) the driver needs the name, and the choice is not made.
pub(super) async fn reached(options: PgConnectOptions) -> Result<PgConnectOptions, String> {
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    if options.get_socket().is_some() || host.starts_with('/') {
        return Ok(options);
    }
    let port = options.get_port();
    let stream = net::dial(&host, port, Instant::now() + PATIENCE).await;
    let stream = stream.map_err(|unreached| {
        let next = match unreached.kind() {
            ErrorKind::ConnectionRefused => {
                "see that the database runs there, and that `store.url` names the right host and port"
            }
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "see that the database is up, and that a firewall lets this machine in"
            }
            _ => "see that `store.url` names the right host, and that this machine can find it",
        };
        format!("connecting to {host}, port {port}: {unreached}; {next}")
    })?;
    let by_name = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    let Ok(peer) = stream.peer_addr() else {
        return Ok(options);
    };
    drop(stream);
    let first = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(mut addresses) => addresses.next(),
        Err(_) => None,
    };
    if by_name || first.is_none_or(|first| first.ip() == peer.ip()) {
        return Ok(options);
    }
    tracing::info!(
        "the first address of {host} does not answer: the store is reached at {}",
        peer.ip()
    );
    Ok(options.host(&peer.ip().to_string()))
}

/// An error of the driver, without a line of PostgreSQL's source and without the inside of TLS.
pub(super) fn told(error: &sqlx::Error) -> String {
    if let Some(unfit) = net::unfit_in(error) {
        return format!("{}; {}", unfit.came, unfit.next);
    }
    match error {
        sqlx::Error::Database(inner) => match inner.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => said(error),
            None => error.to_string(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => "no connection to it became free in time".into(),
        other => other.to_string(),
    }
}

/// What PostgreSQL said, and what to do about it where that is known.
pub(super) fn said(error: &PgDatabaseError) -> String {
    let next = match error.code() {
        "28P01" => "; check the user and the password of `store.url`",
        "28000" => "; check the user of `store.url`, and what pg_hba.conf lets in",
        "3D000" => "; create the database, or check its name in `store.url`",
        _ => "",
    };
    format!("{} ({}){next}", error.message(), error.code())
}

#[cfg(test)]
mod tests {
    use std::time::Instant as Begun;

    use super::*;

    #[tokio::test]
    async fn a_database_that_is_down_is_told_at_once_with_the_reason() {
        let begun = Begun::now();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(1);
        let why = reached(options).await.unwrap_err();
        assert!(
            why.contains("127.0.0.1, port 1: Connection refused")
                && why.contains("see that the database runs there"),
            "{why}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn errors_of_tls_are_told_in_words() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let why = told(&sqlx::Error::Tls(Box::new(tls)));
        assert!(why.contains("by an unknown authority"), "{why}");
    }
}
