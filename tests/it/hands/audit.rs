//! What people do to runs, messages and realms stands in the audit, and what the schedule does by itself does not.

use serde_json::{Value, json};

use super::{both_ways, done, lines};
use crate::support::house::{Daemon, House};

/// Runs a command that ends with this code; gives the first line of its JSON.
fn ends(house: &House, code: i32, arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    let said = house.run(&all);
    assert_eq!(said.code, code, "{arguments:?}: {}{}", said.out, said.err);
    said.json()
}

/// Runs a command that says nothing to programs.
fn quietly(house: &House, arguments: &[&str]) {
    let said = house.run(arguments);
    assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
}

fn acts(audit: &[Value]) -> Vec<&str> {
    audit.iter().map(|l| l["act"].as_str().unwrap()).collect()
}

#[test]
fn trap_136_acts_on_runs_messages_and_realms_leave_a_line() {
    both_ways(|house, door| {
        let first = ends(house, 0, &["sync", "r", "--full"]);
        house.churn(&[("phone", 1)]);
        let held = ends(house, 3, &["plan", "r", "--hold"]);
        // One that is only looked at changes nothing.
        ends(house, 2, &["plan", "r"]);
        let plan = held["run"].as_str().unwrap();
        ends(house, 0, &["approve", plan]);
        let undone = ends(house, 0, &["undo", plan]);
        quietly(house, &["resume", "r"]);
        let again = ends(house, 3, &["plan", "r", "--hold"]);
        let plan_again = again["run"].as_str().unwrap();
        ends(house, 0, &["reject", plan_again, "--for", "24h"]);
        ends(house, 0, &["reject", plan_again, "--for", "0s"]);
        quietly(house, &["pause", "r", "--for", "1h"]);
        // While nothing leaves, something waits.
        let user = house.users().into_keys().next().unwrap();
        done(house, &["users", "block", &user]);
        for act in ["hold", "release", "retry", "drop"] {
            quietly(house, &["outbox", act, "--realm=r", "--type=user.suspend"]);
        }
        // Of what was meant nothing is left.
        quietly(
            house,
            &["outbox", "drop", "--realm=r", "--type=user.suspend"],
        );
        quietly(house, &["resume", "r"]);

        let audit = lines(house, &["audit"]);
        assert_eq!(
            acts(&audit),
            [
                "run-sync",
                "run-plan",
                "run-approve",
                "run-undo",
                "realm-resume",
                "run-plan",
                "run-reject",
                "run-reject",
                "realm-pause",
                "user-block",
                "outbox-hold",
                "outbox-release",
                "outbox-retry",
                "outbox-drop",
                "realm-resume"
            ]
        );
        for line in &audit {
            assert!(
                line["from"] == door && line["by"].is_string() && line["realm"] == "r",
                "{line}"
            );
        }
        let said = |n: usize| {
            let line = &audit[n];
            (&line["run"], &line["before"], &line["after"])
        };
        assert_eq!(
            said(0),
            (&first["run"], &Value::Null, &json!({"full": true}))
        );
        assert_eq!(
            said(2),
            (
                &held["run"],
                &json!({"outcome": "held"}),
                &json!({"outcome": "applied"})
            )
        );
        assert_eq!(
            said(3),
            (&undone["run"], &Value::Null, &json!({"undoes": plan}))
        );
        assert_eq!(audit[6]["run"], again["run"]);
        assert!(audit[6]["after"]["until"].is_string(), "{}", audit[6]);
        assert_eq!(audit[7]["before"], json!({"outcome": "rejected"}));
        assert!(audit[8]["after"]["until"].is_string(), "{}", audit[8]);
        for line in &audit[10..14] {
            assert_eq!(
                line["after"],
                json!({"types": ["user.suspend"], "messages": 1}),
                "{line}"
            );
        }

        let shown = house.run(&["audit"]).out;
        assert!(
            shown.contains("types: user.suspend, messages: 1"),
            "{shown}"
        );
        let short = &plan[plan.len() - 8..];
        assert!(shown.contains(&format!("run: {short}")), "{short}: {shown}");
        let by = audit[0]["by"].as_str().unwrap();
        assert_eq!(lines(house, &["audit", "--by", by]).len(), audit.len());
        assert!(lines(house, &["audit", "--by", "nobody else"]).is_empty());
        assert_eq!(lines(house, &["audit", "--user", &user]).len(), 1);
        let csv = house.run(&["audit", "--csv", "--since=1h"]).out;
        assert_eq!(csv.lines().count(), audit.len() + 1, "{csv}");
        let verified = done(house, &["audit", "verify"]);
        assert_eq!(
            verified,
            json!({"lines": audit.len(), "erased": 0, "whole": true, "faults": [], "end": verified["end"]})
        );
    });
}

#[test]
fn a_copy_of_the_store_leaves_a_line_whoever_writes_it() {
    let house = House::new(3);
    house.sync(0);
    quietly(&house, &["backup", house.path("one.db").to_str().unwrap()]);
    let daemon = house.daemon();
    quietly(&house, &["backup", house.path("two.db").to_str().unwrap()]);
    drop(daemon);
    let audit = lines(&house, &["audit"]);
    let copies: Vec<(&Value, &Value)> = audit
        .iter()
        .filter(|l| l["act"] == "backup")
        .map(|l| (&l["from"], &l["after"]["to"]))
        .collect();
    let to = |name: &str| json!(house.path(name));
    assert_eq!(
        copies,
        [
            (&json!("command"), &to("one.db")),
            (&json!("socket"), &to("two.db"))
        ]
    );
}

/// Replaces words of the configuration.
fn edit(house: &House, from: &str, to: &str) {
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn wait_for_lines(house: &House, n: usize) -> Vec<Value> {
    for _ in 0..500 {
        let audit = lines(house, &["audit"]);
        if audit.len() >= n {
            return audit;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!(
        "no {n} lines: {:?}\n{}",
        lines(house, &["audit"]),
        house.log()
    );
}

#[test]
fn another_configuration_leaves_a_line_with_the_settings_and_no_value() {
    let house = House::new(3);
    let first: Daemon = house.daemon();
    edit(&house, "0 3 * * *", "17 4 * * *");
    first.signal("HUP");
    wait_for_lines(&house, 1);
    drop(first);
    // The same again is nothing new.
    drop(house.daemon());
    let other = house.path("other-webhook");
    std::fs::copy(house.path("webhook"), &other).unwrap();
    edit(
        &house,
        house.path("webhook").to_str().unwrap(),
        other.to_str().unwrap(),
    );
    edit(&house, "timeout = \"2s\"\n", "");
    edit(&house, "[log]\n", "[log]\nlevel = \"warn\"\n");
    let _second = house.daemon();
    let audit = wait_for_lines(&house, 2);
    assert_eq!(acts(&audit), ["config-reload", "config-start"]);
    assert_eq!(
        (&audit[0]["from"], &audit[0]["after"]["settings"]),
        (&json!("signal"), &json!(["realm[r].schedule"]))
    );
    assert_eq!(
        (&audit[1]["from"], &audit[1]["after"]["settings"]),
        (
            &json!("start"),
            &json!(["delivery.secret-file", "delivery.timeout", "log.level"])
        )
    );
    assert_eq!(
        audit[1]["after"]["config"],
        json!(house.path("realmsync.toml"))
    );
    let text = serde_json::to_string(&audit).unwrap();
    assert!(
        !text.contains("17 4") && !text.contains("other-webhook"),
        "{text}"
    );
    assert_eq!(done(&house, &["audit", "verify"])["whole"], true);
}
