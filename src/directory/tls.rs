//! The connection's TLS: rustls with ring, the system's roots or one file, a client certificate. Everything fails closed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::clock::Clock;
use crate::config::DirectoryConfig;

/// What ldap3 is told instead of an IPv6 address, of which it makes `[::1]`, which is no server name.
pub(super) const STAND_IN: &str = "address.invalid";

/// A configuration for one connection to `host`, judged at the clock's time. The error says which file is at fault.
pub(super) fn client_config(
    config: &DirectoryConfig,
    host: &str,
    clock: &Clock,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(match &config.ca_file {
        Some(file) => roots_of_file(file)?,
        None => roots_of_system()?,
    });
    let verifier = verifier(roots, host, &provider)?;
    let builder = ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
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
    if host.contains(':') {
        tls.enable_sni = false;
    }
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

fn verifier(
    roots: Arc<RootCertStore>,
    host: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
    let inner = inner.map_err(|e| format!("TLS cannot be set up: {e}"))?;
    if !host.contains(':') {
        return Ok(inner);
    }
    let name = ServerName::try_from(host)
        .map_err(|_| format!("`{host}` is no address"))?
        .to_owned();
    Ok(Arc::new(ForAddress { inner, name }))
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

/// Checks the certificate for an address that ldap3 cannot hand on; all else is rustls' own verifier.
#[derive(Debug)]
struct ForAddress {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for ForAddress {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _stand_in: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What came and what to do, if an I/O error is one of TLS.
pub(super) fn explain(error: &std::io::Error) -> Option<(String, &'static str)> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match tls {
        rustls::Error::InvalidCertificate(why) => {
            let (came, next) = match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                    "the server's certificate has expired",
                    "renew it on the server",
                ),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                    "the server's certificate is not valid yet",
                    "look at the clocks of both machines",
                ),
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => (
                    "the server's certificate is for another name",
                    "name the server in `servers` as its certificate does",
                ),
                CertificateError::UnknownIssuer => (
                    "the server's certificate is by an unknown authority",
                    "name that authority's certificate as `ca-file`",
                ),
                CertificateError::Revoked => (
                    "the server's certificate is revoked",
                    "renew it on the server",
                ),
                _ => (
                    "the server's certificate is not acceptable",
                    "look at it with `openssl s_client`",
                ),
            };
            (
                format!("{came} ({})", super::error::one_line(&tls.to_string())),
                next,
            )
        }
        rustls::Error::AlertReceived(alert) => (
            format!("the server ended TLS with {alert:?}"),
            "the server may want a client certificate, or another version of TLS",
        ),
        other => (
            super::error::one_line(&other.to_string()),
            "does this port speak TLS? ldaps:// is usually 636, `start-tls` 389",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

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
            client_config(&config(Some(&file)), "localhost", &clock)
                .unwrap_err()
                .contains("ca.pem")
        );
        std::fs::write(&file, "nothing").unwrap();
        assert!(
            client_config(&config(Some(&file)), "localhost", &clock)
                .unwrap_err()
                .contains("no certificate")
        );
        std::fs::write(
            &file,
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(client_config(&config(Some(&file)), "localhost", &clock).is_err());
    }

    #[test]
    fn an_ipv6_address_is_checked_as_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let ca = rcgen::generate_simple_self_signed(vec!["::1".to_owned()]).unwrap();
        std::fs::write(&file, ca.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        let stand_in = ServerName::try_from(STAND_IN).unwrap();
        for (host, good) in [("::1", true), ("::2", false)] {
            let v = verifier(Arc::new(roots_of_file(&file).unwrap()), host, &provider).unwrap();
            assert_eq!(
                v.verify_server_cert(ca.cert.der(), &[], &stand_in, &[], now)
                    .is_ok(),
                good,
                "{host}"
            );
        }
        assert!(client_config(&config(Some(&file)), "::1", &Clock::fixed(Timestamp(0))).is_ok());
    }
}
