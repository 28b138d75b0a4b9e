//! Two slapds that replicate, each with its own server id, and a realm that knows both: one stops, one is behind, one is empty.

use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::{
    each_once, eventually, following, full_passes, nothing_is_missing, people, pushed_by, set,
    status, told,
};

/// A house with two servers; the one of the house comes first.
struct Fleet {
    house: House,
    other: Server,
}

impl Fleet {
    /// Two that take changes and follow each other.
    fn new(changes: &str) -> Self {
        let one = Server::start("openldap", &["--users", "200", "--server-id", "1"]);
        let folder = one.folder().to_str().expect("a path").to_owned();
        let options = ["--server-id", "2", "--replica-of", &folder, "--mutual"];
        let other = Server::start("openldap", &options);
        Self::of(one, other, changes)
    }

    fn of(one: Server, other: Server, changes: &str) -> Self {
        let house = House::with(one, "");
        let directory = format!("changes = \"{changes}\"\npoll = \"1s\"");
        house.configure_as(&house.server["BIND_DN"], &directory, "");
        let roots = std::fs::read_to_string(&house.server["CA_FILE"]).expect("an authority")
            + &std::fs::read_to_string(&other["CA_FILE"]).expect("an authority");
        std::fs::write(house.path("roots.pem"), roots).expect("written");
        let path = house.path("realmsync.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let first = format!("\"{}\"", &house.server["LDAPS_URI"]);
        let both = format!("{first}, \"{}\"", &other["LDAPS_URI"]);
        let roots = house.path("roots.pem");
        let text = text
            .replace(&first, &both)
            .replace(&house.server["CA_FILE"], roots.to_str().expect("a path"));
        std::fs::write(path, text).expect("written");
        Self { house, other }
    }

    fn first_url(&self) -> String {
        self.house.server["LDAPS_URI"].to_owned()
    }

    fn other_url(&self) -> String {
        self.other["LDAPS_URI"].to_owned()
    }

    /// Waits until this server pushes.
    fn pushes(&self, url: &str) {
        eventually(&self.house, &format!("{url} pushes"), || {
            pushed_by(&self.house) == url
        });
    }

    /// Waits until exactly these numbers were told, each once.
    fn tells(&self, numbers: usize) {
        eventually(&self.house, &format!("{numbers} are told"), || {
            told(&self.house) == each_once(0..numbers)
        });
    }

    /// Waits until both servers say that they hold the same.
    fn are_equal(&self) {
        eventually(&self.house, "the servers are equal", || {
            contexts(&self.house.server) == contexts(&self.other)
        });
    }

    /// A run that fails as stale at this server, and changes nobody.
    fn is_stale(&self, url: &str) {
        let before = self.house.users();
        let messages = self.house.receiver.all().len();
        let run = self.house.run(&["--json", "sync", "r"]);
        let said = run.json();
        assert_eq!(said["error_code"], "stale", "{said}");
        let error = said["error"].as_str().expect("an error");
        assert!(
            error.contains(url) && error.contains("was seen already"),
            "{error}"
        );
        let full = self.house.run(&["--json", "sync", "r", "--full"]).json();
        assert_eq!(full["error_code"], "stale", "{full}");
        assert_eq!(self.house.users(), before);
        assert_eq!(self.house.receiver.all().len(), messages);
    }
}

