//! The main job on 389-ds and on an Active Directory (Samba), as on slapd.

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;

fn follows(server: Server, shown_id: impl Fn(&str) -> bool) {
    let house = House::with(server, "");
    let run = house.sync_and_deliver(0);
    assert_eq!(
        (
            &run["outcome"],
            run["created"].as_i64(),
            run["jobs"].as_i64()
        ),
        (&Value::from("applied"), Some(200), Some(0)),
        "{run}"
    );
    let again = house.sync(0);
    assert_eq!(again["outcome"], "unchanged", "{again}");
    let before = house.users();
    assert!(
        before.values().filter(|u| u["phone"].is_string()).count() > 150,
        "most have a number"
    );
    assert!(
        before.values().any(|u| u["state_reason"] == "disabled"),
        "some are disabled"
    );
    assert!(
        before
            .values()
            .all(|u| shown_id(u["directory_id"].as_str().unwrap())),
        "ids as the directory's own tools print them"
    );
    let churn = house.churn(&[
        ("phone", 4),
        ("nophone", 2),
        ("rename", 3),
        ("move", 2),
        ("disable", 2),
        ("delete", 2),
        ("add", 3),
    ]);
    let run = house.sync_and_deliver(0);
    let name = |p: &Value| {
        p["uid"]
            .as_str()
            .unwrap()
            .chars()
            .take(20)
            .collect::<String>()
    };
    let did = |kind: &str| churn["did"][kind].as_array().unwrap().clone();
    let users = house.users();
    for person in did("phone") {
        assert_eq!(users[&name(&person)]["phone"], person["e164"], "{person}");
    }
    for (kind, reason) in [
        ("move", "out_of_scope"),
        ("delete", "deleted"),
        ("disable", "disabled"),
    ] {
        for person in did(kind) {
            assert_eq!(users[&name(&person)]["state_reason"], reason, "{person}");
        }
    }
    assert_eq!(run["created"], 3, "{run}");
    let told: Vec<String> = house
        .receiver
        .wait_for(usize::try_from(run["jobs"].as_u64().unwrap()).unwrap())
        .iter()
        .map(crate::support::house::receiver::Received::json)
        .filter(|m| m["type"] == "user.reprovision")
        .map(|m| m["data"]["user"]["username"].as_str().unwrap().to_owned())
        .collect();
    let mut expected: Vec<String> = did("phone")
        .iter()
        .filter(|p| {
            before[&name(p)]["phone"].is_string()
                && before[&name(p)]["state"] == "active"
                && before[&name(p)]["phone"] != p["e164"]
        })
        .map(name)
        .collect();
    expected.sort();
    let mut told = told;
    told.sort();
    assert_eq!(told, expected);
    // A rename in Active Directory changes the DN alone, in the others the user name.
    for person in did("rename") {
        let old = &before[&name(&person)];
        assert!(
            users
                .values()
                .any(|u| u["id"] == old["id"] && u["dn"] != old["dn"]),
            "{person}"
        );
    }
    // Back in scope: the same users.
    house.churn(&[("back", 2)]);
    let run = house.sync_and_deliver(0);
    assert_eq!(
        run["restored"].as_u64(),
        Some(
            did("move")
                .iter()
                .filter(|p| before[&name(p)]["state"] == "active")
                .count() as u64
        ),
        "{run}"
    );
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    let blind = format!("CN=blind,OU=Services,{}", &house.server["SUFFIX"]);
    std::fs::write(
        house.path("bind"),
        if house.server["SERVER"] == *"samba" {
            "Blind-Secret-1"
        } else {
            "blind-secret"
        },
    )
    .unwrap();
    house.configure_as(&blind, "", "");
    let run = house.run(&["--json", "sync", "r"]);
    assert_eq!(
        run.json()["error_code"],
        "empty",
        "a blind account changes nobody: {}",
        run.out
    );
}

#[test]
fn the_main_job_on_389_ds() {
    let groups_of_eight = |id: &str| id.len() == 35 && id.split('-').all(|g| g.len() == 8);
    follows(Server::start("ds389", &["--users", "200"]), groups_of_eight);
}

#[test]
fn the_main_job_on_active_directory() {
    follows(Server::start("samba", &["--users", "200"]), |id| {
        id.len() == 36
    });
}

/// A first plan that is held shows ids as the directory's own tools print them, though nothing was applied yet.
#[test]
fn a_held_first_plan_on_active_directory_shows_ids_as_the_directory_does() {
    let house = House::with(
        Server::start("samba", &["--users", "12"]),
        "realm: approve = true\n",
    );
    let held = house.sync(3);
    let run = held["run"].as_str().unwrap();
    let ids = |of: &[serde_json::Value], field: &str| -> Vec<String> {
        let mut ids: Vec<String> = of
            .iter()
            .filter_map(|line| line.pointer(field)?.as_str().map(str::to_owned))
            .collect();
        ids.sort();
        ids
    };
    let shown = house.run(&["--json", "runs", "show", run]).lines();
    let shown = ids(&shown, "/after/directory_id");
    assert_eq!(shown.len(), 12, "{held}");
    assert_eq!(house.run(&["approve", run]).code, 0);
    let users: Vec<_> = house.users().into_values().collect();
    assert_eq!(shown, ids(&users, "/directory_id"));
    // The same text as `objectGUID` of the entry, whose first three fields are little-endian.
    let entry = std::process::Command::new("ldapsearch")
        .args([
            "-LLL",
            "-x",
            "-o",
            "ldif-wrap=no",
            "-H",
            &house.server["LDAPS_URI"],
        ])
        .args([
            "-D",
            &house.server["BIND_DN"],
            "-w",
            &house.server["BIND_PASSWORD"],
        ])
        .args([
            "-b",
            users[0]["dn"].as_str().unwrap(),
            "-s",
            "base",
            "objectGUID",
        ])
        .env("LDAPTLS_CACERT", &house.server["CA_FILE"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&entry.stdout).into_owned();
    let base64 = text
        .lines()
        .find_map(|l| l.strip_prefix("objectGUID:: "))
        .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&entry.stderr)));
    let raw: [u8; 16] = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64)
        .unwrap()
        .try_into()
        .unwrap();
    let guid = uuid::Uuid::from_bytes_le(raw).to_string();
    assert_eq!(users[0]["directory_id"], guid.as_str());
}
