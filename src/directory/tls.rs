//! The connection's TLS: rustls with ring, the system's roots or one file, a client certificate. Everything fails closed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::clock::Clock;
use crate::config::DirectoryConfig;

/// A configuration for connections that are judged at the clock's time. The error says which file is at fault.
pub(super) fn client_config(
    config: &DirectoryConfig,
    clock: &Clock,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(match &config.ca_file {
        Some(file) => roots_of_file(file)?,
        None => roots_of_system()?,
    });
    let builder = ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_root_certificates(roots);
    let mut tls = match &config.client_cert {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| format!("client-key {}: {e}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| format!("client-cert {}: {e}", cert.display()))?
        }
    };
    // A connection is made for a pass and then closed: a ticket would only let the next one skip the check of the certificate.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match list {
        Ok(list) if list.is_empty() => {
            Err(format!("{} holds no certificate in PEM", file.display()))
        }
        Ok(list) => Ok(list),
        Err(e) => Err(format!("{}: {e}", file.display())),
    }
}

fn roots_of_file(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file).map_err(|e| format!("ca-file {e}"))? {
        roots
            .add(certificate)
            .map_err(|e| format!("ca-file {}: {e}", file.display()))?;
    }
    Ok(roots)
}

/// One unreadable or odd file in the system's store spoils only itself.
fn roots_of_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(|| "it is empty".to_owned(), ToString::to_string);
        return Err(format!(
            "the system's certificate store cannot be used ({why}): name a `ca-file`"
        ));
    }
    Ok(roots)
}

/// The clock as rustls wants it.
#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(self.0.now().0)
            .ok()
            .map(|ms| UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ca: Option<&Path>) -> DirectoryConfig {
        let mut config = super::super::connect::tests::config("ldaps://localhost");
        config.ca_file = ca.map(Path::to_path_buf);
        config
    }

    #[test]
    fn a_ca_file_is_named_in_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let clock = Clock::system();
        assert!(
            client_config(&config(Some(&file)), &clock)
                .unwrap_err()
                .contains("ca.pem")
        );
        std::fs::write(&file, "nothing").unwrap();
        assert!(
            client_config(&config(Some(&file)), &clock)
                .unwrap_err()
                .contains("no certificate")
        );
        std::fs::write(
            &file,
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(client_config(&config(Some(&file)), &clock).is_err());
    }
}
