//! A daemon that starts while another process holds what its start needs.

use std::process::{Child, Command, Stdio};

use super::pair::{Pair, eventually};
use crate::support::house::Daemon;

/// A session that holds what a first load holds until it is applied: the realm's row, and the users and what is about them.
struct FirstLoad(Child);

impl FirstLoad {
    fn of(pair: &Pair) -> Self {
        let sql = "BEGIN; SELECT 1 FROM realms WHERE id = 'r' FOR NO KEY UPDATE; \
                   LOCK TABLE users, jobs, enrolments, lines IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
        let psql = Command::new("psql")
            .args([&pair.postgres["DATABASE_URL"], "-Xqc", sql])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql");
        let load = Self(psql);
        eventually("it sleeps on its locks", || sleeping(pair) == "1");
        load
    }
}

impl Drop for FirstLoad {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn sleeping(pair: &Pair) -> String {
    pair.sql("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
}

#[test]
fn a_start_does_not_wait_for_the_locks_of_a_first_load() {
    let pair = Pair::new(5);
    let said = pair.run(0, &["sync", "r"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let load = FirstLoad::of(&pair);
    let log = std::fs::File::create(pair.house.path("daemon1.log")).expect("a log");
    let mut command = pair.command(1, &["run"]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let daemon = Daemon(command.spawn().expect("the daemon"));
    // The control socket is bound last, and READY is said with it.
    eventually("it answers", || {
        pair.control(1, "/healthz").starts_with("HTTP/1.1 200")
    });
    let log = pair.log(1);
    assert!(
        log.contains("does not take this configuration in yet"),
        "{log}"
    );
    let ready = pair.control(1, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains("being put in force"),
        "{ready}"
    );
    pair.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    drop(load);
    eventually("it is ready", || {
        pair.control(1, "/readyz").starts_with("HTTP/1.1 200")
    });
    assert_eq!(pair.run(1, &["sync", "r"]).code, 0);
    drop(daemon);
}
