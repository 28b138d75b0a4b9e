//! The ways in which directory synchronisation goes wrong, each against a real server.

use serde_json::Value;

use crate::support::house::House;

/// Everybody, without the notices: what is refused of an entry changes nobody, but it is said there.
fn everybody(house: &House) -> std::collections::BTreeMap<String, Value> {
    let mut users = house.users();
    for user in users.values_mut() {
        user.as_object_mut().expect("a user").remove("notices");
    }
    users
}

/// A run that must fail with this code, and change nobody.
fn fails(house: &House, code: &str) -> Value {
    let before = everybody(house);
    let run = house.run(&["--json", "sync", "r"]);
    assert_ne!(run.code, 0, "{}", run.out);
    let json = run.json();
    assert_eq!(
        (&json["outcome"], &json["error_code"]),
        (&Value::from("failed"), &Value::from(code)),
        "{json}"
    );
    assert_eq!(everybody(house), before, "nobody was changed");
    json
}

#[test]
fn trap_01_a_typo_in_the_filter_is_a_failure() {
    let house = House::new(30);
    house.configure_as(
        &house.server["BIND_DN"],
        "filter = \"(objectClas=inetOrgPerson)\"",
        "",
    );
    // Also on the very first pass.
    fails(&house, "empty");
    house.configure("");
    house.sync(0);
    house.configure_as(
        &house.server["BIND_DN"],
        "filter = \"(objectClas=inetOrgPerson)\"",
        "",
    );
    fails(&house, "empty");
}

#[test]
fn trap_02_a_blind_account_changes_nobody() {
    let house = House::new(30);
    house.sync(0);
    std::fs::write(house.path("bind"), &house.server["BLIND_PASSWORD"]).unwrap();
    house.configure_as(&house.server["BLIND_DN"], "", "");
    fails(&house, "empty");
}

#[test]
fn trap_03_nobody_loses_a_phone_to_an_acl() {
    let house = House::new(60);
    house.sync(0);
    let before = everybody(&house);
    std::fs::write(house.path("bind"), &house.server["NOPHONE_PASSWORD"]).unwrap();
    house.configure_as(&house.server["NOPHONE_DN"], "", "");
    let run = house.sync(3);
    assert_eq!(run["held_by"][0]["limit"], "phone-lost", "{run}");
    assert_eq!(everybody(&house), before);
    // With a sentinel the run fails before anything is read.
    let name = before
        .iter()
        .find(|(_, u)| u["phone"].is_string())
        .map(|(_, u)| u["dn"].as_str().unwrap().to_owned())
        .unwrap();
    house.configure_as(
        &house.server["NOPHONE_DN"],
        &format!("sentinel = \"{name}\""),
        "",
    );
    fails(&house, "sentinel");
}

#[test]
fn trap_04_a_size_limit_makes_the_pass_incomplete() {
    let house = House::new(800);
    house.sync(0);
    std::fs::write(house.path("bind"), &house.server["CAPPED_PASSWORD"]).unwrap();
    house.configure_as(&house.server["CAPPED_DN"], "", "");
    fails(&house, "incomplete");
}

#[test]
fn trap_06_a_stopped_server_changes_nobody() {
    let mut house = House::new(30);
    house.sync(0);
    house.server.stop();
    let run = house.run(&["--json", "sync", "r"]);
    assert_eq!(run.code, 69, "{}{}", run.out, run.err);
    assert_eq!(run.json()["error_code"], "unreachable");
    house.server.resume();
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

#[test]
fn trap_11_the_same_name_with_a_new_id_is_another_person() {
    let house = House::new(30);
    house.sync(0);
    let before = everybody(&house);
    let (name, user) = before
        .iter()
        .find(|(_, u)| u["state"] == "active" && u["phone"].is_string())
        .unwrap();
    let dn = user["dn"].as_str().unwrap();
    house.server.modify(&format!("dn: {dn}\nchangetype: delete\n\ndn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: New\nsn: New\nmobile: +421905999888\n"));
    let run = house.sync(0);
    assert_eq!(
        (run["created"].as_i64(), run["suspended"].as_i64()),
        (Some(1), Some(1)),
        "{run}"
    );
    let said = house.run(&["--json", "users", "list", "--realm", "r", "--search", name]);
    let both = said.lines();
    let new = both
        .iter()
        .find(|u| u["state"] == "active")
        .expect("the new one works at once");
    assert_ne!(new["id"], user["id"], "no factor is inherited");
    assert_eq!(new["phone"], "+421905999888");
}

#[test]
fn trap_12_two_users_swap_their_names_in_one_run() {
    let house = House::new(30);
    house.sync(0);
    let before = everybody(&house);
    let mut names = before.keys().cloned();
    let (a, b) = (names.next().unwrap(), names.next().unwrap());
    let dn = |name: &str| before[name]["dn"].as_str().unwrap().to_owned();
    let base = &house.server["PEOPLE_DN"];
    let ldif = format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: uid=tmp\ndeleteoldrdn: 1\n\ndn: {}\nchangetype: modrdn\nnewrdn: uid={a}\ndeleteoldrdn: 1\n\n\
         dn: uid=tmp,{base}\nchangetype: modrdn\nnewrdn: uid={b}\ndeleteoldrdn: 1\n",
        dn(&a),
        dn(&b)
    );
    house.server.modify(&ldif);
    let run = house.sync(0);
    assert_eq!(run["renamed"], 2, "{run}");
    let after = everybody(&house);
    assert_eq!(
        (&after[&a]["id"], &after[&b]["id"]),
        (&before[&b]["id"], &before[&a]["id"])
    );
}

