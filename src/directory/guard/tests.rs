use futures_util::FutureExt as _;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::super::backlog::MAX_WAITING;
use super::super::ber::push;
use super::super::ber::{ENUMERATED, MAX_MESSAGE, OCTETS};
use super::super::link::words;
use super::super::message::{INTERMEDIATE, SEARCH_ENTRY};
use super::super::message_form::MAX_DEPTH;
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
    backlog: Arc<Backlog>,
    guard: JoinSet<Broken>,
}

impl Between {
    fn new(came: Vec<u8>) -> Self {
        let (server, far) = tokio::io::duplex(1 << 20);
        let (near, client) = UnixStream::pair().unwrap();
        let mut guard = JoinSet::new();
        let backlog = Arc::<Backlog>::default();
        guard.spawn(between(far, came, near, Arc::clone(&backlog)));
        Self {
            server,
            client,
            backlog,
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

const MIB: usize = 1 << 20;

/// An entry of one MiB.
fn heavy(id: u8) -> Vec<u8> {
    let value = tlv(OCTETS, &vec![b'x'; MIB]);
    let attribute = [tlv(OCTETS, b"cn"), tlv(0x31, &value)].concat();
    let attributes = tlv(SEQUENCE, &tlv(SEQUENCE, &attribute));
    answer(
        id,
        SEARCH_ENTRY,
        &[tlv(OCTETS, b"uid=a"), attributes].concat(),
    )
}

#[tokio::test]
async fn trap_36_a_server_waits_where_nobody_takes_what_it_says() {
    let mut between = Between::new(Vec::new());
    between.ask(&search(1)).await;
    let (mut server, mut client) = (between.server, between.client);
    let mut played = JoinSet::new();
    let written = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&written);
    played.spawn(async move {
        let entry = heavy(1);
        while server.write_all(&entry).await.is_ok() {
            *seen.lock().unwrap() += 1;
        }
    });
    // As ldap3 does, the client reads whatever comes.
    played.spawn(async move {
        let mut heard = vec![0; MIB];
        while client.read(&mut heard).await.is_ok_and(|n| n > 0) {}
    });
    while between.backlog.weight() <= MAX_WAITING {
        tokio::task::yield_now().await;
    }
    // One is taken, and the next one comes.
    for _ in 0..20 {
        let before = between.backlog.weight();
        between.backlog.taken(1);
        assert!(between.backlog.weight() < before);
        while between.backlog.weight() <= MAX_WAITING {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::pause();
    let (came, _, _) = words(between.guard.join_next().await.unwrap().unwrap());
    assert_eq!(came, "more than 64 MiB of answers waited to be taken");
    let most = (MAX_WAITING >> 20) + 20 + 4;
    assert!(*written.lock().unwrap() <= most, "{written:?}");
}

/// A server that gives two answers of so many heavy entries, each to one search.
async fn gives(listener: tokio::net::TcpListener, entries: usize) -> usize {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut written = 0;
    for id in [1, 2] {
        let mut asked = [0; 4096];
        assert!(tcp.read(&mut asked).await.unwrap() > 0);
        for _ in 0..entries {
            if tcp.write_all(&heavy(id)).await.is_err() {
                return written;
            }
            written += 1;
        }
        tcp.write_all(&result(id, SEARCH_DONE)).await.unwrap();
    }
    written
}

#[tokio::test]
async fn what_is_taken_slowly_comes_whole_and_what_is_left_is_forgotten() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let tcp = tcp.await.unwrap();
    let entries = (MAX_WAITING >> 20) + 36;
    let mut played = JoinSet::new();
    played.spawn(gives(listener, entries));
    let (carrier, mut line) = guarded(Wire::over(Stream::Plain(tcp))).await.ok().unwrap();
    let mut carried = JoinSet::new();
    carried.spawn(carrier);
    let attributes: Arc<[String]> = ["cn".to_owned()].into();
    let base = ldap3::Scope::Base;
    let asked = line.streaming_search("dc=x", base, "(cn=*)", Arc::clone(&attributes));
    let mut slow = asked.await.unwrap();
    while line.backlog().weight() <= MAX_WAITING {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut count = 0;
    while slow.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, slow.finish().await.rc), (entries, 0));
    assert_eq!(line.backlog().weight(), 0);
    let mut left = line
        .streaming_search("dc=x", base, "(cn=*)", attributes)
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(left.next().await.unwrap().is_some());
    }
    drop(left);
    assert_eq!(line.backlog().weight(), 0);
    // What is still on its way stands in nobody's way.
    assert_eq!(played.join_next().await.unwrap().unwrap(), 2 * entries);
    assert_eq!(line.backlog().weight(), 0);
}

/// A server that answers a search with heavy entries, says so, and then ends a second one.
async fn answers_two(
    listener: tokio::net::TcpListener,
    answered: tokio::sync::oneshot::Sender<()>,
) {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut asked = [0; 4096];
    assert!(tcp.read(&mut asked).await.unwrap() > 0);
    for _ in 0..3 {
        tcp.write_all(&heavy(1)).await.unwrap();
    }
    tcp.write_all(&result(1, SEARCH_DONE)).await.unwrap();
    answered.send(()).unwrap();
    assert!(tcp.read(&mut asked).await.unwrap() > 0);
    tcp.write_all(&result(2, SEARCH_DONE)).await.unwrap();
}

#[tokio::test]
async fn a_search_that_is_cancelled_while_it_is_asked_for_is_forgotten() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let tcp = tcp.await.unwrap();
    let (answered, first) = tokio::sync::oneshot::channel();
    let mut played = JoinSet::new();
    played.spawn(answers_two(listener, answered));
    let (carrier, mut line) = guarded(Wire::over(Stream::Plain(tcp))).await.ok().unwrap();
    let mut carried = JoinSet::new();
    carried.spawn(carrier);
    let attributes: Arc<[String]> = ["cn".to_owned()].into();
    let base = ldap3::Scope::Base;
    let asked = line.streaming_search("dc=x", base, "(cn=*)", Arc::clone(&attributes));
    assert!(asked.now_or_never().is_none(), "it is on its way");
    first.await.unwrap();
    // What is said of it comes before the end of another one.
    let asked = line.streaming_search("dc=x", base, "(cn=*)", attributes);
    let mut second = asked.await.unwrap();
    while second.next().await.unwrap().is_some() {}
    drop(second);
    assert_eq!(line.backlog().weight(), 0);
}
