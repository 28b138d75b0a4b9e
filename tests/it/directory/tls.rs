//! TLS to a directory: what is wrong fails closed, and says what.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use realmsync::directory::DirectoryError;
use realmsync::model::ErrorCode;
use tokio::net::{TcpListener, TcpStream};

use crate::directory::{bare, config, connect, read, scope};
use crate::support::lab::Server;

fn slapd(certificate: &str) -> Server {
    Server::start("openldap", &["--users", "8", "--cert", certificate])
}

fn is_tls(e: &DirectoryError, words: &str) {
    assert_eq!(e.code(), ErrorCode::Tls, "{e}");
    assert!(e.to_string().contains(words), "{e}");
}

#[tokio::test]
async fn trap_35_an_expired_certificate() {
    let server = slapd("expired");
    is_tls(
        &connect(&config(&server, "BIND", &server["LDAPS_URI"]))
            .await
            .unwrap_err(),
        "has expired",
    );
    let mut start_tls = config(&server, "BIND", &server["LDAP_URI"]);
    start_tls.start_tls = true;
    is_tls(&connect(&start_tls).await.unwrap_err(), "has expired");
}

#[tokio::test]
async fn trap_35_a_certificate_for_another_name() {
    let server = slapd("wronghost");
    is_tls(
        &connect(&config(&server, "BIND", &server["LDAPS_URI"]))
            .await
            .unwrap_err(),
        "for another name",
    );
}

#[tokio::test]
async fn trap_35_an_unknown_authority() {
    let server = slapd("good");
    let mut unknown = config(&server, "BIND", &server["LDAPS_URI"]);
    unknown.ca_file = None;
    is_tls(&connect(&unknown).await.unwrap_err(), "unknown authority");
    // No TLS where it is expected, and the other way round.
    let port = &server["PORT"];
    is_tls(
        &connect(&config(
            &server,
            "BIND",
            &format!("ldaps://127.0.0.1:{port}"),
        ))
        .await
        .unwrap_err(),
        "opening TLS: port ",
    );
    is_tls(
        &connect(&config(
            &server,
            "BIND",
            &format!("ldaps://127.0.0.1:{port}"),
        ))
        .await
        .unwrap_err(),
        "speaks plain LDAP, and not TLS; write ldap:// with `start-tls = true`",
    );
    let plain_to_tls = config(
        &server,
        "BIND",
        &format!("ldap://127.0.0.1:{}", &server["LDAPS_PORT"]),
    );
    let e = connect(&plain_to_tls).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Unreachable);
    assert!(
        e.to_string()
            .contains("speaks TLS, and not plain LDAP; write ldaps://"),
        "{e}"
    );
    let mut start_tls_to_tls = plain_to_tls;
    start_tls_to_tls.start_tls = true;
    is_tls(
        &connect(&start_tls_to_tls).await.unwrap_err(),
        "speaks TLS from its first byte, and needs no StartTLS",
    );
}

#[tokio::test]
async fn trap_35_start_tls_protects_before_the_password_is_sent() {
    let server = slapd("good");
    let mut start_tls = config(&server, "BIND", &server["LDAP_URI"]);
    start_tls.start_tls = true;
    start_tls.insecure_plaintext = false;
    let mut session = connect(&start_tls).await.unwrap();
    assert_eq!(
        read(&mut session, &scope(&server)).await.unwrap().1.len(),
        8
    );
}

#[tokio::test]
async fn a_client_certificate_is_an_account() {
    let server = slapd("good");
    server.configure("dn: cn=config\nchangetype: modify\nreplace: olcTLSVerifyClient\nolcTLSVerifyClient: demand\n");
    let mut certificate = config(&server, "BIND", &server["LDAPS_URI"]);
    // Without one the server ends the handshake.
    let e = connect(&certificate).await.unwrap_err();
    assert!(e.to_string().contains("client certificate"), "{e}");

    certificate.bind_dn = None;
    certificate.bind_password = None;
    // The lab's server certificate is good for clients too.
    let tls = server.folder().join("tls");
    certificate.client_cert = Some((tls.join("server.pem"), tls.join("server.key")));
    let mut session = connect(&certificate).await.unwrap();
    assert_eq!(
        session.who_am_i().await.unwrap().as_deref(),
        Some("dn:cn=localhost,o=lab")
    );

    certificate.client_cert = Some((tls.join("server.pem"), PathBuf::from("/nonexistent")));
    let e = connect(&certificate).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Config);
    assert!(e.to_string().contains("client-key /nonexistent"), "{e}");
}

#[tokio::test]
async fn an_ipv6_address_is_a_server_too() {
    let server = slapd("good");
    let target: SocketAddr = format!("127.0.0.1:{}", &server["LDAPS_PORT"])
        .parse()
        .unwrap();
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut passing = tokio::task::JoinSet::new();
    passing.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut to = TcpStream::connect(target).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let mut session = connect(&config(&server, "BIND", &format!("ldaps://[::1]:{port}")))
        .await
        .unwrap();
    assert_eq!(session.server(), format!("ldaps://[::1]:{port}"));
    assert_eq!(
        read(&mut session, &scope(&server)).await.unwrap().1.len(),
        8
    );
}

#[tokio::test]
async fn plain_ldap_needs_to_be_allowed() {
    let server = slapd("good");
    let mut plain = config(&server, "BIND", &server["LDAP_URI"]);
    assert!(connect(&plain).await.is_ok());
    plain.insecure_plaintext = false;
    assert_eq!(connect(&plain).await.unwrap_err().code(), ErrorCode::Config);
    let nowhere = bare("ldaps://", "dc=example,dc=org");
    assert_eq!(
        connect(&nowhere).await.unwrap_err().code(),
        ErrorCode::Config
    );
}
