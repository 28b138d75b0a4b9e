//! The second connection of a pass, and what somebody on the way can do to either: a real server behind a meddling proxy, and scripts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use realmsync::clock::Clock;
use realmsync::config::DirectoryConfig;
use realmsync::directory;
use realmsync::model::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::directory::scripted;
use crate::directory::{config, connect, read, scope};
use crate::support::ber_server::{BerServer, Reply, Request, done, result};
use crate::support::lab::Server;

/// Stands before a server, and counts what each client says over each connection.
struct Meddler {
    address: SocketAddr,
    /// Bytes of the clients, by connection.
    heard: Arc<Mutex<Vec<usize>>>,
    _tasks: JoinSet<()>,
}

impl Meddler {
    /// Lets `connections` in, and then listens no more. Over connection number `spoilt` the server's first bytes are followed by
    /// the answer to a bind that nobody made.
    async fn before(server: &Server, connections: usize, spoilt: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let to: SocketAddr = format!("127.0.0.1:{}", &server["PORT"]).parse().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mut tasks, counts) = (JoinSet::new(), Arc::clone(&heard));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            for number in 1..=connections {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                counts.lock().unwrap().push(0);
                let counts = Arc::clone(&counts);
                open.spawn(async move {
                    let _ended = carry(client, to, number == spoilt, move |n| {
                        counts.lock().unwrap()[number - 1] += n;
                    })
                    .await;
                });
            }
            drop(listener);
            while open.join_next().await.is_some() {}
        });
        Self {
            address,
            heard,
            _tasks: tasks,
        }
    }

    fn config(&self, server: &Server) -> DirectoryConfig {
        let mut config = config(server, "BIND", &format!("ldap://{}", self.address));
        config.start_tls = true;
        config
    }

    fn heard(&self) -> Vec<usize> {
        self.heard.lock().unwrap().clone()
    }
}

async fn carry(
    client: TcpStream,
    to: SocketAddr,
    mut spoilt: bool,
    count: impl Fn(usize),
) -> std::io::Result<()> {
    let server = TcpStream::connect(to).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let n = from_client.read(&mut bytes).await?;
            if n == 0 {
                return to_server.shutdown().await;
            }
            count(n);
            to_server.write_all(&bytes[..n]).await?;
        }
    };
    let back = async {
        let mut bytes = Vec::with_capacity(1 << 16);
        loop {
            bytes.clear();
            if from_server.read_buf(&mut bytes).await? == 0 {
                return to_client.shutdown().await;
            }
            if std::mem::take(&mut spoilt) {
                bytes.extend(result(2, 0x61, 0, b"", None));
            }
            to_client.write_all(&bytes).await?;
        }
    };
    tokio::try_join!(there, back).map(drop)
}

/// StartTLS is 31 bytes.
const START_TLS: usize = 31;

#[tokio::test]
async fn trap_35_what_is_slipped_in_before_tls_is_refused_on_the_first_connection() {
    let server = Server::start("openldap", &["--users", "8"]);
    let meddler = Meddler::before(&server, 9, 1).await;
    let e = connect(&meddler.config(&server)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Tls, "{e}");
    assert!(e.to_string().contains("in the clear"), "{e}");
    assert_eq!(meddler.heard(), [START_TLS], "no password went that way");
}

#[tokio::test]
async fn trap_35_what_is_slipped_in_before_tls_is_refused_on_the_second_connection() {
    let server = Server::start("openldap", &["--users", "8"]);
    // That of nobody: the proxy itself harms nothing, and the second connection reads.
    for (spoilt, over_the_second) in [(0, true), (2, false)] {
        let meddler = Meddler::before(&server, 9, spoilt).await;
        let mut session = connect(&meddler.config(&server)).await.unwrap();
        let (_complete, all) = read(&mut session, &scope(&server)).await.unwrap();
        assert_eq!(all.len(), 8);
        let heard = meddler.heard();
        assert_eq!(heard.len(), 2);
        assert_eq!(heard[1] > START_TLS, over_the_second, "{heard:?}");
    }
}

#[tokio::test]
async fn where_a_second_connection_is_refused_the_first_one_reads() {
    let server = Server::start("openldap", &["--users", "8"]);
    let meddler = Meddler::before(&server, 1, 0).await;
    let mut session = connect(&meddler.config(&server)).await.unwrap();
    let (_complete, all) = read(&mut session, &scope(&server)).await.unwrap();
    assert_eq!((all.len(), meddler.heard().len()), (8, 1));
}

fn is_bind(r: &Request) -> bool {
    r.tag == 0x60
}

fn is_for_people(r: &Request) -> bool {
    r.tag == 0x63 && r.body.windows(6).any(|w| w == b"person")
}

