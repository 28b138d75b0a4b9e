//! How many webhooks a second the outbox sends to a receiver on this machine, with SQLite: `cargo bench --bench outbox -- [MESSAGES]`.
//!
//! Every message is claimed, signed, posted over HTTP, and settled with its user's provisioned phone, as in the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use realmsync::clock::Clock;
use realmsync::config::{
    Config, DeliveryConfig, EnrolmentConfig, Environment, LogConfig, LogFormat, Secret,
    StoreConfig, StoreUrl,
};
use realmsync::outbox::{OutboxRunner, Stats, run};
use realmsync::store::{Access, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<()> {
    let messages = std::env::args()
        .find_map(|a| a.parse().ok())
        .unwrap_or(40_000);
    tokio::runtime::Runtime::new()?.block_on(measure(messages))
}

#[expect(
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]
async fn measure(messages: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("realmsync.db");
    fill(&path, messages).await?;

    let received = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(listener, received.clone()));

    let config = configuration(path, &url)?;
    let store = Store::open(
        &config.store,
        &Environment::default(),
        Access::Write,
        Clock::system().now(),
    )
    .await?;
    let (_sender, receiver) = watch::channel(Arc::new(config));
    let stats = Arc::new(Stats::default());
    let runner = OutboxRunner {
        store,
        config: receiver,
        environment: Environment::default(),
        clock: Clock::system(),
        stats: stats.clone(),
    };
    let cancel = CancellationToken::new();

    let begun = Instant::now();
    tasks.spawn(run(runner, cancel.clone(), Arc::new(Notify::new())));
    while stats.snapshot().delivered < messages as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    cancel.cancel();
    let received = received.load(Ordering::SeqCst);
    println!(
        "{messages} webhooks delivered and settled in {elapsed:.2} s ({received} requests): {:.0} webhooks/s",
        f64::from(u32::try_from(messages).unwrap_or(u32::MAX)) / elapsed
    );
    Ok(())
}

/// A store with as many users, each with a message that waits.
async fn fill(path: &std::path::Path, messages: usize) -> anyhow::Result<()> {
    let pool = SqlitePool::connect_with(
        SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true),
    )
    .await?;
    sqlx::migrate!("migrations/sqlite").run(&pool).await?;
    let mut tx = pool.begin().await?;
    sqlx::query(
        "INSERT INTO realms (id, kind, name) VALUES ('example.org', 'directory', 'Example')",
    )
    .execute(&mut *tx)
    .await?;
    for i in 0..messages {
        let (user, job) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
        let phone = format!("+4219{i:08}");
        let body = format!(
            r#"{{"type":"user.reprovision","timestamp":"2026-11-24T03:00:00Z","data":{{"reason":"phone_changed","realm":"example.org","user":{{"id":"{user}","version":7,"username":"user{i}","display_name":"Ján Novák","email":"user{i}@example.org","phone":"{phone}"}},"previous_phone":"+421905654321","enrolment_url":"https://mfa.example.org/enrol/{{{{token}}}}","expires_at":"2026-12-01T03:00:00Z"}}}}"#
        );
        sqlx::query("INSERT INTO users (id, realm, username, username_key, state, version, two_factor, created_at, updated_at) VALUES (?, 'example.org', ?, ?, 'active', 7, '', 0, 0)")
            .bind(user.as_bytes().as_slice())
            .bind(format!("user{i}"))
            .bind(format!("user{i}"))
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO jobs (id, realm, user_id, username, name_key, type, body, enrolment, phone, state, next_attempt_at, give_up_at, created_at) VALUES (?, 'example.org', ?, ?, ?, 'user.reprovision', ?, ?, ?, 'waiting', 0, 9000000000000, 0)")
            .bind(job.as_bytes().as_slice())
            .bind(user.as_bytes().as_slice())
            .bind(format!("user{i}"))
            .bind(format!("user{i}"))
            .bind(body)
            .bind(job.as_bytes().as_slice())
            .bind(phone)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    pool.close().await;
    Ok(())
}

fn configuration(path: PathBuf, url: &str) -> anyhow::Result<Config> {
    let delivery = DeliveryConfig {
        url: url.parse()?,
        secret: Secret::Inline("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()),
        previous_secret: None,
        ca_file: None,
        proxy: None,
        timeout_ms: 15_000,
        concurrency: 16,
        retry_for_ms: 259_200_000,
    };
    Ok(Config {
        zone_data: realmsync::clock::zones::Zones::built_in().data().clone(),
        digest: realmsync::config::Digest::default(),
        path: PathBuf::new(),
        store: StoreConfig {
            url: StoreUrl::Sqlite(path),
            password: None,
            keep_runs_ms: 0,
        },
        http: None,
        control_socket: PathBuf::new(),
        logons: realmsync::config::LogonsConfig::default(),
        enrolment: EnrolmentConfig {
            previous_key: None,
            valid_ms: 0,
            valid_again_ms: 0,
            reminders: vec![],
            contact: None,
            applications: vec![],
            self_enrolment: false,
            key: None,
        },
        delivery: Some(delivery),
        log: LogConfig {
            format: LogFormat::Text,
            level: tracing::Level::INFO,
        },
        realms: Vec::new(),
    })
}

/// A receiver that reads each request and says 204.
async fn receive(listener: TcpListener, received: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, received.clone()));
    }
}

async fn serve(mut stream: TcpStream, received: Arc<AtomicUsize>) {
    let mut buffer = Vec::with_capacity(8192);
    loop {
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
            _ => return,
        }
        while let Some(length) = request_length(&buffer) {
            buffer.drain(..length);
            received.fetch_add(1, Ordering::SeqCst);
            if stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// The bytes of the first request, once it is all there.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let body: usize = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let whole = head + 4 + body;
    (buffer.len() >= whole).then_some(whole)
}
