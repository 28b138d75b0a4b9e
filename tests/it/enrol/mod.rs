//! The application is sent, and set up on the page: the binary over HTTP, `oathtool` as the application, on either store.

mod browser;
mod clocks;
mod keys;
mod lost_key;
mod page;
mod proxy;
mod restored;
mod rotation;
mod rules;
mod telling;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::house::{Daemon, Receiver, SECRET, Said, said};
use crate::support::lab::Server;
use crate::support::marks;
pub use browser::{Answered, Browser, between};

/// A service without a directory: a realm by hand, and the page on a port of its own.
pub struct Office {
    pub folder: tempfile::TempDir,
    pub port: u16,
    store: String,
    /// The configuration's sections beyond the plain ones.
    extra: String,
}

impl Office {
    pub fn new() -> Self {
        Self::over(None, "")
    }

    /// Over PostgreSQL if there is one, with more configuration.
    pub fn over(postgres: Option<&Server>, extra: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let store = match postgres {
            Some(server) => server["DATABASE_URL"].to_owned(),
            None => format!("sqlite:{}", folder.path().join("realmsync.db").display()),
        };
        let office = Self {
            folder,
            port,
            store,
            extra: extra.to_owned(),
        };
        office.configure();
        office
    }

    pub fn delivering(receiver: &Receiver) -> Self {
        Self::new().delivering_to(receiver, "")
    }

    /// The same office with a receiver, and with more configuration.
    pub fn delivering_to(mut self, receiver: &Receiver, extra: &str) -> Self {
        self.write("webhook", SECRET);
        self.extra = format!(
            "[delivery]\nkind = \"webhook\"\nurl = \"{}\"\nsecret-file = \"{}\"\n{extra}",
            receiver.url,
            self.path("webhook").display()
        );
        self.configure();
        self
    }

    /// What the store itself says to a statement.
    pub fn sql(&self, sql: &str) -> String {
        let mut command = if let Some(file) = self.store.strip_prefix("sqlite:") {
            let mut command = Command::new("sqlite3");
            command.args(["-bail", "-cmd", ".timeout 10000", file, sql]);
            command
        } else {
            let mut command = Command::new("psql");
            command.args([self.store.as_str(), "-qAtc", sql]);
            command
        };
        let output = command.output().expect("sqlite3 and psql are installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn configure(&self) {
        let text = format!(
            "version = 1\n[store]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:{}\"\npublic-url = \"http://127.0.0.1:{}\"\n\
             [control]\nsocket = \"{}\"\n[log]\nformat = \"text\"\nlevel = \"debug\"\n{}\n",
            self.store,
            self.port,
            self.port,
            self.path("control.sock").display(),
            self.extra
        );
        self.write("realmsync.toml", &text);
    }

    fn write(&self, name: &str, value: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, value).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode 0600");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_realmsync"));
        command
            .arg("-c")
            .arg(self.path("realmsync.toml"))
            .args(arguments)
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        let said = said(&self.command(arguments).output().expect("the binary"));
        marks::check("what a command said", &said.err);
        said
    }

    /// The lines of a command's JSON; panics unless it succeeds.
    pub fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let said = self.run(&all);
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
        said.lines()
    }

    pub fn done(&self, arguments: &[&str]) -> Value {
        self.lines(arguments).into_iter().next().expect("a line")
    }

    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// A daemon in an environment with these.
    pub fn daemon_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = std::fs::File::create(self.path("daemon.log")).expect("a log");
        let mut command = self.command(&["run"]);
        command
            .envs(environment.iter().copied())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        let mut daemon = Daemon(command.spawn().expect("the daemon"));
        for _ in 0..1500 {
            let up = std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if up && self.run(&["--json", "status"]).code == 0 {
                return daemon;
            }
            if let Ok(Some(status)) = daemon.0.try_wait() {
                panic!("the daemon ended with {status}: {}", self.log());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the daemon did not come up: {}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// A realm with a user who has a number.
    pub fn with_jan(&self) {
        self.done(&[
            "realms",
            "create",
            "partners",
            "--name=Partner & firms",
            "--region=sk",
            "--two-factor=app-otp",
        ]);
        self.done(&[
            "users",
            "add",
            "--realm=partners",
            "jan",
            "--phone=0905 123 456",
        ]);
    }

    /// Gives jan a hard token that counts: [`button`].
    pub fn with_button(&self) {
        let file = format!("serial,secret,type,digits\nB1,{BUTTON},hotp,6\n");
        self.write("tokens.csv", &file);
        let path = self.path("tokens.csv");
        self.done(&["hard-tokens", "import", path.to_str().expect("a path")]);
        self.done(&["two-factor", "enable", "hard-token", "--serial=B1", "jan"]);
    }

    /// Sends the application to jan; gives the path of the link.
    pub fn sent(&self, more: &[&str]) -> String {
        let all: Vec<&str> = ["send", "jan"].iter().chain(more).copied().collect();
        self.path_of(&self.done(&all))
    }

    pub fn path_of(&self, enrolment: &Value) -> String {
        let url = enrolment["url"].as_str().expect("a link");
        let begin = format!("http://127.0.0.1:{}", self.port);
        url.strip_prefix(&begin).expect("our page").to_owned()
    }

    /// Goes through the page, and gives the secret and the recovery codes.
    pub fn enrol(&self, browser: &mut Browser, path: &str, proof: &str) -> (String, Vec<String>) {
        let begun = browser.post(self.port, path, &[("step", "begin"), ("proof", proof)]);
        assert_eq!(begun.status, 200, "{}", begun.body);
        let key = begun.key();
        let used = browser.post(
            self.port,
            path,
            &[("step", "use"), ("code", &code(&key, 0))],
        );
        assert_eq!(used.status, 200, "{}", used.body);
        (key, used.codes())
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            marks::check("what the daemon logged", &self.log());
        }
    }
}

/// The seed of a token that counts.
const BUTTON: &str = "3132333435363738393031323334353637383930";

/// What that token shows at this counter.
pub fn button(counter: u32) -> String {
    let output = Command::new("oathtool")
        .args(["--hotp", "-c", &counter.to_string(), BUTTON])
        .output()
        .expect("oathtool");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The code that the application shows so many seconds from now.
pub fn code(key: &str, seconds: i64) -> String {
    let output = Command::new("oathtool")
        .args(["--totp", "--base32", "--now"])
        .arg(format!("now {seconds:+} seconds"))
        .arg(key)
        .output()
        .expect("oathtool");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The same on either store.
pub fn on_both(story: impl Fn(&Office)) {
    story(&Office::new());
    let postgres = Server::start("postgres", &[]);
    story(&Office::over(Some(&postgres), ""));
}

/// Whether a text is anywhere in the files of a store, its journals included.
pub fn in_files(folder: &std::path::Path, text: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).expect("the folder").flatten();
    files.map(|file| file.path()).find(|path| {
        std::fs::read(path).is_ok_and(|bytes| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
    })
}
