//! A whole daemon in this process, over a fresh store, without signals: wishes are sent by hand.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

use tokio::time::timeout;

use super::*;
use crate::acts::{
    Backup, BackupRequest, Decide, DecideRequest, Outbox, OutboxAct, OutboxAnswer, OutboxRequest,
    Pause, PauseRequest, Plan, PlanRequest, Resume, RunDecision, Sync, SyncRequest,
};
use crate::api::Client;
use crate::clock::Clock;
use crate::config::{
    AttributeOverrides, BrakeConfig, ChangesWay, DirectoryConfig, EnrolmentConfig, Environment,
    HttpConfig, LogConfig, LogFormat, PhoneConfig, RealmConfig, StoreConfig, StoreUrl,
};
use crate::model::{Outcome, Policy, Trigger};
use crate::service::LoadedFile;

fn config(dir: &Path, realms: &[&str]) -> Config {
    let realm = |id: &&str| RealmConfig {
        id: (*id).into(),
        aliases: vec![],
        name: (*id).into(),
        schedule: "30 2 * * *".into(),
        full_schedule: "30 2 * * *".into(),
        time_zone: jiff::tz::TimeZone::UTC,
        issuer: "r".into(),
        revoke_at_once: false,
        approve: false,
        policy: Policy {
            send_to_new: false,
            only_provisioned: false,
            hold_ms: 0,
            notify_previous: false,
            protect: None,
            local_phones: false,
            phone_attributes: vec!["mobile".into()],
            two_factor: Vec::new(),
            grace_ms: 1,
        },
        directory: DirectoryConfig {
            kind: None,
            // Nobody listens on the discard port of loopback.
            servers: vec!["ldap://127.0.0.1:9".parse().expect("url")],
            start_tls: false,
            ca_file: None,
            client_cert: None,
            insecure_plaintext: true,
            bind_dn: None,
            bind_password: None,
            base: vec!["ou=people,dc=example,dc=org".into()],
            filter: None,
            page_size: 1000,
            changes: ChangesWay::Auto,
            poll_ms: None,
            connect_timeout_ms: 1000,
            run_timeout_ms: 5000,
            sentinel: None,
        },
        attributes: AttributeOverrides::default(),
        phone: PhoneConfig {
            region: None,
            mobile_only: true,
            allow_premium: false,
        },
        brake: BrakeConfig {
            percent: [5.0; 7],
            floor: 10,
        },
        delivery: None,
    };
    Config {
        zone_data: crate::clock::zones::Zones::built_in().data().clone(),
        digest: crate::config::Digest::default(),
        path: dir.join("realmsync.toml"),
        store: StoreConfig {
            url: StoreUrl::Sqlite(dir.join("realmsync.db")),
            password: None,
            keep_runs_ms: 1 << 40,
        },
        http: None,
        control_socket: dir.join("control.sock"),
        logons: crate::config::LogonsConfig::default(),
        enrolment: EnrolmentConfig {
            valid_ms: 1,
            valid_again_ms: 1,
            reminders: vec![],
            contact: None,
            applications: vec![],
            self_enrolment: false,
            key: None,
            previous_key: None,
        },
        delivery: None,
        log: LogConfig {
            format: LogFormat::Text,
            level: tracing::Level::INFO,
        },
        realms: realms.iter().map(realm).collect(),
    }
}

/// A run now.
fn sync(realm: &str) -> Sync {
    Sync::asked(realm.into(), SyncRequest::default())
}

/// A running daemon.
struct RunningDaemon {
    dir: TempDir,
    wishes: mpsc::Sender<Wish>,
    next: Arc<Mutex<LoadedFile>>,
    task: tokio::task::JoinHandle<Result<(), ActFailure>>,
}

