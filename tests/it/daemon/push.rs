//! The daemon on directories that push or are polled: what is typed there arrives as a message, whatever falls over in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::{Daemon, House};
use crate::support::lab::Server;
use crate::support::outcome::{eventually, status};

const KINDS: [&str; 3] = ["openldap", "ds389", "samba"];

/// A house that hears of changes as well as its directory allows.
fn house(kind: &'static str, users: u32) -> House {
    house_with(kind, users, "changes = \"auto\"\npoll = \"1s\"")
}

fn house_with(kind: &'static str, users: u32, directory: &str) -> House {
    house_on(
        Server::start(kind, &["--users", &users.to_string()]),
        directory,
    )
}

fn house_on(server: Server, directory: &str) -> House {
    let house = House::with(server, "");
    house.configure_as(&house.server["BIND_DN"], directory, "");
    house
}

/// The same with a server that goes and comes.
fn house_that_restarts(kind: &'static str, users: u32) -> House {
    house_on(
        Server::lasting(kind, &["--users", &users.to_string()]),
        "changes = \"auto\"\npoll = \"1s\"",
    )
}

fn pushed(house: &House) -> bool {
    status(house)["following"]["push"]["connected"] == true
}

fn runs(house: &House) -> Vec<Value> {
    house.run(&["--json", "runs", "r"]).lines()
}

/// A daemon after a first pass, connected.
fn following(house: &House) -> Daemon {
    let daemon = house.daemon();
    house.sync(0);
    eventually(house, "the push is connected", || pushed(house));
    daemon
}

/// DNs of people who have a number and are active.
fn people(house: &House, n: usize) -> Vec<String> {
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

fn number(n: usize) -> String {
    format!("+4219057{n:05}")
}

fn set(house: &House, dn: &str, phone: &str) {
    house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {phone}\n"
    ));
}

/// Sets new numbers of many in one go.
fn set_all(house: &House, dns: &[String], first: usize) {
    let ldif: Vec<String> = dns
        .iter()
        .enumerate()
        .map(|(i, dn)| {
            format!(
                "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {}\n\n",
                number(first + i)
            )
        })
        .collect();
    house.server.modify(&ldif.concat());
}

