//! Canaries: passwords, secrets, tokens and whole phone numbers are looked for wherever somebody could read them.

use std::collections::BTreeSet;

use crate::support::house::{House, SECRET};

/// Sent on the way, and to be found nowhere else.
struct Canaries {
    secrets: Vec<(&'static str, String)>,
    phones: BTreeSet<String>,
}

impl Canaries {
    fn absent_from(&self, place: &str, text: &str) {
        for (what, secret) in &self.secrets {
            assert!(!text.contains(secret), "the {what} is in {place}:\n{text}");
        }
        for phone in &self.phones {
            assert!(
                !text.contains(phone) && !text.contains(&phone[1..]),
                "a whole number is in {place}:\n{text}"
            );
        }
    }
}

fn numbers(house: &House) -> impl Iterator<Item = String> {
    house
        .users()
        .into_values()
        .filter_map(|user| user["phone"].as_str().map(str::to_owned))
}

fn metrics(house: &House) -> String {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(house.path("control.sock"))
        .args([
            "http://localhost/metrics",
            "http://localhost/readyz",
            "http://localhost/api/v1/status",
        ])
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A house whose log says all that it can.
fn loud(house: &House) {
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("[log]\n", "[log]\nlevel = \"trace\"\n");
    std::fs::write(path, text).unwrap();
}

#[test]
fn nothing_secret_or_personal_is_said() {
    let house = House::new(60);
    loud(&house);
    house.sync(0);
    let mut phones: BTreeSet<String> = numbers(&house).collect();
    let daemon = house.daemon();
    let pid = daemon.0.id();
    // Numbers change and are told, the receiver fails in between, and wrong passwords are tried.
    house.receiver.answer(500);
    house.churn(&[("phone", 4), ("nophone", 2)]);
    let mut talk = String::new();
    let mut say = |arguments: &[&str]| {
        let said = house.run(arguments);
        talk.push_str(&said.err);
        // Data without --json masks phones as well.
        if arguments[0] != "--json" {
            talk.push_str(&said.out);
        }
    };
    say(&["plan"]);
    say(&["--json", "sync"]);
    say(&["outbox", "list"]);
    house.receiver.answer(200);
    say(&["outbox", "retry", "--all"]);
    phones.extend(numbers(&house));
    let told = house.receiver.wait_for(1);
    let somebody = house.users().into_keys().next().unwrap();
    for arguments in [
        &["users", "list"][..],
        &["users", "show", &somebody],
        &["explain", &somebody],
        &["runs"],
        &["status"],
        &["refused"],
        &["check", "--connect"],
    ] {
        say(arguments);
    }
    let run = house.run(&["--json", "runs"]).json()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    say(&["runs", "show", &run]);
    std::fs::write(house.path("bind"), "wrong-canary-password").unwrap();
    say(&["sync"]);
    say(&["check", "--connect"]);
    daemon.signal("HUP");
    daemon.signal("USR1");
    let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let lock = std::fs::read_to_string(house.path("realmsync.db.lock")).unwrap();
    let metrics = metrics(&house);
    drop(daemon);

    let mut secrets = vec![
        ("bind password", house.server["BIND_PASSWORD"].to_owned()),
        ("wrong password", "wrong-canary-password".to_owned()),
        ("webhook secret", SECRET.to_owned()),
        ("webhook key", SECRET["whsec_".len()..].to_owned()),
    ];
    for message in &told {
        let link = message.json()["data"]["enrolment_url"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if let Some((_, token)) = link.rsplit_once('/') {
            assert!(token.len() > 30, "{link}");
            secrets.push(("enrolment token", token.to_owned()));
        }
    }
    assert!(secrets.len() > 4, "a token was told: {told:?}");
    assert!(phones.len() > 40, "{}", phones.len());
    let canaries = Canaries { secrets, phones };
    let log = house.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    canaries.absent_from("the log", &log);
    canaries.absent_from("the talk", &talk);
    canaries.absent_from("the metrics", &metrics);
    canaries.absent_from("the arguments", &cmdline);
    canaries.absent_from("the lock", &lock);
}

#[test]
fn the_store_holds_no_token_and_no_password() {
    let house = House::new(20);
    house.sync(0);
    house.churn(&[("phone", 2)]);
    house.sync_and_deliver(0);
    let told = house.receiver.wait_for(1);
    let store = std::fs::read(house.path("realmsync.db")).unwrap();
    let holds = |secret: &str| store.windows(secret.len()).any(|w| w == secret.as_bytes());
    assert!(!holds(&house.server["BIND_PASSWORD"]) && !holds(SECRET));
    for message in &told {
        let link = message.json()["data"]["enrolment_url"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if let Some((_, token)) = link.rsplit_once('/') {
            assert!(!holds(token), "a token is in the store");
        }
    }
}
