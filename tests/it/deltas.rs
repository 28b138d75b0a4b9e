//! Deltas through the binary: a full pass keeps a cursor, and what follows is told by the directory.

use serde_json::Value;

use crate::house::House;
use crate::lab::Server;

fn house(kind: &'static str, users: u32) -> House {
    let house = House::with(Server::start(kind, &["--users", &users.to_string()]), "");
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", "");
    house
}

fn counts(run: &Value) -> Vec<i64> {
    [
        "created",
        "updated",
        "renamed",
        "phone_changed",
        "phone_lost",
        "suspended",
        "restored",
    ]
    .iter()
    .map(|kind| run[*kind].as_i64().expect("a number"))
    .collect()
}

#[test]
fn a_full_pass_keeps_a_cursor_and_deltas_follow_it() {
    let house = house("openldap", 60);
    let first = house.sync(0);
    assert_eq!(
        (&first["mode"], &first["complete"]),
        (&"full".into(), &true.into())
    );
    let idle = house.sync(0);
    assert_eq!(
        (&idle["mode"], &idle["outcome"], &idle["seen"]),
        (&"delta".into(), &"unchanged".into(), &0.into()),
        "{idle}"
    );
    house.churn(&[("add", 1), ("phone", 2), ("delete", 1)]);
    let run = house.sync(0);
    assert_eq!(run["mode"], "delta", "{run}");
    assert_eq!(counts(&run)[0], 1, "{run}");
    assert_eq!(counts(&run)[5], 1, "{run}");
    assert_eq!(
        (&run["complete"], &run["seen"]),
        (&false.into(), &3.into()),
        "{run}"
    );
    let again = house.sync(0);
    assert_eq!(
        (&again["mode"], &again["outcome"]),
        (&"delta".into(), &"unchanged".into())
    );
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(
        (&full["mode"], &full["outcome"]),
        (&"full".into(), &"unchanged".into()),
        "{full}"
    );
}
