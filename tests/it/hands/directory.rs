//! Users of a directory, and what stays the directory's.

use serde_json::json;

use super::{done, lines, refused};
use crate::support::house::House;

pub fn add(house: &House, uid: &str, more: &str) {
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: cn={uid},{base}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: {uid}\nsn: x\nuid: {uid}\ndisplayName: {uid} the First\n{more}"
    ));
}

pub fn set_mobile(house: &House, uid: &str, number: &str) {
    let base = house.server["PEOPLE_DN"].to_owned();
    house.server.modify(&format!(
        "dn: cn={uid},{base}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n"
    ));
}

#[test]
fn what_the_directory_owns_is_refused_with_attribute_and_server() {
    let house = House::new(30);
    add(&house, "zora", "mobile: +421905000001\n");
    house.sync(0);
    let server = house.server["LDAPS_URI"].trim_end_matches('/').to_owned();
    for (option, attribute) in [
        ("--display-name=Zora", "displayName"),
        ("--name=zorka", "uid"),
        ("--email=z@example.org", "mail"),
        ("--phone=+421905000009", "mobile"),
        ("--phone=", "mobile"),
    ] {
        let said = refused(&house, &["users", "edit", "zora", option]);
        assert!(
            said.contains(attribute) && said.contains(&server),
            "{option}: {said}"
        );
        assert!(said.contains("change it there"), "{option}: {said}");
    }
    for now in [
        &["users", "remove", "zora"][..],
        &["users", "remove", "zora", "--now"],
    ] {
        let said = refused(&house, now);
        assert!(said.contains("users block"), "{said}");
    }
    // A note, methods and a block are the administrator's, and no pass lifts them.
    let zora = done(
        &house,
        &["users", "edit", "zora", "--note=n", "--two-factor=fido"],
    );
    assert_eq!(
        (&zora["origin"], &zora["note"], &zora["two_factor"]),
        (&json!("directory"), &json!("n"), &json!(["fido"]))
    );
    done(&house, &["users", "block", "zora"]);
    set_mobile(&house, "zora", "+421905000002");
    house.sync(0);
    let zora = done(&house, &["users", "show", "zora"]);
    assert_eq!(
        (
            &zora["blocked"],
            &zora["note"],
            &zora["phone"],
            &zora["two_factor"]
        ),
        (
            &json!(true),
            &json!("n"),
            &json!("+421905000002"),
            &json!(["fido"])
        )
    );
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}

/// § 3.12: under `directory` a number by hand stands until the directory gives one; under `local` it stays.
#[test]
fn a_number_by_hand_follows_the_authority() {
    let house = House::new(30);
    add(&house, "zora", "");
    house.sync(0);
    let zora = done(&house, &["users", "edit", "zora", "--phone=0905 000 001"]);
    assert_eq!(
        (&zora["phone"], &zora["phone_source"]),
        (&json!("+421905000001"), &json!("manual"))
    );
    assert_eq!(
        house.sync(0)["outcome"],
        "unchanged",
        "the directory gives none"
    );
    set_mobile(&house, "zora", "+421905000002");
    assert_eq!(house.sync(0)["phone_changed"], 1);
    let zora = done(&house, &["users", "show", "zora"]);
    assert_eq!(
        (&zora["phone"], &zora["phone_source"]),
        (&json!("+421905000002"), &json!("directory"))
    );

    house.configure("realm: phone-authority = \"local\"\n");
    house.sync(0);
    done(&house, &["users", "edit", "zora", "--phone=0905 000 003"]);
    set_mobile(&house, "zora", "+421905000004");
    house.sync(0);
    let zora = done(&house, &["users", "show", "zora"]);
    assert_eq!(
        (&zora["phone"], &zora["phone_source"]),
        (&json!("+421905000003"), &json!("manual"))
    );
}

/// Another number by hand waits like the directory's, the number before hears of it, and no pass takes it back.
#[test]
fn trap_77_a_number_by_hand_waits_and_the_one_before_is_told() {
    let house = House::new(30);
    let local = "realm: phone-authority = \"local\"\n[realm.phone-change]\nhold = \"1h\"\nnotify-previous = true\n";
    house.configure(local);
    add(&house, "zora", "mobile: +421905000001\n");
    house.sync(0);
    let zora = done(&house, &["users", "edit", "zora", "--phone=0905 000 002"]);
    assert_eq!(
        (&zora["phone"], &zora["phone_pending"]),
        (&json!("+421905000001"), &json!("+421905000002"))
    );
    assert!(zora["phone_pending_until"].is_string(), "{zora}");
    let notices = lines(&house, &["outbox", "list", "--all"]);
    assert!(
        notices
            .iter()
            .any(|job| job["type"] == "user.phone_notice" && job["user"] == zora["id"]),
        "{notices:?}"
    );
    house.sync(0);
    let zora = done(&house, &["users", "show", "zora"]);
    assert_eq!(
        zora["phone_pending"], "+421905000002",
        "a pass leaves it waiting"
    );
}

/// § 11: a number by hand may end by itself.
#[test]
fn a_number_by_hand_with_an_end_gives_way_to_the_directory() {
    let house = House::new(30);
    house.configure("realm: phone-authority = \"local\"\n");
    add(&house, "zora", "mobile: +421905000001\n");
    house.sync(0);
    done(&house, &["realms", "create", "partners"]);
    done(&house, &["users", "add", "--realm=partners", "jan"]);
    for (arguments, why) in [
        (
            [
                "users",
                "edit",
                "jan",
                "--phone=+421905000009",
                "--until=1h",
            ],
            "of no directory",
        ),
        (
            [
                "users",
                "edit",
                "zora",
                "--phone=+421905000009",
                "--until=2020-01-01T00:00:00Z",
            ],
            "it is over already",
        ),
    ] {
        let said = refused(&house, &arguments);
        assert!(said.contains(why), "{said}");
    }
    let zora = done(
        &house,
        &[
            "users",
            "edit",
            "zora",
            "--phone=0905 000 002",
            "--until=1s",
        ],
    );
    assert_eq!(zora["phone"], "+421905000002");
    // The same number without an end stands without one.
    let edit = |arguments: &[&str]| {
        done(
            &house,
            &[
                &["users", "edit", "zora", "--phone=0905 000 002"],
                arguments,
            ]
            .concat(),
        )
    };
    let endless = edit(&[]);
    assert_eq!(endless["phone_override"]["until"], json!(null), "{endless}");
    assert_eq!(edit(&[])["version"], endless["version"], "nothing changed");
    let zora = edit(&["--until=1s"]);
    let number = &zora["phone_override"];
    assert!(
        number["by"].is_string() && number["at"].is_string() && number["until"].is_string(),
        "{zora}"
    );
    // Each line says until when the number stood before and stands now.
    let ends = |line: &serde_json::Value| {
        (
            line["before"]["phone_until"].is_string(),
            line["after"]["phone_until"].is_string(),
        )
    };
    let audit = lines(&house, &["audit", "--user=zora"]);
    let audit: Vec<(bool, bool)> = audit.iter().map(ends).collect();
    assert_eq!(audit, [(false, true), (true, false), (false, true)]);
    let daemon = house.daemon();
    let ended = || done(&house, &["users", "show", "zora"])["phone_source"] == "directory";
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !ended() {
        assert!(std::time::Instant::now() < end, "{}", house.log());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    drop(daemon);
    house.sync(0);
    let zora = done(&house, &["users", "show", "zora"]);
    assert_eq!(
        (&zora["phone"], &zora["phone_override"]),
        (&json!("+421905000001"), &json!(null))
    );
}
