//! Containers that are moved, renamed and deleted: no server touches the people in them, and all the same nobody is forgotten.

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::eventually;

const TEAM: [&str; 4] = ["team-a", "team-b", "team-c", "team-d"];

/// A house with an `ou=team` of four among its people.
fn house(kind: &'static str, directory: &str) -> House {
    let house = House::with(Server::start(kind, &["--users", "40"]), "");
    let brake = "[realm.brake]\nfloor = 1000\n";
    house.configure_as(&house.server["BIND_DN"], directory, brake);
    let people = house.server["PEOPLE_DN"].to_owned();
    let mut ldif = format!(
        "dn: ou=team,{people}\nchangetype: add\nobjectClass: organizationalUnit\nou: team\n\n"
    );
    for (n, name) in TEAM.iter().enumerate() {
        ldif.push_str(&format!(
            "dn: uid={name},ou=team,{people}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: x\nmobile: +42190570000{n}\n\n"
        ));
    }
    house.server.modify(&ldif);
    house
}

fn renamed(dn: &str, rdn: &str, superior: &str) -> String {
    format!(
        "dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 1\nnewsuperior: {superior}\n\n"
    )
}

/// State and DN of each of the team, in order.
fn team(house: &House) -> Vec<(String, String)> {
    let users = house.users();
    TEAM.iter()
        .map(|name| {
            let text = |of: &str| users[*name][of].as_str().unwrap_or_default().to_owned();
            (text("state"), text("dn"))
        })
        .collect()
}

fn all_are(house: &House, state: &str) -> bool {
    team(house).iter().all(|(s, _)| s == state)
}

/// A full pass finds nothing that was not told.
fn no_drift(house: &House, when: &str) {
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(
        (&full["mode"], &full["outcome"], &full["drift"]),
        (&"full".into(), &"unchanged".into(), &0.into()),
        "{when}: {full}\n{}",
        house.log()
    );
}

fn delta(house: &House, when: &str) -> Value {
    let run = house.sync(0);
    assert_eq!(run["mode"], "delta", "{when}: {run}");
    run
}

/// 389-ds 2.3 takes the people of a container along once in its life: moved again, they stay where they were moved first.
fn another_life(house: &mut House, kind: &str) {
    if kind == "ds389" {
        house.server.stop();
        house.server.resume();
    }
}

/// Trap 10: what the servers tell of a container is its own id, if anything.
fn a_container_goes_and_comes(kind: &'static str) {
    let mut house = house(kind, "changes = \"syncrepl\"");
    let (people, former) = (
        &house.server["PEOPLE_DN"].to_owned(),
        &house.server["FORMER_DN"].to_owned(),
    );
    let here = format!("ou=team,{people}");
    let away = format!("ou=team,{former}");
    house.sync(0);
    assert!(all_are(&house, "active"), "{kind}");

    house.server.modify(&renamed(&here, "ou=team", former));
    let run = delta(&house, "out");
    assert_eq!(run["suspended"], 4, "{kind}: {run}");
    let reasons = house.users();
    assert_eq!(reasons["team-a"]["state_reason"], "out_of_scope", "{kind}");
    no_drift(&house, "out");

    another_life(&mut house, kind);
    house.server.modify(&renamed(&away, "ou=team", people));
    let run = delta(&house, "back");
    assert_eq!(run["restored"], 4, "{kind}: {run}");
    no_drift(&house, "back");

    another_life(&mut house, kind);
    house.server.modify(&renamed(&here, "ou=crew", people));
    delta(&house, "renamed");
    for (name, (state, dn)) in TEAM.iter().zip(team(&house)) {
        let there = format!("uid={name},ou=crew,{people}");
        assert_eq!((state, dn), ("active".into(), there), "{kind}");
    }
    no_drift(&house, "renamed");

    another_life(&mut house, kind);
    // Another one has taken its name by the time that it is asked.
    let crew = format!("ou=crew,{people}");
    house.server.modify(&format!(
        "{}dn: {crew}\nchangetype: add\nobjectClass: organizationalUnit\nou: crew\n",
        renamed(&crew, "ou=crew", former)
    ));
    let run = delta(&house, "replaced");
    assert_eq!(run["suspended"], 4, "{kind}: {run}");
    no_drift(&house, "replaced");
    another_life(&mut house, kind);
    house.server.modify(&format!(
        "dn: {crew}\nchangetype: delete\n\n{}",
        renamed(&format!("ou=crew,{former}"), "ou=crew", people)
    ));
    let run = delta(&house, "back again");
    assert_eq!(run["restored"], 4, "{kind}: {run}");

    another_life(&mut house, kind);
    // Two go to another place, and the container with the rest is moved and emptied there.
    let mut ldif = String::new();
    for name in &TEAM[..2] {
        ldif.push_str(&renamed(
            &format!("uid={name},{crew}"),
            &format!("uid={name}"),
            people,
        ));
    }
    ldif.push_str(&renamed(&crew, "ou=crew", former));
    for name in &TEAM[2..] {
        ldif.push_str(&format!(
            "dn: uid={name},ou=crew,{former}\nchangetype: delete\n\n"
        ));
    }
    ldif.push_str(&format!("dn: ou=crew,{former}\nchangetype: delete\n"));
    house.server.modify(&ldif);
    delta(&house, "emptied");
    let states: Vec<String> = team(&house).into_iter().map(|(state, _)| state).collect();
    assert_eq!(
        states,
        ["active", "active", "suspended", "suspended"],
        "{kind}"
    );
    no_drift(&house, "emptied");
}

