//! The file on disk is faulty, or was edited and not read again, while the daemon runs by what it said before.

use std::time::Duration;

use crate::support::house::House;

/// Waits until `status` says so.
fn until(house: &House, what: &str, holds: impl Fn(&serde_json::Value, &str) -> bool) {
    for _ in 0..500 {
        let said = house.run(&["--json", "status"]);
        if said.code == 0 && holds(&said.json(), &said.err) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: {}", house.log());
}

#[test]
fn a_faulty_file_does_not_keep_anybody_from_the_daemon() {
    let house = House::new(20);
    let run = house.sync(0)["run"].as_str().expect("a run").to_owned();
    let daemon = house.daemon();
    let good = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    for fault in ["\nshedule = \"x\"\n", "\nfilter = \"(uid=*\n"] {
        std::fs::write(house.path("realmsync.toml"), format!("{good}{fault}")).unwrap();
        for command in [
            &["status"][..],
            &["pause", "r", "--for", "1h"],
            &["resume", "r"],
            &["runs"],
            &["runs", "show", &run],
            &["outbox", "list"],
            &["outbox", "hold", "--realm", "r"],
            &["users", "list"],
            &["refused"],
        ] {
            let said = house.run(command);
            assert_eq!(said.code, 0, "{command:?}: {}{}", said.out, said.err);
            assert!(said.err.contains("is faulty"), "{command:?}: {}", said.err);
        }
        assert_eq!(house.run(&["pause", "no-such-realm"]).code, 1);
        assert_eq!(house.run(&["approve", "ffffffff"]).code, 1);
        // What works by the file needs it.
        for command in [&["plan"][..], &["sync"], &["check"]] {
            assert_eq!(house.run(command).code, 78, "{command:?}");
        }
    }
    daemon.signal("HUP");
    until(&house, "a refused reload", |status, _| {
        let refused = &status["reload_refused"];
        refused["at"].is_string() && refused["error"].as_str().is_some_and(|e| !e.is_empty())
    });
    let said = house.run(&["status"]);
    assert!(
        said.out.contains("the last reload was refused at"),
        "{}",
        said.out
    );
    std::fs::write(house.path("realmsync.toml"), &good).unwrap();
    daemon.signal("HUP");
    until(&house, "a good reload", |status, _| {
        status.get("reload_refused").is_none()
    });
    std::fs::write(
        house.path("realmsync.toml"),
        format!("{good}\nshedule = 1\n"),
    )
    .unwrap();
    drop(daemon);
    for command in [
        &["status"][..],
        &["pause", "r"],
        &["runs"],
        &["users", "list"],
    ] {
        assert_eq!(house.run(command).code, 78, "{command:?}");
    }
}

#[test]
fn a_plan_goes_by_the_file_that_is_given_and_nothing_else_by_one_that_is_not_in_force() {
    let house = House::new(30);
    house.sync(0);
    let daemon = house.daemon();
    assert_eq!(house.run(&["plan"]).code, 0);
    let good = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    std::fs::write(house.path("realmsync.toml"), format!("# A remark.\n{good}")).unwrap();
    let said = house.run(&["plan"]);
    assert_eq!(said.code, 0, "a remark changes nothing: {}", said.err);
    let someone = house.users().into_keys().next().expect("a user");
    let without = format!("(&(objectClass=inetOrgPerson)(!(uid={someone})))");
    let edited = good.replace("(objectClass=inetOrgPerson)", &without);
    assert_ne!(edited, good);
    std::fs::write(house.path("realmsync.toml"), &edited).unwrap();
    // What would come of it is shown before it is in force, and nothing else goes by it.
    let said = house.run(&["plan"]);
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(
        said.out.contains(&someone) && said.out.contains("base, filter, attributes"),
        "{}",
        said.out
    );
    assert!(
        said.err.contains("The plan goes by what the file says now"),
        "{}",
        said.err
    );
    for command in [&["plan", "--hold"][..], &["sync"]] {
        let said = house.run(command);
        assert_eq!(said.code, 1, "{command:?}: {}{}", said.out, said.err);
        assert!(
            said.err.contains("systemctl reload realmsync"),
            "{command:?}: {}",
            said.err
        );
    }
    // The daemon knows no reader's clock, and the command does.
    let mut there = house.command(&["sync"]);
    let said = there.env("TZ", "Asia/Kolkata").output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains(" +05:30, which is not what"), "{said}");
    for command in [&["status"][..], &["check"], &["explain", &someone]] {
        let said = house.run(command);
        assert_eq!(said.code, 0, "{command:?}: {}", said.err);
        assert!(
            said.err.contains("systemctl reload realmsync"),
            "{command:?}: {}",
            said.err
        );
    }
    // A realm that is new in the file can be looked at too.
    let former = &house.server["FORMER_DN"];
    house.server.modify(&format!(
        "dn: uid=back,{former}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: back\ncn: Back\nsn: Back\n"
    ));
    let new = good
        .replace("id = \"r\"", "id = \"new\"")
        .replace(&house.server["PEOPLE_DN"], former);
    std::fs::write(house.path("realmsync.toml"), new).unwrap();
    let said = house.run(&["plan", "new"]);
    assert_eq!(said.code, 2, "{}{}", said.out, said.err);
    assert!(said.out.contains("1 created"), "{}", said.out);
    // So is a fault that only the daemon meets.
    std::fs::write(
        house.path("realmsync.toml"),
        edited.replace("bind-password-file = \"", "bind-password-file = \"/nowhere"),
    )
    .unwrap();
    let said = house.run(&["plan"]);
    assert_eq!(said.code, 78, "{}{}", said.out, said.err);
    // Of another file than the daemon's it knows nothing.
    std::fs::write(house.path("other.toml"), &edited).unwrap();
    std::fs::write(house.path("realmsync.toml"), &good).unwrap();
    let said = house.run_of("other", &["plan"]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    std::fs::write(house.path("realmsync.toml"), &edited).unwrap();
    // What decides about what is there needs no file.
    assert_eq!(house.run(&["pause", "r"]).code, 0);
    assert_eq!(house.run(&["resume", "r"]).code, 0);
    daemon.signal("HUP");
    until(&house, "the new file", |_, err| !err.contains("reload"));
    let said = house.run(&["plan"]);
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    drop(daemon);
}
