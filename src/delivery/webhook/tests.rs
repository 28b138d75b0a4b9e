//! Attempts against receivers that behave well and badly (TRAPS 35, 39).

use std::io::{Read, Write};

use super::super::receiver::{Behaviour, Receiver, SECRET, config};
use super::super::request::signature;
use super::*;

const NOW: Timestamp = Timestamp(1_795_489_200_999);
const BODY: &str = r#"{"type":"user.restore","name":"Ján"}"#;

fn webhook(config: &DeliveryConfig) -> Webhook {
    Webhook::new(config, &Environment::default()).unwrap()
}

async fn attempt(webhook: &Webhook) -> (JobId, Attempt) {
    let id = JobId(uuid::Uuid::now_v7());
    (id, webhook.send(id, BODY, false, NOW).await)
}

fn unknown_end(attempt: &Attempt) -> Option<bool> {
    match &attempt.verdict {
        Verdict::Again { unknown_end, .. } => Some(*unknown_end),
        _ => None,
    }
}

#[tokio::test]
async fn a_request_as_the_receiver_sees_it() {
    let receiver = Receiver::start().await;
    let webhook = webhook(&receiver.config());
    let (id, sent) = attempt(&webhook).await;
    assert_eq!((sent.verdict, sent.status), (Verdict::Accepted, Some(204)));
    let request = receiver.requests().remove(0);
    assert_eq!(request.line, "POST /hook?token=canary HTTP/1.1");
    assert_eq!(request.body, BODY, "byte for byte");
    assert_eq!(request.id(), id.to_string());
    assert_eq!(request.header("webhook-timestamp"), "1795489200");
    assert_eq!(
        request.header("webhook-signature"),
        signature(SECRET, &id.to_string(), 1_795_489_200, BODY).unwrap()
    );
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("user-agent").starts_with("realmsync/"));
    for _ in 0..10 {
        attempt(&webhook).await;
    }
    assert_eq!(receiver.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn trap_39_no_redirect_is_followed() {
    let receiver = Receiver::start().await;
    let webhook = webhook(&receiver.config());
    for status in [301, 302, 303, 307, 308, 304] {
        receiver.next(Behaviour::Answer(status, "location: /elsewhere\r\n"));
        assert_eq!(
            unknown_end(&attempt(&webhook).await.1),
            Some(false),
            "{status}"
        );
    }
    assert_eq!(receiver.requests().len(), 6);
}

#[tokio::test]
async fn trap_39_retry_after_is_read() {
    let receiver = Receiver::start().await;
    receiver.next(Behaviour::Answer(429, "retry-after: 120\r\n"));
    let (_, sent) = attempt(&webhook(&receiver.config())).await;
    assert!(
        matches!(
            sent.verdict,
            Verdict::Again {
                retry_after_ms: Some(120_000),
                unknown_end: false,
                ..
            }
        ),
        "{sent:?}"
    );
}

#[tokio::test]
async fn what_goes_wrong_after_the_request_began_has_an_unknown_end() {
    let receiver = Receiver::start().await;
    let webhook = webhook(&DeliveryConfig {
        timeout_ms: 800,
        ..receiver.config()
    });
    for behaviour in [
        Behaviour::Hang,
        Behaviour::Close,
        Behaviour::Stalls,
        Behaviour::Cut,
        Behaviour::Garbage,
    ] {
        receiver.next(behaviour.clone());
        let begun = Instant::now();
        let (_, sent) = attempt(&webhook).await;
        assert_eq!(unknown_end(&sent), Some(true), "{behaviour:?}: {sent:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "the time-out is over the whole answer"
        );
        assert!(!format!("{sent:?}").contains("canary"), "{sent:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_its_status_counts() {
    let receiver = Receiver::start().await;
    receiver.next(Behaviour::Endless);
    assert_eq!(
        attempt(&webhook(&receiver.config())).await.1.verdict,
        Verdict::Accepted
    );
}

#[tokio::test]
async fn nobody_there_is_a_known_end() {
    let port = Receiver::start().await.port;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_, sent) = attempt(&webhook(&config(&format!("http://127.0.0.1:{port}/")))).await;
    assert_eq!(unknown_end(&sent), Some(false), "{sent:?}");
    let (_, sent) = attempt(&webhook(&config("http://no-such-host.invalid/"))).await;
    assert_eq!(unknown_end(&sent), Some(false), "{sent:?}");
}

#[tokio::test]
async fn a_proxy_is_used_if_configured() {
    let proxy = Receiver::start().await;
    let through = DeliveryConfig {
        proxy: Some(format!("http://127.0.0.1:{}", proxy.port).parse().unwrap()),
        ..config("http://receiver.invalid/hook")
    };
    assert_eq!(
        attempt(&webhook(&through)).await.1.verdict,
        Verdict::Accepted
    );
    assert_eq!(
        proxy.requests()[0].line,
        "POST http://receiver.invalid/hook HTTP/1.1"
    );
}

/// A receiver with TLS that answers one request; gives its port.
fn tls_receiver(name: &str) -> (u16, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
    .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut tls = rustls::StreamOwned::new(
            rustls::ServerConnection::new(Arc::new(server)).unwrap(),
            stream,
        );
        let mut buffer = [0; 8192];
        if tls.read(&mut buffer).is_ok() {
            let _sent = tls.write_all(b"HTTP/1.1 204 Done\r\n\r\n");
        }
    });
    (port, ca_pem)
}