#[test]
fn trap_13_two_entries_with_one_name_are_both_refused_with_both_dns() {
    let house = House::new(20);
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: cn=one,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: twin\ncn: one\nsn: One\n\n\
         dn: cn=two,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: Twin\ncn: two\nsn: Two\n"
    ));
    let run = house.sync(0);
    assert_eq!(
        (run["created"].as_i64(), run["refused_entries"].as_i64()),
        (Some(20), Some(2)),
        "{run}"
    );
    let refused = house.run(&["--json", "refused", "r"]).lines();
    let of = |dn: &str| {
        refused
            .iter()
            .find(|r| r["dn"].as_str().is_some_and(|d| d.starts_with(dn)))
            .unwrap()["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(
        of("cn=one").contains("cn=two") && of("cn=two").contains("cn=one"),
        "{refused:?}"
    );
    // One goes: the other gets the name.
    house
        .server
        .modify(&format!("dn: cn=one,{base}\nchangetype: delete\n"));
    let run = house.sync(0);
    assert_eq!(
        (run["created"].as_i64(), run["refused_entries"].as_i64()),
        (Some(1), Some(0)),
        "{run}"
    );
    // A rival of somebody who has the name already takes nothing away.
    house.server.modify(&format!("dn: cn=three,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: TWIN\ncn: three\nsn: Three\n"));
    let run = house.sync(0);
    assert_eq!(
        (&run["outcome"], run["refused_entries"].as_i64()),
        (&Value::from("unchanged"), Some(2)),
        "{run}"
    );
    assert_eq!(everybody(&house)["Twin"]["state"], "active");
}

#[test]
fn trap_14_reformatting_and_order_are_no_change() {
    let house = House::new(30);
    house.sync(0);
    let before = everybody(&house);
    let user = before
        .values()
        .find(|u| u["phone"].as_str().is_some_and(|p| p.starts_with("+421")))
        .unwrap();
    let national = format!(
        "0{} / {}",
        &user["phone"].as_str().unwrap()[4..7],
        &user["phone"].as_str().unwrap()[7..]
    );
    let dn = user["dn"].as_str().unwrap();
    house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {national}\n"
    ));
    let run = house.sync_and_deliver(0);
    assert_eq!(
        (&run["outcome"], run["phone_changed"].as_i64()),
        (&Value::from("unchanged"), Some(0)),
        "{run}"
    );
    assert_eq!(house.receiver.all().len(), 0);
}

#[test]
fn trap_25_a_changed_filter_is_held() {
    let house = House::new(40);
    house.sync(0);
    house.configure_as(
        &house.server["BIND_DN"],
        "filter = \"(&(objectClass=inetOrgPerson)(!(employeeNumber=7)))\"",
        "",
    );
    let run = house.sync(3);
    assert!(
        run["held_by"]
            .as_array()
            .unwrap()
            .iter()
            .any(|h| h["limit"] == "mapping"),
        "{run}"
    );
    assert_eq!(run["suspended"], 1);
    // Put back: the plan is replaced by nothing.
    house.configure("");
    assert_eq!(house.sync(0)["outcome"], "unchanged");
    let old = house.run(&["--json", "runs", "show", run["run"].as_str().unwrap()]);
    assert_eq!(old.json()["outcome"], "replaced", "{}", old.out);
}

