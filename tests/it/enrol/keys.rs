//! The enrolment key: another one, two daemons with two of them, changed under load, and lost.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use data_encoding::BASE64;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Browser, Office, code};
use crate::programs::{Answer, Program};
use crate::support::house::{Said, said};
use crate::support::lab::Server;

/// Writes a key's file.
pub(super) fn write_key(office: &Office, name: &str, fill: u8) {
    office.write(name, &BASE64.encode(&[fill; 32]));
}

/// Names the files of the keys in the configuration.
pub(super) fn keyed(office: &mut Office, key: &str, previous: Option<&str>) {
    office.extra = format!(
        "[enrolment]\nkey-file = \"{}\"\n",
        office.path(key).display()
    );
    if let Some(previous) = previous {
        office.extra += &format!(
            "previous-key-file = \"{}\"\n",
            office.path(previous).display()
        );
    }
    office.configure();
}

/// The same over either store.
pub(super) fn on_both(story: impl Fn(Office)) {
    story(Office::new());
    let postgres = Server::start("postgres", &[]);
    story(Office::over(Some(&postgres), ""));
}

/// What a daemon says that does not start.
pub(super) fn refused(office: &Office) -> Said {
    said(&office.command(&["run"]).output().expect("the binary"))
}

/// What the daemon says of itself and its realms.
pub(super) fn status(office: &Office) -> Value {
    asked(office, "status")
}