#[test]
fn trap_10_a_container_goes_and_comes_by_syncrepl_on_openldap() {
    a_container_goes_and_comes("openldap");
}

#[test]
fn trap_10_a_container_goes_and_comes_by_syncrepl_on_389ds() {
    a_container_goes_and_comes("ds389");
}

/// Without its session log slapd tells who is there: containers are among those.
#[test]
fn trap_20_a_present_phase_tells_of_containers_too() {
    let mut house = house("openldap", "changes = \"syncrepl\"");
    let (people, former) = (
        house.server["PEOPLE_DN"].to_owned(),
        house.server["FORMER_DN"].to_owned(),
    );
    house.sync(0);
    for (from, to, state) in [
        (&people, &former, "suspended"),
        (&former, &people, "active"),
    ] {
        house
            .server
            .modify(&renamed(&format!("ou=team,{from}"), "ou=team", to));
        house.server.stop();
        house.server.resume();
        delta(&house, state);
        assert!(all_are(&house, state), "{state}: {:?}", team(&house));
        no_drift(&house, state);
    }
}

/// Trap 18: who is not let see anybody any more is still told of the base itself.
#[test]
fn trap_18_a_base_without_people_is_no_evidence_in_a_present_phase() {
    let mut house = house("openldap", "changes = \"syncrepl\"");
    house.sync(0);
    let before = house.users();
    house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n\
         olcAccess: {{0}}to dn.children=\"{}\" by dn.exact=\"{}\" none by * break\n",
        &house.server["PEOPLE_DN"], &house.server["BIND_DN"]
    ));
    house.server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: description\ndescription: x\n",
        &house.server["FORMER_DN"]
    ));
    house.server.stop();
    house.server.resume();
    let run = house.run(&["--json", "sync", "r"]).json();
    assert_eq!(
        (&run["mode"], &run["error_code"]),
        (&"full".into(), &"empty".into()),
        "{run}"
    );
    assert!(
        run["note"].as_str().unwrap().contains("nobody under"),
        "{run}"
    );
    assert_eq!(house.users(), before);
}

/// Time stamps tell of a container that is renamed or comes, and not of one that goes.
#[test]
fn trap_10_a_container_is_renamed_and_goes_by_timestamps() {
    let house = house("openldap", "changes = \"timestamp\"");
    let (people, former) = (&house.server["PEOPLE_DN"], &house.server["FORMER_DN"]);
    house.sync(0);
    let here = format!("ou=team,{people}");
    house.server.modify(&renamed(&here, "ou=crew", people));
    delta(&house, "renamed");
    let crew = format!("ou=crew,{people}");
    assert!(team(&house).iter().all(|(_, dn)| dn.ends_with(&crew)));
    no_drift(&house, "renamed");
    house.server.modify(&renamed(&crew, "ou=crew", former));
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(full["drift"], 0, "{full}");
    assert!(all_are(&house, "suspended"));
    house
        .server
        .modify(&renamed(&format!("ou=crew,{former}"), "ou=team", people));
    assert_eq!(delta(&house, "back")["restored"], 4);
    no_drift(&house, "back");
}

fn pushed(house: &House) {
    eventually(house, "the push is connected", || {
        let status = house.run(&["--json", "status"]).json();
        status["following"]["push"]["connected"] == true
    });
}

#[test]
fn trap_10_a_container_goes_and_comes_by_push() {
    for kind in ["openldap", "ds389"] {
        let mut house = house(kind, "changes = \"push\"");
        let (people, former) = (
            &house.server["PEOPLE_DN"].to_owned(),
            &house.server["FORMER_DN"].to_owned(),
        );
        let _daemon = house.daemon();
        house.sync(0);
        pushed(&house);
        house
            .server
            .modify(&renamed(&format!("ou=team,{people}"), "ou=team", former));
        eventually(&house, "they are away", || all_are(&house, "suspended"));
        another_life(&mut house, kind);
        pushed(&house);
        house
            .server
            .modify(&renamed(&format!("ou=team,{former}"), "ou=crew", people));
        eventually(&house, "they are back", || all_are(&house, "active"));
        another_life(&mut house, kind);
        pushed(&house);
        house
            .server
            .modify(&renamed(&format!("ou=crew,{people}"), "ou=team", people));
        let there = format!("ou=team,{people}");
        eventually(&house, "they are renamed", || {
            team(&house).iter().all(|(_, dn)| dn.ends_with(&there))
        });
        no_drift(&house, kind);
    }
}
