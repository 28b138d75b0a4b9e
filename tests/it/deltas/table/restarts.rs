//! Servers that stop, crash or forget, and cursors that are of no use any more.

use super::words::{DS389, OPENLDAP, SAMBA, Words, deleted, set};
use super::{By, Life};
use crate::support::outcome::eventually;

/// Much happens while nobody hears of it; `forgets`: and the server does not remember what it was.
fn told_afterwards(words: Words, options: &[&str], forgets: bool, by: By) {
    let mut life = Life::new(words, &[&["--users", "40"], options].concat(), by);
    let scene = format!("{} {options:?}", words.kind);
    life.unheard(|life| {
        life.house
            .churn(&[("delete", 8), ("phone", 3), ("add", 2), ("move", 1)]);
        if forgets {
            life.house.server.stop();
            life.house.server.resume();
        }
    });
    let run = life.delta(&scene);
    // Whoever was disabled before has another reason now, and is counted as updated.
    let away = run["suspended"].as_i64().unwrap() + run["updated"].as_i64().unwrap();
    assert_eq!((&run["created"], away), (&2.into(), 9), "{scene}: {run}");
    let heard = life.heard();
    assert_eq!(run["jobs"], heard.len(), "{run}: {heard:?}");
    assert_eq!(run["phone_changed"], 3, "{run}");
    life.found(&scene, &[], &[]);
}

fn reconnects(by: By) {
    for words in [OPENLDAP, DS389, SAMBA] {
        told_afterwards(words, &[], false, by);
    }
}

#[test]
fn what_nobody_heard_is_told_afterwards() {
    reconnects(By::Command);
}

#[test]
fn what_nobody_heard_is_pushed_after_a_reconnect() {
    reconnects(By::Push);
}

#[test]
fn trap_20_a_session_log_that_forgot() {
    for by in [By::Command, By::Push] {
        told_afterwards(OPENLDAP, &["--sessionlog", "5"], true, by);
    }
}

/// 389-ds keeps its changelog over a restart, unless it is told to keep it for a second: then all is read, and each said once.
#[test]
fn trap_20_a_changelog_that_was_trimmed() {
    let mut life = Life::new(DS389, &["--users", "40"], By::Push);
    life.house.server.modify(
        "dn: cn=Retro Changelog Plugin,cn=plugins,cn=config\nchangetype: modify\n\
         replace: nsslapd-changelogmaxage\nnsslapd-changelogmaxage: 1s\n-\n\
         replace: nsslapd-changelog-trim-interval\nnsslapd-changelog-trim-interval: 1\n",
    );
    life.house.server.stop();
    life.house.server.resume();
    let ada = life.words.person("Ada", "ada", "+421905111001");
    life.scene("before it", &ada, &[("created", 1)], &[]);
    let mut phones = 3;
    life.unheard(|life| {
        life.house
            .churn(&[("delete", 3), ("phone", phones), ("add", 2), ("move", 1)]);
        let first = life.first_change();
        eventually(&life.house, "it is trimmed", || {
            life.house.churn(&[("phone", 1)]);
            phones += 1;
            std::thread::sleep(std::time::Duration::from_secs(1));
            life.first_change() > first + 9
        });
    });
    let run = life.read_again("a changelog that was trimmed");
    assert_eq!(
        (&run["mode"], &run["created"], &run["phone_changed"]),
        (&"full".into(), &2.into(), &phones.into()),
        "{run}"
    );
    let heard = life.heard();
    assert_eq!(run["jobs"], heard.len(), "{run}: {heard:?}");
    // And from there it goes on by push.
    let bea = life.words.person("Bea", "bea", "+421905111002");
    life.scene("and on", &bea, &[("created", 1)], &[]);
    life.found("trimmed", &[], &[]);
}

/// A server that is killed, before and after it could tell; and a run in between that finds nobody there.
fn a_server_that_crashes_tells_everything_once(by: By) {
    for words in [OPENLDAP, DS389, SAMBA] {
        let kind = words.kind;
        let mut life = Life::new(words, &["--users", "20"], by);
        let two = words.person("Ada", "ada", "+421905111001")
            + &words.person("Bea", "bea", "+421905111002");
        life.scene(kind, &two, &[("created", 2)], &[]);
        life.ldif(&(set("Ada", "mobile", "+421905222001") + &deleted("Bea")));
        life.house.server.crash();
        life.cut_off();
        if by == By::Command {
            assert_eq!(life.heard(), [""; 0], "{kind}");
        }
        life.house.server.resume();
        life.configure();
        let counts = [("phone_changed", 1), ("suspended", 1), ("created", 1)];
        let said = ["user.reprovision ada", "user.suspend bea"];
        let cyd = words.person("Cyd", "cyd", "+421905111003");
        life.scene(kind, &cyd, &counts, &said);
        life.found(kind, &[], &[]);
    }
}

#[test]
fn a_server_that_crashes_tells_everything_once_when_asked() {
    a_server_that_crashes_tells_everything_once(By::Command);
}

#[test]
fn a_server_that_crashes_pushes_everything_once() {
    a_server_that_crashes_tells_everything_once(By::Push);
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
    /// The first change that 389-ds remembers.
    fn first_change(&self) -> u64 {
        let server = &self.house.server;
        let output = std::process::Command::new("ldapsearch")
            .args([
                "-x",
                "-LLL",
                "-H",
                &server["LDAP_URI"],
                "-s",
                "base",
                "-b",
                "",
            ])
            .args(["-D", &server["ADMIN_DN"], "-w", &server["ADMIN_PASSWORD"]])
            .arg("firstchangenumber")
            .output()
            .expect("ldapsearch");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("firstchangenumber: "));
        line.unwrap_or_else(|| panic!("{text}"))
            .parse()
            .expect("a number")
    }

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
