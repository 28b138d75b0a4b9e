//! Whose realm it is: orphaned only when no running daemon's file has it, and never by a command.

use super::pair::{Member, Pair, eventually};

/// Daemon 0 has the realm; the file of place 1 calls its realm otherwise.
fn apart() -> (Pair, Member) {
    let pair = Pair::new(5);
    let path = pair.house.path("realmsync1.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("id = \"r\"\n", "id = \"other\"\n")).unwrap();
    let daemon = pair.daemon(0, None);
    assert_eq!(pair.run(0, &["sync", "r"]).code, 0);
    (pair, daemon)
}

fn orphaned(pair: &Pair) -> String {
    pair.sql("SELECT string_agg(id, ' ' ORDER BY id) FROM realms WHERE orphaned")
}

#[test]
fn a_realm_is_orphaned_only_when_no_running_daemons_file_has_it() {
    let (pair, first) = apart();
    // Neither a command nor another daemon knows better than the one that has it.
    let paused = pair.run(1, &["pause", "other"]);
    assert_eq!(paused.code, 0, "{}", paused.err);
    assert_eq!(orphaned(&pair), "", "by a command");
    let second = pair.daemon(1, None);
    assert_eq!(orphaned(&pair), "", "by another daemon");
    assert_eq!(pair.run(0, &["sync", "r"]).code, 0);
    // One that stops is counted no longer.
    first.daemon.signal("TERM");
    eventually("the first one stops", || {
        pair.sql("SELECT COUNT(*) FROM daemons WHERE realm = 'r'") == "0"
    });
    assert_eq!(orphaned(&pair), "", "it may come back");
    second.daemon.signal("HUP");
    eventually("the realm is orphaned", || orphaned(&pair) == "r");
    assert!(
        pair.log(1).contains("r: orphaned, since no running daemon"),
        "{}",
        pair.log(1)
    );
    let status = pair.run(1, &["status"]).out;
    assert!(status.contains("orphaned"), "{status}");
    // It comes back with its daemon.
    let _first = pair.daemon(0, None);
    assert_eq!(orphaned(&pair), "");
}

#[test]
fn a_daemon_that_dies_is_counted_no_longer_once_its_time_is_over() {
    let (pair, first) = apart();
    first.daemon.signal("KILL");
    let second = pair.daemon(1, None);
    assert_eq!(orphaned(&pair), "", "it may only stand still");
    eventually("its time is over", || {
        pair.sql("SELECT COUNT(*) FROM daemons WHERE realm = 'r' AND until > EXTRACT(EPOCH FROM clock_timestamp()) * 1000") == "0"
    });
    second.daemon.signal("HUP");
    eventually("the realm is orphaned", || orphaned(&pair) == "r");
}
