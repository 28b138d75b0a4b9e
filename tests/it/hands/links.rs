//! The application is sent to many and taken back from many; methods with what belongs to them in one step; many are unlocked.

use std::process::Command;

use serde_json::{Value, json};

use super::{MADE, both_ways, done, lines, refused};
use crate::support::house::House;

/// Users of `partners`: two with numbers, one without, one blocked.
fn people(house: &House) {
    done(house, &MADE);
    for (name, phone) in [
        ("jan", "0905123456"),
        ("eva", "0905123457"),
        ("ada", ""),
        ("away", "0905123458"),
    ] {
        let phone = format!("--phone={phone}");
        let user = [
            "users",
            "add",
            "--realm=partners",
            name,
            &phone,
            "--two-factor=none",
        ];
        done(house, &user);
    }
    done(house, &["users", "block", "away"]);
}

fn enrolments(house: &House, enrolment: &str) -> Vec<String> {
    let enrolment = format!("--enrolment={enrolment}");
    let users = lines(
        house,
        &[
            "users",
            "list",
            "--realm=partners",
            &enrolment,
            "--state=active",
        ],
    );
    let names = users
        .iter()
        .map(|u| u["username"].as_str().unwrap().to_owned());
    names.collect()
}

fn urls(sent: &[Value]) -> Vec<&str> {
    sent.iter()
        .map(|one| one["url"].as_str().expect("a link"))
        .collect()
}