#[test]
fn trap_27_and_44_a_mass_edit_of_phones_is_held_approved_and_the_window_begins_anew() {
    let house = House::new(60);
    house.sync(0);
    let before = everybody(&house);
    house.churn(&[("phone", 40)]);
    let run = house.sync(3);
    assert_eq!(run["held_by"][0]["limit"], "phone-changed", "{run}");
    assert_eq!(everybody(&house), before, "a held plan applies nothing");
    // The same again keeps the plan and its id.
    let again = house.sync(3);
    assert_eq!(again["run"], run["run"]);
    let id = run["run"].as_str().unwrap();
    let approved = house.run(&["--json", "approve", id]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    assert_eq!(
        (&approved.json()["run"], &approved.json()["outcome"]),
        (&run["run"], &Value::from("applied"))
    );
    // Once.
    let twice = house.run(&["approve", id]);
    assert_eq!(twice.code, 1, "{}{}", twice.out, twice.err);
    // TRAPS 44: the window begins anew.
    house.churn(&[("phone", 5)]);
    let after = house.sync_and_deliver(0);
    assert_eq!(after["outcome"], "applied", "{after}");
}

#[test]
fn trap_43_an_approval_looks_again() {
    let house = House::new(60);
    house.sync(0);
    let churn = house.churn(&[("delete", 20)]);
    let run = house.sync(3);
    assert_eq!(run["held_by"][0]["limit"], "suspended", "{run}");
    let changes = house
        .run(&["--json", "runs", "show", run["run"].as_str().unwrap()])
        .lines();
    assert!(
        changes
            .iter()
            .skip(1)
            .all(|c| c["after"]["state_reason"].is_null()),
        "a plan held by its counts looks nobody up"
    );
    // Meanwhile the directory makes one of them again: with another id, so the plan still holds. Then somebody else goes.
    let before = everybody(&house);
    let gone: Vec<&str> = churn["did"]["delete"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["uid"].as_str().unwrap())
        .collect();
    let approved = house.run(&["--json", "approve", run["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    let after = everybody(&house);
    for name in gone {
        let (is, was) = (&after[name], &before[name]);
        assert_eq!(
            (&is["state"], &is["state_reason"]),
            (&Value::from("suspended"), &Value::from("deleted")),
            "{was}"
        );
    }
}

#[test]
fn trap_43_an_approval_refuses_what_is_no_longer_so() {
    let house = House::new(60);
    house.sync(0);
    house.churn(&[("move", 20)]);
    let run = house.sync(3);
    // They are back on Friday.
    house.churn(&[("back", 20)]);
    let approved = house.run(&["--json", "approve", run["run"].as_str().unwrap()]);
    let new = approved.json();
    assert_ne!(new["run"], run["run"], "{new}");
    assert!(
        everybody(&house)
            .values()
            .all(|u| u["state_reason"] != "out_of_scope")
    );
}

#[test]
fn trap_45_half_of_a_small_firm_always_trips() {
    let house = House::new(12);
    house.sync(0);
    house.churn(&[("delete", 9)]);
    let run = house.sync(3);
    assert!(
        run["held_by"]
            .as_array()
            .unwrap()
            .iter()
            .any(|h| h["limit"] == "suspended"),
        "{run}"
    );
}

#[test]
fn trap_47_a_container_that_vanishes_at_once_is_held() {
    let house = House::new(200);
    let base = house.server["PEOPLE_DN"].to_owned();
    let mut ldif = format!(
        "dn: ou=branch,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: branch\n\n"
    );
    for i in 0..4 {
        ldif.push_str(&format!("dn: uid=b{i},ou=branch,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: b{i}\ncn: b\nsn: b\n\n"));
    }
    house.server.modify(&ldif);
    house.sync(0);
    house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {{0}}to dn.subtree=\"ou=branch,{base}\" by dn.exact=\"{}\" none by * read\n",
        &house.server["BIND_DN"]
    ));
    let run = house.sync(3);
    assert!(
        run["held_by"]
            .as_array()
            .unwrap()
            .iter()
            .any(|h| h["limit"] == "container"),
        "{run}"
    );
}

/// Those who were moved away still stand in the container by the store, and show nothing of those who are not found.
#[test]
fn trap_47_a_container_of_which_most_moved_away_and_the_rest_vanishes_is_held() {
    for by_delta in [false, true] {
        let house = House::new(200);
        let way = if by_delta { "changes = \"auto\"" } else { "" };
        house.configure_as(&house.server["BIND_DN"], way, "");
        let base = house.server["PEOPLE_DN"].to_owned();
        let mut ldif = String::new();
        for ou in ["branch", "office"] {
            ldif.push_str(&format!(
                "dn: ou={ou},{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: {ou}\n\n"
            ));
        }
        for i in 0..9 {
            ldif.push_str(&format!("dn: uid=b{i},ou=branch,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: b{i}\ncn: b\nsn: b\n\n"));
        }
        house.server.modify(&ldif);
        house.sync(0);
        let mut changes = String::new();
        for i in 0..6 {
            changes.push_str(&format!("dn: uid=b{i},ou=branch,{base}\nchangetype: modrdn\nnewrdn: uid=b{i}\ndeleteoldrdn: 0\nnewsuperior: ou=office,{base}\n\n"));
        }
        if by_delta {
            for i in 6..9 {
                changes.push_str(&format!(
                    "dn: uid=b{i},ou=branch,{base}\nchangetype: delete\n\n"
                ));
            }
        }
        house.server.modify(&changes);
        if !by_delta {
            house.server.configure(&format!(
                "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {{0}}to dn.children=\"ou=branch,{base}\" by dn.exact=\"{}\" none by * read\n",
                &house.server["BIND_DN"]
            ));
        }
        let run = house.sync(3);
        let by = &run["held_by"][0];
        assert_eq!(
            (&by["limit"], &by["count"]),
            (&"container".into(), &3.into()),
            "{run}"
        );
    }
}

/// One who is there still is enough, however many moved away and however many are gone.
#[test]
fn trap_47_a_container_in_which_somebody_is_seen_still_is_not_held() {
    let house = House::new(200);
    let base = house.server["PEOPLE_DN"].to_owned();
    let mut ldif = String::new();
    for ou in ["branch", "office"] {
        ldif.push_str(&format!(
            "dn: ou={ou},{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: {ou}\n\n"
        ));
    }
    for i in 0..12 {
        ldif.push_str(&format!("dn: uid=b{i:02},ou=branch,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: b{i:02}\ncn: b\nsn: b\n\n"));
    }
    house.server.modify(&ldif);
    house.sync(0);
    let mut changes = String::new();
    for i in 4..12 {
        changes.push_str(&format!("dn: uid=b{i:02},ou=branch,{base}\nchangetype: modrdn\nnewrdn: uid=b{i:02}\ndeleteoldrdn: 0\nnewsuperior: ou=office,{base}\n\n"));
    }
    for i in 1..4 {
        changes.push_str(&format!(
            "dn: uid=b{i:02},ou=branch,{base}\nchangetype: delete\n\n"
        ));
    }
    house.server.modify(&changes);
    let run = house.sync(0);
    assert_eq!(run["suspended"], 3, "{run}");
}

#[test]
fn trap_49_and_55_moved_between_realms_and_orphaned() {
    let house = House::new(20);
    house.sync(0);
    // The realm's id changes: a new realm takes everybody over, once an administrator agrees.
    let text = std::fs::read_to_string(house.path("realmsync.toml"))
        .unwrap()
        .replace("id = \"r\"", "id = \"s\"");
    std::fs::write(house.path("realmsync.toml"), text).unwrap();
    let before = house.run(&["--json", "users", "list"]).lines();
    // A command says nothing of realms that its file lacks; a daemon does.
    assert_eq!(house.run(&["--json", "sync", "s"]).json()["moved"], 0);
    drop(house.daemon());
    let run = house.run(&["--json", "sync", "s"]);
    assert_eq!(run.code, 3, "{}{}", run.out, run.err);
    let run = run.json();
    assert_eq!(run["moved"], 20, "{run}");
    let approved = house.run(&["--json", "approve", run["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    let after = house.run(&["--json", "users", "list"]).lines();
    let ids = |list: &[Value]| {
        list.iter()
            .map(|u| u["id"].to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&before), ids(&after), "everybody keeps everything");
    assert!(after.iter().all(|u| u["realm"] == "s"));
    let active = after.iter().filter(|u| u["state"] == "active").count();
    let run = house.run(&["--json", "sync", "s", "--deliver"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let told = house.receiver.wait_for(active);
    assert!(told.iter().all(|m| m.json()["type"] == "user.restore"
        && m.json()["data"]["reason"] == "moved"
        && m.json()["data"]["realm"] == "s"));
}

#[test]
fn trap_58_an_acl_that_hides_who_is_disabled_restores_nobody() {
    let house = House::new(600);
    house.sync(0);
    let disabled = everybody(&house)
        .values()
        .filter(|u| u["state_reason"] == "disabled")
        .count();
    assert!(disabled >= 10, "the lab has {disabled} disabled people");
    house.configure("[realm.brake]\nrestored = \"1%\"\n");
    house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {{0}}to attrs=pwdAccountLockedTime by dn.exact=\"{}\" none by * read\n",
        &house.server["BIND_DN"]
    ));
    let run = house.sync(3);
    assert_eq!(run["held_by"][0]["limit"], "restored", "{run}");
}

#[test]
fn undo_puts_back_what_a_run_changed() {
    let house = House::new(100);
    house.sync(0);
    let before = everybody(&house);
    house.churn(&[("phone", 5), ("delete", 2), ("add", 2)]);
    let run = house.sync(0);
    let undone = house.run(&["--json", "undo", run["run"].as_str().unwrap()]);
    assert_eq!(undone.code, 0, "{}{}", undone.out, undone.err);
    let after = everybody(&house);
    for (name, was) in &before {
        let is = &after[name];
        assert_eq!(
            (&is["phone"], &is["state"]),
            (&was["phone"], &was["state"]),
            "{name}"
        );
    }
    assert_eq!(
        after
            .values()
            .filter(|u| u["state_reason"] == "undone")
            .count(),
        2
    );
    // What was to be said is not said, and no pass does it all again.
    let refused = house.run(&["sync", "r"]);
    assert_eq!(
        refused.code, 1,
        "a realm is paused by an undo: {}",
        refused.err
    );
    assert_eq!(house.receiver.all().len(), 0);
}

#[test]
fn trap_24_a_restored_copy_replays_nothing_by_itself() {
    let house = House::new(40);
    house.sync(0);
    house.churn(&[("phone", 3)]);
    // Nobody has seen their links: one that was sent before is given up, since it is void in a copy.
    let run = house.sync(0);
    let jobs = usize::try_from(run["jobs"].as_u64().unwrap()).unwrap();
    let copy = house.path("copy.db");
    let said = house.run(&["backup", copy.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.err);
    let again = house.run(&["backup", copy.to_str().unwrap()]);
    assert_eq!(again.code, 1, "a copy overwrites nothing: {}", again.err);
    // The disk of the original dies, and the copy takes its place.
    for file in ["realmsync.db", "realmsync.db-wal", "realmsync.db-shm"] {
        let _maybe_not_there = std::fs::remove_file(house.path(file));
    }
    std::fs::rename(&copy, house.path("realmsync.db")).unwrap();
    let run = house.sync_and_deliver(0);
    assert_eq!(
        run["outcome"], "unchanged",
        "cursor and data are of one moment: {run}"
    );
    let outbox = house.run(&["--json", "outbox", "list"]).lines();
    assert_eq!(
        outbox.iter().filter(|j| j["state"] == "held").count(),
        jobs,
        "{outbox:?}"
    );
    assert_eq!(house.receiver.accepted().len(), 0);
    assert_eq!(house.run(&["outbox", "release", "--all"]).code, 0);
    house.sync_and_deliver(0);
    assert_eq!(house.receiver.accepted().len(), jobs);
}

#[test]
fn trap_26_a_first_pass_of_ten_thousand_sends_nothing() {
    let house = House::new(10_000);
    let run = house.sync_and_deliver(0);
    assert_eq!(
        (run["created"].as_i64(), run["jobs"].as_i64()),
        (Some(10_000), Some(0)),
        "{run}"
    );
    assert_eq!(house.receiver.all().len(), 0);
}

#[test]
fn a_first_pass_that_would_send_to_many_is_held_and_sends_when_approved() {
    let house = House::new(30);
    house.configure("realm: new-users = \"send\"\n");
    let run = house.sync_and_deliver(3);
    assert_eq!(run["held_by"][0]["limit"], "messages", "{run}");
    let shown = house
        .run(&["--json", "runs", "show", run["run"].as_str().unwrap()])
        .lines();
    assert!(
        shown
            .iter()
            .skip(1)
            .all(|c| c["kind"] == "created" && c["after"]["username"].is_string()),
        "a staged row shows what it makes"
    );
    let approved = house.run(&["--json", "approve", run["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    let active = house
        .users()
        .values()
        .filter(|u| u["state"] == "active")
        .count();
    house.sync_and_deliver(0);
    let accepted = house.receiver.wait_for(active);
    assert!(
        accepted.iter().all(
            |m| m.json()["type"] == "user.provision" && m.json()["data"]["reason"] == "created"
        )
    );
    assert_eq!(accepted.len(), active);
}

/// Everybody is due, not only those at whom a pass happens to look; and what is due to many is weighed.
#[test]
fn a_realm_that_begins_to_send_does_so_in_one_plan_that_is_held() {
    let house = House::new(60);
    house.sync(0);
    let active = house
        .users()
        .values()
        .filter(|u| u["state"] == "active")
        .count();
    house.configure("realm: new-users = \"send\"\n");
    let planned = house.run(&["--json", "plan", "r"]);
    assert_eq!(planned.code, 3, "{}{}", planned.out, planned.err);
    let run = house.sync_and_deliver(3);
    let held = &run["held_by"][0];
    assert_eq!(
        (held["limit"].as_str(), held["count"].as_u64()),
        (Some("messages"), Some(active as u64)),
        "{run}"
    );
    assert_eq!(run["held_by"].as_array().unwrap().len(), 1, "{run}");
    let again = house.sync_and_deliver(3);
    assert_eq!(again["run"], run["run"], "the same plan is confirmed");
    assert_eq!(house.receiver.all().len(), 0);
    let said = house.run(&["runs", "show", run["run"].as_str().unwrap()]);
    assert!(
        !said.out.contains("nothing differs") && said.out.contains("messages"),
        "{}",
        said.out
    );
    let approved = house.run(&["--json", "approve", run["run"].as_str().unwrap()]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    assert_eq!(approved.json()["outcome"], "applied");
    assert_eq!(house.sync_and_deliver(0)["outcome"], "unchanged");
    let accepted = house.receiver.wait_for(active);
    assert_eq!(accepted.len(), active);
    assert!(
        accepted.iter().all(
            |m| m.json()["type"] == "user.provision" && m.json()["data"]["reason"] == "created"
        )
    );
}

/// With deltas too: nobody is told of whom nothing changed, so the switch itself makes a run read everything.
#[test]
fn a_switch_of_what_is_sent_is_no_delta() {
    let house = House::new(60);
    let send = |extra: &str| {
        house.configure_as(
            &house.server["BIND_DN"],
            "changes = \"syncrepl\"",
            &format!("realm: {extra}\n[realm.brake]\nphone-changed = \"100%\"\n"),
        );
    };
    send("on-phone-change = \"provisioned\"");
    house.sync(0);
    house.churn(&[("phone", 4)]);
    let run = house.sync(0);
    assert_eq!((&run["mode"], &run["jobs"]), (&"delta".into(), &0.into()));
    let due = everybody(&house)
        .values()
        .filter(|u| u["state"] == "active" && u["phone"] != u["phone_provisioned"])
        .count();
    assert!(due > 1, "{run}");
    // Few, so that nobody is asked: all of them at once.
    send("on-phone-change = \"always\"");
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["outcome"], &run["jobs"]),
        (&"full".into(), &"applied".into(), &due.into()),
        "{run}"
    );
    let run = house.sync(0);
    assert_eq!((&run["mode"], &run["jobs"]), (&"delta".into(), &0.into()));
    send("new-users = \"send\"");
    let run = house.sync(3);
    assert_eq!(
        (&run["mode"], &run["held_by"][0]["limit"]),
        (&"full".into(), &"messages".into()),
        "{run}"
    );
}

/// Numbers by hand stand where the entry is as it was: only a look at everybody finds them.
#[test]
fn after_a_switch_of_phone_authority_everybody_is_looked_at() {
    let house = House::new(60);
    let authority = |which: &str| {
        house.configure_as(
            &house.server["BIND_DN"],
            "changes = \"syncrepl\"",
            &format!("realm: phone-authority = \"{which}\"\n"),
        );
    };
    authority("local");
    house.sync(0);
    let before = everybody(&house);
    let by_hand = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        some = \"select id from users where phone is not null and phone_source = 'directory' and state = 'active' order by username_key limit 3\"\n\
        for n, (user,) in enumerate(db.execute(some).fetchall()):\n    \
            db.execute(\"update users set phone = ?, phone_raw = null, phone_source = 'manual', phone_attribute = null, phone_provisioned = ? where id = ?\",\n        \
                (f'+42190500011{n}', f'+42190500011{n}', user))\n\
        db.commit()\n";
    let status = std::process::Command::new("/usr/bin/python3")
        .arg("-c")
        .arg(by_hand)
        .arg(house.path("realmsync.db"))
        .status()
        .unwrap();
    assert!(status.success());
    let with_hand = everybody(&house);
    let phones = |users: &std::collections::BTreeMap<String, Value>| {
        let of = |(name, u): (&String, &Value)| (name.clone(), u["phone"].clone());
        users.iter().map(of).collect::<Vec<_>>()
    };
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["outcome"]),
        (&"delta".into(), &"unchanged".into()),
        "{run}"
    );
    let run = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(run["outcome"], "unchanged", "theirs to decide: {run}");
    authority("directory");
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["outcome"], &run["phone_changed"]),
        (&"full".into(), &"applied".into(), &3.into()),
        "{run}"
    );
    assert_ne!(phones(&with_hand), phones(&before));
    assert_eq!(phones(&everybody(&house)), phones(&before));
    let run = house.sync(0);
    assert_eq!(
        (&run["mode"], &run["outcome"]),
        (&"delta".into(), &"unchanged".into()),
        "{run}"
    );
}

/// TRAPS 37, as an attacker does it.
#[test]
fn trap_37_deleting_the_number_first_gains_nothing() {
    let house = House::new(30);
    house.configure("[realm.phone-change]\nhold = \"24h\"\nnotify-previous = true\n");
    house.sync(0);
    let before = everybody(&house);
    let (name, user) = before
        .iter()
        .find(|(_, u)| u["state"] == "active" && u["phone"].is_string())
        .unwrap();
    let dn = user["dn"].as_str().unwrap();
    let modify = |what: &str| {
        house
            .server
            .modify(&format!("dn: {dn}\nchangetype: modify\n{what}\n"));
    };
    modify("delete: mobile");
    assert_eq!(house.sync_and_deliver(0)["phone_lost"], 1);
    modify("replace: mobile\nmobile: +421905666666");
    let run = house.sync_and_deliver(0);
    assert_eq!(
        (&run["phone_changed"], &run["jobs"]),
        (&1.into(), &1.into())
    );
    let waits = &everybody(&house)[name];
    assert_eq!(
        (&waits["phone"], &waits["phone_pending"]),
        (&Value::Null, &"+421905666666".into())
    );
    let said = house.receiver.wait_for(1);
    let [notice] = said.as_slice() else {
        panic!("{said:?}")
    };
    let notice = notice.json();
    assert_eq!(notice["type"], "user.phone_notice");
    assert_eq!(notice["data"]["previous_phone"], user["phone"]);
    let explained = house.run(&["explain", name, "--realm", "r"]);
    assert!(
        explained.out.contains("takes effect at") && !explained.out.contains("has no value"),
        "{}",
        explained.out
    );
}

#[test]
fn a_plan_of_messages_alone_is_applied_and_said() {
    let house = House::new(60);
    house.sync(0);
    house.configure("realm: new-users = \"send\"\n[realm.brake]\nfloor = 1000\n");
    let planned = house.run(&["plan", "r"]);
    assert_eq!(planned.code, 2, "{}{}", planned.out, planned.err);
    assert!(!planned.out.contains("nothing differs"), "{}", planned.out);
    let run = house.sync_and_deliver(0);
    assert_eq!(run["outcome"], "applied", "{run}");
    let jobs = usize::try_from(run["jobs"].as_u64().unwrap()).unwrap();
    let users = house.users();
    assert_eq!(
        jobs,
        users.values().filter(|u| u["state"] == "active").count()
    );
    assert_eq!(house.receiver.wait_for(jobs).len(), jobs);
    // Back to waiting: nobody is told, and who was is not told again.
    house.configure("");
    assert_eq!(house.sync_and_deliver(0)["jobs"], 0);
    house.configure("realm: new-users = \"send\"\n");
    assert_eq!(house.sync_and_deliver(0)["outcome"], "unchanged");
}

#[test]
fn trap_46_a_mass_rename_is_held() {
    let house = House::new(60);
    house.sync(0);
    house.configure("[realm.attributes]\nusername = \"mail\"\n");
    let run = house.sync(3);
    let limits: Vec<&str> = run["held_by"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["limit"].as_str().unwrap())
        .collect();
    assert!(
        limits.contains(&"renamed") && limits.contains(&"mapping"),
        "{run}"
    );
    assert_eq!(run["renamed"], 60);
    // An attribute that the file names and the schema does not have is a fault, not a loss.
    house.configure("[realm.attributes]\nphone = \"mobil\"\n");
    fails(&house, "config");
}

#[test]
fn trap_55_a_rebuilt_directory_is_adopted() {
    let house = House::new(40);
    house.sync(0);
    let before = everybody(&house);
    // The same people with new ids: everybody is deleted and made again.
    let base = house.server["PEOPLE_DN"].to_owned();
    let mut ldif = String::new();
    for (name, user) in &before {
        let dn = user["dn"].as_str().unwrap();
        let mail = user["email"].as_str().unwrap();
        let mobile = user["phone"]
            .as_str()
            .map(|p| format!("mobile: {p}\n"))
            .unwrap_or_default();
        ldif.push_str(&format!("dn: {dn}\nchangetype: delete\n\ndn: uid={name},{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: x\nsn: x\nmail: {mail}\n{mobile}\n"));
    }
    house.server.modify(&ldif);
    let run = house.sync(3);
    assert!(run["suspended"].as_i64().unwrap() > 30, "{run}");
    let adopted = house.run(&["--json", "adopt", run["run"].as_str().unwrap()]);
    assert_eq!(adopted.code, 0, "{}{}", adopted.out, adopted.err);
    assert_eq!(
        (&adopted.json()["mode"], &adopted.json()["suspended"]),
        (&Value::from("adopt"), &Value::from(0)),
        "{}",
        adopted.out
    );
    let after = everybody(&house);
    assert_eq!(after.len(), before.len());
    for (name, was) in &before {
        let is = &after[name];
        assert_eq!(
            (&is["id"], &is["phone"]),
            (&was["id"], &was["phone"]),
            "{name}"
        );
        assert_ne!(is["directory_id"], was["directory_id"]);
    }
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

#[test]
fn trap_59_a_normaliser_that_reads_otherwise_is_held() {
    let house = House::new(30);
    house.sync(0);
    // As if another version had read one number differently.
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        db.execute(\"update realms set mapping_hash = 'of another version'\")\n\
        db.execute(\"update users set fingerprint = null\")\n\
        db.execute(\"update users set phone = '+421905000111' where id = (select id from users where phone is not null and state = 'active' limit 1)\")\n\
        db.commit()\n";
    let path = house.path("realmsync.db");
    let status = std::process::Command::new("/usr/bin/python3")
        .arg("-c")
        .arg(script)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
    let run = house.sync(3);
    assert_eq!(
        (
            run["held_by"][0]["limit"].as_str(),
            run["phone_changed"].as_i64()
        ),
        (Some("mapping"), Some(1)),
        "{run}"
    );
}

#[test]
fn trap_10_renames_and_moves_keep_the_user() {
    let house = House::new(40);
    house.sync(0);
    let before = everybody(&house);
    let base = house.server["PEOPLE_DN"].to_owned();
    let (name, user) = before.iter().find(|(_, u)| u["state"] == "active").unwrap();
    let dn = user["dn"].as_str().unwrap();
    house.server.modify(&format!(
        "dn: ou=branch,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: branch\n\ndn: {dn}\nchangetype: modrdn\nnewrdn: uid={name}\ndeleteoldrdn: 1\nnewsuperior: ou=branch,{base}\n"
    ));
    let run = house.sync(0);
    assert_eq!(
        (
            run["updated"].as_i64(),
            run["suspended"].as_i64(),
            run["created"].as_i64()
        ),
        (Some(1), Some(0), Some(0)),
        "{run}"
    );
    let after = everybody(&house);
    assert_eq!(after[name]["id"], user["id"]);
    // A whole unit gets another name: everybody in it follows.
    house.server.modify(&format!(
        "dn: ou=unit,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: unit\n\n\
         dn: uid=inside,ou=unit,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: inside\ncn: x\nsn: x\n"
    ));
    house.sync(0);
    let inside = everybody(&house)["inside"]["id"].clone();
    house.server.modify(&format!(
        "dn: ou=unit,{base}\nchangetype: modrdn\nnewrdn: ou=office\ndeleteoldrdn: 1\n"
    ));
    let run = house.sync(0);
    assert_eq!(
        (run["updated"].as_i64(), run["suspended"].as_i64()),
        (Some(1), Some(0)),
        "{run}"
    );
    let after = everybody(&house);
    assert_eq!(after["inside"]["id"], inside);
    assert!(
        after["inside"]["dn"]
            .as_str()
            .unwrap()
            .contains("ou=office")
    );
}

#[test]
fn trap_08_an_empty_replica_changes_nobody() {
    use crate::support::lab::Server;
    let house = House::new(30);
    house.sync(0);
    let before = everybody(&house);
    let empty = Server::start("openldap", &["--users", "0"]);
    let text = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    let text = text
        .replace(&house.server["LDAPS_URI"], &empty["LDAPS_URI"])
        .replace(&house.server["CA_FILE"], &empty["CA_FILE"]);
    std::fs::write(house.path("realmsync.toml"), text).unwrap();
    let run = house.run(&["--json", "sync", "r"]);
    let code = run.json()["error_code"].as_str().unwrap().to_owned();
    assert!(["empty", "stale"].contains(&code.as_str()), "{}", run.out);
    assert_eq!(everybody(&house), before);
}

#[test]
fn trap_57_after_an_attempt_whose_end_is_unknown_the_newest_number_is_told() {
    let house = House::new(40);
    house.sync(0);
    let before = everybody(&house);
    let user = before
        .values()
        .find(|u| {
            u["state"] == "active" && u["phone"].as_str().is_some_and(|p| p.starts_with("+421"))
        })
        .unwrap();
    let (dn, old) = (
        user["dn"].as_str().unwrap(),
        user["phone"].as_str().unwrap(),
    );
    let set = |number: &str| {
        house.server.modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n"
        ));
    };
    // Refused answers have a known end: back to the old number, nothing is to be said.
    house.receiver.answer(503);
    set("+421905111222");
    house.sync_and_deliver(0);
    set(old);
    house.sync_and_deliver(0);
    house.receiver.answer(204);
    std::thread::sleep(std::time::Duration::from_secs(2));
    house.sync_and_deliver(0);
    assert_eq!(
        house.receiver.accepted().len(),
        0,
        "it was never told, and is equal again"
    );
    // One that hangs may have arrived: the number in use is told, although the outside world should know it.
    house.receiver.hang(true);
    set("+421905333444");
    house.sync_and_deliver(0);
    house.receiver.hang(false);
    set(old);
    house.sync_and_deliver(0);
    let accepted = house.receiver.wait_for(1);
    let last = accepted.last().unwrap().json();
    assert_eq!(
        (&last["type"], last["data"]["user"]["phone"].as_str()),
        (&Value::from("user.reprovision"), Some(old)),
        "{last}"
    );
    // And not by each pass again.
    house.sync_and_deliver(0);
    assert_eq!(house.receiver.accepted().len(), accepted.len());
}

#[test]
fn trap_07_and_50_a_replica_that_is_behind_gives_nobody_their_old_number() {
    use crate::support::lab::Server;
    // Two servers with the same people; the second does not hear of what happens to the first.
    let house = House::new(40);
    let behind = Server::start("openldap", &["--users", "40"]);
    let both = |house: &House, first: &str, second: &str| {
        // One file with both authorities, as a house with two certificates has it.
        let roots = std::fs::read_to_string(&house.server["CA_FILE"]).unwrap()
            + &std::fs::read_to_string(&behind["CA_FILE"]).unwrap();
        std::fs::write(house.path("roots.pem"), roots).unwrap();
        let text = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
        let servers = format!("servers = [\"{first}\", \"{second}\"]");
        let line = text
            .lines()
            .find(|l| l.starts_with("servers = "))
            .unwrap()
            .to_owned();
        let text = text.replace(&line, &servers).replace(
            &house.server["CA_FILE"],
            house.path("roots.pem").to_str().unwrap(),
        );
        std::fs::write(house.path("realmsync.toml"), text).unwrap();
    };
    both(&house, &house.server["LDAPS_URI"], &behind["LDAPS_URI"]);
    house.churn(&[("phone", 3), ("delete", 1)]);
    house.sync(0);
    let before = everybody(&house);
    // The first one is down: the second answers, with old numbers and people who are gone.
    house.server.stop();
    let run = house.run(&["--json", "sync", "r"]);
    assert_eq!(run.json()["error_code"], "stale", "{}", run.out);
    assert_eq!(everybody(&house), before);
    // Told so once, it is taken as it is: through the brake, like any pass.
    let told = house.run(&["--json", "sync", "r", "--accept-older"]);
    assert_ne!(told.json()["outcome"], "failed", "{}", told.out);
}
