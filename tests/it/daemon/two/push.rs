//! Two daemons that both hear of changes by push. Each change is one run of one of them, whoever dies or stands still.

use std::time::Duration;

use serde_json::Value;

use super::pair::{Member, Pair, TAKEOVER, eventually};
use crate::support::outcome::{each_once, people, set, told};

/// A pair after its first pass, both connected.
fn following(points: [Option<&str>; 2]) -> (Pair, [Member; 2], Vec<String>) {
    let brake = "[realm.brake]\nfloor = 1000\n";
    let pair = Pair::with(300, "changes = \"push\"", brake);
    let first = pair.daemon(0, points[0]);
    pair.sync_within(0, TAKEOVER);
    let second = pair.daemon(1, points[1]);
    for place in [0, 1] {
        pushed(&pair, place);
    }
    let people = people(&pair.house, 30);
    (pair, [first, second], people)
}

fn pushed(pair: &Pair, place: usize) {
    eventually(&format!("{place} is pushed: {}", pair.log(place)), || {
        let said = pair.run(place, &["--json", "status"]);
        said.code == 0 && said.json()["following"]["push"]["connected"] == true
    });
}

fn tells(pair: &Pair, numbers: usize) {
    let end = std::time::Instant::now() + TAKEOVER;
    while told(&pair.house) != each_once(0..numbers) {
        assert!(
            std::time::Instant::now() < end,
            "{numbers} are not told: {:?}\n{}\n{}",
            told(&pair.house),
            pair.log(0),
            pair.log(1)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn runs(pair: &Pair, place: usize) -> Vec<Value> {
    pair.run(place, &["--json", "runs", "r", "--limit", "1000"])
        .lines()
}

/// The runs tell of each of these changes once, and none of them read everything but the first.
fn each_change_is_one_run(pair: &Pair, place: usize, changes: usize) {
    let runs = runs(pair, place);
    let sum = |of: &str| -> u64 {
        let applied = runs.iter().filter(|run| run["outcome"] == "applied");
        applied.filter_map(|run| run[of].as_u64()).sum()
    };
    assert_eq!(sum("phone_changed"), changes as u64, "{runs:#?}");
    let full = runs.iter().filter(|run| run["mode"] == "full").count();
    assert_eq!(full, 1, "{runs:#?}");
    let running = "SELECT COUNT(*) FROM runs WHERE outcome = 'running'";
    assert_eq!(pair.sql(running), "0");
}

/// What a full pass by each of them, and one into a new store, come to.
fn nothing_is_missing(pair: &Pair, place: usize) {
    let full = pair.run(place, &["--json", "sync", "r", "--full"]);
    let run = full.json();
    assert_eq!(
        (&run["mode"], &run["outcome"], &run["drift"]),
        (&"full".into(), &"unchanged".into(), &0.into()),
        "{run}\n{}\n{}",
        pair.log(0),
        pair.log(1)
    );
    let lived = pair.people(false);
    assert_eq!(lived, pair.people(true), "the same as one full load");
}

#[test]
fn trap_30_both_are_pushed_and_whoever_is_killed_is_followed_from_the_stored_cursor() {
    let (pair, daemons, people) = following([None, None]);
    let mut daemons = daemons.map(Some);
    let mut numbers = 0;
    // One after the other, then many at once.
    for n in 0..10 {
        set(&pair.house.server, &people[n..=n], numbers);
        numbers += 1;
    }
    tells(&pair, numbers);
    set(&pair.house.server, &people[10..30], numbers);
    numbers += 20;
    tells(&pair, numbers);
    each_change_is_one_run(&pair, 0, numbers);
    for round in 0..4 {
        let victim = round % 2;
        let daemon = daemons[victim].take().expect("it runs");
        // In the middle of a burst, and right after one.
        if round < 2 {
            set(&pair.house.server, &people[..10], numbers);
            daemon.daemon.signal("KILL");
        } else {
            daemon.daemon.signal("KILL");
            set(&pair.house.server, &people[..10], numbers);
        }
        drop(daemon);
        numbers += 10;
        set(&pair.house.server, &people[10..12], numbers);
        numbers += 2;
        tells(&pair, numbers);
        daemons[victim] = Some(pair.daemon(victim, None));
        pushed(&pair, victim);
    }
    // Both are killed, and what happens meanwhile is the first thing that is told.
    drop(daemons);
    set(&pair.house.server, &people[..5], numbers);
    numbers += 5;
    let last = pair.daemon(1, None);
    tells(&pair, numbers);
    let full = runs(&pair, 1);
    assert_eq!(
        full.iter().filter(|run| run["mode"] == "full").count(),
        1,
        "{full:#?}"
    );
    nothing_is_missing(&pair, 1);
    assert_eq!(told(&pair.house), each_once(0..numbers));
    drop(last);
}

#[test]
fn trap_30_one_that_is_killed_in_a_pushed_run_leaves_it_to_the_other() {
    for point in ["plan.complete", "apply.before-commit", "apply.after-commit"] {
        // The first pass reaches the point too.
        let second = format!("{point}:2");
        let (pair, [mut victim, other], people) = following([Some(&second), None]);
        other.daemon.signal("STOP");
        set(&pair.house.server, &people[..3], 0);
        eventually(&format!("{point}: {}", pair.log(0)), || {
            victim.state().is_none()
        });
        set(&pair.house.server, &people[3..5], 3);
        other.daemon.signal("CONT");
        tells(&pair, 5);
        if point != "apply.after-commit" {
            each_change_is_one_run(&pair, 1, 5);
        }
        nothing_is_missing(&pair, 1);
        assert_eq!(told(&pair.house), each_once(0..5), "{point}");
    }
}

#[test]
fn trap_30_one_that_is_frozen_in_a_pushed_run_wakes_up_and_writes_nothing() {
    let (pair, [mut frozen, other], people) = following([Some("stop@apply.before-commit:2"), None]);
    other.daemon.signal("STOP");
    set(&pair.house.server, &people[..3], 0);
    eventually(&format!("it stands still: {}", pair.log(0)), || {
        frozen.state() == Some('T')
    });
    let status = pair.sql("SELECT COALESCE(holder, owner) FROM leases WHERE owner IS NOT NULL");
    assert!(
        status.ends_with(&format!(":{}", frozen.daemon.0.id())),
        "{status}"
    );
    other.daemon.signal("CONT");
    tells(&pair, 3);
    // What happened while it stood still, the numbers that it had in hand among it.
    set(&pair.house.server, &people[..6], 3);
    tells(&pair, 9);
    let settled = pair.house.users();
    frozen.daemon.signal("CONT");
    eventually("it says what happened", || {
        pair.log(0).contains("another daemon took the realm over")
    });
    pushed(&pair, 0);
    assert_eq!(pair.house.users(), settled, "it changed something");
    let failed = runs(&pair, 1);
    let failed: Vec<&Value> = failed.iter().filter(|r| r["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    // It works again, alone.
    drop(other);
    set(&pair.house.server, &people[..2], 9);
    tells(&pair, 11);
    each_change_is_one_run(&pair, 0, 11);
    nothing_is_missing(&pair, 0);
    assert_eq!(told(&pair.house), each_once(0..11));
}