#[tokio::test]
async fn trap_34_a_second_bind_that_is_refused_is_not_tried_again() {
    let binds = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&binds);
    let server = BerServer::start("389 Project", move |r| {
        if is_bind(r) && r.connection > 1 {
            counted.fetch_add(1, Ordering::SeqCst);
            let refused = result(r.id, 0x61, 49, b"", None);
            return Some(vec![Reply::Send(refused)]);
        }
        is_for_people(r).then(|| {
            let name = format!("seen-by-{}", r.connection);
            vec![
                scripted::person(r.id, &name),
                Reply::Send(done(r.id, 0, Some(b""))),
            ]
        })
    })
    .await;
    let mut session = connect(&scripted::config(&server)).await.unwrap();
    for _pass in 0..3 {
        let (_complete, all) = read(&mut session, &scripted::scope()).await.unwrap();
        let by: Vec<_> = all.iter().flat_map(|e| e.values("uid")).collect();
        assert_eq!(by, [b"seen-by-1"]);
    }
    assert_eq!(binds.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_connection_that_is_cut_before_the_pass_leaves_the_first_one_reading() {
    let whole = |r: &Request| match r.tag {
        0x60 => result(r.id, 0x61, 0, b"", None),
        _ => done(r.id, 0, None),
    };
    // In the answer to the bind, and in the answer that says how far the server is.
    for tag in [0x60, 0x63] {
        let server = BerServer::start("OpenLDAP", move |r| {
            if r.connection > 1 && r.tag == tag {
                let half = whole(r)[..6].to_vec();
                return Some(vec![Reply::Send(half), Reply::Close]);
            }
            if r.body.windows(10).any(|w| w == b"contextCSN") {
                return Some(vec![
                    scripted::context_csn(r.id),
                    Reply::Send(done(r.id, 0, None)),
                ]);
            }
            is_for_people(r).then(|| {
                vec![
                    scripted::person(r.id, "a"),
                    Reply::Send(done(r.id, 0, Some(b""))),
                ]
            })
        })
        .await;
        let mut session = connect(&scripted::config(&server)).await.unwrap();
        let (_complete, all) = read(&mut session, &scripted::scope()).await.unwrap();
        assert_eq!(all.len(), 1);
    }
}

/// What the two connections of a long pass were used for.
async fn long_pass(
    while_silent: Duration,
    first_is_cut: bool,
) -> (Result<usize, directory::DirectoryError>, usize) {
    let kept = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&kept);
    let pages = AtomicUsize::new(0);
    let server = BerServer::start("389 Project", move |r| {
        // The root DSE is read once when the session begins, whole; and then it is only asked whether it is there.
        let is_sign_of_life = r.tag == 0x63
            && r.body.starts_with(&[4, 0])
            && r.body.windows(5).any(|w| w == b"\x04\x031.1");
        if is_sign_of_life {
            assert_eq!(r.connection, 1);
            counted.fetch_add(1, Ordering::SeqCst);
            return first_is_cut.then(|| vec![Reply::Close]);
        }
        is_for_people(r).then(|| {
            let page = pages.fetch_add(1, Ordering::SeqCst);
            let more: &[u8] = if page < 4 { b"more" } else { b"" };
            vec![
                scripted::person(r.id, &page.to_string()),
                Reply::Send(done(r.id, 0, Some(more))),
            ]
        })
    })
    .await;
    let deadline = Instant::now() + Duration::from_hours(1);
    let config = scripted::config(&server);
    let mut session = directory::connect(&config, &Clock::system(), deadline)
        .await
        .unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let wanted = scripted::scope();
    let reading = session.read(&wanted, sender);
    let listening = async {
        let mut count = 0;
        while let Some(entries) = receiver.recv().await {
            count += entries.len();
            if count == 2 {
                // Whoever reads along takes its time: on the clock only, with nothing under way that could be late.
                tokio::time::pause();
                tokio::time::advance(while_silent).await;
                tokio::time::resume();
            }
        }
        count
    };
    let (read, count) = tokio::join!(reading, listening);
    (read.map(|_| count), kept.load(Ordering::SeqCst))
}

#[tokio::test]
async fn the_first_connection_is_kept_awake_during_a_long_pass() {
    let short = long_pass(Duration::from_secs(170), false).await;
    assert_eq!((short.0.unwrap(), short.1), (5, 0));
    let long = long_pass(Duration::from_secs(181), false).await;
    assert_eq!((long.0.unwrap(), long.1), (5, 1));
}

#[tokio::test]
async fn trap_06_a_pass_whose_first_connection_is_lost_meanwhile_is_not_complete() {
    let (read, kept) = long_pass(Duration::from_secs(181), true).await;
    let e = read.unwrap_err();
    assert_eq!((e.code(), kept), (ErrorCode::Incomplete, 1), "{e}");
    assert!(e.to_string().contains("keeping the connection open"), "{e}");
}
