//! A whole house for a story: a real directory, a configuration, the binary, a receiver of webhooks.

pub mod door;
pub mod receiver;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::lab::Server;
use crate::support::marks;
pub use door::Door;
pub use receiver::{Received, Receiver};

/// The signing secret of every house.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub struct House {
    pub server: Server,
    pub receiver: Receiver,
    pub folder: tempfile::TempDir,
    /// Lines of `[realm.*]` beyond the plain ones, replaced by [`House::configure`].
    pub database: String,
}

/// What a command came to.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Each line of the output as JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}\n{}", self.err)))
            .collect()
    }

    /// The first line as JSON.
    pub fn json(&self) -> Value {
        self.lines()
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("nothing was printed, exit {}: {}", self.code, self.err))
    }
}

impl House {
    /// slapd with `users` people and an SQLite store.
    pub fn new(users: u32) -> Self {
        Self::with(
            Server::start("openldap", &["--users", &users.to_string()]),
            "",
        )
    }

    pub fn with(server: Server, extra: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = format!("sqlite:{}", folder.path().join("realmsync.db").display());
        let house = Self {
            server,
            receiver: Receiver::start(),
            folder,
            database,
        };
        house.secret("bind", &house.server["BIND_PASSWORD"]);
        house.secret("webhook", SECRET);
        house.configure(extra);
        house
    }

    fn secret(&self, name: &str, value: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(name);
        std::fs::write(&path, value).expect("a secret's file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode 0600");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration anew; `extra` is what follows the realm's directory section.
    pub fn configure(&self, extra: &str) {
        self.configure_as(&self.server["BIND_DN"], "", extra);
    }

    /// The same with another account, and lines inside `[realm.directory]`.
    pub fn configure_as(&self, bind_dn: &str, directory: &str, extra: &str) {
        let filter = if directory.contains("filter") || self.server["SERVER"] == *"samba" {
            ""
        } else {
            "filter = \"(objectClass=inetOrgPerson)\"\n"
        };
        // What a whole pass finds is the subject, unless a story is about deltas.
        let changes = if directory.contains("changes") {
            ""
        } else {
            "changes = \"full\"\n"
        };
        let text = format!(
            "version = 1\n[store]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\npublic-url = \"https://mfa.example.org\"\n\
             [control]\nsocket = \"{}\"\n[delivery]\nkind = \"webhook\"\nurl = \"{}\"\nsecret-file = \"{}\"\ntimeout = \"2s\"\n\
             [log]\nformat = \"text\"\n[[realm]]\nid = \"r\"\nschedule = \"0 3 * * *\"\n{}\n\
             [realm.directory]\nservers = [\"{}\"]\nca-file = \"{}\"\nbind-dn = \"{bind_dn}\"\nbind-password-file = \"{}\"\nbase = [\"{}\"]\n{filter}{changes}{directory}\n\
             [realm.phone]\nregion = \"SK\"\n{}\n",
            self.database,
            self.path("control.sock").display(),
            self.receiver.url,
            self.path("webhook").display(),
            extra
                .lines()
                .filter(|l| l.starts_with("realm: "))
                .map(|l| &l[7..])
                .collect::<Vec<_>>()
                .join("\n"),
            &self.server["LDAPS_URI"],
            &self.server["CA_FILE"],
            self.path("bind").display(),
            &self.server["PEOPLE_DN"],
            extra
                .lines()
                .filter(|l| !l.starts_with("realm: "))
                .collect::<Vec<_>>()
                .join("\n"),
        );
        self.secret("realmsync.toml", &text);
    }

    /// Writes a second configuration, `NAME.toml`, with a store and a socket of its own, and other words for what is replaced.
    pub fn beside(&self, name: &str, replaced: &[(&str, &str)]) {
        let own = std::fs::read_to_string(self.path("realmsync.toml")).expect("a configuration");
        let store = format!("sqlite:{}", self.path(&format!("{name}.db")).display());
        let mut other = own
            .replace(&self.database, &store)
            .replace("control.sock", &format!("{name}.sock"));
        for (from, to) in replaced {
            assert!(other.contains(from), "{from}: {other}");
            other = other.replace(from, to);
        }
        self.secret(&format!("{name}.toml"), &other);
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of("realmsync", arguments)
    }

    fn command_of(&self, configuration: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_realmsync"));
        command
            .arg("-c")
            .arg(self.path(&format!("{configuration}.toml")))
            .args(arguments)
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_of("realmsync", arguments)
    }

    /// The same over the configuration of this name.
    pub fn run_of(&self, configuration: &str, arguments: &[&str]) -> Said {
        let mut command = self.command_of(configuration, arguments);
        let said = said(&command.output().expect("the binary"));
        marks::check("what a command printed", &said.out);
        marks::check("what a command said", &said.err);
        said
    }

    /// A run of the realm, as JSON; panics unless it exits with `code`.
    pub fn sync(&self, code: i32) -> Value {
        let said = self.run(&["--json", "sync", "r"]);
        assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
        said.json()
    }

    /// A run, and whatever it wants said is sent.
    pub fn sync_and_deliver(&self, code: i32) -> Value {
        let said = self.run(&["--json", "sync", "r", "--deliver"]);
        assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
        said.json()
    }

    /// Users of the realm by name.
    pub fn users(&self) -> std::collections::BTreeMap<String, Value> {
        let said = self.run(&["--json", "users", "list", "--realm", "r"]);
        // Before anything was applied there may be no store yet.
        if said.err.contains("there is no store") {
            return std::collections::BTreeMap::new();
        }
        assert_eq!(said.code, 0, "{}", said.err);
        said.lines()
            .into_iter()
            .map(|u| (u["username"].as_str().expect("a name").to_owned(), u))
            .collect()
    }

    /// The lab's churn: what it did, as JSON.
    pub fn churn(&self, what: &[(&str, u32)]) -> Value {
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/churn"));
        command.arg("--dir").arg(self.server.folder());
        for (kind, n) in what {
            command.arg(format!("--{kind}")).arg(n.to_string());
        }
        let output = command.output().expect("churn");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("JSON of churn")
    }

    /// The daemon, stopped when dropped.
    pub fn daemon(&self) -> Daemon {
        self.daemon_at("")
    }

    /// The same with a fail point.
    pub fn daemon_at(&self, point: &str) -> Daemon {
        let log = std::fs::File::create(self.path("daemon.log")).expect("a log");
        let mut command = self.command(&["run"]);
        if !point.is_empty() {
            command.env("REALMSYNC_FAILPOINT", point);
        }
        command
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        let mut daemon = Daemon(command.spawn().expect("the daemon"));
        for _ in 0..1000 {
            // A daemon that was killed left its socket, and `status` answers without one too: somebody must listen.
            if std::os::unix::net::UnixStream::connect(self.path("control.sock")).is_ok()
                && self.run(&["--json", "status"]).code == 0
            {
                return daemon;
            }
            if let Ok(Some(status)) = daemon.0.try_wait() {
                panic!("the daemon ended with {status}: {}", self.log());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the daemon did not come up: {}", self.log());
    }

    /// What Prometheus would read.
    pub fn metrics(&self) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--unix-socket"])
            .arg(self.path("control.sock"))
            .arg("http://localhost/metrics")
            .output()
            .expect("curl");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            marks::check("what the daemon logged", &self.log());
        }
    }
}

pub struct Daemon(pub Child);

impl Daemon {
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.0.id().to_string())
            .status()
            .expect("kill");
        assert!(status.success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub fn said(output: &Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