#[tokio::test]
async fn a_private_ca_is_trusted_alone_and_tls_fails_closed() {
    let dir = tempfile::tempdir().unwrap();
    let with_ca = |port: u16, pem: &str| {
        let path = dir.path().join(format!("{port}.pem"));
        std::fs::write(&path, pem).unwrap();
        DeliveryConfig {
            ca_file: Some(path),
            ..config(&format!("https://127.0.0.1:{port}/"))
        }
    };
    let (port, pem) = tls_receiver("127.0.0.1");
    let (_, sent) = attempt(&webhook(&with_ca(port, &pem))).await;
    assert_eq!(sent.verdict, Verdict::Accepted, "{sent:?}");

    let (port, pem) = tls_receiver("other.example.org");
    let (_, wrong_name) = attempt(&webhook(&with_ca(port, &pem))).await;
    let (port, _) = tls_receiver("127.0.0.1");
    let (_, unknown_ca) = attempt(&webhook(&with_ca(port, &pem))).await;
    for sent in [wrong_name, unknown_ca] {
        assert_eq!(
            unknown_end(&sent),
            Some(false),
            "nothing was sent: {sent:?}"
        );
        assert!(
            format!("{sent:?}").contains("certificate"),
            "it says why: {sent:?}"
        );
    }
}

#[test]
fn what_cannot_be_used_is_said() {
    let missing = DeliveryConfig {
        ca_file: Some("/nowhere/ca.pem".into()),
        ..config("https://receiver.invalid/")
    };
    let bad_secret = DeliveryConfig {
        secret: Secret::Inline("canary".into()),
        ..config("https://receiver.invalid/")
    };
    for bad in [missing, bad_secret] {
        let why = Webhook::new(&bad, &Environment::default())
            .unwrap_err()
            .to_string();
        assert!(!why.contains("canary"), "{why}");
    }
}

#[tokio::test]
async fn an_answer_with_ten_thousand_header_lines_is_read_at_the_second_attempt_at_the_latest() {
    let receiver = Receiver::start().await;
    let webhook = webhook(&receiver.config());
    receiver.always(Behaviour::ManyHeaders);
    let (_, first) = attempt(&webhook).await;
    assert_eq!(unknown_end(&first), Some(true), "{first:?}");
    let (_, second) = attempt(&webhook).await;
    assert_eq!(
        (second.status, second.verdict),
        (Some(200), Verdict::Accepted)
    );
}
