//! Why TLS did not come about, in words of which an administrator can make something.
//!
//! rustls is stricter than OpenSSL's clients, so that "look at it with `openssl s_client`" finds nothing wrong: what is unfit must
//! be named here, and what to issue instead.

use std::error::Error as StdError;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::UnixTime;

use crate::clock::Timestamp;

/// What is unfit, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFault {
    /// What came: `the server's certificate has expired (…)`.
    pub came: String,
    /// What to do.
    pub next: &'static str,
}

const CHECK_LOG: &str = "look into the server's log";
const RENEW: &str = "renew it on the server";
const ISSUE: &str = "issue the server a certificate with an RSA key of 2048 to 8192 bits or an EC key on P-256 or P-384, signed with \
                     SHA-256 or SHA-384 (P-521, SHA-1, and ECDSA with SHA-512 are not supported)";
const END_ENTITY: &str = "issue the server a certificate of its own by that authority (basicConstraints CA:FALSE), and keep the \
                          authority's as the trusted one; of a self-signed certificate, make one with `-addext basicConstraints=critical,CA:FALSE`";

/// The words for an error of TLS.
pub fn unfit(error: &Error) -> TlsFault {
    match error {
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsFault {
            came: "what answers on this port speaks no TLS".into(),
            next: "name the port of the server that speaks TLS",
        },
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(_) => TlsFault {
            came: "the server offers no version of TLS or no cipher that is safe".into(),
            next: "let it offer TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305",
        },
        Error::NoCertificatesPresented => TlsFault {
            came: "the server shows no certificate".into(),
            next: "give the server a certificate",
        },
        Error::PeerMisbehaved(_) | Error::InvalidMessage(_) | Error::DecryptError => TlsFault {
            came: "what the server says is no TLS that can be read".into(),
            next: "look at the server, or at what stands between",
        },
        other => TlsFault {
            came: plain(&other.to_string()),
            next: CHECK_LOG,
        },
    }
}

/// The same for an error that has one of TLS among its causes.
pub fn unfit_in(error: &(dyn StdError + 'static)) -> Option<TlsFault> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(unfit(tls));
        }
        // An I/O error's own cause is that of what it wraps.
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
        {
            if let Some(tls) = inner.downcast_ref::<Error>() {
                return Some(unfit(tls));
            }
            cause = Some(inner);
            continue;
        }
        cause = error.source();
    }
    None
}

fn of_certificate(why: &CertificateError) -> TlsFault {
    let (what, detail, next) = match why {
        CertificateError::Expired => ("has expired", String::new(), RENEW),
        CertificateError::ExpiredContext { not_after, .. } => (
            "has expired",
            format!("it was valid until {}", day(*not_after)),
            RENEW,
        ),
        CertificateError::NotValidYet => (
            "is not valid yet",
            String::new(),
            "look at the clocks of both machines",
        ),
        CertificateError::NotValidYetContext { not_before, .. } => (
            "is not valid yet",
            format!("it is valid from {}", day(*not_before)),
            "look at the clocks of both machines",
        ),
        CertificateError::NotValidForName => ("is for another name", String::new(), NAME),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => (
            "is for another name",
            format!(
                "asked for {}, {}",
                expected.to_str(),
                names(presented)
            ),
            NAME,
        ),
        CertificateError::UnknownIssuer => (
            "is by an unknown authority",
            String::new(),
            "name that authority's certificate as `ca-file` (for PostgreSQL `sslrootcert`); it may also be that the server does not send an intermediate one",
        ),
        CertificateError::Revoked => ("is revoked", String::new(), RENEW),
        CertificateError::BadSignature => (
            "has a signature or a key that is not accepted",
            "it is by another authority of the same name, or one of the keys is weak, as RSA of 1024 bits".into(),
            "name the authority that signed it as the one that is trusted (`ca-file`, for PostgreSQL `sslrootcert`), and let all keys have at least 2048 bits of RSA or be on P-256 or P-384",
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id,
            ..
        } => (
            "is signed with an algorithm that is not supported",
            algorithm(signature_algorithm_id),
            ISSUE,
        ),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => (
            "has a signature algorithm and a key that are not supported together",
            format!(
                "{} with {}",
                algorithm(signature_algorithm_id),
                algorithm(public_key_algorithm_id)
            ),
            ISSUE,
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            "is not one for servers",
            String::new(),
            "issue one whose extendedKeyUsage has serverAuth",
        ),
        CertificateError::UnhandledCriticalExtension => (
            "has a critical extension that is not known",
            String::new(),
            "issue one without it, or mark the extension as not critical",
        ),
        CertificateError::BadEncoding => (
            "cannot be read",
            String::new(),
            "look at it with `openssl x509 -text`, and issue another one",
        ),
        CertificateError::Other(other) => return of_webpki(&other.0.to_string()),
        // The variant without its context is still there in rustls.
        other if format!("{other:?}") == "UnsupportedSignatureAlgorithm" => (
            "has a key or a signature algorithm that is not supported",
            String::new(),
            ISSUE,
        ),
        _ => ("is not accepted", String::new(), ISSUE),
    };
    told(what, &detail, next)
}

const NAME: &str =
    "write the name that its certificate has, or issue one whose subjectAltName has this name";

