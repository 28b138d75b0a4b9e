//! The TCP listener with a certificate of its own: the daemon, the lab's authority, and clients of every kind.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::house::House;

/// A client that trusts what this file holds, and nobody else.
fn client(authority: &str) -> reqwest::Client {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let pem = std::fs::read(authority).expect("the authority");
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).expect("a certificate")])
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .expect("a client")
}

/// A receiver whose authority is named by `ca-file` is asked by TLS; without it, its certificate is believed by nobody.
#[test]
fn check_connect_trusts_a_receiver_by_the_authority_that_is_given() {
    let house = House::new(3);
    let tls = house.server.folder().join("tls");
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let own = house.receiver.url.clone();
    let (certificate, key) = (tls.join("server.pem"), tls.join("server.key"));
    serve_with(
        &house,
        address,
        certificate.to_str().unwrap(),
        key.to_str().unwrap(),
    );
    let _listens = house.daemon();
    let url = format!("url = \"https://{address}/hooks\"");
    let trusted = format!("{url}\nca-file = \"{}\"", &house.server["CA_FILE"]);
    let from = format!("url = \"{own}\"");
    let other_port = format!("listen = \"{address}\"");
    for (name, delivery) in [("trusting", &trusted), ("doubting", &url)] {
        let replaced = [
            (from.as_str(), delivery.as_str()),
            (other_port.as_str(), "listen = \"127.0.0.1:0\""),
        ];
        house.beside(name, &replaced);
    }
    let said = house.run_of("trusting", &["check", "--connect"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let receiver = format!("https://{address}");
    assert!(said.out.contains(&receiver), "{}", said.out);
    assert!(said.out.contains("takes connections"), "{}", said.out);
    let said = house.run_of("doubting", &["check", "--connect"]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(said.out.contains("but TLS fails"), "{}", said.out);
}

fn serve_with(house: &House, address: SocketAddr, certificate: &str, key: &str) {
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let from = text.find("[http]").unwrap();
    let to = text.find("[control]").unwrap();
    let http = format!(
        "[http]\nlisten = \"{address}\"\npublic-url = \"https://127.0.0.1\"\ntls-cert = \"{certificate}\"\ntls-key = \"{key}\"\n"
    );
    std::fs::write(&path, format!("{}{http}{}", &text[..from], &text[to..])).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_speaks_tls_by_its_own_certificate() {
    let house = House::new(3);
    let tls = house.server.folder().join("tls");
    let certificate = house.path("web.pem");
    let key = house.path("web.key");
    std::fs::copy(tls.join("server.pem"), &certificate).unwrap();
    std::fs::copy(tls.join("server.key"), &key).unwrap();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    serve_with(
        &house,
        address,
        certificate.to_str().unwrap(),
        key.to_str().unwrap(),
    );
    let daemon = house.daemon();
    let url = format!("https://{address}/healthz");

    // Peers that are dead or speak another language hold nobody up.
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut plain = TcpStream::connect(address).unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let trusting = client(&house.server["CA_FILE"]);
    let answer = trusting.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    plain
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut said = Vec::new();
    let _ended = plain.read_to_end(&mut said);
    assert!(
        !said.starts_with(b"HTTP"),
        "nothing is said in the clear: {said:?}"
    );
    drop(silent);

    // Another authority's client does not believe it.
    let other = House::new(1);
    let refused = client(&other.server["CA_FILE"]).get(&url).send().await;
    assert!(refused.unwrap_err().is_connect());

    // A renewed certificate is taken at a reload, without a new listener.
    let renewed = other.server.folder().join("tls");
    std::fs::copy(renewed.join("server.pem"), &certificate).unwrap();
    std::fs::copy(renewed.join("server.key"), &key).unwrap();
    daemon.signal("HUP");
    let renewing = client(&other.server["CA_FILE"]);
    let mut answered = None;
    for _ in 0..100 {
        if let Ok(answer) = renewing.get(&url).send().await {
            answered = Some(answer.status());
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answered.map(|s| s.as_u16()), Some(200), "{}", house.log());
    let old = client(&house.server["CA_FILE"]).get(&url).send().await;
    assert!(old.unwrap_err().is_connect());
}
