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
fn no_plan_is_made_by_another_file_than_the_one_that_is_given() {
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
    for command in [&["plan"][..], &["plan", "--hold"], &["sync"]] {
        let said = house.run(command);
        assert_eq!(said.code, 1, "{command:?}: {}{}", said.out, said.err);
        assert!(
            said.err.contains("systemctl reload realmsync"),
            "{command:?}: {}",
            said.err
        );
    }
    // The daemon knows no reader's clock, and the command does.
    let mut there = house.command(&["plan"]);
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
    // What decides about what is there needs no file.
    assert_eq!(house.run(&["pause", "r"]).code, 0);
    assert_eq!(house.run(&["resume", "r"]).code, 0);
    daemon.signal("HUP");
    until(&house, "the new file", |_, err| !err.contains("reload"));
    let said = house.run(&["plan"]);
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    drop(daemon);
}
