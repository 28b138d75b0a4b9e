//! Two daemons over one directory, one database and one receiver.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::{Daemon, House, Said, said};
use crate::support::lab::Server;

/// DESIGN § 8: one dies, another takes over within this.
pub const TAKEOVER: Duration = Duration::from_secs(30);

/// Two places to run a daemon from, over one directory, one database and one receiver.
pub struct Pair {
    pub house: House,
    pub postgres: Server,
}

/// A daemon of the pair, and where its commands go.
pub struct Member {
    pub daemon: Daemon,
    pub place: usize,
}

impl Pair {
    pub fn new(users: u32) -> Self {
        Self::with(users, "", "")
    }

    /// The same with lines inside `[realm.directory]`, and behind it.
    pub fn with(users: u32, directory: &str, extra: &str) -> Self {
        let server = Server::start("openldap", &["--users", &users.to_string()]);
        let postgres = Server::start("postgres", &[]);
        let mut house = House::with(server, "");
        postgres["DATABASE_URL"].clone_into(&mut house.database);
        house.configure_as(&house.server["BIND_DN"], directory, extra);
        let text = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
        for place in [0, 1] {
            let own = text.replace("control.sock", &format!("control{place}.sock"));
            let path = house.path(&format!("realmsync{place}.toml"));
            std::fs::copy(house.path("realmsync.toml"), &path).unwrap();
            std::fs::write(path, own).unwrap();
        }
        Self { house, postgres }
    }

    /// Changes the text of both configurations.
    pub fn rewrite(&self, from: &str, to: &str) {
        for place in [0, 1] {
            let path = self.house.path(&format!("realmsync{place}.toml"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(path, text.replace(from, to)).unwrap();
        }
    }

    pub fn command(&self, place: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_realmsync"));
        command
            .arg("-c")
            .arg(self.house.path(&format!("realmsync{place}.toml")))
            .args(arguments)
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        command
    }

    pub fn run(&self, place: usize, arguments: &[&str]) -> Said {
        said(&self.command(place, arguments).output().expect("the binary"))
    }

    /// A daemon that will die or stand still at a fail point.
    pub fn daemon(&self, place: usize, point: Option<&str>) -> Member {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.house.path(&format!("daemon{place}.log")))
            .expect("a log");
        let mut command = self.command(place, &["run"]);
        command
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        if let Some(point) = point {
            command.env("REALMSYNC_FAILPOINT", point);
        }
        let daemon = Daemon(command.spawn().expect("the daemon"));
        let member = Member { daemon, place };
        eventually(&format!("daemon {place}: {}", self.log(place)), || {
            self.control(place, "/readyz").starts_with("HTTP/1.1 200")
        });
        member
    }

    /// What a daemon says on its control socket.
    pub fn control(&self, place: usize, path: &str) -> String {
        let socket = self.house.path(&format!("control{place}.sock"));
        let Ok(mut stream) = UnixStream::connect(socket) else {
            return String::new();
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        let _ended = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer));
        answer
    }

    pub fn log(&self, place: usize) -> String {
        std::fs::read_to_string(self.house.path(&format!("daemon{place}.log"))).unwrap_or_default()
    }

    /// A pass through this daemon, asked for again while another has the realm.
    pub fn sync_within(&self, place: usize, limit: Duration) -> Value {
        let asked = Instant::now();
        loop {
            let said = self.run(place, &["--json", "sync", "r"]);
            if said.code == 0 {
                return said.json();
            }
            assert_eq!(said.code, 75, "{}\n{}", said.out, said.err);
            assert!(
                asked.elapsed() < limit,
                "{:?}: {}",
                asked.elapsed(),
                said.err
            );
        }
    }

    pub fn sql(&self, sql: &str) -> String {
        let output = Command::new("psql")
            .args([&self.postgres["DATABASE_URL"], "-Atc", sql])
            .output()
            .expect("psql is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The people whose entry is there, with number and state: of the pair's store, or of a new one.
    pub fn people(&self, fresh: bool) -> Vec<(String, Value, Value)> {
        let users = if fresh {
            let text = std::fs::read_to_string(self.house.path("realmsync.toml")).unwrap();
            let url = format!("sqlite:{}", self.house.path("fresh.db").display());
            let text = text
                .replace(&self.house.database, &url)
                .replace("control.sock", "fresh.sock");
            std::fs::write(self.house.path("realmsync.toml"), text).unwrap();
            self.house.sync(0);
            self.house.users()
        } else {
            self.house.users()
        };
        users
            .into_iter()
            .filter(|(_, u)| u["state_reason"] != "deleted")
            .map(|(n, u)| (n, u["phone"].clone(), u["state"].clone()))
            .collect()
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TAKEOVER;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Member {
    /// The state of the process as the kernel writes it; `None`: it ended.
    pub fn state(&mut self) -> Option<char> {
        if let Ok(Some(_)) = self.daemon.0.try_wait() {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.0.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}
