//! TRAPS 29: kill -9 between every two steps from plan to settle. Nothing is lost, nothing is half done, and every message
//! has one key however often it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;

/// Every point at which a run that changes people can be killed, in order.
pub const RUN: [&str; 9] = [
    "stage.before",
    "stage.after",
    "plan.complete",
    "apply.before",
    "apply.after-users",
    "apply.after-jobs",
    "apply.before-commit",
    "apply.after-commit",
    "outbox.claimed",
];
pub const DELIVERY: [&str; 2] = ["outbox.sent", "outbox.settled"];

fn killed_at(house: &House, point: &str) {
    let status = house
        .command(&["sync", "r", "--deliver"])
        .env("REALMSYNC_FAILPOINT", point)
        .output()
        .expect("the binary")
        .status;
    assert_eq!(
        status.signal(),
        Some(9),
        "{point}: the process was to be killed there"
    );
}

/// What the receiver knows of each user: the messages by type, each key once; and that no key ever changed its body.
pub fn told(house: &House) -> BTreeMap<String, usize> {
    let all = house.receiver.all();
    let mut bodies: BTreeMap<&str, &str> = BTreeMap::new();
    for message in &all {
        let first = bodies.entry(&message.id).or_insert(&message.body);
        assert_eq!(*first, message.body, "a key keeps its body byte for byte");
    }
    let mut by_type = BTreeMap::new();
    for message in house.receiver.accepted() {
        *by_type
            .entry(message.json()["type"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    by_type
}

/// The users without what differs between two stores of the same directory.
fn essence(house: &House) -> BTreeMap<String, Value> {
    let mut users = house.users();
    for user in users.values_mut() {
        let map = user.as_object_mut().unwrap();
        for volatile in [
            "id",
            "created_at",
            "updated_at",
            "suspended_at",
            "enrolment",
            "version",
        ] {
            map.remove(volatile);
        }
    }
    users
}

/// Points of a first load, which has a table of its own until it is applied.
const FIRST: [&str; 8] = [
    "stage.before",
    "stage.after",
    "plan.complete",
    "apply.before",
    "apply.indexed",
    "apply.after-users",
    "apply.after-jobs",
    "apply.before-commit",
];

/// A first load: nobody is there, or everybody, and the next one finds nothing in its way.
fn first_load_survives_every_kill(house: &House) {
    for point in FIRST {
        killed_at(house, point);
        assert_eq!(house.users().len(), 0, "{point}");
    }
    killed_at(house, "apply.after-commit");
    let there = house.users().len();
    let again = house.sync(0);
    assert_eq!(again["outcome"], "unchanged", "{again}");
    assert_eq!(again["seen"], there, "{again}");
}

fn survives_every_kill(postgres: Option<&Server>) {
    let houses = RUN.iter().chain(&DELIVERY);
    let server = Server::start("openldap", &["--users", "600"]);
    let mut house = House::with(server, "");
    if let Some(postgres) = postgres {
        postgres["DATABASE_URL"].clone_into(&mut house.database);
        house.configure("");
    }
    first_load_survives_every_kill(&house);
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for point in houses {
        let before = house.users();
        let churn = house.churn(&[("phone", 2), ("delete", 1), ("add", 1)]);
        for person in churn["did"]["phone"].as_array().unwrap() {
            let was = &before[person["uid"].as_str().unwrap()];
            if was["phone"].is_string()
                && was["state"] == "active"
                && was["phone"] != person["e164"]
            {
                *expected.entry("user.reprovision".into()).or_default() += 1;
            }
        }
        for person in churn["did"]["delete"].as_array().unwrap() {
            if before[person["uid"].as_str().unwrap()]["state"] == "active" {
                *expected.entry("user.suspend".into()).or_default() += 1;
            }
        }
        killed_at(&house, point);
        // All or nothing: either the users are as before, or everything of the churn is there.
        let after = house.users();
        let created = after.len() - before.len();
        let changed = churn["did"]["phone"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| after[p["uid"].as_str().unwrap()]["phone"] == p["e164"])
            .count();
        assert!(
            matches!((created, changed), (0, 0) | (1, 2)),
            "{point}: {created} created, {changed} with a new number"
        );
        // What was under way when it was killed is due again at once: its end is unknown.
        let again = house.sync_and_deliver(0);
        assert_ne!(again["outcome"], "failed", "{point}: {again}");
        let runs = house.run(&["--json", "runs", "r"]).lines();
        assert!(
            runs.iter().all(|r| r["outcome"] != "running"),
            "{point}: {runs:?}"
        );
        // On PostgreSQL another daemon may be at it, so what a dead one was sending is taken up when its lease is over.
        for _ in 0..60 {
            house.sync_and_deliver(0);
            if told(&house) == expected || postgres.is_none() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        assert_eq!(told(&house), expected, "{point}");
    }
    let ids: BTreeSet<String> = house
        .users()
        .values()
        .map(|u| u["id"].to_string())
        .collect();
    assert_eq!(ids.len(), house.users().len());
    // The same as one full load.
    let all = essence(&house);
    std::fs::remove_file(house.path("realmsync.db")).unwrap_or_default();
    let present = |users: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        users
            .into_iter()
            .filter(|(_, u)| u["state_reason"] != "deleted")
            .collect()
    };
    let survivors = present(all);
    let fresh = House::with(Server::start("openldap", &["--users", "600"]), "");
    for _ in RUN.iter().chain(&DELIVERY) {
        fresh.churn(&[("phone", 2), ("delete", 1), ("add", 1)]);
    }
    fresh.sync(0);
    let loaded = present(essence(&fresh));
    let phones = |users: &BTreeMap<String, Value>| {
        users
            .iter()
            .map(|(n, u)| (n.clone(), u["phone"].clone(), u["state"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(phones(&survivors), phones(&loaded));
}

#[test]
fn trap_29_kill_9_between_any_two_steps_on_sqlite() {
    survives_every_kill(None);
}

#[test]
fn trap_29_kill_9_between_any_two_steps_on_postgresql() {
    let postgres = Server::start("postgres", &[]);
    survives_every_kill(Some(&postgres));
}

#[test]
fn a_kill_while_a_plan_is_held_leaves_one_plan() {
    let house = House::new(60);
    house.sync(0);
    for point in ["hold.before", "hold.after"] {
        house.churn(&[("delete", 15)]);
        killed_at(&house, point);
        let run = house.sync(3);
        let held: Vec<Value> = house
            .run(&["--json", "runs", "r"])
            .lines()
            .into_iter()
            .filter(|r| r["outcome"] == "held")
            .collect();
        assert_eq!(held.len(), 1, "{point}");
        assert_eq!(held[0]["run"], run["run"], "{point}");
    }
}

/// Each commit is noted beside the store a moment after it is made. A daemon that is killed just then leaves a note that is behind,
/// and a store that is whole.
#[test]
fn a_daemon_that_is_killed_between_a_commit_and_its_note_leaves_a_store_that_opens() {
    // So many that the brake lets all their numbers through.
    let house = House::new(60);
    house.configure("[realm.brake]\nfloor = 1000\n");
    house.sync_and_deliver(0);
    let mut killed = 0;
    for nth in 1..=16 {
        house.churn(&[("phone", 1)]);
        // A killed daemon leaves it behind, and a command that finds nobody there does its work itself.
        let _none = std::fs::remove_file(house.path("control.sock"));
        let log = std::fs::File::create(house.path("daemon.log")).expect("a log");
        let mut daemon = house
            .command(&["run"])
            .env("REALMSYNC_FAILPOINT", format!("commit.unnoted:{nth}"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the daemon");
        // Whichever of its commits it is, of its start or of the pass.
        let died = loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                let log = house.log();
                assert_eq!(status.signal(), Some(9), "{nth}: {status}: {log}");
                break true;
            }
            if house.path("control.sock").exists() && house.run(&["sync", "r"]).code == 0 {
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                break false;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        killed += i32::from(died);
        let said = house.run(&["--json", "status"]);
        assert_eq!(said.code, 0, "{nth}: {}{}", said.out, said.err);
    }
    assert!(killed >= 4, "{killed}");
    house.sync_and_deliver(0);
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(full["outcome"], "unchanged", "{full}");
}
