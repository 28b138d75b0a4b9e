//! The main job from end to end: a real slapd in, the binary, a store, signed webhooks out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::house::House;

/// What the lab says each person's numbers mean: uid → (usable numbers of `mobile`, disabled).
fn truth(users: u32) -> BTreeMap<String, (Vec<String>, bool)> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("truth");
    let status = Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/people.py"))
        .args(["--only-truth", "--count", &users.to_string(), "--truth"])
        .arg(&file)
        .status()
        .expect("python3");
    assert!(status.success());
    let text = std::fs::read_to_string(file).expect("the truth");
    text.lines()
        .map(|line| {
            let person: Value = serde_json::from_str(line).expect("JSON");
            let mut numbers: Vec<String> = person["mobile"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|n| n["e164"].as_str().map(str::to_owned))
                .collect();
            numbers.sort();
            (
                person["uid"].as_str().expect("uid").to_owned(),
                (numbers, person["employeeType"] == "disabled"),
            )
        })
        .collect()
}

#[test]
fn the_first_pass_makes_exactly_the_right_users_and_sends_nothing() {
    let house = House::new(1000);
    let run = house.sync_and_deliver(0);
    assert_eq!(
        (
            &run["outcome"],
            run["created"].as_i64(),
            run["jobs"].as_i64()
        ),
        (&Value::from("applied"), Some(1000), Some(0)),
        "{run}"
    );
    let users = house.users();
    let truth = truth(1000);
    assert_eq!(users.len(), truth.len());
    for (name, (numbers, disabled)) in &truth {
        let user = &users[name];
        assert_eq!(
            user["phone"].as_str(),
            numbers.first().map(String::as_str),
            "{name}: {user}"
        );
        let (state, reason) = if *disabled {
            ("suspended", Value::from("disabled"))
        } else {
            ("active", Value::Null)
        };
        assert_eq!(
            (user["state"].as_str(), &user["state_reason"]),
            (Some(state), &reason),
            "{name}"
        );
        assert_eq!(user["phone_provisioned"], user["phone"], "{name}");
    }
    assert_eq!(house.receiver.all().len(), 0);
    // Planning again changes nothing, and nothing is written but the run.
    let again = house.sync(0);
    assert_eq!(
        (&again["outcome"], &again["seen"]),
        (&Value::from("unchanged"), &Value::from(1000)),
        "{again}"
    );
    let plan = house.run(&["--json", "plan", "r"]);
    assert_eq!(plan.code, 0, "{}", plan.out);
}

