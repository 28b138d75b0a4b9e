//! Clients that connect and do not go on: nobody waits long for their places, and a stop does not wait for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::house::House;

fn half_open(address: SocketAddr, clients: usize) -> Vec<TcpStream> {
    (0..clients)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nho")
                .expect("half of a head");
            stream
        })
        .collect()
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn clients_that_do_not_go_on_delay_neither_others_nor_a_stop() {
    let house = House::new(1);
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("127.0.0.1:0\"", &format!("{address}\"")),
    )
    .unwrap();
    let mut daemon = house.daemon();

    let begun = Instant::now();
    let silent = half_open(address, 400);
    let asked = Instant::now();
    assert_eq!(house.run(&["--json", "status"]).code, 0);
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "commands have places of their own"
    );
    let answer = get(address);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    drop(silent);

    let _silent = half_open(address, 300);
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    daemon.signal("TERM");
    let status = daemon.0.wait().expect("its end");
    let took = begun.elapsed();
    assert!(status.success(), "{status}: {}", house.log());
    assert!(took < Duration::from_secs(2), "{took:?}: {}", house.log());
}
