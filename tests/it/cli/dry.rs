//! `plan`: a dry run comes as it is read, and leaves nothing behind.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::house::House;

/// The lines of a change that do not depend on when and by whom it was asked for.
fn without_ids(lines: &[Value]) -> Vec<(Value, Value, Value, Value)> {
    let field = |line: &Value, name: &str| {
        let mut value = line[name].clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("suspended_at");
        }
        value
    };
    lines
        .iter()
        .map(|l| {
            (
                field(l, "seq"),
                field(l, "username"),
                field(l, "kind"),
                field(l, "after"),
            )
        })
        .collect()
}

#[test]
fn a_dry_plan_is_told_piece_by_piece_and_the_same_with_and_without_a_daemon() {
    let house = House::new(700);
    let alone = house.run(&["--json", "plan", "r"]);
    assert_eq!(alone.code, 2, "{}", alone.err);
    let alone = alone.lines();
    let daemon = house.daemon();
    let raw = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(house.path("control.sock"))
        .args(["-H", "content-type: application/json", "-d", "{}"])
        .arg("http://localhost/api/v1/realms/r/plan")
        .output()
        .expect("curl");
    let lines: Vec<&[u8]> = raw.stdout.split(|b| *b == b'\n').collect();
    let longest = lines.iter().map(|l| l.len()).max().unwrap_or(0);
    assert!(
        longest < raw.stdout.len() / 2,
        "all of the plan in one line of {longest} bytes"
    );
    let through = house.run(&["--json", "plan", "r"]);
    assert_eq!(through.code, 2, "{}", through.err);
    let through = through.lines();
    // The lab's people, of whom a few cannot be used.
    assert!(alone.len() > 600, "{}", alone.len());
    assert_eq!(through[0]["created"], alone[0]["created"]);
    assert_eq!(without_ids(&through[1..]), without_ids(&alone[1..]));
    assert_eq!(
        house.run(&["--json", "runs"]).out,
        "",
        "a dry run is in no history"
    );
    // Who has read enough ends it, and the realm is free.
    let mut reader = house.command(&["plan", "r"]);
    let mut reading = reader.stdout(Stdio::piped()).spawn().expect("plan");
    drop(reading.stdout.take());
    assert!(reading.wait().expect("an end").code().is_some());
    // A held one is told in the same way, and stays.
    let held = house.run(&["--json", "plan", "r", "--hold"]);
    assert_eq!(held.code, 3, "{}", held.err);
    assert_eq!(without_ids(&held.lines()[1..]), without_ids(&alone[1..]));
    let run = held.json()["run"].as_str().expect("a run").to_owned();
    let shown = house.run(&["--json", "runs", "show", &run]).lines();
    assert_eq!(without_ids(&shown[1..]), without_ids(&alone[1..]));
    drop(daemon);
}

#[test]
fn a_dry_plan_of_differences_shows_what_a_pass_does() {
    let house = House::new(60);
    house.sync(0);
    house.churn(&[("phone", 4), ("rename", 2), ("delete", 2)]);
    let daemon = house.daemon();
    let plan = house.run(&["--json", "plan", "r"]);
    assert_eq!(plan.code, 2, "{}", plan.err);
    let done = house.sync(0);
    let run = done["run"].as_str().expect("a run").to_owned();
    let shown = house.run(&["--json", "runs", "show", &run]).lines();
    assert_eq!(without_ids(&plan.lines()[1..]), without_ids(&shown[1..]));
    assert!(shown.len() > 6, "{}", shown.len());
    drop(daemon);
}
