//! A PostgreSQL that goes away without a word: behind a relay that can be cut off, as a firewall or a failover does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use realmsync::acts::ActFailure;
use realmsync::clock::Clock;
use realmsync::config::{Environment, StoreConfig, StoreUrl};
use realmsync::model::ErrorCode;
use realmsync::store::{Access, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::lab::Server;

/// Passes bytes on until it is cut off; then it takes what comes and says nothing. New connections are well again.
struct Relay {
    port: u16,
    cut: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let cutting = Arc::clone(&cut);
        tasks.spawn(async move {
            let mut relayed = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                // Only what was there when the line was cut is dead.
                let born_cut = cutting.load(Ordering::SeqCst);
                let Ok(far) = TcpStream::connect(&address).await else {
                    continue;
                };
                let (near, far) = (near.into_split(), far.into_split());
                for (from, to) in [(near.0, far.1), (far.0, near.1)] {
                    relayed.spawn(pass_on(from, to, Arc::clone(&cutting), born_cut));
                }
            }
        });
        Self {
            port,
            cut,
            _tasks: tasks,
        }
    }
}

async fn pass_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: Arc<AtomicBool>,
    born_cut: bool,
) {
    let mut buffer = vec![0; 8192];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if !born_cut && cut.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    if !born_cut && cut.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

/// A store whose line can be cut.
async fn behind_a_relay(server: &Server) -> (Relay, StoreConfig) {
    let url = &server["DATABASE_URL"];
    let address = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let relay = Relay::to(address.to_owned()).await;
    let through = url.replace(address, &format!("127.0.0.1:{}", relay.port));
    let config = StoreConfig {
        url: StoreUrl::Postgres {
            url: through.into(),
            display: "the lab".into(),
        },
        password: None,
        keep_runs_ms: 1_000,
    };
    (relay, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_half_open_is_noticed_and_replaced() {
    let server = Server::start("postgres", &[]);
    let (relay, config) = behind_a_relay(&server).await;
    let now = Clock::system().now();
    let store = Store::open(&config, &Environment::default(), Access::Write, now)
        .await
        .unwrap();
    store.ping().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    relay.cut.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    store.ping().await.expect("another connection");
    assert!(
        begun.elapsed() < Duration::from_secs(14),
        "{:?}",
        begun.elapsed()
    );
}

/// A realm under a run is not lost to a line that dies without a word: the lease is renewed on another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_its_connection() {
    let server = Server::start("postgres", &[]);
    let (relay, config) = behind_a_relay(&server).await;
    let now = Clock::system().now();
    let store = Store::open(&config, &Environment::default(), Access::Write, now)
        .await
        .unwrap();
    let lock = store.lock_realm(&"r".into()).await.unwrap();
    let until = async || store.lease_holders().await.unwrap()[0].until;
    let before = until().await;
    relay.cut.store(true, Ordering::SeqCst);
    // 4.5 s to the next renewal, 6 s until the line counts as dead, 1 s until another one is tried.
    let renewed = async {
        // Long enough that a connection is asked whether it is one before it is used.
        tokio::time::sleep(Duration::from_secs(2)).await;
        while until().await == before {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = renewed => {}
        () = lock.lost() => panic!("nobody else is there to take it"),
        () = tokio::time::sleep(Duration::from_millis(14_500)) => panic!("the lease ended before it was renewed"),
    }
}

/// DESIGN § 5: what cannot be reached is 69, also when it goes in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_unreachable() {
    let server = Server::start("postgres", &[]);
    let config = StoreConfig {
        url: StoreUrl::Postgres {
            url: server["DATABASE_URL"].to_owned().into(),
            display: "the lab".into(),
        },
        password: None,
        keep_runs_ms: 1_000,
    };
    let now = Clock::system().now();
    let env = Environment::default();
    let open = || Store::open(&config, &env, Access::Write, now);
    let store = open().await.unwrap();
    server.stop();
    for error in [store.realms().await.unwrap_err(), open().await.unwrap_err()] {
        assert_eq!(error.code(), ErrorCode::Unreachable, "{error}");
        assert_eq!(ActFailure::from(&error).exit, 69, "{error}");
    }
}
