//! Clients that connect and do not go on: nobody waits long for their places, and a stop does not wait for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::house::House;

/// Clients that say this, and no more.
fn half_open(address: SocketAddr, clients: usize, said: &str) -> Vec<TcpStream> {
    (0..clients)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream
                .write_all(said.as_bytes())
                .expect("half of a request");
            stream
        })
        .collect()
}

const HALF_A_HEAD: &str = "GET /healthz HTTP/1.1\r\nho";

/// A house whose daemon listens here.
fn house_at(address: SocketAddr) -> House {
    let house = House::new(1);
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("127.0.0.1:0\"", &format!("{address}\""));
    std::fs::write(&path, text).unwrap();
    house
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
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
    let address = free_address();
    let house = house_at(address);
    let mut daemon = house.daemon();

    let begun = Instant::now();
    let silent = half_open(address, 400, HALF_A_HEAD);
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

    let _silent = half_open(address, 300, HALF_A_HEAD);
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    daemon.signal("TERM");
    let status = daemon.0.wait().expect("its end");
    let took = begun.elapsed();
    assert!(status.success(), "{status}: {}", house.log());
    assert!(took < Duration::from_secs(2), "{took:?}: {}", house.log());
}

#[test]
fn trap_61_bodies_that_never_come_hold_no_places() {
    let address = free_address();
    let house = house_at(address);
    let _daemon = house.daemon();
    let begun = Instant::now();
    // A telephone that lost its network between the head and the body; and a service.
    let page = "POST /enrol/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
    let mut silent = half_open(address, 300, page);
    let answer = get(address);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(16), "{waited:?}");
    // Whoever still listens is told so, and the connection ends.
    let mut told = String::new();
    silent[0].read_to_string(&mut told).expect("an answer");
    assert!(told.starts_with("HTTP/1.1 4"), "{told}");
}
