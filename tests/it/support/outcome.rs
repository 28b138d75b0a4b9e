//! What a house that lives on deltas must come to, whatever stood in the way: everybody as a fresh full load knows them, each
//! message once, and a full pass that finds no drift.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::{Daemon, House};
use crate::support::lab::Server;

pub fn eventually(house: &House, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(
            Instant::now() < end,
            "{what}\n{}\n{}",
            house.run(&["status"]).out,
            house.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn status(house: &House) -> Value {
    house.run(&["--json", "status"]).json()
}

/// The server that pushes now; empty: none does.
pub fn pushed_by(house: &House) -> String {
    let push = status(house)["following"]["push"].clone();
    let server = push["server"].as_str().unwrap_or_default().to_owned();
    if push["connected"] == true {
        server
    } else {
        String::new()
    }
}

/// A daemon after a first pass, connected.
pub fn following(house: &House) -> Daemon {
    let daemon = house.daemon();
    house.sync(0);
    eventually(house, "the push is connected", || {
        !pushed_by(house).is_empty()
    });
    daemon
}

/// DNs of people who have a number and are active.
pub fn people(house: &House, n: usize) -> Vec<String> {
    let dns: Vec<String> = house
        .users()
        .values()
        .filter(|u| u["phone"].is_string() && u["state"] == "active")
        .filter_map(|u| u["dn"].as_str().map(str::to_owned))
        .take(n)
        .collect();
    assert_eq!(dns.len(), n, "people with a number");
    dns
}

pub fn number(n: usize) -> String {
    format!("+4219057{n:05}")
}

/// Sets new numbers, `first` and those after it, in one go.
pub fn set(server: &Server, dns: &[String], first: usize) {
    let ldif: Vec<String> = dns
        .iter()
        .enumerate()
        .map(|(i, dn)| {
            let number = number(first + i);
            format!("dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n\n")
        })
        .collect();
    server.modify(&ldif.concat());
}

/// How often each number was told, each key once.
pub fn told(house: &House) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for message in house.receiver.accepted() {
        let body = message.json();
        if body["type"] == "user.reprovision" {
            let phone = body["data"]["user"]["phone"].as_str().unwrap().to_owned();
            *told.entry(phone).or_default() += 1;
        }
    }
    told
}

pub fn each_once(numbers: std::ops::Range<usize>) -> BTreeMap<String, usize> {
    numbers.map(|n| (number(n), 1)).collect()
}

/// The runs that read everything to the end.
pub fn full_passes(house: &House) -> usize {
    let runs = house.run(&["--json", "runs", "r", "--limit", "1000"]);
    let runs = runs.lines().into_iter();
    runs.filter(|run| run["mode"] == "full" && run["complete"] == true)
        .count()
}

/// A full pass finds nothing to do, and a fresh store knows the same people: but for those who are gone, whom it never knew.
pub fn nothing_is_missing(house: &House) {
    let full = house.run(&["--json", "sync", "r", "--full"]);
    let run = full.json();
    assert_eq!(
        (&run["mode"], &run["outcome"], &run["drift"]),
        (&"full".into(), &"unchanged".into(), &0.into()),
        "{run}\n{}",
        house.log()
    );
    let lived = there(
        house
            .run(&["--json", "users", "list", "--realm", "r"])
            .lines(),
    );
    house.beside("fresh", &[]);
    let _of_an_earlier_scene = std::fs::remove_file(house.path("fresh.db"));
    let run = |arguments: &[&str]| {
        let said = house.run_of("fresh", arguments);
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        said
    };
    run(&["--json", "sync", "r"]);
    let read = there(run(&["--json", "users", "list", "--realm", "r"]).lines());
    assert_eq!(lived, read, "by deltas, and by a fresh full pass");
}

/// By directory id, what a pass decides about those whose entry is there.
fn there(users: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let here = users
        .into_iter()
        .filter(|u| u["state"] == "active" || u["state_reason"] == "disabled");
    let fields = ["username", "display_name", "email", "phone", "dn", "state"];
    here.map(|u| {
        let id = u["directory_id"].as_str().expect("an id").to_owned();
        (id, fields.iter().map(|field| u[*field].clone()).collect())
    })
    .collect()
}
