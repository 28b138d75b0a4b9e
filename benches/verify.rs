//! How many codes a second a daemon verifies, each commit on the disk, beside privacyIDEA:
//! `cargo bench --bench verify -- [USERS] [sqlite] [postgres] [peer] [FILE]`.
//!
//! FILE is the daemon's program, else `target/release/realmsync`; PostgreSQL is that of `tests/lab/postgres` with `--fsync`. Users have hard tokens that count; clients hold their connections open, and each sends the next code of the next user.
//! With `peer`, the last line of each store is the ratio to `benches/peers/privacyidea.py`, which runs after them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use data_encoding::{BASE64, HEXLOWER};
use realmsync::factors::keys::RootKey;
use realmsync::factors::otp::Generator;
use realmsync::factors::sealed::{NONCE, seal};
use realmsync::model::{Authenticator, AuthenticatorId, OtpHash, UserId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const KEY: [u8; 32] = [9; 32];
const SEED: [u8; 20] = *b"12345678901234567890";
const PORT: u16 = 18_420;
/// For how long is measured.
const LONG: Duration = Duration::from_secs(10);

#[expect(
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]
fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let users = words
        .iter()
        .find_map(|word| word.parse().ok())
        .unwrap_or(10_000);
    let stores: Vec<&str> = ["sqlite", "postgres"]
        .into_iter()
        .filter(|store| words.iter().any(|word| word == store))
        .collect();
    let stores = if stores.is_empty() {
        vec!["sqlite", "postgres"]
    } else {
        stores
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut best = vec![];
    for store in stores {
        let mut most = 0.0_f64;
        for clients in [1, 16, 64, 200] {
            most = most.max(runtime.block_on(measure(store, users, clients))?);
        }
        best.push((store, most));
    }
    if words.iter().any(|word| word == "peer") {
        let peer = peer()?;
        println!("privacyIDEA, the better of one and four clients: {peer:.1}/s");
        for (store, most) in best {
            println!("{store}: {:.0} times", most / peer);
        }
    }
    Ok(())
}

/// Accepted codes a second of the peer, two workers and PostgreSQL.
fn peer() -> anyhow::Result<f64> {
    let said = Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/peers/privacyidea.py"
        ))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(said.status.success(), "privacyIDEA does not run");
    String::from_utf8(said.stdout)?
        .lines()
        .filter_map(|line| line.split_once(": ")?.1.split(' ').next()?.parse().ok())
        .fold(None, |most: Option<f64>, rate| {
            Some(most.map_or(rate, |most| most.max(rate)))
        })
        .context("no rate of privacyIDEA")
}

/// A server of the lab that is stopped with this.
struct Postgres(tempfile::TempDir);

impl Drop for Postgres {
    fn drop(&mut self) {
        let _stopped = lab("stop")
            .args(["--purge", "--dir"])
            .arg(self.0.path().join("pg"))
            .output();
    }
}

fn lab(verb: &str) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/postgres"));
    command.arg(verb);
    command
}

/// A daemon that ends with this.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]
async fn measure(store: &str, users: u128, clients: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let (server, url) = if store == "postgres" {
        let server = Postgres(tempfile::tempdir()?);
        let said = lab("start")
            .args(["--port", "0", "--fsync", "--dir"])
            .arg(server.0.path().join("pg"))
            .output()?;
        let facts = String::from_utf8(said.stdout)?;
        let url = facts
            .lines()
            .find_map(|line| line.strip_prefix("DATABASE_URL="));
        (Some(server), url.context("tests/lab/postgres")?.to_owned())
    } else {
        (
            None,
            format!("sqlite:{}", dir.path().join("realmsync.db").display()),
        )
    };
    configure(dir.path(), &url)?;
    let daemon = daemon(dir.path()).await?;
    fill(dir.path(), &url, users)?;
    let token = Command::new(binary())
        .arg("-c")
        .arg(dir.path().join("realmsync.toml"))
        .args(["api-tokens", "create", "bench", "--scope=verify"])
        .output()?;
    ensure!(
        token.status.success(),
        "{}",
        String::from_utf8_lossy(&token.stderr)
    );
    let token = Arc::new(String::from_utf8(token.stdout)?.trim().to_owned());

    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (next, token) = (Arc::clone(&next), Arc::clone(&token));
        tasks.spawn(async move { client(&next, &token, usize::try_from(users)?, began).await });
    }
    let mut times = vec![];
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    let a_second = f64::from(u32::try_from(times.len())?) / seconds;
    println!(
        "{store}, {clients} clients: {a_second:.0}/s, median {:.1} ms, p99 {:.1} ms",
        at(50),
        at(99)
    );
    drop((daemon, server));
    Ok(a_second)
}

