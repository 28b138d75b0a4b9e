//! PostgreSQL as houses run it: roles with few rights and limits, databases in other encodings, poolers.

use std::process::Command;

use secrecy::ExposeSecret as _;

use super::*;
use crate::store::db::on;

struct Pg {
    fixture: Fixture,
    port: String,
}

impl Pg {
    async fn start() -> Self {
        let fixture = postgres().await;
        let StoreUrl::Postgres { url, .. } = fixture.url() else {
            panic!("a PostgreSQL store");
        };
        let port = url.expose_secret().rsplit_once(':').unwrap().1;
        let port = port.split('/').next().unwrap().to_owned();
        Self { fixture, port }
    }

    fn psql(&self, database: &str, sql: &str) {
        let out = Command::new("psql")
            .args([
                "-Xq",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-v",
                "ON_ERROR_STOP=1",
            ])
            .args(["-p", &self.port, "-d", database, "-c", sql])
            .output()
            .expect("psql");
        assert!(
            out.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }

    fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgres://{role}:lab-secret@127.0.0.1:{}/{database}",
            self.port
        )
    }
}

async fn open_url(url: &str, access: Access) -> Result<Store, StoreError> {
    let config = StoreConfig {
        url: StoreUrl::Postgres {
            url: url.into(),
            display: "the lab".into(),
        },
        password: None,
        keep_runs_ms: DAY_MS,
    };
    Store::open(&config, &Environment::default(), access, START).await
}

async fn setting(store: &Store, name: &'static str) -> String {
    let mut link = store.db.read().await.unwrap();
    on!(link, c => sqlx::query_scalar::<_, String>("SELECT current_setting($1)").bind(name).fetch_one(&mut *c).await).unwrap()
}

#[tokio::test]
async fn a_role_needs_no_right_to_create_once_the_schema_is_there_and_its_limits_are_put_right() {
    let pg = Pg::start().await;
    pg.psql("postgres", "CREATE ROLE svc LOGIN PASSWORD 'lab-secret'");
    pg.psql("postgres", "CREATE DATABASE house");
    let url = pg.url("svc", "house");
    let error = open_url(&url, Access::Write).await.unwrap_err().to_string();
    assert!(
        error.contains("permission denied") && error.contains("rights"),
        "{error}"
    );
    pg.psql("house", "GRANT USAGE, CREATE ON SCHEMA public TO svc");
    open_url(&url, Access::Write).await.unwrap().close().await;
    pg.psql("house", "REVOKE CREATE ON SCHEMA public FROM svc");
    for limit in [
        "statement_timeout = '100ms'",
        "lock_timeout = '100ms'",
        "idle_session_timeout = '1s'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
    ] {
        pg.psql("postgres", &format!("ALTER ROLE svc SET {limit}"));
    }
    let store = open_url(&url, Access::Write).await.unwrap();
    for (name, wanted) in [
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("transaction_read_only", "off"),
        ("transaction_isolation", "read committed"),
        ("synchronous_commit", "on"),
    ] {
        assert_eq!(setting(&store, name).await, wanted, "{name}");
    }
    let realm = RealmDecl {
        id: "example.org".into(),
        name: "x".into(),
    };
    store.declare_realms(&[realm], START).await.unwrap();
    store.close().await;
    // A role may have too few connections, and a server may have no more.
    pg.psql(
        "postgres",
        "ALTER ROLE svc RESET ALL; ALTER ROLE svc CONNECTION LIMIT 4",
    );
    let error = open_url(&url, Access::Write).await.unwrap_err();
    assert!(error.to_string().contains("CONNECTION LIMIT"), "{error}");
    pg.psql("postgres", "ALTER ROLE svc CONNECTION LIMIT 0");
    let began = std::time::Instant::now();
    let error = open_url(&url, Access::Read).await.unwrap_err();
    assert!(matches!(error, StoreError::Limited(_)), "{error}");
    assert!(
        error.to_string().contains("too many connections"),
        "{error}"
    );
    assert!(
        began.elapsed() < std::time::Duration::from_secs(8),
        "it is told at once"
    );
    pg.fixture.store.ping().await.unwrap();
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused_before_anything_is_in_it() {
    let pg = Pg::start().await;
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        pg.psql("postgres", &format!("CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 OWNER lab"));
        for access in [Access::Read, Access::Write] {
            let error = open_url(&pg.url("lab", &name), access)
                .await
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(encoding) && error.contains("ENCODING 'UTF8'"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn sessions_that_take_no_writes_any_more_fail_once_and_are_left() {
    let pg = Pg::start().await;
    let store = &pg.fixture.store;
    // Several idle sessions, as after a busy time; a former primary refuses what they write.
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(store.db.begin().await.unwrap());
    }
    for mut tx in open {
        on!(tx, c => sqlx::query("SET default_transaction_read_only = on").execute(&mut *c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
    }
    let realm = RealmDecl {
        id: "example.org".into(),
        name: "y".into(),
    };
    let mut failed = Vec::new();
    for _ in 0..8 {
        let declared = store
            .declare_realms(std::slice::from_ref(&realm), START)
            .await;
        failed.extend(declared.err().map(|e| e.to_string()));
    }
    assert_eq!(failed.len(), 1, "{failed:?}");
}

/// A PgBouncer before the lab's server.
struct Bouncer {
    process: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

impl Bouncer {
    fn start(server: &str, more: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let users = folder.path().join("users");
        std::fs::write(&users, "\"lab\" \"lab-secret\"\n").unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = plain\nauth_file = {}\nunix_socket_dir =\nlogfile = {}\n{more}\n",
            users.display(),
            folder.path().join("log").display(),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg("-q");
        // It refuses to run as root.
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "postgres"]);
        }
        let process = command.arg(&file).spawn().expect("pgbouncer");
        let bouncer = Self {
            process,
            port,
            _folder: folder,
        };
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return bouncer;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("PgBouncer did not come up");
    }

    fn url(&self) -> String {
        format!("postgres://lab:lab-secret@127.0.0.1:{}/lab", self.port)
    }
}

#[tokio::test]
async fn pgbouncer_is_refused_by_its_name_where_it_shares_sessions_and_used_where_it_keeps_them() {
    let pg = Pg::start().await;
    let plain = Bouncer::start(&pg.port, "pool_mode = session");
    let error = open_url(&plain.url(), Access::Write)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("PgBouncer")
            && error.contains("ignore_startup_parameters = extra_float_digits"),
        "{error}"
    );
    for mode in ["transaction", "statement"] {
        let more = format!("pool_mode = {mode}\nignore_startup_parameters = extra_float_digits");
        let shared = Bouncer::start(&pg.port, &more);
        let error = open_url(&shared.url(), Access::Write)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("PgBouncer") && error.contains("pool_mode = session"),
            "{mode}: {error}"
        );
    }
    let kept = Bouncer::start(
        &pg.port,
        "pool_mode = session\nignore_startup_parameters = extra_float_digits",
    );
    let store = open_url(&kept.url(), Access::Write).await.unwrap();
    let realm = RealmDecl {
        id: "example.org".into(),
        name: "x".into(),
    };
    store.declare_realms(&[realm], START).await.unwrap();
    store.close().await;
}
