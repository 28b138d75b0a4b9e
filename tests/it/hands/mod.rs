//! What administrators do to users and realms by hand: the binary, with a daemon and without, over a real slapd.

mod adopting;
mod audit;
mod directory;
mod freezing;
mod hard_tokens;
mod import;
mod links;
pub mod lists;
mod many;
mod protecting;

use serde_json::{Value, json};

use crate::support::house::{Daemon, House};
use crate::support::lab::Server;

/// Runs a command that is to succeed; gives the first line of its JSON.
pub fn done(house: &House, arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    let said = house.run(&all);
    assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
    said.json()
}

/// Runs a command that is to be refused; gives what it says.
pub fn refused(house: &House, arguments: &[&str]) -> String {
    let said = house.run(arguments);
    assert_eq!(said.code, 1, "{arguments:?}: {}{}", said.out, said.err);
    said.err.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines of a list.
pub fn lines(house: &House, arguments: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    let said = house.run(&all);
    assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
    said.lines()
}

/// The same story where the command does it itself, and where a daemon does it, on either store.
fn both_ways(story: impl Fn(&House, &str)) {
    for with_daemon in [false, true] {
        let house = House::new(3);
        let daemon: Option<Daemon> = with_daemon.then(|| house.daemon());
        story(&house, if with_daemon { "socket" } else { "command" });
        drop(daemon);
    }
    let postgres = Server::start("postgres", &[]);
    let mut house = House::new(3);
    postgres["DATABASE_URL"].clone_into(&mut house.database);
    house.configure("");
    let _daemon = house.daemon();
    story(&house, "socket");
}

const MADE: [&str; 12] = [
    "realms",
    "create",
    "partners",
    "--name",
    "Partner firms",
    "--category",
    "external",
    "--region",
    "sk",
    "--time-zone",
    "Europe/Bratislava",
    "--two-factor=sms-otp,app-otp",
];

#[test]
fn a_realm_of_no_file_is_made_changed_and_removed_with_its_users() {
    both_ways(|house, _| {
        assert_eq!(
            done(house, &MADE),
            json!({
                "id": "partners", "name": "Partner firms", "kind": "custom", "category": "external", "region": "SK",
                "time_zone": "Europe/Bratislava", "two_factor": ["sms-otp", "app-otp"], "aliases": [], "users": 0
            })
        );
        for (id, why) in [
            ("PARTNERS", "there is a realm `partners` already"),
            ("R", "the configuration has a realm `r` already"),
            ("a b", "letters, digits"),
            ("-a", "letter or digit first"),
        ] {
            let said = refused(house, &["realms", "create", "--", id]);
            assert!(said.contains(why), "{id}: {said}");
        }
        for (option, why) in [
            ("--region=Atlantis", "is no country"),
            ("--time-zone=Mars/Olympus", "is no time zone"),
        ] {
            let said = refused(house, &["realms", "edit", "partners", option]);
            assert!(said.contains(why), "{option}: {said}");
        }
        let edited = done(
            house,
            &["realms", "edit", "partners", "--category=", "--name=Firms"],
        );
        assert_eq!(
            (&edited["category"], &edited["name"], &edited["region"]),
            (&json!(null), &json!("Firms"), &json!("SK"))
        );
        let said = refused(house, &["realms", "edit", "r", "--name=x"]);
        assert!(said.contains("change it there"), "{said}");
        let said = refused(house, &["realms", "remove", "r"]);
        assert!(said.contains("orphaned"), "{said}");
        // It is there; it has no directory, and messages, which may wait.
        for what in ["sync", "plan"] {
            let said = refused(house, &[what, "partners"]);
            assert!(said.contains("has no directory"), "{what}: {said}");
            let said = refused(house, &[what, "nowhere"]);
            assert!(said.contains("no realm `nowhere`"), "{what}: {said}");
        }
        for what in ["pause", "resume"] {
            let said = house.run(&[what, "partners"]);
            assert_eq!(said.code, 0, "{what}: {}", said.err);
            let said = refused(house, &[what, "nowhere"]);
            assert!(said.contains("no realm `nowhere`"), "{what}: {said}");
        }

        let jan = done(
            house,
            &[
                "users",
                "add",
                "--realm=partners",
                "jan",
                "--phone=0905 123 456",
            ],
        );
        assert_eq!(jan["two_factor"], json!(["sms-otp", "app-otp"]));
        let said = refused(house, &["realms", "remove", "partners"]);
        assert!(said.contains("still has 1 user"), "{said}");
        let gone = done(house, &["realms", "remove", "partners", "--with-users"]);
        assert_eq!(gone, json!({"id": "partners", "users_removed": 1}));
        assert!(
            lines(house, &["realms", "list"])
                .iter()
                .all(|r| r["id"] != "partners")
        );
        let shown = done(house, &["users", "show", jan["id"].as_str().unwrap()]);
        assert_eq!(
            (&shown["state"], &shown["username"], &shown["phone"]),
            (&json!("removed"), &json!(""), &json!(null))
        );
        // The receiver is told to forget, and the id is free again.
        assert!(
            lines(house, &["outbox", "list", "--all"])
                .iter()
                .any(|job| job["type"] == "user.deprovision" && job["user"] == jan["id"])
        );
        let again = done(house, &MADE);
        assert_eq!(again["users"], 0);
    });
}

#[test]
fn a_user_by_hand_lives_and_is_told_of_like_any_other() {
    both_ways(|house, door| {
        done(house, &MADE);
        let jan = done(
            house,
            &[
                "users",
                "add",
                "--realm=partners",
                " Jan ",
                "--phone",
                "0905 123 456",
                "--display-name=Ján Novák",
                "--email=jan@example.org",
                "--note=talks too fast",
            ],
        );
        for (field, is) in [
            ("username", "Jan"),
            ("realm", "partners"),
            ("phone", "+421905123456"),
            ("phone_raw", "0905 123 456"),
            ("phone_source", "manual"),
            ("origin", "manual"),
            ("note", "talks too fast"),
            ("state", "active"),
            ("email", "jan@example.org"),
            ("phone_provisioned", "+421905123456"),
        ] {
            assert_eq!(jan[field], is, "{field}: {jan}");
        }
        assert!(
            jan.get("warnings").is_none() && jan["version"] == 1,
            "{jan}"
        );

        // What cannot be used is refused with its reason, and nothing is saved.
        for (arguments, why) in [
            (
                &["users", "add", "--realm=partners", "eva", "--phone=0905 12"][..],
                "phone: no such number in SK",
            ),
            (
                &[
                    "users",
                    "add",
                    "--realm=partners",
                    "eva",
                    "--phone=0905O23456",
                ],
                "phone:",
            ),
            (
                &["users", "add", "--realm=partners", "eva", "--email=eva"],
                "no e-mail address",
            ),
            (
                &["users", "add", "--realm=partners", "JAN"],
                "is taken in realm `partners` by a user made by hand",
            ),
            (
                &["users", "add", "--realm=partners", " "],
                "user name: it is empty",
            ),
            (
                &["users", "add", "--realm=nowhere", "eva"],
                "no realm `nowhere`; there are: partners, r",
            ),
            (
                &["users", "edit", "jan", "--phone=123", "--note=other"],
                "phone:",
            ),
        ] {
            let said = refused(house, arguments);
            assert!(said.contains(why), "{arguments:?}: {said}");
        }
        let there = lines(house, &["users", "list", "--realm=partners"]);
        assert_eq!(there, std::slice::from_ref(&jan), "nothing was saved");

        // What is only unusual is saved, and said.
        let eva = done(
            house,
            &[
                "users",
                "add",
                "--realm=partners",
                "eva",
                "--phone=02/5930 1111",
            ],
        );
        assert_eq!(eva["phone"], "+421259301111");
        assert_eq!(eva["warnings"][0]["code"], "phone_unusual", "{eva}");

        let id = jan["id"].as_str().unwrap();
        let edited = done(
            house,
            &[
                "users",
                "edit",
                "jan",
                "--name=Jano",
                "--phone=+421 905 654 321",
                "--note=",
            ],
        );
        assert_eq!(
            (
                &edited["username"],
                &edited["phone"],
                &edited["note"],
                &edited["version"],
                &edited["id"]
            ),
            (
                &json!("Jano"),
                &json!("+421905654321"),
                &json!(null),
                &json!(2),
                &jan["id"]
            )
        );
        // The same again changes nothing, and the earlier version is another by now.
        assert_eq!(
            done(house, &["users", "edit", "jano", "--phone=0905654321"])["version"],
            2
        );
        let said = refused(house, &["users", "edit", id, "--note=x", "--if-version=1"]);
        assert!(said.contains("version 2 by now, and not 1"), "{said}");

        assert_eq!(done(house, &["users", "block", "jano"])["blocked"], true);
        assert_eq!(done(house, &["users", "unblock", "jano"])["blocked"], false);
        let away = done(house, &["users", "remove", "jano"]);
        assert_eq!(
            (&away["state"], &away["state_reason"]),
            (&json!("suspended"), &json!("deleted"))
        );
        let gone = done(house, &["users", "remove", id, "--now"]);
        assert_eq!(
            (&gone["state"], &gone["username"]),
            (&json!("removed"), &json!(""))
        );
        // Whoever comes back under the name is somebody else.
        let other = done(house, &["users", "add", "--realm=partners", "jano"]);
        assert_ne!(other["id"], jan["id"]);
        let origins = lines(house, &["users", "list", "--origin=manual"]);
        assert_eq!(origins.len(), 2, "{origins:?}");
        assert!(lines(house, &["users", "list", "--origin=directory"]).is_empty());

        let told: Vec<String> = lines(house, &["outbox", "list", "--all"])
            .iter()
            .filter(|job| job["user"] == jan["id"])
            .map(|job| job["type"].as_str().unwrap().to_owned())
            .collect();
        for wanted in [
            "user.rename",
            "user.reprovision",
            "user.suspend",
            "user.restore",
            "user.deprovision",
        ] {
            assert!(told.iter().any(|t| t == wanted), "{wanted}: {told:?}");
        }

        let audit = lines(house, &["audit"]);
        let acts: Vec<&str> = audit.iter().map(|l| l["act"].as_str().unwrap()).collect();
        assert_eq!(
            acts,
            [
                "realm-create",
                "user-add",
                "user-add",
                "user-edit",
                "user-block",
                "user-unblock",
                "user-remove",
                "user-remove",
                "user-add"
            ]
        );
        assert!(
            audit
                .iter()
                .all(|l| l["from"] == door && l["by"].is_string()),
            "{audit:?}"
        );
        let verified = done(house, &["audit", "verify"]);
        assert_eq!(
            verified,
            json!({"lines": 9, "erased": 5, "whole": true, "faults": [], "end": verified["end"]}),
            "of whom is removed the values went, and the chain is whole"
        );
        let of_eva = lines(house, &["audit", "--user=eva"]);
        assert_eq!(of_eva[0]["after"]["phone"], "+421259301111", "{of_eva:?}");
        let csv = house.run(&["audit", "--csv", "--since=1h"]);
        assert_eq!(csv.out.lines().count(), 10, "{}", csv.out);
    });
}

/// A national number needs a region, and a realm without one says what to do.
#[test]
fn a_realm_without_a_region_asks_for_the_country_code() {
    let house = House::new(3);
    done(&house, &["realms", "create", "plain"]);
    let said = refused(
        &house,
        &["users", "add", "--realm=plain", "jan", "--phone=0905123456"],
    );
    assert!(said.contains("the realm has no region"), "{said}");
    let jan = done(
        &house,
        &[
            "users",
            "add",
            "--realm=plain",
            "jan",
            "--phone=+421 905 123 456",
        ],
    );
    assert_eq!(jan["phone"], "+421905123456");
    assert_eq!(
        jan["two_factor"],
        json!([]),
        "custom realms have no methods unless given"
    );
}

/// A command on several names does what it can, and says whom it missed.
#[test]
fn a_name_that_nobody_has_keeps_nobody_else_from_it() {
    let house = House::new(3);
    done(&house, &MADE);
    for name in ["jan", "eva"] {
        done(&house, &["users", "add", "--realm=partners", name]);
    }
    for (act, field, value) in [
        (&["users", "block"][..], "blocked", json!(true)),
        (&["users", "unblock"], "blocked", json!(false)),
        (&["users", "unlock"], "blocked", json!(false)),
        (
            &["two-factor", "enable", "hard-token"],
            "two_factor",
            json!(["sms-otp", "app-otp", "hard-token"]),
        ),
        (&["withdraw"], "state", json!("active")),
        (&["users", "remove"], "state", json!("suspended")),
        (&["users", "restore"], "state", json!("active")),
    ] {
        let all = [act, &["jan", "nikto", "eva"]].concat();
        let said = refused(&house, &all);
        assert!(said.contains("there is no user `nikto`"), "{all:?}: {said}");
        for name in ["jan", "eva"] {
            let user = done(&house, &["users", "show", name]);
            assert_eq!(user[field], value, "{all:?} of {name}");
        }
        let alone = [act, &["nikto"]].concat();
        let said = refused(&house, &alone);
        assert!(said.contains("there is no user `nikto`"), "{said}");
    }
    // The right name, and another realm; as services name somebody.
    let said = refused(&house, &["users", "show", "jan", "--realm=r"]);
    assert!(said.contains("there is one in `partners`"), "{said}");
    let jan = done(&house, &["users", "show", "jan@partners"]);
    assert_eq!(jan["username"], "jan");
    // Nothing to change is a slip.
    for nothing in [["users", "edit", "jan"], ["realms", "edit", "partners"]] {
        let said = house.run(&nothing);
        assert_eq!(said.code, 64, "{}", said.err);
        assert!(
            said.err.contains("nothing is to be changed"),
            "{}",
            said.err
        );
    }
}