/// How often each number was told, each key once.
fn told(house: &House) -> BTreeMap<String, usize> {
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

fn each_once(numbers: std::ops::Range<usize>) -> BTreeMap<String, usize> {
    numbers.map(|n| (number(n), 1)).collect()
}

/// The store is what a full pass would make it.
fn nothing_is_missing(house: &House) {
    let full = house.run(&["--json", "sync", "r", "--full"]);
    let run = full.json();
    assert_eq!(
        (&run["mode"], &run["outcome"]),
        (&"full".into(), &"unchanged".into()),
        "{run}\n{}",
        house.log()
    );
    assert_eq!(run["drift"], 0, "{run}");
}

#[test]
fn a_number_that_is_typed_arrives_and_a_burst_is_few_runs() {
    for kind in KINDS {
        let house = house(kind, 300);
        let mut daemon = following(&house);
        let said = status(&house);
        assert_eq!(said["changes"], "push", "{kind}: {said}");
        let people = people(&house, 9);
        let before = runs(&house).len();
        set(&house, &people[0], &number(0));
        house.receiver.wait_for(1);
        assert_eq!(told(&house), each_once(0..1), "{kind}");
        let all = runs(&house);
        assert_eq!(all.len(), before + 1, "{kind}: {all:?}");
        assert_eq!(
            (&all[0]["mode"], &all[0]["trigger"]),
            (&"delta".into(), &"push".into()),
            "{kind}"
        );
        // Eight more in one go: the brake's floor is ten.
        set_all(&house, &people[1..], 1);
        house.receiver.wait_for(9);
        eventually(&house, kind, || told(&house) == each_once(0..9));
        nothing_is_missing(&house);
        let metrics = house.metrics();
        for expected in [
            "realmsync_push_connected{realm=\"r\"} 1",
            "realmsync_deltas_total{realm=\"r\",way=\"push\",outcome=\"applied\"}",
            "realmsync_push_seconds_count{realm=\"r\"}",
            "realmsync_drift{realm=\"r\",kind=\"phone_changed\"} 0",
        ] {
            assert!(metrics.contains(expected), "{kind}: {expected}\n{metrics}");
        }
        let text = house.run(&["status"]).out;
        assert!(text.contains("pushed by"), "{kind}: {text}");
        let asked = Instant::now();
        daemon.signal("TERM");
        assert!(
            daemon.0.wait().unwrap().success(),
            "{kind}: {}",
            house.log()
        );
        assert!(asked.elapsed() < Duration::from_secs(6), "{kind}");
    }
}

#[test]
fn a_server_that_falls_over_is_caught_up_with_and_each_message_comes_once() {
    for kind in KINDS {
        let mut house = house_that_restarts(kind, 300);
        let _daemon = following(&house);
        let people = people(&house, 6);
        set_all(&house, &people[..2], 0);
        house.receiver.wait_for(2);
        house.server.crash();
        eventually(&house, "the push is away", || !pushed(&house));
        let away = status(&house);
        assert!(
            away["following"]["push"]["error"].is_string(),
            "{kind}: {away}"
        );
        std::thread::sleep(Duration::from_secs(4));
        house.server.resume();
        set_all(&house, &people[2..4], 2);
        eventually(&house, "it is connected again", || pushed(&house));
        set_all(&house, &people[4..], 4);
        eventually(&house, kind, || told(&house) == each_once(0..6));
        nothing_is_missing(&house);
        assert_eq!(told(&house), each_once(0..6), "{kind}");
        let log = house.log();
        let said = |what: &str| log.lines().filter(|l| l.contains(what)).count();
        assert_eq!(said("changes are not pushed now"), 1, "{kind}: {log}");
        assert_eq!(said("changes are pushed again"), 1, "{kind}: {log}");
    }
}

#[test]
fn a_daemon_that_is_killed_goes_on_from_where_it_was() {
    for kind in KINDS {
        let house = house(kind, 300);
        let mut daemon = following(&house);
        let people = people(&house, 8);
        for (round, two) in people.chunks(2).enumerate() {
            let (kill_first, first) = (round % 2 == 0, 2 * round);
            if kill_first {
                daemon.signal("KILL");
            }
            set_all(&house, two, first);
            if !kill_first {
                daemon.signal("KILL");
            }
            daemon.0.wait().unwrap();
            daemon = house.daemon();
            eventually(&house, kind, || told(&house).len() == first + 2);
        }
        assert_eq!(told(&house), each_once(0..8), "{kind}");
        nothing_is_missing(&house);
        assert_eq!(told(&house), each_once(0..8), "{kind}");
    }
}

#[test]
fn a_burst_over_the_brake_is_held_and_after_the_approval_it_goes_on() {
    for kind in KINDS {
        let house = house(kind, 100);
        let _daemon = following(&house);
        let people = people(&house, 42);
        // What is on its way when the brake trips waits too.
        house.receiver.answer(503);
        set(&house, &people[40], &number(40));
        eventually(&house, "a message waits", || {
            house.run(&["--json", "outbox", "list"]).lines().len() == 1
        });
        set_all(&house, &people[..40], 0);
        let mut held = Value::Null;
        eventually(&house, "the plan is held", || {
            held = status(&house)["held"].clone();
            held.is_string()
        });
        house.receiver.answer(204);
        let outbox = house.run(&["--json", "outbox", "list"]).lines();
        assert!(outbox.iter().any(|j| j["state"] == "held"), "{outbox:?}");
        // From now on pushes only mark the realm.
        set(&house, &people[41], &number(41));
        eventually(&house, "the realm is due", || status(&house)["due"] == true);
        // A tick replaces the plan by one with everything; that one is approved.
        let held = house.run(&["--json", "sync", "r"]).json()["run"].clone();
        let approved = house.run(&["approve", held.as_str().unwrap()]);
        assert_eq!(approved.code, 0, "{kind}: {}{}", approved.out, approved.err);
        eventually(&house, "everybody is told", || {
            told(&house) == each_once(0..42)
        });
        set(&house, &people[0], &number(50));
        eventually(&house, "it goes on", || {
            told(&house).contains_key(&number(50))
        });
        nothing_is_missing(&house);
    }
}

#[test]
fn a_paused_realm_waits_and_a_reload_goes_on() {
    let house = house("openldap", 200);
    let daemon = following(&house);
    let people = people(&house, 4);
    assert_eq!(house.run(&["pause", "r"]).code, 0);
    set(&house, &people[0], &number(0));
    eventually(&house, "the realm is due", || status(&house)["due"] == true);
    assert!(told(&house).is_empty());
    assert_eq!(house.run(&["resume", "r"]).code, 0);
    eventually(&house, "it is told", || told(&house) == each_once(0..1));
    // A reload takes the new configuration over, and nothing between is lost.
    let connected = status(&house)["following"]["push"]["since"].clone();
    let text = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    std::fs::write(
        house.path("realmsync.toml"),
        text.replace("schedule = \"0 3 * * *\"", "schedule = \"0 4 * * *\""),
    )
    .unwrap();
    daemon.signal("HUP");
    set(&house, &people[1], &number(1));
    eventually(&house, "it is connected anew", || {
        let said = status(&house);
        said["following"]["push"]["connected"] == true
            && said["following"]["push"]["since"] != connected
    });
    set(&house, &people[2], &number(2));
    eventually(&house, "both are told", || told(&house) == each_once(0..3));
    // And one that turns deltas off ends them.
    house.configure_as(&house.server["BIND_DN"], "changes = \"full\"", "");
    daemon.signal("HUP");
    eventually(&house, "nobody follows", || {
        status(&house)["following"]["push"].is_null()
    });
    nothing_but(&house, 3);
}

/// Nothing more is told.
fn nothing_but(house: &House, n: usize) {
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(house.receiver.accepted().len(), n);
}

#[test]
fn what_does_not_push_is_polled_and_an_idle_poll_leaves_no_run() {
    for (kind, changes, way) in [
        ("openldap", "syncrepl", "syncrepl"),
        ("ds389", "timestamp", "timestamp"),
        ("samba", "dirsync", "dirsync"),
    ] {
        let directory = format!("changes = \"{changes}\"\npoll = \"1s\"");
        let house = house_with(kind, 200, &directory);
        let _daemon = house.daemon();
        house.sync(0);
        let people = people(&house, 2);
        let said = status(&house);
        assert_eq!(said["changes"], way, "{kind}: {said}");
        assert_eq!(said["following"]["poll_ms"], 1000, "{kind}: {said}");
        eventually(&house, "it is polled", || {
            status(&house)["following"]["heard_at"].is_string()
        });
        set(&house, &people[0], &number(0));
        house.receiver.wait_for(1);
        std::thread::sleep(Duration::from_secs(4));
        let all = runs(&house);
        assert_eq!(all.len(), 2, "{kind}: {all:?}");
        assert_eq!(
            (&all[0]["mode"], &all[0]["trigger"]),
            (&"delta".into(), &"poll".into()),
            "{kind}"
        );
        set(&house, &people[1], &number(1));
        eventually(&house, kind, || told(&house) == each_once(0..2));
        let text = house.run(&["status"]).out;
        assert!(text.contains("asked every 1 s"), "{kind}: {text}");
        if way == "timestamp" {
            assert!(said["following"]["blind"].is_string(), "{kind}: {said}");
        }
    }
}

#[test]
fn a_server_that_is_down_while_it_is_polled_is_one_line() {
    let mut house = house_with("openldap", 50, "changes = \"syncrepl\"\npoll = \"1s\"");
    let _daemon = house.daemon();
    house.sync(0);
    let people = people(&house, 1);
    house.server.stop();
    eventually(&house, "a poll fails", || {
        house.log().contains("run failed")
    });
    std::thread::sleep(Duration::from_secs(6));
    house.server.resume();
    set(&house, &people[0], &number(0));
    eventually(&house, "it is told", || told(&house) == each_once(0..1));
    let log = house.log();
    assert_eq!(log.matches("run failed").count(), 1, "{log}");
    assert!(log.contains("can be polled again"), "{log}");
}