fn sqlite(house: &House, sql: &str) -> String {
    let output = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(house.path("realmsync.db"))
        .arg(sql)
        .output()
        .expect("sqlite3 is installed");
    assert!(output.status.success(), "{sql}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_application_is_sent_to_many_and_undo_takes_those_links_back() {
    both_ways(|house, door| {
        people(house);
        let said = house.run(&["--json", "send", "--realm=partners", "--yes"]);
        // Who is blocked is refused by name, and the others go.
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        assert!(
            said.err.contains("away in partners: the user is blocked"),
            "{}",
            said.err
        );
        let sent = said.lines();
        assert_eq!(sent.len(), 3, "a link each: {}", said.out);
        let mut links = urls(&sent);
        links.sort_unstable();
        links.dedup();
        assert_eq!(links.len(), 3, "each their own");
        assert!(
            links[0].starts_with("https://mfa.example.org/enrol/"),
            "{links:?}"
        );
        assert!(
            sent.iter().all(|one| one["channel"] == "webhook"
                && one["state"] == "sent"
                && !one["by"].is_null()),
            "{sent:?}"
        );
        assert_eq!(enrolments(house, "open"), ["ada", "eva", "jan"]);
        let run = lines(house, &["runs", "partners"])
            .into_iter()
            .find(|run| run["mode"] == "action")
            .expect("a run");
        let run = run["run"].as_str().unwrap();
        // Somebody is sent another one: that one stays.
        let jan = done(house, &["send", "jan"]);
        let undone = house.run(&["--json", "undo", run]);
        assert_eq!(undone.code, 0, "{}{}", undone.out, undone.err);
        assert_eq!(enrolments(house, "open"), ["jan"]);
        assert!(!links.contains(&jan["url"].as_str().unwrap()));

        // Taken back, and a link that is void stays so.
        let withdrawn = done(house, &["withdraw", "--realm=partners", "--yes"]);
        assert_eq!(
            (
                &withdrawn["changed"],
                &withdrawn["skipped"],
                &withdrawn["refused"]
            ),
            (&json!(1), &json!(3), &json!(0)),
            "{withdrawn}"
        );
        assert!(enrolments(house, "open").is_empty());
        let run = withdrawn["run"].as_str().expect("a run");
        let why = refused(house, &["undo", run]);
        assert!(why.contains("send the application again"), "{why}");

        // The audit says what was done to whom it was done by which filter, and never a link.
        let audit = lines(house, &["audit"]);
        let acts: Vec<&Value> = audit
            .iter()
            .filter(|line| line["act"] == "action")
            .collect();
        assert_eq!(
            (acts[0]["after"]["do"].as_str(), &acts[0]["from"]),
            (Some("send"), &json!(door))
        );
        assert!(!json!(audit).to_string().contains("/enrol/"));
    });
}

#[test]
fn the_undo_of_something_else_takes_no_link_out_of_a_message() {
    let house = House::new(3);
    people(&house);
    let sent = done(&house, &["send", "jan"]);
    let carried = || {
        let rows = "SELECT COUNT(*) FROM jobs WHERE enrolment IS NOT NULL AND state = 'waiting'";
        (sqlite(&house, rows), enrolments(&house, "open"))
    };
    let before = carried();
    assert_eq!(before, ("1".to_owned(), vec!["jan".to_owned()]), "{sent}");
    let enabled = done(
        &house,
        &["two-factor", "enable", "fido", "--realm=partners", "--yes"],
    );
    let undone = house.run(&["undo", enabled["run"].as_str().expect("a run")]);
    assert_eq!(undone.code, 0, "{}{}", undone.out, undone.err);
    assert_eq!(carried(), before);
}

#[test]
fn methods_are_turned_on_with_what_belongs_to_them() {
    both_ways(|house, _| {
        people(house);
        // Not sent unless somebody says so.
        let said = house.run(&["two-factor", "enable", "app-otp", "jan"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(
            said.err
                .contains("1 user can be sent the application now: jan")
                && said.err.contains("it was not sent"),
            "{}",
            said.err
        );
        assert!(enrolments(house, "open").is_empty());
        let said = house.run(&["two-factor", "enable", "app-otp", "jan", "--no-send"]);
        assert!(
            said.code == 0 && !said.err.contains("can be sent"),
            "{}",
            said.err
        );
        let named = house.run(&[
            "--json",
            "two-factor",
            "enable",
            "app-otp",
            "jan",
            "ada",
            "--send",
        ]);
        assert_eq!(named.code, 0, "{}", named.err);
        let three = named.lines();
        assert_eq!(three.len(), 3, "two users and a link: {}", named.out);
        assert_eq!(three[2]["username"], "jan");
        assert!(
            three[2]["url"]
                .as_str()
                .is_some_and(|url| url.contains("/enrol/"))
        );
        // Of many: whoever can be sent it, and was not.
        let many = house.run(&[
            "--json",
            "two-factor",
            "enable",
            "app-push",
            "--realm=partners",
            "--yes",
            "--send",
        ]);
        assert_eq!(many.code, 0, "{}{}", many.out, many.err);
        let answer = many.lines();
        assert_eq!(
            (&answer[0]["kind"], &answer[0]["changed"]),
            (&json!("action"), &json!(4))
        );
        let to: Vec<&str> = answer[1..]
            .iter()
            .filter_map(|one| one["username"].as_str())
            .collect();
        assert_eq!(
            to,
            ["eva"],
            "jan has a link, ada no number, away is blocked"
        );
        assert_eq!(enrolments(house, "open"), ["eva", "jan"]);

        // A hard token in one step.
        let file = house.path("tokens.csv");
        std::fs::write(&file, "serial,secret,type,digits,period,algorithm,manufacturer\nS1,3132333435363738393031323334353637383930,hotp,6,0,sha1,Maker\n").unwrap();
        done(house, &["hard-tokens", "import", file.to_str().unwrap()]);
        let ada = done(
            house,
            &["two-factor", "enable", "hard-token", "--serial=S1", "ada"],
        );
        assert_eq!(ada["authenticators"][0]["serial"], "S1", "{ada}");
        assert!(
            ada["two_factor"]
                .as_array()
                .unwrap()
                .contains(&json!("hard-token"))
        );
        let codes: Vec<&str> = ada["notices"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|n| n["code"].as_str())
            .collect();
        assert!(!codes.contains(&"hard_token_missing"), "{ada}");
        // A serial that is not there, or somebody else's, turns nothing on.
        for serial in ["S9", "S1"] {
            let serial = format!("--serial={serial}");
            refused(
                house,
                &["two-factor", "enable", "hard-token", &serial, "jan"],
            );
        }
        assert_eq!(
            lines(house, &["users", "list", "--method=hard-token"]).len(),
            1
        );
        for slip in [
            &[
                "two-factor",
                "enable",
                "hard-token",
                "--serial=S1",
                "jan",
                "eva",
            ][..],
            &["two-factor", "enable", "fido", "--serial=S1", "jan"],
            &["two-factor", "enable", "fido", "--send", "jan"],
            &[
                "two-factor",
                "enable",
                "app-otp",
                "--send",
                "--no-send",
                "jan",
            ],
        ] {
            assert_eq!(house.run(slip).code, 64, "{slip:?}");
        }
    });
}

#[test]
fn whoever_fits_a_filter_may_guess_again() {
    let house = House::new(3);
    people(&house);
    sqlite(
        &house,
        "INSERT INTO user_factors (user_id, in_a_row, failed_at, locked_at) SELECT id, 100, 5, 5 FROM users WHERE username IN ('jan', 'eva')",
    );
    let operation = done(&house, &["users", "unlock", "--realm=partners", "--yes"]);
    assert_eq!(
        (
            &operation["changed"],
            &operation["skipped"],
            &operation["run"]
        ),
        (&json!(2), &json!(2), &json!(null)),
        "{operation}"
    );
    let locked = "SELECT COUNT(*) FROM user_factors WHERE locked_at IS NOT NULL OR in_a_row > 0";
    assert_eq!(sqlite(&house, locked), "0");
    let again = done(&house, &["users", "unlock", "--realm=partners", "--yes"]);
    assert_eq!(again["changed"], 0);
}
