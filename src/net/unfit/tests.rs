use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{OtherError, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};

use super::*;

/// Nobody can make anything of Debug output.
fn readable(unfit: &TlsFault) {
    for mark in ["{", "}", "Error", "Context", "OtherError", "(\"", "::"] {
        assert!(
            !unfit.came.contains(mark) && !unfit.next.contains(mark),
            "{unfit:?} has `{mark}`"
        );
    }
    assert!(!unfit.came.is_empty() && !unfit.next.is_empty());
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// What is said of a server's certificate by the authority, for `localhost`.
fn judged(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> TlsFault {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
    let error = verifier.verify_server_cert(leaf, &[], &name, &[], now);
    let unfit = unfit(&error.unwrap_err());
    readable(&unfit);
    unfit
}

#[test]
fn each_fault_of_a_certificate_is_named_with_what_to_issue_instead() {
    let key = KeyPair::generate().unwrap();
    let mut ca = params(&[]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&key).unwrap();
    let issuer = Issuer::new(ca, &key);
    let leaf = |mut change: Box<dyn FnMut(&mut CertificateParams)>| {
        let mut params = params(&["localhost"]);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &issuer).unwrap()
    };

    let mut own = params(&["localhost"]);
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = own.self_signed(&key).unwrap();
    let said = judged(own.der(), own.der());
    assert!(
        said.came.contains("an authority's own (CA:TRUE)"),
        "{said:?}"
    );
    assert!(said.next.contains("CA:FALSE"), "{said:?}");

    let expired = leaf(Box::new(|p| {
        p.not_before = rcgen::date_time_ymd(2019, 1, 1);
        p.not_after = rcgen::date_time_ymd(2020, 1, 2);
    }));
    let said = judged(expired.der(), authority.der());
    assert!(
        said.came
            .contains("has expired (it was valid until 2020-01-02T"),
        "{said:?}"
    );

    let early = leaf(Box::new(|p| {
        p.not_before = rcgen::date_time_ymd(2090, 1, 1);
    }));
    let said = judged(early.der(), authority.der());
    assert!(said.came.contains("valid from 2090-01-01T"), "{said:?}");

    let other = leaf(Box::new(|p| *p = params(&["a.example.org", "10.0.0.1"])));
    let said = judged(other.der(), authority.der());
    assert!(
        said.came
            .contains("for another name (asked for localhost, it is for a.example.org, 10.0.0.1)"),
        "{said:?}"
    );

    let client = leaf(Box::new(|p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }));
    let said = judged(client.der(), authority.der());
    assert!(said.next.contains("serverAuth"), "{said:?}");

    let stranger = KeyPair::generate().unwrap();
    let mut unknown = params(&["localhost"]);
    unknown
        .distinguished_name
        .push(rcgen::DnType::CommonName, "somebody else");
    let unknown = unknown.self_signed(&stranger).unwrap();
    let said = judged(unknown.der(), authority.der());
    assert!(said.came.contains("by an unknown authority"), "{said:?}");
    let same_name = params(&["localhost"]).self_signed(&stranger).unwrap();
    let said = judged(same_name.der(), authority.der());
    assert!(said.came.contains("of the same name"), "{said:?}");
}

#[test]
fn an_algorithm_that_is_not_supported_is_named() {
    let of = |signature: &[u8], key: &[u8]| {
        let why = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signature.to_vec(),
            public_key_algorithm_id: key.to_vec(),
        };
        let unfit = unfit(&Error::InvalidCertificate(why));
        readable(&unfit);
        unfit
    };
    let said = of(
        b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04",
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23",
    );
    assert!(
        said.came.contains("ECDSA with SHA-512 with a key on P-521"),
        "{said:?}"
    );
    assert!(said.next.contains("P-256 or P-384"), "{said:?}");
    let why = CertificateError::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00".to_vec(),
        supported_algorithms: vec![],
    };
    let said = unfit(&Error::InvalidCertificate(why));
    readable(&said);
    assert!(said.came.contains("RSA with SHA-1"), "{said:?}");
    #[expect(deprecated, reason = "rustls may still give it")]
    let bare = CertificateError::UnsupportedSignatureAlgorithm;
    readable(&unfit(&Error::InvalidCertificate(bare)));
}

#[test]
fn no_words_of_a_library_are_passed_on_as_they_are() {
    let other = |text: &str| {
        let inner: Box<dyn StdError + Send + Sync> = text.to_owned().into();
        let other = OtherError(Arc::from(inner));
        unfit(&Error::InvalidCertificate(CertificateError::Other(other)))
    };
    for text in [
        "CaUsedAsEndEntity",
        "EndEntityUsedAsCa",
        "NameConstraintViolation",
        "UnsupportedCertVersion",
        "Odd(Context { a: 1 })",
    ] {
        readable(&other(text));
    }
    for alert in 0..=255_u8 {
        readable(&unfit(&Error::AlertReceived(alert.into())));
    }
    for error in [
        Error::InvalidMessage(InvalidMessage::InvalidContentType),
        Error::InvalidMessage(InvalidMessage::MessageTooLarge),
        Error::NoCertificatesPresented,
        Error::DecryptError,
    ] {
        readable(&unfit(&error));
    }
}

#[test]
fn an_error_of_tls_is_found_within_others() {
    let inner = Error::NoCertificatesPresented;
    let io = std::io::Error::new(std::io::ErrorKind::InvalidData, inner);
    let outer = std::io::Error::other(io);
    assert!(
        unfit_in(&outer)
            .unwrap()
            .came
            .contains("shows no certificate")
    );
    assert_eq!(unfit_in(&std::io::Error::other("x")), None);
}
