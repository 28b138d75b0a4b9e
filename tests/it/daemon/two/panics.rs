//! A daemon that panics between taking a message and writing down what became of it, and another one beside it.

use super::pair::{Pair, TAKEOVER, eventually};
use crate::support::outcome::{each_once, people, set, told};

/// One daemon panics at this point; `ends`: that ends it. The other one comes once it has.
fn panics_at(point: &str, ends: bool) {
    let brake = "[realm.brake]\nfloor = 1000\n";
    let pair = Pair::with(100, "", brake);
    let mut first = pair.daemon(0, Some(point));
    pair.sync_within(0, TAKEOVER);
    let people = people(&pair.house, 4);
    set(&pair.house.server, &people, 0);
    // The answer may be lost with the daemon; the run is not.
    let _answer = pair.run(0, &["--json", "sync", "r"]);
    eventually(&format!("{point}: it panics: {}", pair.log(0)), || {
        pair.log(0).contains("panicked") || pair.log(0).contains("broke off")
    });
    if ends {
        eventually(&format!("{point}: it ends"), || first.state().is_none());
    }
    let _second = pair.daemon(1, None);
    eventually(
        &format!("{point}: each is told once: {}", pair.log(1)),
        || told(&pair.house) == each_once(0..4) && pair.sql(super::OPEN_JOBS) == "0",
    );
    let keys: std::collections::BTreeSet<String> = pair
        .house
        .receiver
        .all()
        .into_iter()
        .map(|m| m.id)
        .collect();
    assert_eq!(keys.len(), 4, "{point}: one key for each message");
    if !ends {
        assert!(first.state().is_some(), "{point}: it runs on");
    }
}

#[test]
fn trap_30_a_panic_after_messages_are_taken_leaves_them_to_the_other_daemon() {
    panics_at("panic@outbox.claimed", true);
}

#[test]
fn trap_30_a_panic_before_the_ends_are_written_down_leaves_them_to_the_other_daemon() {
    panics_at("panic@outbox.sent", true);
}

#[test]
fn trap_30_a_panic_in_a_sending_task_ends_neither_the_daemon_nor_the_message() {
    panics_at("panic@outbox.task", false);
}
