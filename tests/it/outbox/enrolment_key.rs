//! TRAPS 60: the enrolment key changes under a daemon that has messages waiting.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::house::House;

/// Writes the key's file, and that of the key before it, as an administrator does who changes the key.
fn set_keys(house: &House, fill: char, previous: char) {
    use std::os::unix::fs::PermissionsExt;
    for (name, fill) in [("previous.key", previous), ("enrolment.key", fill)] {
        let path = house.path(name);
        // 32 bytes in base64.
        std::fs::write(&path, format!("{}=", String::from(fill).repeat(42) + "A")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Whether the store knows the token of this message, as whoever opens the link would find out.
fn known(house: &House, body: &str) -> bool {
    let script = "import base64, hashlib, json, sqlite3, sys\n\
        token = json.loads(sys.argv[2])['data']['enrolment_url'].rsplit('/', 1)[1]\n\
        token = base64.urlsafe_b64decode(token + '=')\n\
        rows = sqlite3.connect(sys.argv[1]).execute(\"select count(*) from enrolments where state = 'open' and token_sha256 = ?\", (hashlib.sha256(token).digest(),))\n\
        sys.exit(0 if rows.fetchone() == (1,) else 3)\n";
    let status = Command::new("/usr/bin/python3")
        .arg("-c")
        .arg(script)
        .arg(house.path("realmsync.db"))
        .arg(body)
        .status()
        .expect("python3");
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    status.success()
}

fn wait(what: &str, house: &House, mut so: impl FnMut() -> bool) {
    for _ in 0..300 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{what}: {}\n{:?}", house.log(), house.receiver.all());
}

fn retry(house: &House) {
    let said = house.run(&["outbox", "retry", "--all"]);
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn trap_60_no_link_is_dead_and_no_body_changes_when_the_key_does() {
    let house = House::new(300);
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let key = house.path("enrolment.key");
    let section = format!(
        "[enrolment]\nkey-file = \"{}\"\nprevious-key-file = \"{}\"\n[log]",
        key.display(),
        house.path("previous.key").display()
    );
    std::fs::write(&path, text.replace("[log]", &section)).unwrap();
    set_keys(&house, 'A', 'A');
    house.sync(0);

    let daemon = house.daemon();
    house.receiver.answer(503);
    house.churn(&[("phone", 2)]);
    let waiting = house.sync(0)["jobs"].as_u64().unwrap();
    assert!(waiting > 0, "somebody with a number changed it");
    wait("tried once", &house, || {
        house.receiver.all().len() as u64 >= waiting
    });
    // The file is another one, and the daemon is told.
    set_keys(&house, 'B', 'A');
    daemon.signal("HUP");
    wait("reloaded", &house, || {
        house.log().contains("the configuration is in force")
    });
    house.receiver.answer(204);
    house.churn(&[("phone", 4)]);
    let more = house.sync(0)["jobs"].as_u64().unwrap();
    assert!(more > 0);
    retry(&house);
    wait("all is told", &house, || {
        let list = house.run(&["--json", "outbox", "list"]);
        list.out.trim().is_empty()
    });
    let accepted = house.receiver.accepted();
    for message in &accepted {
        assert!(
            known(&house, &message.body),
            "a dead link: {}",
            message.body
        );
    }
    let ids = |all: &[crate::support::house::receiver::Received]| -> BTreeSet<String> {
        all.iter().map(|r| r.id.clone()).collect()
    };
    let bodies: BTreeSet<String> = house.receiver.all().into_iter().map(|r| r.body).collect();
    assert_eq!(
        bodies.len(),
        ids(&house.receiver.all()).len(),
        "one body a key"
    );

    // Tried, and then the daemon starts with another key.
    house.receiver.answer(503);
    let before = accepted.len();
    let seen = ids(&house.receiver.all()).len();
    house.churn(&[("phone", 4)]);
    let jobs = usize::try_from(house.sync(0)["jobs"].as_u64().unwrap()).unwrap();
    assert!(jobs > 0);
    wait("tried once", &house, || {
        ids(&house.receiver.all()).len() == seen + jobs
    });
    drop(daemon);
    set_keys(&house, 'C', 'B');
    house.receiver.answer(204);
    let _daemon = house.daemon();
    retry(&house);
    let listed = || -> Vec<Value> { house.run(&["--json", "outbox", "list"]).lines() };
    wait("all is told", &house, || listed().is_empty());
    for message in house.receiver.accepted().iter().skip(before) {
        assert!(
            known(&house, &message.body),
            "a dead link: {}",
            message.body
        );
    }
    let bodies: BTreeSet<String> = house.receiver.all().into_iter().map(|r| r.body).collect();
    assert_eq!(
        bodies.len(),
        ids(&house.receiver.all()).len(),
        "one body a key"
    );
}
