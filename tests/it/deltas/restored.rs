//! A server that remembers no changes, and one whose database is an older copy of itself.

use std::path::Path;
use std::process::Command;

use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::{
    each_once, eventually, following, full_passes, nothing_is_missing, people, pushed_by, set,
    status, told,
};

fn house(options: &[&str], changes: &str) -> House {
    let house = House::with(Server::start("openldap", options), "");
    let directory = format!("changes = \"{changes}\"\npoll = \"\"");
    house.configure_as(&house.server["BIND_DN"], &directory, "");
    house
}

/// One of slapd's own tools, on the database of a server.
fn slapd_tool(server: &Server, tool: &str, file: &Path) {
    let status = Command::new(format!("/usr/sbin/{tool}"))
        .arg("-F")
        .arg(server.folder().join("slapd.d"))
        .args(["-b", &server["SUFFIX"], "-l"])
        .arg(file)
        .status()
        .expect("slapd's tools are installed");
    assert!(status.success(), "{tool}");
}

/// Stops the server, and starts it with the database of a copy.
fn restore(house: &mut House, copy: &Path) {
    house.server.stop();
    let database = house.server.folder().join("db");
    for file in ["data.mdb", "lock.mdb"] {
        std::fs::remove_file(database.join(file)).expect("a file of the database");
    }
    slapd_tool(&house.server, "slapadd", copy);
    house.server.resume();
}

#[test]
fn trap_20_a_server_without_a_session_log_says_who_is_there_and_all_is_told() {
    for changes in ["syncrepl", "push"] {
        let mut house = house(&["--users", "150", "--sessionlog", "0"], changes);
        let daemon = (changes == "push").then(|| following(&house));
        if daemon.is_none() {
            house.sync(0);
        }
        let people = people(&house, 9);
        let gone = |dn: &str| format!("dn: {dn}\nchangetype: delete\n\n");
        for round in 0..2 {
            // While nobody is connected, so that only a present phase can tell of who is gone.
            if changes == "push" {
                house.server.crash();
                eventually(&house, "the push is away", || pushed_by(&house).is_empty());
                house.server.resume();
            }
            set(&house.server, &people[..4], 4 * round);
            house.server.modify(&gone(&people[7 + round]));
            if changes == "push" {
                eventually(&house, "it is told", || {
                    told(&house) == each_once(0..4 * round + 4)
                        && house.receiver.accepted().len() == 5 * round + 5
                });
            } else {
                let run = house.sync_and_deliver(0);
                assert_eq!(
                    (&run["mode"], &run["phone_changed"], &run["suspended"]),
                    (&"delta".into(), &4.into(), &1.into()),
                    "{run}"
                );
            }
        }
        assert_eq!(full_passes(&house), 1, "{changes}");
        nothing_is_missing(&house);
        assert_eq!(house.receiver.accepted().len(), 10, "{changes}");
    }
}

#[test]
fn trap_50_a_database_from_a_backup_changes_nobody_until_somebody_says_so() {
    let mut house = house(&["--users", "150"], "push");
    let _daemon = following(&house);
    let people = people(&house, 6);
    set(&house.server, &people[..2], 0);
    eventually(&house, "two are told", || told(&house) == each_once(0..2));
    let copy = house.path("copy.ldif");
    slapd_tool(&house.server, "slapcat", &copy);
    // After the backup: two numbers, one who leaves, and one who comes.
    set(&house.server, &people[..1], 2);
    set(&house.server, &people[2..3], 3);
    let base = &house.server["PEOPLE_DN"];
    house.server.modify(&format!(
        "dn: {}\nchangetype: delete\n\ndn: cn=New,{base}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: New\nsn: New\nuid: new\n\n",
        people[5]
    ));
    eventually(&house, "all is told", || {
        told(&house) == each_once(0..4)
            && house.users().contains_key("new")
            && house
                .users()
                .values()
                .any(|u| u["state_reason"] == "deleted")
    });
    let before = house.users();
    let messages = house.receiver.accepted().len();
    restore(&mut house, &copy);
    eventually(&house, "it is said", || {
        let push = status(&house)["following"]["push"].clone();
        push["error"]
            .as_str()
            .is_some_and(|e| e.contains("behind what was already seen"))
    });
    for arguments in [
        &["--json", "sync", "r"][..],
        &["--json", "sync", "r", "--full"],
    ] {
        let run = house.run(arguments).json();
        assert_eq!(run["error_code"], "stale", "{run}");
    }
    assert_eq!(house.users(), before);
    assert_eq!(house.receiver.accepted().len(), messages);

    // Told so, it is taken as it is: everything is read, and the old numbers are told as what they are now, changes.
    let taken = house.run(&["--json", "sync", "r", "--accept-older"]);
    let run = taken.json();
    assert_eq!(
        (&run["mode"], &run["outcome"], &run["phone_changed"]),
        (&"full".into(), &"applied".into(), &2.into()),
        "{run}"
    );
    assert_eq!(
        (&run["restored"], &run["suspended"]),
        (&1.into(), &1.into())
    );
    // And from there it goes on: nobody has to say so again.
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    eventually(&house, "it pushes again", || !pushed_by(&house).is_empty());
    set(&house.server, &people[3..5], 10);
    eventually(&house, "news is told", || {
        let told = told(&house);
        (10..12).all(|n| told.get(&crate::support::outcome::number(n)) == Some(&1))
    });
    nothing_is_missing(&house);
}

/// Restored and written to before anybody looked: then it is newer than all that was seen, and no protocol says what it has lost.
/// Who is back is told where a present phase says who is there; an old number only by the full pass, as drift.
#[test]
fn a_backup_that_was_written_to_is_seen_by_the_full_pass_as_drift() {
    for (log, told, drift) in [("100000", 0, 3), ("0", 1, 2)] {
        let mut house = house(&["--users", "150", "--sessionlog", log], "syncrepl");
        house.sync(0);
        let people = people(&house, 4);
        let copy = house.path("copy.ldif");
        slapd_tool(&house.server, "slapcat", &copy);
        set(&house.server, &people[..2], 0);
        let gone = format!("dn: {}\nchangetype: delete\n", people[3]);
        house.server.modify(&gone);
        let run = house.sync_and_deliver(0);
        assert_eq!(
            (&run["phone_changed"], &run["suspended"]),
            (&2.into(), &1.into()),
            "{run}"
        );
        restore(&mut house, &copy);
        set(&house.server, &people[2..3], 2);
        let run = house.sync_and_deliver(0);
        assert_eq!(
            (&run["mode"], &run["phone_changed"], &run["restored"]),
            (&"delta".into(), &1.into(), &told.into()),
            "{log}: {run}"
        );
        let full = house.run(&["--json", "sync", "r", "--full"]).json();
        assert_eq!(
            (&full["outcome"], &full["drift"], &full["phone_changed"]),
            (&"applied".into(), &drift.into(), &2.into()),
            "{log}: {full}"
        );
        assert_eq!(run["suspended"], 0, "{run}");
        house.sync_and_deliver(0);
        nothing_is_missing(&house);
    }
}
