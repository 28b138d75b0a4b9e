//! How far what is heard of changes may be trusted, and what is remembered of it when a server, a mapping or a realm changes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::eventually;

const BRAKE: &str = "[realm.brake]\nfloor = 1000\n";

fn house(kind: &'static str, directory: &str) -> House {
    let house = House::with(Server::start(kind, &["--users", "40"]), "");
    house.configure_as(&house.server["BIND_DN"], directory, BRAKE);
    house
}

fn full(house: &House) -> Value {
    house.run(&["--json", "sync", "r", "--full"]).json()
}

/// What a way cannot tell is found by each full pass, and is no reason to trust it less.
fn departures_are_no_drift(house: &House) {
    house.sync(0);
    for _ in 0..3 {
        house.churn(&[("delete", 1)]);
        let run = full(house);
        assert_eq!(
            (&run["suspended"], &run["drift"]),
            (&1.into(), &0.into()),
            "{run}"
        );
        assert!(run["note"].as_str().unwrap().contains("no drift"), "{run}");
    }
    assert_eq!(house.sync(0)["mode"], "delta", "it is still trusted");
}

/// Makes a container look as if it had stood there for long: one that is touched is looked through.
fn of_old(server: &Server, dn: &str) {
    let mut modify = Command::new("ldapmodify")
        .args(["-x", "-e", "!relax", "-H", &server["LDAP_URI"]])
        .args(["-D", &server["ADMIN_DN"], "-w", &server["ADMIN_PASSWORD"]])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("ldapmodify");
    let ldif = format!(
        "dn: {dn}\nchangetype: modify\nreplace: modifyTimestamp\nmodifyTimestamp: 20200101000000Z\n"
    );
    let mut input = modify.stdin.take().expect("its input");
    input.write_all(ldif.as_bytes()).expect("written");
    drop(input);
    assert!(modify.wait().expect("its end").success());
}

#[test]
fn who_is_gone_is_no_drift_by_timestamps() {
    let house = house("openldap", "changes = \"timestamp\"");
    of_old(&house.server, &house.server["PEOPLE_DN"]);
    departures_are_no_drift(&house);
    // Moved out is gone too.
    house.churn(&[("move", 1)]);
    let run = full(&house);
    assert_eq!(
        (&run["suspended"], &run["drift"]),
        (&1.into(), &0.into()),
        "{run}"
    );
}

#[test]
fn who_is_gone_is_no_drift_by_dirsync_without_the_right_to_see_deletions() {
    let house = house("samba", "");
    std::fs::write(house.path("bind"), &house.server["PLAIN_PASSWORD"]).unwrap();
    house.configure_as(&house.server["PLAIN_DN"], "changes = \"dirsync\"", BRAKE);
    departures_are_no_drift(&house);
}

/// A server is replaced by one with another server id: told once to take it, realmsync does not ask for the old one for ever.
#[test]
fn a_server_that_was_replaced_is_accepted_once_and_not_stale_again() {
    let house = house("openldap", "changes = \"auto\"");
    house
        .server
        .configure("dn: cn=config\nchangetype: modify\nreplace: olcServerID\nolcServerID: 5\n");
    house.churn(&[("phone", 2)]);
    house.sync(0);
    let new = Server::start("openldap", &["--users", "40"]);
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(&house.server["LDAPS_URI"], &new["LDAPS_URI"])
        .replace(&house.server["CA_FILE"], &new["CA_FILE"]);
    std::fs::write(&path, text).unwrap();
    let stale = house.run(&["--json", "sync", "r"]).json();
    assert_eq!(stale["error_code"], "stale", "{stale}");
    assert!(stale["error"].as_str().unwrap().contains("005"), "{stale}");
    let accepted = house.run(&["--json", "sync", "r", "--accept-older"]).json();
    assert_eq!(accepted["mode"], "full", "{accepted}");
    if accepted["outcome"] == "held" {
        let run = accepted["run"].as_str().unwrap();
        let said = house.run(&["--json", "approve", run, "--accept-older"]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }
    let next = house.sync(0);
    assert_eq!(next["outcome"], "unchanged", "{next}");
    let _daemon = house.daemon();
    pushed(&house, "r");
}

/// A plan of another mapping is approved: push goes on at once.
#[test]
fn push_goes_on_after_an_approved_plan_of_another_mapping() {
    let house = house("openldap", "changes = \"auto\"");
    house.sync(0);
    let phones = format!("{BRAKE}[realm.attributes]\nphone = [\"telephoneNumber\"]\n");
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", &phones);
    let held = house.sync(3);
    assert_eq!(held["outcome"], "held", "{held}");
    let said = house.run(&["approve", held["run"].as_str().unwrap()]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let _daemon = house.daemon();
    pushed(&house, "r");
    assert_eq!(house.sync(0)["mode"], "delta");
}

fn pushed(house: &House, realm: &str) {
    eventually(house, "the push is connected", || {
        house
            .run(&["--json", "status"])
            .lines()
            .iter()
            .any(|said| said["realm"] == *realm && said["following"]["push"]["connected"] == true)
    });
}

/// Adds a realm over those who left, whose id comes first: so does its keeper.
fn with_a_realm_of_former(house: &House) {
    let file = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, realm) = text.split_once("[[realm]]").unwrap();
    let other = realm.replace("id = \"r\"", "id = \"former\"").replace(
        &format!("base = [\"{}\"]", &house.server["PEOPLE_DN"]),
        &format!("base = [\"{}\"]", &house.server["FORMER_DN"]),
    );
    std::fs::write(&file, format!("{head}[[realm]]{other}[[realm]]{realm}")).unwrap();
}

fn in_former(house: &House) -> Vec<Value> {
    let said = house.run(&["--json", "users", "list", "--realm", "former"]);
    said.lines()
        .into_iter()
        .filter(|u| u["state"] == "active")
        .collect()
}

/// § 3.13: whichever realm hears first, whoever moved is taken over at once.
#[test]
fn who_moves_between_two_realms_on_push_is_taken_over_whoever_hears_first() {
    let house = house("openldap", "changes = \"push\"");
    with_a_realm_of_former(&house);
    house.churn(&[("move", 3)]);
    let _daemon = house.daemon();
    for realm in ["former", "r"] {
        let said = house.run(&["--json", "sync", realm]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }
    for realm in ["former", "r"] {
        pushed(&house, realm);
    }
    let before = in_former(&house).len();
    let people: Vec<String> = house
        .users()
        .values()
        .filter(|u| u["state"] == "active")
        .map(|u| u["dn"].as_str().unwrap().to_owned())
        .take(7)
        .collect();
    for (n, dn) in people.iter().enumerate() {
        let rdn = dn.split(',').next().unwrap();
        house.server.modify(&format!(
            "dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 0\nnewsuperior: {}\n",
            &house.server["FORMER_DN"]
        ));
        if n == 0 {
            // The first takeover is held.
            let mut held = Value::Null;
            eventually(&house, "the first takeover is held", || {
                held = house
                    .run(&["--json", "status"])
                    .lines()
                    .iter()
                    .find(|said| said["realm"] == "former")
                    .map_or(Value::Null, |said| said["held"].clone());
                held.is_string()
            });
            let said = house.run(&["approve", held.as_str().unwrap()]);
            assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        }
        eventually(&house, &format!("number {n} is taken over"), || {
            in_former(&house).len() == before + n + 1
        });
    }
}
