//! What a panic leaves is swept while the daemon runs on.

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::{each_once, eventually, people, set, told};

/// A house with a daemon that panics at a fail point, after its first pass, and ten people to be changed.
fn panics_at(point: &str, postgres: Option<&Server>) -> (House, crate::support::house::Daemon) {
    let mut house = House::with(Server::start("openldap", &["--users", "100"]), "");
    if let Some(postgres) = postgres {
        postgres["DATABASE_URL"].clone_into(&mut house.database);
        house.configure("[realm.brake]\nfloor = 1000\n");
    }
    let daemon = house.daemon_at(point);
    house.sync(0);
    (house, daemon)
}

fn outcomes(house: &House) -> Vec<Value> {
    let runs = house.run(&["--json", "runs", "r"]).lines();
    runs.iter().map(|run| run["outcome"].clone()).collect()
}

/// On SQLite nobody's lease runs out: the daemon itself ends what its run left.
#[test]
fn a_panic_in_a_run_is_swept_without_a_restart() {
    let (house, _daemon) = panics_at("panic@apply.after-users:2", None);
    let people = people(&house, 3);
    set(&house.server, &people, 0);
    let broken = house.run(&["--json", "sync", "r"]);
    assert_ne!(broken.code, 0, "{}", broken.out);
    eventually(&house, "the run is ended", || {
        !outcomes(&house).contains(&"running".into())
    });
    assert!(house.log().contains("the run broke off"), "{}", house.log());
    assert!(told(&house).is_empty(), "nothing of it was applied");
    let again = house.sync(0);
    assert_eq!(
        (&again["outcome"], &again["jobs"]),
        (&"applied".into(), &3.into()),
        "{again}"
    );
    eventually(&house, "all are told", || told(&house) == each_once(0..3));
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

fn sends_on(postgres: Option<&Server>) {
    let (house, _daemon) = panics_at("panic@outbox.task", postgres);
    let people = people(&house, 3);
    set(&house.server, &people, 0);
    assert_eq!(house.sync(0)["jobs"], 3);
    eventually(&house, "one of them broke off", || {
        house.log().contains("sending a message broke off")
    });
    eventually(&house, "all are told", || told(&house) == each_once(0..3));
    // Nor does it stand in the way of what comes behind it.
    set(&house.server, &people, 3);
    assert_eq!(house.sync(0)["jobs"], 3);
    eventually(&house, "and told again", || told(&house) == each_once(0..6));
    let open = house.run(&["--json", "outbox", "list"]);
    assert_eq!(open.lines().len(), 0, "{}", open.out);
}

#[test]
fn a_panic_while_a_message_is_sent_neither_loses_nor_blocks_anything() {
    sends_on(None);
}

#[test]
fn a_panic_while_a_message_is_sent_neither_loses_nor_blocks_anything_on_postgresql() {
    sends_on(Some(&Server::start("postgres", &[])));
}