impl RunningDaemon {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let mut first = config(dir.path(), &["a.test", "b.test"]);
        change(&mut first);
        let next = Arc::new(Mutex::new(Err("not yet".to_owned())));
        let reads = Arc::clone(&next);
        let start = Start {
            config: Arc::new(first),
            warnings: Vec::new(),
            environment: Environment::of::<String, String>([]),
            clock: Clock::system(),
            reload: Arc::new(move || reads.lock().expect("lock").clone()),
        };
        let (wishes, given) = mpsc::channel(8);
        #[expect(clippy::disallowed_methods, reason = "a test holds the task itself")]
        let task = tokio::spawn(serve_until_told(
            start,
            Wishes::given(given),
            Metrics::default(),
            None,
        ));
        let running = Self {
            dir,
            wishes,
            next,
            task,
        };
        for _ in 0..200 {
            if running.task.is_finished() || Client::connect(&running.socket()).await.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        running
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket())
            .await
            .expect("a daemon that answers")
    }

    async fn reload(&self, read: LoadedFile) {
        *self.next.lock().expect("lock") = read;
        self.wishes.send(Wish::Reload).await.expect("a loop");
    }

    async fn stop(self) -> Result<(), ActFailure> {
        self.wishes.send(Wish::Stop).await.expect("a loop");
        let ended = timeout(Duration::from_secs(5), self.task)
            .await
            .expect("five seconds are enough")
            .expect("no panic");
        assert!(
            !self.dir.path().join("control.sock").exists(),
            "the socket goes with the daemon"
        );
        ended
    }
}