/// What the daemon answers on its socket.
pub(super) fn asked(office: &Office, path: &str) -> Value {
    let mut stream = UnixStream::connect(office.path("control.sock")).expect("the socket");
    let request =
        format!("GET /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).expect("a question");
    stream.read_to_string(&mut answer).expect("an answer");
    let from = answer.find('{').expect("an object");
    let to = answer.rfind('}').expect("its end");
    let whole: Value = serde_json::from_str(&answer[from..=to]).expect("JSON");
    whole["result"].clone()
}

/// Waits until the key's status is so.
pub(super) fn until(office: &Office, what: &str, so: impl Fn(&Value) -> bool) {
    for _ in 0..1200 {
        if so(&status(office)["daemon"]["enrolment_key"]) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: {}\n{}", status(office), office.log());
}

/// A protected service.
pub(super) struct Service {
    program: Program,
    runtime: tokio::runtime::Runtime,
}

impl Service {
    pub(super) fn new(office: &Office) -> Self {
        let said = office.run(&["api-tokens", "create", "vpn", "--scope=verify"]);
        assert_eq!(said.code, 0, "{}", said.err);
        Self {
            program: Program::of_restarts(office.port).with(said.out.trim()),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        }
    }

    pub(super) fn program(&self) -> Program {
        self.program.clone()
    }

    pub(super) fn verify(&self, code: &str) -> Answer {
        let asked = json!({"username": "jan", "code": code});
        let call = self.program.call(Method::POST, "verify", Some(&asked));
        self.runtime.block_on(call)
    }

    /// The code of a step that none was used of yet: the next one counts already.
    pub(super) fn right(&self, key: &str, seconds: i64) {
        let answer = self.verify(&code(key, seconds));
        assert_eq!(answer.body["result"], "accepted", "{}", answer.body);
    }
}

/// Waits for the next step, so that what was used before is behind.
pub(super) fn next_step() {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time");
    std::thread::sleep(Duration::from_secs(31 - now.as_secs() % 30));
}

#[test]
fn trap_79_a_store_is_not_taken_with_another_key_and_nobody_is_let_in_or_out_by_it() {
    on_both(|mut office| {
        for (name, fill) in [("a", 1), ("b", 2), ("c", 3)] {
            write_key(&office, name, fill);
        }
        keyed(&mut office, "a", None);
        let daemon = office.daemon();
        office.with_jan();
        let path = office.sent(&[]);
        let (key, codes) = office.enrol(&mut Browser::desktop(), &path, "");
        let service = Service::new(&office);

        // The file is another one under the daemon: no verdict, and nothing counts.
        write_key(&office, "a", 2);
        std::thread::sleep(Duration::from_secs(3));
        let answer = service.verify(&code(&key, 30));
        assert_eq!(answer.status, 503, "{}", answer.body);
        let answer = service.verify("000000");
        assert_eq!(answer.status, 503, "{}", answer.body);
        let shown = status(&office);
        let error = &shown["daemon"]["enrolment_key"]["error"];
        assert!(
            error.as_str().expect("an error").contains("1 secret of"),
            "{shown}"
        );
        daemon.signal("HUP");
        for _ in 0..100 {
            if !status(&office)["daemon"]["reload_error"].is_null() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let shown = status(&office);
        let why = shown["daemon"]["reload_error"].to_string();
        assert!(why.contains("previous-key-file"), "{shown}");
        drop(daemon);

        // It does not start with it, and says what it would lock out.
        let said = refused(&office);
        assert_eq!(said.code, 78, "{}{}", said.out, said.err);
        for part in ["1 secret of", "10 recovery codes", "previous-key-file"] {
            assert!(
                said.err.contains(part) || said.out.contains(part),
                "{}{}",
                said.out,
                said.err
            );
        }
        let said = office.run(&["check", "--connect"]);
        assert_eq!(said.code, 78, "{}{}", said.out, said.err);
        let said = office.run(&["users", "block", "jan"]);
        assert_eq!(said.code, 78, "{}{}", said.out, said.err);

        // With the right one all is as it was.
        write_key(&office, "a", 1);
        let daemon = office.daemon();
        service.right(&key, 30);
        drop(daemon);
        let said = office.run(&["check", "--connect"]);
        assert!(
            said.out.contains("the right one for this store"),
            "{}",
            said.out
        );

        // Another one with the former beside it: it is moved over.
        keyed(&mut office, "b", Some("a"));
        let daemon = office.daemon();
        until(&office, "moved over", |key| {
            key["to_move"] == 0 && key["previous_may_go"] == true
        });
        next_step();
        service.right(&key, 30);
        // A recovery code was digested under the former key.
        let answer = service.verify(&codes[0]);
        assert_eq!(answer.body["method"], "recovery", "{}", answer.body);
        drop(daemon);

        // And the former may go.
        keyed(&mut office, "b", None);
        let daemon = office.daemon();
        let answer = service.verify(&codes[1]);
        assert_eq!(answer.body["method"], "recovery", "{}", answer.body);
        let answer = service.verify(&codes[1]);
        assert_eq!(answer.body["reason"], "replayed", "{}", answer.body);
        let said = office.run(&["audit", "verify"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        drop(daemon);

        // Twice over: what is left of the first is kept with the third.
        keyed(&mut office, "c", Some("b"));
        let daemon = office.daemon();
        until(&office, "moved over", |key| key["previous_may_go"] == true);
        drop(daemon);
        keyed(&mut office, "c", None);
        let _daemon = office.daemon();
        let answer = service.verify(&codes[2]);
        assert_eq!(answer.body["method"], "recovery", "{}", answer.body);
        next_step();
        service.right(&key, 30);
        let said = office.run(&["audit", "verify"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        let audit = office.run(&["--json", "audit"]).out;
        assert_eq!(audit.matches("key-change").count(), 2, "{audit}");
    });
}

#[test]
fn trap_79_a_canary_that_is_lost_after_a_change_of_keys_locks_nobody_out() {
    on_both(|mut office| {
        for (name, fill) in [("a", 1), ("b", 2), ("c", 3)] {
            write_key(&office, name, fill);
        }
        keyed(&mut office, "a", None);
        let daemon = office.daemon();
        office.with_jan();
        let path = office.sent(&[]);
        let (_, codes) = office.enrol(&mut Browser::desktop(), &path, "");
        let service = Service::new(&office);
        drop(daemon);
        keyed(&mut office, "b", Some("a"));
        let daemon = office.daemon();
        until(&office, "moved over", |key| key["previous_may_go"] == true);
        drop(daemon);

        // What is left of the former key tells its codes: nobody is locked out.
        keyed(&mut office, "b", None);
        office.sql("DELETE FROM meta WHERE key = 'canary'");
        let daemon = office.daemon();
        let answer = service.verify(&codes[0]);
        assert_eq!(answer.body["method"], "recovery", "{}", answer.body);
        drop(daemon);

        // Lost once more, while the key is changed: what keeps something is not forgotten when it goes out of the file.
        office.sql("DELETE FROM meta WHERE key = 'canary'");
        keyed(&mut office, "c", Some("b"));
        let daemon = office.daemon();
        until(&office, "moved over", |key| key["previous_may_go"] == true);
        drop(daemon);
        keyed(&mut office, "c", None);
        let daemon = office.daemon();
        let answer = service.verify(&codes[1]);
        assert_eq!(answer.body["method"], "recovery", "{}", answer.body);
        let said = office.run(&["audit", "verify"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        drop(daemon);

        // With a wrong one it is refused as ever.
        office.sql("DELETE FROM meta WHERE key = 'canary'");
        keyed(&mut office, "b", None);
        let said = refused(&office);
        assert_eq!(said.code, 78, "{}{}", said.out, said.err);
    });
}
