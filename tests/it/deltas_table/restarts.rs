//! Servers that stop, crash or forget, and cursors that are of no use any more.

use super::words::{DS389, OPENLDAP, SAMBA, Words, deleted, set};
use super::{By, Life};

#[test]
fn trap_20_restarts_and_a_session_log_that_forgot() {
    for (words, options) in [
        (OPENLDAP, &["--users", "40"][..]),
        (OPENLDAP, &["--users", "40", "--sessionlog", "5"]),
        (DS389, &["--users", "40"]),
        (SAMBA, &["--users", "40"]),
    ] {
        let kind = words.kind;
        let mut life = Life::new(words, options, By::Command);
        life.house
            .churn(&[("delete", 8), ("phone", 3), ("add", 2), ("move", 1)]);
        if options.len() == 2 {
            life.house.server.stop();
            life.house.server.resume();
            life.configure();
        }
        let run = life.delta(&format!("{kind} {options:?}"));
        // Whoever was disabled before has another reason now, and is counted as updated.
        let away = run["suspended"].as_i64().unwrap() + run["updated"].as_i64().unwrap();
        assert_eq!((&run["created"], away), (&2.into(), 9), "{kind}: {run}");
        life.heard();
        life.found(kind, &[], &[]);
    }
}

/// A server that is killed, before and after it could tell; and a run in between that finds nobody there.
#[test]
fn a_server_that_crashes_tells_everything_once() {
    for words in [OPENLDAP, DS389, SAMBA] {
        let kind = words.kind;
        let mut life = Life::new(words, &["--users", "20"], By::Command);
        life.ldif(
            &(words.person("Ada", "ada", "+421905111001")
                + &words.person("Bea", "bea", "+421905111002")),
        );
        life.delta(kind);
        life.ldif(&(set("Ada", "mobile", "+421905222001") + &deleted("Bea")));
        life.house.server.crash();
        let away = life.house.run(&["--json", "sync", "r", "--deliver"]);
        assert_eq!(away.code, 69, "{kind}: {}", away.out);
        assert_eq!(life.heard(), [""; 0], "{kind}");
        life.house.server.resume();
        life.configure();
        let counts = [("phone_changed", 1), ("suspended", 1), ("created", 1)];
        let said = ["user.reprovision ada", "user.suspend bea"];
        let cyd = words.person("Cyd", "cyd", "+421905111003");
        life.scene(kind, &cyd, &counts, &said);
        life.found(kind, &[], &[]);
    }
}

/// Whatever became of the cursor, everything is read, and nothing is said twice.
fn a_wiped_cursor_reads_everything(words: Words) {
    let kind = words.kind;
    let life = Life::new(words, &["--users", "20"], By::Command);
    life.ldif(
        &(words.person("Ada", "ada", "+421905111001")
            + &words.person("Bea", "bea", "+421905111002")),
    );
    life.delta(kind);
    // A cookie of slapd is one of all its replicas.
    let other = if kind == "openldap" {
        "'{}'"
    } else {
        "json_set(cursor, '$.server', 'x')"
    };
    for (n, wiped) in [
        "NULL",
        "''",
        "'{}'",
        "json_set(cursor, '$.cookie', 'x')",
        other,
    ]
    .iter()
    .enumerate()
    {
        let number = format!("+42190522200{n}");
        life.ldif(&set("Ada", "mobile", &number));
        life.spoil(&format!("UPDATE realms SET cursor = {wiped}"));
        let run = life.house.sync_and_deliver(0);
        assert_eq!(
            (&run["mode"], &run["phone_changed"]),
            (&"full".into(), &1.into()),
            "{kind} {wiped}: {run}"
        );
        assert_eq!(life.heard(), ["user.reprovision ada"], "{kind} {wiped}");
        life.delta(kind);
    }
}

#[test]
fn a_wiped_cursor_of_openldap_reads_everything() {
    a_wiped_cursor_reads_everything(OPENLDAP);
}

#[test]
fn a_wiped_cursor_of_dirsync_reads_everything() {
    a_wiped_cursor_reads_everything(SAMBA);
}

#[test]
fn a_wiped_cursor_of_usn_reads_everything() {
    a_wiped_cursor_reads_everything(Words {
        changes: "timestamp",
        deletions: false,
        moves: false,
        ..SAMBA
    });
}

impl Life {
    /// Does to the store what no binary would.
    fn spoil(&self, sql: &str) {
        let script = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db: assert db.execute(sys.argv[2]).rowcount == 1";
        let status = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(self.house.path("realmsync.db"))
            .arg(sql)
            .status()
            .expect("python3 runs");
        assert!(status.success(), "{sql}");
    }
}