/// One request without a client of ours, on a unix socket or TCP.
async fn get<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut stream: S,
    path: &str,
) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_answers_and_stops() {
    let daemon = RunningDaemon::start(|_| ()).await;
    let unix = async || {
        tokio::net::UnixStream::connect(daemon.socket())
            .await
            .expect("connect")
    };
    assert!(
        get(unix().await, "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let ready = get(unix().await, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains(r#"{"ready":true,"reasons":[]}"#),
        "{ready}"
    );
    let metrics = get(unix().await, "/metrics").await;
    assert!(
        metrics.contains("realmsync_build{version=") && metrics.contains("# EOF"),
        "{metrics}"
    );
    let status = daemon.client().await.status().await.expect("status");
    assert_eq!(status.daemon.pid, std::process::id());
    daemon.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_says_why() {
    let daemon = RunningDaemon::start(|_| ()).await;
    let client = daemon.client().await;
    let unknown = client
        .ask(&sync("no.such"), |_| ())
        .await
        .expect_err("unknown");
    assert_eq!((unknown.code.as_str(), unknown.exit), ("not-found", 1));
    assert!(unknown.message.contains("a.test, b.test"), "{unknown}");
    let plan = Plan {
        realm: "ou=a/../b?".into(),
        request: PlanRequest::default(),
    };
    let plan = client
        .plan(&plan, |_| std::ops::ControlFlow::Continue(()))
        .await
        .expect_err("unknown");
    assert!(plan.message.contains("`ou=a/../b?`"), "{plan}");
    let approve = Decide {
        decision: RunDecision::Approve,
        run: "019a".into(),
        request: DecideRequest::default(),
    };
    let run = client.ask(&approve, |_| ()).await.expect_err("no such run");
    assert_eq!(run.code, "not-found");
    let outbox = |act, all| Outbox {
        act,
        which: OutboxRequest {
            all,
            ..OutboxRequest::default()
        },
    };
    let slip = client
        .ask(&outbox(OutboxAct::Drop, false), |_| ())
        .await
        .expect_err("without a condition");
    assert_eq!(slip.code, "invalid");
    let held = client.ask(&outbox(OutboxAct::Hold, true), |_| ()).await;
    assert_eq!(held, Ok(OutboxAnswer { jobs: 0 }));
    let request = BackupRequest {
        to: "copy.db".into(),
    };
    let relative = client
        .ask(&Backup { request }, |_| ())
        .await
        .expect_err("relative");
    assert_eq!(relative.code, "invalid");
    daemon.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let daemon = RunningDaemon::start(|_| ()).await;
    daemon.reload(Err("line 3: no such key".into())).await;
    let refused = settled(&daemon, |status| status.daemon.reload_error.is_some()).await;
    assert_eq!(
        refused.daemon.reload_error.as_deref(),
        Some("line 3: no such key")
    );

    let mut moved = config(daemon.dir.path(), &["a.test"]);
    moved.store.url = StoreUrl::Sqlite("/elsewhere.db".into());
    daemon.reload(Ok((moved, Vec::new()))).await;
    let refused = settled(&daemon, |status| {
        status
            .daemon
            .reload_error
            .as_deref()
            .is_some_and(|why| why.contains("store.url"))
    })
    .await;
    let first_read = refused.daemon.config_read_at;

    let good = config(daemon.dir.path(), &["a.test", "c.test"]);
    daemon.reload(Ok((good, Vec::new()))).await;
    let accepted = settled(&daemon, |status| status.daemon.reload_error.is_none()).await;
    assert!(accepted.daemon.config_read_at >= first_read);
    let gone = daemon
        .client()
        .await
        .ask(&sync("b.test"), |_| ())
        .await
        .expect_err("left the file");
    assert!(gone.message.contains("a.test, c.test"), "{gone}");
    daemon.stop().await.expect("a clean end");
}

async fn settled(
    daemon: &RunningDaemon,
    done: impl Fn(&crate::story::status::StatusAnswer) -> bool,
) -> crate::story::status::StatusAnswer {
    for _ in 0..100 {
        let status = daemon.client().await.status().await.expect("status");
        if done(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never came");
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_has_no_control_and_moves_with_a_reload() {
    let port = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .expect("bind")
            .local_addr()
            .expect("address")
    };
    let (first, second) = (port(), port());
    let http = |listen| {
        Some(HttpConfig {
            listen,
            public_url: "https://mfa.example.org".into(),
            tls: None,
            behind_proxy: false,
        })
    };
    let daemon = RunningDaemon::start(|config| config.http = http(first)).await;
    let tcp = async |address| tokio::net::TcpStream::connect(address).await;
    assert!(
        get(tcp(first).await.expect("connect"), "/readyz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        get(tcp(first).await.expect("connect"), "/api/v1/status")
            .await
            .starts_with("HTTP/1.1 404")
    );

    let mut moved = config(daemon.dir.path(), &["a.test", "b.test"]);
    moved.http = http(second);
    daemon.reload(Ok((moved, Vec::new()))).await;
    for _ in 0..100 {
        if tcp(second).await.is_ok() && tcp(first).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(
        get(tcp(second).await.expect("connect"), "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(tcp(first).await.is_err());

    // An address that cannot be had refuses the whole reload.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut bad = config(daemon.dir.path(), &["a.test"]);
    bad.http = http(taken.local_addr().expect("address"));
    daemon.reload(Ok((bad, Vec::new()))).await;
    let refused = settled(&daemon, |status| status.daemon.reload_error.is_some()).await;
    assert!(
        refused
            .daemon
            .reload_error
            .expect("why")
            .contains("http.listen")
    );
    assert!(
        get(tcp(second).await.expect("connect"), "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    daemon.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_or_a_lying_client_does_not_keep_it() {
    use tokio::io::AsyncWriteExt;
    let daemon = RunningDaemon::start(|_| ()).await;
    let mut silent = Vec::new();
    for what in [
        "",
        "GET /healthz HTTP/1.1\r\n",
        "\0\u{1}garbage\r\n\r\n",
        "POST /api/v1/realms/a.test/sync HTTP/1.1\r\ncontent-length: 99\r\n\r\n{",
    ] {
        let mut stream = tokio::net::UnixStream::connect(daemon.socket())
            .await
            .expect("connect");
        stream.write_all(what.as_bytes()).await.expect("write");
        silent.push(stream);
    }
    assert!(daemon.client().await.status().await.is_ok());
    daemon.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_finds_the_socket_taken() {
    let daemon = RunningDaemon::start(|_| ()).await;
    let socket = daemon.socket();
    let second = RunningDaemon::start(|config| config.control_socket = socket).await;
    let failure = second.task.await.expect("no panic").expect_err("taken");
    assert_eq!((failure.code.as_str(), failure.exit), ("busy", 75));
    daemon.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_is_answered_counted_and_shown() {
    let daemon = RunningDaemon::start(|_| ()).await;
    let (client, realm) = (daemon.client().await, RealmId::from("a.test"));
    let run = client
        .ask(&sync("a.test"), |_| ())
        .await
        .expect("a failed run is an answer");
    assert_eq!(
        (run.outcome, run.error_code),
        (Outcome::Failed, Some(crate::model::ErrorCode::Unreachable))
    );
    assert_eq!(run.trigger, Trigger::Command);
    let status = client.status().await.expect("status");
    let shown = status
        .realms
        .iter()
        .find(|status| status.realm == realm)
        .expect("the realm");
    assert_eq!(shown.last_outcome, Some(Outcome::Failed));
    assert!(shown.next_run_at.is_some() && shown.running.is_none());
    let unix = tokio::net::UnixStream::connect(daemon.socket())
        .await
        .expect("connect");
    let metrics = get(unix, "/metrics").await;
    let counted =
        r#"realmsync_runs_total{realm="a.test",mode="full",trigger="command",outcome="failed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        metrics.contains(r#"realmsync_users{realm="b.test",state="active"} 0"#),
        "{metrics}"
    );

    let pause = Pause {
        realm: realm.clone(),
        request: PauseRequest::default(),
    };
    client.ask(&pause, |_| ()).await.expect("pause");
    let refused = client
        .ask(&sync("a.test"), |_| ())
        .await
        .expect_err("paused");
    assert_eq!((refused.code.as_str(), refused.exit), ("refused", 1));
    let paused = client.status().await.expect("status");
    let shown = paused
        .realms
        .iter()
        .find(|status| status.realm == realm)
        .expect("the realm");
    assert!(shown.paused && shown.next_run_at.is_none());
    let resume = Resume { realm };
    client.ask(&resume, |_| ()).await.expect("resume");
    assert!(client.ask(&sync("a.test"), |_| ()).await.is_ok());
    daemon.stop().await.expect("a clean end");
}

/// A server that accepts and never speaks: the pass hangs until its deadline.
async fn mute() -> (tokio::net::TcpListener, url::Url) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let url = format!("ldap://{}", listener.local_addr().expect("address"))
        .parse()
        .expect("url");
    (listener, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn realms_run_side_by_side_a_stop_ends_them_and_a_second_request_waits() {
    let (_mute, url) = mute().await;
    let slow = move |config: &mut Config| {
        for realm in &mut config.realms {
            realm.directory.servers = vec![url.clone()];
            realm.directory.connect_timeout_ms = 60_000;
            realm.directory.run_timeout_ms = 60_000;
        }
    };
    let daemon = RunningDaemon::start(slow).await;
    let mut asked = JoinSet::new();
    for realm in ["a.test", "b.test", "a.test"] {
        let client = daemon.client().await;
        asked.spawn(async move {
            let mut waited = false;
            let end = client
                .ask(&sync(realm), |line| {
                    waited |= line.waiting;
                })
                .await;
            (realm, waited, end)
        });
    }
    let both = settled(&daemon, |status| {
        status
            .realms
            .iter()
            .filter(|realm| realm.running.is_some())
            .count()
            == 2
    })
    .await;
    assert_eq!(both.realms.len(), 2);
    // Long enough for a line that says that the third waits.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    daemon.stop().await.expect("a clean end in mid-run");
    let mut ends = asked.join_all().await;
    ends.sort_by_key(|(realm, waited, _)| (*realm, *waited));
    let waited: Vec<(&str, bool)> = ends
        .iter()
        .map(|(realm, waited, _)| (*realm, *waited))
        .collect();
    assert_eq!(
        waited,
        [("a.test", false), ("a.test", true), ("b.test", false)]
    );
    for (realm, waited, end) in ends {
        match end {
            Ok(run) => assert_eq!(
                (run.outcome, waited),
                (Outcome::Cancelled, false),
                "{realm}"
            ),
            Err(failure) => assert_eq!(failure.code, "stopping", "{realm}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_that_leaves_the_file_is_stopped_and_orphaned() {
    let (_mute, url) = mute().await;
    let slow = move |config: &mut Config| {
        config.realms[1].directory.servers = vec![url.clone()];
        config.realms[1].directory.connect_timeout_ms = 60_000;
    };
    let daemon = RunningDaemon::start(slow).await;
    let client = daemon.client().await;
    let mut asked = JoinSet::new();
    asked.spawn(async move { client.ask(&sync("b.test"), |_| ()).await });
    settled(&daemon, |status| {
        status.realms.iter().any(|realm| realm.running.is_some())
    })
    .await;
    daemon
        .reload(Ok((config(daemon.dir.path(), &["a.test"]), Vec::new())))
        .await;
    let status = settled(&daemon, |status| {
        status.realms.iter().any(|realm| realm.orphaned)
    })
    .await;
    let left = status
        .realms
        .iter()
        .find(|realm| realm.orphaned)
        .expect("one");
    assert_eq!((left.realm.as_str(), left.running), ("b.test", None));
    let run = asked
        .join_next()
        .await
        .expect("one")
        .expect("no panic")
        .expect("an answer");
    assert_eq!(run.outcome, Outcome::Cancelled);
    daemon.stop().await.expect("a clean end");
}