/// What only the verifier below rustls knows; it tells the names of its errors.
fn of_webpki(name: &str) -> TlsFault {
    let name = name.split(['(', ' ', '{']).next().unwrap_or_default();
    match name {
        "CaUsedAsEndEntity" => told("is an authority's own (CA:TRUE)", "", END_ENTITY),
        "EndEntityUsedAsCa" => told(
            "is signed by a certificate that is no authority's",
            "",
            "issue it by an authority, whose certificate has basicConstraints CA:TRUE",
        ),
        "NameConstraintViolation" => told(
            "has a name that its authority may not give",
            "",
            "issue it by an authority whose nameConstraints allow the name",
        ),
        "PathLenConstraintViolated"
        | "MaximumPathDepthExceeded"
        | "MaximumPathBuildCallsExceeded"
        | "MaximumSignatureChecksExceeded" => told(
            "has a chain that is too long for its authorities",
            "",
            "issue it by an authority that is nearer to the `ca-file`",
        ),
        "UnsupportedCertVersion" => told(
            "is of an old version",
            "",
            "issue one of version 3, with a subjectAltName",
        ),
        _ => {
            let detail = if name.chars().all(char::is_alphanumeric) {
                name
            } else {
                ""
            };
            told("is not accepted", detail, ISSUE)
        }
    }
}

fn of_alert(alert: AlertDescription) -> TlsFault {
    let (came, next) = match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => (
            "the server wants a client certificate, or another one than it was shown",
            "name one that it accepts as `client-cert`",
        ),
        AlertDescription::UnknownCA => (
            "the server does not know the authority of our client certificate",
            "name a `client-cert` by an authority that the server trusts",
        ),
        AlertDescription::CertificateExpired | AlertDescription::CertificateRevoked => (
            "the server says that our client certificate is over",
            "renew `client-cert`",
        ),
        AlertDescription::ProtocolVersion => (
            "the server offers no version of TLS that is safe",
            "let it offer TLS 1.2 or 1.3",
        ),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => (
            "the server refuses the handshake of TLS",
            "it may want a client certificate (`client-cert`), another version of TLS, or have a certificate that is not supported (P-521, SHA-1)",
        ),
        AlertDescription::UnrecognisedName => (
            "the server has no certificate for this name",
            "write the name that it has a certificate for",
        ),
        AlertDescription::InternalError => (
            "the server cannot set up TLS",
            "see that it has a certificate and its key; its log says more",
        ),
        _ => ("the server ended TLS", CHECK_LOG),
    };
    let code = u8::from(alert);
    TlsFault {
        came: format!("{came} (alert {code})"),
        next,
    }
}

fn told(what: &str, detail: &str, next: &'static str) -> TlsFault {
    let came = if detail.is_empty() {
        format!("the server's certificate {what}")
    } else {
        format!("the server's certificate {what} ({detail})")
    };
    TlsFault { came, next }
}

fn names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    // As the verifier gives them: `DnsName("a.example.org")`, `IpAddress(10.0.0.1)`.
    let clean = |name: &String| {
        let inner = name
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        plain(inner.unwrap_or(name)).trim_matches('"').to_owned()
    };
    match presented {
        [] => "and it has no subjectAltName".into(),
        some => {
            let shown: Vec<String> = some.iter().take(SHOWN).map(clean).collect();
            let more = if some.len() > SHOWN { ", …" } else { "" };
            format!("it is for {}{more}", shown.join(", "))
        }
    }
}

fn day(time: UnixTime) -> String {
    let ms = i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 1000);
    Timestamp(ms.saturating_mul(1000)).to_string()
}

/// The name of an algorithm by the content of its DER.
fn algorithm(der: &[u8]) -> String {
    const NAMES: &[(&[u8], &str)] = &[
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "RSA with SHA-1"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", "RSA with MD5"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "RSASSA-PSS"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "RSA with SHA-256"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", "RSA with SHA-384"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", "RSA with SHA-512"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e", "RSA with SHA-224"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "an RSA key"),
        (b"\x2a\x86\x48\xce\x3d\x04\x01", "ECDSA with SHA-1"),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", "ECDSA with SHA-224"),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", "ECDSA with SHA-256"),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", "ECDSA with SHA-384"),
        (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", "ECDSA with SHA-512"),
        (b"\x2b\x65\x70", "Ed25519"),
        (b"\x2b\x65\x71", "Ed448"),
        (b"\x2a\x86\x48\xce\x38\x04", "DSA"),
    ];
    const CURVES: &[(&[u8], &str)] = &[
        (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", "a key on P-256"),
        (b"\x2b\x81\x04\x00\x22", "a key on P-384"),
        (b"\x2b\x81\x04\x00\x23", "a key on P-521"),
        (b"\x2b\x81\x04\x00\x0a", "a key on secp256k1"),
    ];
    let within = |oid: &[u8]| {
        der.windows(oid.len() + 2)
            .any(|w| w[0] == 6 && usize::from(w[1]) == oid.len() && &w[2..] == oid)
    };
    CURVES
        .iter()
        .chain(NAMES)
        .find(|(oid, _)| within(oid))
        .map_or_else(
            || "an algorithm that is not known".into(),
            |(_, n)| (*n).into(),
        )
}

/// A library's text without control characters.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(200).collect()
}

#[cfg(test)]
mod tests;