/// What a server says of how far it is, by server id.
fn contexts(server: &Server) -> Vec<String> {
    let output = std::process::Command::new("ldapsearch")
        .args(["-x", "-LLL", "-H", &server["LDAP_URI"], "-s", "base"])
        .args(["-b", &server["SUFFIX"], "contextCSN"])
        .output()
        .expect("ldapsearch is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let csns = text.lines().filter(|l| l.starts_with("contextCSN"));
    let mut csns: Vec<String> = csns.map(str::to_owned).collect();
    csns.sort();
    csns
}

#[test]
fn the_other_server_takes_over_from_the_stored_cursor_and_the_first_one_comes_back() {
    let mut fleet = Fleet::new("push");
    let _daemon = following(&fleet.house);
    let (first, other) = (fleet.first_url(), fleet.other_url());
    fleet.pushes(&first);
    let people = people(&fleet.house, 8);
    set(&fleet.house.server, &people[..2], 0);
    set(&fleet.other, &people[2..3], 2);
    fleet.tells(3);
    fleet.are_equal();

    // What is changed while nobody pushes comes with the other one, which goes on from the first one's cursor.
    fleet.house.server.crash();
    set(&fleet.other, &people[3..4], 3);
    fleet.pushes(&other);
    fleet.tells(4);
    set(&fleet.other, &people[4..5], 4);
    fleet.tells(5);
    assert_eq!(full_passes(&fleet.house), 1, "{}", fleet.house.log());
    let said = status(&fleet.house);
    assert_eq!(said["away"][0]["server"], *first, "{said}");

    // The first one is back, and has caught up: a run is made there, and push goes on at the other one, with both cursors in turn.
    fleet.house.server.resume();
    fleet.are_equal();
    let run = fleet.house.sync(0);
    assert_eq!(
        (&run["mode"], run["server"].as_str()),
        (&"delta".into(), Some(&*first)),
        "{run}"
    );
    set(&fleet.house.server, &people[5..6], 5);
    fleet.tells(6);

    // And now the other way round.
    fleet.other.crash();
    set(&fleet.house.server, &people[6..7], 6);
    fleet.pushes(&first);
    fleet.tells(7);
    fleet.other.resume();
    fleet.are_equal();
    set(&fleet.other, &people[7..], 7);
    fleet.tells(8);
    assert_eq!(full_passes(&fleet.house), 1, "{}", fleet.house.log());
    nothing_is_missing(&fleet.house);
    fleet.tells(8);
}

#[test]
fn trap_50_nothing_is_taken_from_a_replica_that_is_behind() {
    let mut fleet = Fleet::new("push");
    let _daemon = following(&fleet.house);
    let (first, other) = (fleet.first_url(), fleet.other_url());
    let people = people(&fleet.house, 6);
    set(&fleet.other, &people[..1], 0);
    fleet.tells(1);
    // The other one hears of nothing any more.
    fleet.other.cut();
    set(&fleet.house.server, &people[..2], 1);
    eventually(&fleet.house, "both are told", || {
        told(&fleet.house) == each_once(0..3)
    });
    fleet
        .house
        .server
        .modify(&format!("dn: {}\nchangetype: delete\n", people[5]));
    eventually(&fleet.house, "somebody is gone", || {
        fleet
            .house
            .users()
            .values()
            .any(|u| u["state_reason"] == "deleted")
    });
    fleet.house.server.stop();
    eventually(&fleet.house, "it is said", || {
        let push = status(&fleet.house)["following"]["push"].clone();
        push["connected"] == false && push["error"].as_str().is_some_and(|e| e.contains("behind"))
    });
    fleet.is_stale(&other);
    // News of it is none as long as it lacks what was seen: somebody else's number, and an old one in the same breath.
    set(&fleet.other, &people[3..4], 3);
    fleet.is_stale(&other);
    assert_eq!(told(&fleet.house), each_once(0..3));
    let log = fleet.house.log();
    assert!(log.contains("behind what was already seen"), "{log}");

    // Once the first one is there again all is told, and the other one hears of it too.
    fleet.house.server.resume();
    fleet.pushes(&first);
    fleet.tells(4);
    fleet.other.join();
    fleet.are_equal();
    fleet.house.server.stop();
    set(&fleet.other, &people[4..5], 4);
    fleet.pushes(&other);
    fleet.tells(5);
    nothing_is_missing(&fleet.house);
    fleet.tells(5);
}

#[test]
fn trap_08_a_preferred_server_that_is_behind_is_left_for_one_that_is_not() {
    let mut fleet = Fleet::new("push");
    let mut daemon = following(&fleet.house);
    let (first, other) = (fleet.first_url(), fleet.other_url());
    let people = people(&fleet.house, 5);
    set(&fleet.house.server, &people[..1], 0);
    fleet.tells(1);
    fleet.are_equal();
    fleet.house.server.cut();
    fleet.house.server.stop();
    set(&fleet.other, &people[..2], 1);
    fleet.pushes(&other);
    fleet.tells(3);
    // It is back, and hears of nobody.
    fleet.house.server.resume();
    for full in [
        &["--json", "sync", "r"][..],
        &["--json", "sync", "r", "--full"],
    ] {
        let run = fleet.house.run(full);
        assert_eq!(run.code, 0, "{}\n{}", run.out, run.err);
        assert_eq!(run.json()["server"], *other, "{}", run.out);
        assert_eq!(run.json()["outcome"], "unchanged", "{}", run.out);
    }
    // Whoever connects anew does so where all is known, and says what is wrong with the first one.
    daemon.signal("KILL");
    let _ended = daemon.0.wait();
    set(&fleet.other, &people[2..3], 3);
    let _daemon = fleet.house.daemon();
    fleet.pushes(&other);
    fleet.tells(4);
    eventually(&fleet.house, "the first one is said to be behind", || {
        let away = status(&fleet.house)["away"][0].clone();
        away["server"] == *first && away["error"].as_str().is_some_and(|e| e.contains("behind"))
            || away["error"]
                .as_str()
                .is_some_and(|e| e.contains("was seen already"))
    });
    // When it has caught up it is used again.
    fleet.house.server.join();
    fleet.are_equal();
    assert_eq!(fleet.house.sync(0)["server"], *first);
    set(&fleet.house.server, &people[3..4], 4);
    fleet.tells(5);
    assert_eq!(full_passes(&fleet.house), 2, "{}", fleet.house.log());
    nothing_is_missing(&fleet.house);
    fleet.tells(5);
}

/// One that holds nothing, and says that it is newer: it was filled later, with nobody.
#[test]
fn trap_08_an_empty_server_takes_over_from_nobody() {
    let one = Server::start("openldap", &["--users", "200"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let empty = Server::start("openldap", &["--users", "0"]);
    let mut fleet = Fleet::of(one, empty, "push");
    let _daemon = following(&fleet.house);
    let people = people(&fleet.house, 2);
    let before = fleet.house.users();
    fleet.house.server.stop();
    eventually(&fleet.house, "it is said", || {
        let said = status(&fleet.house);
        said["following"]["push"]["connected"] == false
            && said["last_error"]
                .as_str()
                .is_some_and(|e| e.contains("no entry that matches"))
    });
    for full in [
        &["--json", "sync", "r"][..],
        &["--json", "sync", "r", "--full"],
    ] {
        let run = fleet.house.run(full).json();
        assert_eq!(run["error_code"], "empty", "{run}");
        assert_eq!(run["server"], fleet.other_url(), "{run}");
    }
    assert_eq!(fleet.house.users(), before);
    assert!(fleet.house.receiver.all().is_empty());
    // The first run at the right one is enough for push to be tried again, however often it failed before.
    fleet.house.server.resume();
    set(&fleet.house.server, &people[..1], 0);
    let run = fleet.house.sync(0);
    assert_eq!(
        (&run["mode"], &run["phone_changed"]),
        (&"delta".into(), &1.into())
    );
    fleet.pushes(&fleet.first_url());
    set(&fleet.house.server, &people[1..], 1);
    fleet.tells(2);
    nothing_is_missing(&fleet.house);
    fleet.tells(2);
}
