use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::super::ber::push;
use super::super::ber::{ENUMERATED, MAX_MESSAGE, OCTETS};
use super::super::form::MAX_DEPTH;
use super::super::link::words;
use super::super::message::{INTERMEDIATE, SEARCH_ENTRY};
use super::super::request;
use super::*;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, tag, content);
    out
}

fn answer(id: u8, operation: u8, content: &[u8]) -> Vec<u8> {
    let inside = [&[INTEGER, 1, id][..], &tlv(operation, content)].concat();
    tlv(SEQUENCE, &inside)
}

fn result(id: u8, operation: u8) -> Vec<u8> {
    let fields = [
        &[ENUMERATED, 1, 0][..],
        &tlv(OCTETS, b""),
        &tlv(OCTETS, b""),
    ];
    answer(id, operation, &fields.concat())
}

fn entry(id: u8) -> Vec<u8> {
    let fields = [tlv(OCTETS, b"uid=a"), tlv(SEQUENCE, b"")];
    answer(id, SEARCH_ENTRY, &fields.concat())
}

fn search(id: i32) -> Vec<u8> {
    let none: [&str; 0] = [];
    let operation = request::search("dc=x", ldap3::Scope::Base, "(uid=a)", &none).unwrap();
    request::message(id, &operation, &[])
}

/// A guard between a server and a client that are both played here.
struct Between {
    server: DuplexStream,
    client: UnixStream,
    guard: JoinSet<Broken>,
}

impl Between {
    fn new(came: Vec<u8>) -> Self {
        let (server, far) = tokio::io::duplex(1 << 20);
        let (near, client) = UnixStream::pair().unwrap();
        let mut guard = JoinSet::new();
        guard.spawn(between(far, came, near));
        Self {
            server,
            client,
            guard,
        }
    }

    /// The client asks, and the server has heard it.
    async fn ask(&mut self, request: &[u8]) {
        self.client.write_all(request).await.unwrap();
        let mut heard = vec![0; request.len()];
        self.server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, request);
    }

    /// What the client hears until the guard ends, and how that ended.
    async fn end(mut self) -> (Vec<u8>, (String, bool)) {
        let mut heard = Vec::new();
        self.client.read_to_end(&mut heard).await.unwrap();
        let (came, _, tls) = words(self.guard.join_next().await.unwrap().unwrap());
        (heard, (came, tls))
    }
}

#[tokio::test]
async fn answers_to_what_was_asked_go_on_and_nothing_else_does() {
    let mut between = Between::new(Vec::new());
    between.ask(&search(1)).await;
    between
        .ask(&request::message(2, &request::simple_bind("a", "b"), &[]))
        .await;
    between.ask(&search(3)).await;
    let mut abandon = Vec::new();
    push(&mut abandon, ABANDON, &[3]);
    between.ask(&request::message(4, &abandon, &[])).await;
    let said = [
        entry(1),
        entry(3),
        entry(9),
        answer(0, EXTENDED_RESPONSE, &result(0, EXTENDED_RESPONSE)[7..]),
        answer(1, INTERMEDIATE, b""),
        result(2, BIND_RESPONSE),
        result(2, BIND_RESPONSE),
        result(1, SEARCH_DONE),
        entry(1),
    ];
    between.server.write_all(&said.concat()).await.unwrap();
    between.server.shutdown().await.unwrap();
    let (heard, (came, _)) = between.end().await;
    let expected = [&said[0], &said[4], &said[5], &said[7]];
    assert_eq!(heard, expected.map(Clone::clone).concat());
    assert_eq!(came, "the server closed the connection");
}

#[tokio::test]
async fn a_message_beyond_a_bound_ends_the_connection_and_what_came_before_is_heard() {
    let deep = (0..MAX_DEPTH).fold(Vec::new(), |inner, _| tlv(SEQUENCE, &inner));
    let length = u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes();
    for (bytes, words) in [
        (
            answer(1, SEARCH_ENTRY, &deep),
            "a message that is nested deeper than 16 levels",
        ),
        (
            [&[SEQUENCE, 0x84][..], &length].concat(),
            "a message of more than 16 MiB",
        ),
        (
            b"HTTP/1.1 400 Bad Request".to_vec(),
            "the answer is no LDAP that can be read: no message",
        ),
        (
            result(1, BIND_RESPONSE),
            "the answer is no LDAP that can be read: an answer to another kind of request",
        ),
    ] {
        let mut between = Between::new(Vec::new());
        between.ask(&search(1)).await;
        let said = [entry(1), bytes, entry(1)].concat();
        between.server.write_all(&said).await.unwrap();
        let (heard, (came, tls)) = between.end().await;
        assert_eq!(heard, entry(1), "{words}");
        assert_eq!((came.as_str(), tls), (words, false));
    }
}

#[tokio::test]
async fn messages_in_pieces_become_whole_and_what_was_read_before_comes_first() {
    let whole = entry(1);
    let mut between = Between::new(whole[..3].to_vec());
    // The request must be under way before its answer; so this answer is to nobody.
    between.server.write_all(&whole[3..]).await.unwrap();
    between.ask(&search(1)).await;
    for byte in &whole {
        between.server.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut heard = vec![0; whole.len()];
    between.client.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, whole);
    drop(between.server);
    assert!(matches!(
        between.guard.join_next().await.unwrap().unwrap(),
        Broken::Closed(None)
    ));
}

#[tokio::test]
async fn when_nobody_asks_any_more_the_server_hears_the_end() {
    let mut between = Between::new(Vec::new());
    drop(between.client);
    let mut rest = Vec::new();
    between.server.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
