//! Messages that are named by their ids, by a command alone and through the daemon.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::House;

fn wait(what: &str, house: &House, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < end, "{what}\n{}", house.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The ids of messages in a state, as `outbox list` shows them to people.
fn shown(house: &House, state: &str) -> Vec<String> {
    let list = house.run(&["outbox", "list"]);
    let rows = list.out.lines().skip(1).filter(|row| row.contains(state));
    rows.map(|row| row.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// Two messages at once: the second id is looked up beside the first, not among what the first one left.
#[test]
fn two_messages_are_retried_by_their_ids_with_and_without_a_daemon() {
    let house = House::new(60);
    house.sync(0);
    house.receiver.answer(410);
    house.churn(&[("phone", 6)]);
    house.sync_and_deliver(0);
    let refused = shown(&house, "final");
    assert!(refused.len() >= 2, "{refused:?}");
    let status = house.run(&["status"]).out;
    let warning = format!(
        "! {} messages refused for good by the receiver",
        refused.len()
    );
    assert!(
        status.contains(&warning) && status.contains("`realmsync outbox retry --realm r`"),
        "{status}"
    );
    // People see the ends of ids, which are chance, and never a whole one.
    assert!(refused.iter().all(|id| id.len() < 12), "{refused:?}");
    let two = [refused[0].as_str(), refused[1].as_str()];
    let alone = house.run(&["outbox", "retry", two[0], two[1]]);
    assert_eq!(alone.code, 0, "{}", alone.err);
    assert!(alone.err.contains("2 messages "), "{}", alone.err);
    assert_eq!(shown(&house, "waiting").len(), 2);

    // They are refused again, and named to the daemon.
    let daemon = house.daemon();
    let states = |state: &str| {
        let jobs: Vec<Value> = house.run(&["--json", "outbox", "list"]).lines();
        jobs.iter().filter(|job| job["state"] == state).count()
    };
    wait("both are refused again", &house, || {
        states("final") == refused.len()
    });
    house.receiver.answer(204);
    let before = house.receiver.accepted().len();
    let asked = house.run(&["outbox", "retry", two[0], two[1]]);
    assert_eq!(asked.code, 0, "{}", asked.err);
    assert_eq!(asked.err, alone.err, "the same words");
    house.receiver.wait_for(before + 2);
    wait("both are delivered", &house, || {
        states("final") == refused.len() - 2
    });
    drop(daemon);
}