#[test]
fn trap_41_churn_gives_exactly_the_right_changes_and_one_message_for_each_new_number() {
    let house = House::new(400);
    house.sync(0);
    let before = house.users();
    let churn = house.churn(&[
        ("phone", 6),
        ("nophone", 4),
        ("rename", 5),
        ("move", 3),
        ("disable", 4),
        ("delete", 3),
        ("add", 7),
    ]);
    let plan = house.run(&["--json", "plan", "r"]);
    assert_eq!(plan.code, 2, "{}{}", plan.out, plan.err);
    let run = house.sync_and_deliver(0);
    let did = |kind: &str| churn["did"][kind].as_array().expect("a list").clone();
    // Of those who lose or get a number, some had none that counts; of those disabled, none was disabled before.
    let changed = did("phone")
        .iter()
        .filter(|p| before[p["uid"].as_str().unwrap()]["phone"].as_str() != p["e164"].as_str())
        .count();
    let lost = did("nophone")
        .iter()
        .filter(|p| before[p["uid"].as_str().unwrap()]["phone"].is_string())
        .count();
    let was_active = |kind: &str| {
        did(kind)
            .iter()
            .filter(|p| before[p["uid"].as_str().unwrap()]["state"] == "active")
            .count()
    };
    let suspended = was_active("move") + was_active("disable") + was_active("delete");
    for (counter, expected) in [
        ("created", 7),
        ("renamed", 5),
        ("phone_changed", changed),
        ("phone_lost", lost),
        ("suspended", suspended),
    ] {
        assert_eq!(
            run[counter].as_u64(),
            Some(expected as u64),
            "{counter}: {run}"
        );
    }
    let dry = plan.json();
    for counter in [
        "created",
        "renamed",
        "phone_changed",
        "phone_lost",
        "suspended",
        "updated",
        "jobs",
    ] {
        assert_eq!(
            dry[counter], run[counter],
            "a dry run that lies about {counter}"
        );
    }
    let users = house.users();
    for person in did("phone") {
        assert_eq!(
            users[person["uid"].as_str().unwrap()]["phone"],
            person["e164"],
            "{person}"
        );
    }
    for person in did("nophone") {
        assert_eq!(
            users[person["uid"].as_str().unwrap()]["phone"],
            Value::Null,
            "{person}"
        );
    }
    for (kind, reason) in [
        ("move", "out_of_scope"),
        ("delete", "deleted"),
        ("disable", "disabled"),
    ] {
        for person in did(kind) {
            let user = &users[person["uid"].as_str().unwrap()];
            assert_eq!(
                (&user["state"], &user["state_reason"]),
                (&Value::from("suspended"), &Value::from(reason)),
                "{kind} {user}"
            );
        }
    }
    for person in did("rename") {
        let uid = person["uid"].as_str().unwrap();
        let renamed = &users[&format!("{uid}r1")];
        assert_eq!(renamed["id"], before[uid]["id"], "a rename keeps the user");
    }
    let messages = house
        .receiver
        .wait_for(usize::try_from(run["jobs"].as_u64().unwrap()).unwrap());
    let mut by_type: HashMap<String, Vec<Value>> = HashMap::new();
    for message in &messages {
        by_type
            .entry(message.json()["type"].as_str().unwrap().to_owned())
            .or_default()
            .push(message.json());
    }
    let told: BTreeMap<String, String> = by_type
        .remove("user.reprovision")
        .unwrap_or_default()
        .iter()
        .map(|m| {
            (
                m["data"]["user"]["username"].as_str().unwrap().to_owned(),
                m["data"]["user"]["phone"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    // A first number sends nothing; neither does a user who must not log on.
    let expected: BTreeMap<String, String> = did("phone")
        .iter()
        .map(|p| {
            (
                p["uid"].as_str().unwrap().to_owned(),
                p["e164"].as_str().unwrap().to_owned(),
            )
        })
        .filter(|(uid, e164)| {
            before[uid]["phone"].is_string()
                && before[uid]["phone"] != **e164
                && before[uid]["state"] == "active"
        })
        .collect();
    assert_eq!(told, expected);
    assert_eq!(
        by_type.remove("user.suspend").unwrap_or_default().len(),
        suspended
    );
    assert_eq!(by_type.remove("user.rename").unwrap_or_default().len(), 5);
    assert!(by_type.is_empty(), "{by_type:?}");
    let again = house.sync_and_deliver(0);
    assert_eq!(again["outcome"], "unchanged", "{again}");
    assert_eq!(house.receiver.accepted().len(), messages.len());
}

#[test]
fn signatures_verify_and_the_number_told_is_provisioned() {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let house = House::new(50);
    house.sync(0);
    house.churn(&[("phone", 3)]);
    let run = house.sync_and_deliver(0);
    let messages = house
        .receiver
        .wait_for(usize::try_from(run["jobs"].as_u64().unwrap()).unwrap());
    let key = base64::engine::general_purpose::STANDARD
        .decode(&crate::support::house::SECRET[6..])
        .unwrap();
    for message in &messages {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.{}", message.id, message.timestamp, message.body).as_bytes());
        let expected = format!(
            "v1,{}",
            base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
        );
        assert_eq!(message.signature, expected);
        let url = message.json()["data"]["enrolment_url"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            url.starts_with("https://mfa.example.org/enrol/") && url.len() > 60,
            "{url}"
        );
    }
    for user in house.users().values().filter(|u| u["state"] == "active") {
        assert_eq!(user["phone"], user["phone_provisioned"], "{user}");
    }
}