/// The daemon's program: a file that was named, or what `cargo build --release` made.
fn binary() -> String {
    std::env::args()
        .skip(1)
        .find(|word| Path::new(word).is_file())
        .unwrap_or_else(|| {
            concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/realmsync").to_owned()
        })
}

fn configure(dir: &Path, url: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let plaintext = if url.starts_with("postgres") {
        "insecure-plaintext = true\n"
    } else {
        ""
    };
    let text = format!(
        "version = 1\n[store]\nurl = \"{url}\"\n{plaintext}[http]\nlisten = \"127.0.0.1:{PORT}\"\npublic-url = \"https://mfa.example.org\"\n\
         [control]\nsocket = \"{0}/control.sock\"\n[enrolment]\nkey-file = \"{0}/key\"\n[[realm]]\nid = \"bench\"\nschedule = \"0 3 1 1 *\"\n\
         [realm.directory]\nservers = [\"ldaps://127.0.0.1:1\"]\nbase = [\"dc=example,dc=org\"]\n",
        dir.display(),
    );
    for (name, text) in [("realmsync.toml", text), ("key", BASE64.encode(&KEY))] {
        let path = dir.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

async fn daemon(dir: &Path) -> anyhow::Result<Daemon> {
    let log = std::fs::File::create(dir.join("log"))?;
    let child = Command::new(binary())
        .arg("-c")
        .arg(dir.join("realmsync.toml"))
        .arg("run")
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let daemon = Daemon(child);
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", PORT)).await.is_ok()
            && dir.join("control.sock").exists()
        {
            return Ok(daemon);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!(
        "the daemon did not come up: {}",
        std::fs::read_to_string(dir.join("log"))?
    )
}

/// Users with tokens, past everything that makes them one by one.
fn fill(dir: &Path, url: &str, users: u128) -> anyhow::Result<()> {
    let postgres = url.starts_with("postgres");
    let blob = |bytes: &[u8]| {
        let hex = HEXLOWER.encode(bytes);
        if postgres {
            format!("'\\x{hex}'::bytea")
        } else {
            format!("X'{hex}'")
        }
    };
    let flag = |on: bool| {
        if postgres {
            on.to_string()
        } else {
            u8::from(on).to_string()
        }
    };
    let key = RootKey::new(&KEY);
    let mut sql = String::from("BEGIN;\n");
    for n in 1..=users {
        let id = UserId(uuid::Uuid::from_u128(n));
        let token = AuthenticatorId(id.0);
        let owner = Authenticator::owner(Some(id), token);
        let sealed = seal(&key, &owner, &SEED, [5; NONCE]).context("a secret")?;
        let own = blob(id.0.as_bytes());
        writeln!(
            sql,
            "INSERT INTO users (id, realm, username, username_key, state, blocked, told, provisioned, version, two_factor, created_at, updated_at)
             VALUES ({own}, 'bench', 'user{n}', 'user{n}', 'active', {0}, {0}, {0}, 1, 'hard-token', 0, 0);
             INSERT INTO authenticators (id, user_id, bound_to, kind, state, secret, key_id, hash, digits, period, created_at)
             VALUES ({own}, {own}, {own}, 'hotp', 'active', {1}, '{2}', 'sha1', 6, 30, 0);",
            flag(false),
            blob(&sealed.bytes),
            key.id(),
        )?;
    }
    sql.push_str("COMMIT;\n");
    let mut command = if postgres {
        let mut command = Command::new("psql");
        command.args([url, "-q", "-v", "ON_ERROR_STOP=1"]);
        command
    } else {
        let mut command = Command::new("sqlite3");
        command
            .args(["-bail", "-cmd", ".timeout 10000"])
            .arg(dir.join("realmsync.db"));
        command
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("a pipe")?, sql.as_bytes())?;
    ensure!(child.wait()?.success(), "the store cannot be filled");
    Ok(())
}

/// One connection: the next code of the next user, again and again. Gives how long each took.
async fn client(
    next: &AtomicUsize,
    token: &str,
    users: usize,
    began: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let generator = Generator::new(zeroize::Zeroizing::new(SEED.to_vec()), OtpHash::Sha1, 6);
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
    stream.set_nodelay(true)?;
    let mut times = vec![];
    let mut answer = vec![0; 4096];
    while began.elapsed() < LONG {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let (user, counter) = (n % users + 1, n / users);
        let body = format!(
            "{{\"username\":\"user{user}\",\"realm\":\"bench\",\"code\":\"{:06}\"}}",
            generator.code(u64::try_from(counter)?)
        );
        let request = format!(
            "POST /api/v1/verify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let length = stream.read(&mut answer).await?;
        times.push(asked.elapsed());
        let text = String::from_utf8_lossy(&answer[..length]);
        ensure!(text.contains("\"accepted\""), "{text}");
    }
    Ok(times)
}
