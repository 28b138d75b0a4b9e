//! Users listed by what filters say, with what is missing: by the command, and by the control socket.

use std::process::Command;

use serde_json::{Value, json};

use super::{MADE, both_ways, done, lines};
use crate::support::house::House;

/// What the control socket answers to GET.
pub fn get(house: &House, path: &str) -> Value {
    let output = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(house.path("control.sock"))
        .arg(format!("http://localhost/api/v1/{path}"))
        .output()
        .expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn names(users: &[Value]) -> Vec<&str> {
    users
        .iter()
        .map(|u| u["username"].as_str().unwrap())
        .collect()
}

fn codes(user: &Value) -> Vec<&str> {
    let notices = user["notices"].as_array().expect("notices");
    notices
        .iter()
        .map(|n| n["code"].as_str().unwrap())
        .collect()
}

/// Enabling a method before its factor is there locks nobody out unseen: what is missing is said, and saved all the same.
#[test]
fn trap_130_a_method_whose_factor_is_missing_is_saved_and_says_so() {
    both_ways(|house, _| {
        done(house, &MADE);
        let add = |name: &str, more: &[&str]| {
            let all: Vec<&str> = ["users", "add", "--realm=partners", name]
                .iter()
                .chain(more)
                .copied()
                .collect();
            done(house, &all)
        };
        let eva = add("eva", &["--two-factor=sms-otp,app-otp"]);
        assert_eq!(
            codes(&eva),
            ["phone_missing", "application_not_sent"],
            "{eva}"
        );
        assert_eq!(
            (&eva["status"], &eva["authenticators"], &eva["two_factor"]),
            (
                &json!("enabled"),
                &json!([]),
                &json!(["sms-otp", "app-otp"])
            )
        );
        let detail = eva["notices"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("sms-otp, app-otp need"), "{detail}");
        let jan = add("jan", &["--phone=0905 123 456", "--two-factor=app-push"]);
        assert_eq!(codes(&jan), ["application_not_sent"], "{jan}");
        // Another number is told to the receiver with a link, which is open.
        let jan = done(house, &["users", "edit", "jan", "--phone=0905 123 458"]);
        assert_eq!(codes(&jan), ["enrolment_pending"], "{jan}");
        assert_eq!(jan["enrolment"], "sent");
        let token = add("token", &["--two-factor=hard-token,fido"]);
        assert_eq!(codes(&token), ["hard_token_missing", "fido_missing"]);
        let off = add("off", &["--two-factor=none"]);
        assert_eq!((&off["status"], codes(&off)), (&json!("off"), vec![]));

        for (filter, expected) in [
            (&["--status=off"][..], &["off"][..]),
            (&["--status=enabled"], &["eva", "jan", "token"]),
            (&["--status=used"], &[]),
            (&["--method=hard-token"], &["token"]),
            (&["--enrolment=open"], &["jan"]),
            (&["--enrolment=none"], &["eva", "off", "token"]),
            (&["--phone=none", "--method=sms-otp"], &["eva"]),
            (&["--origin=manual", "--search=O"], &["off", "token"]),
            (&["--sort=-name", "--limit=2"], &["token", "off"]),
            (&["--sort=created"], &["eva", "jan", "token", "off"]),
        ] {
            let all: Vec<&str> = ["users", "list", "--realm=partners"]
                .iter()
                .chain(filter)
                .copied()
                .collect();
            assert_eq!(names(&lines(house, &all)), expected, "{filter:?}");
        }
        // A notice goes when it is true no more.
        let eva = done(house, &["users", "edit", "eva", "--phone=0905 123 457"]);
        assert_eq!(codes(&eva), ["application_not_sent"]);
        let shown = house.run(&["users", "show", "token"]);
        assert!(
            shown
                .out
                .contains("hard token missing: no hard token is assigned"),
            "{}",
            shown.out
        );
        let table = house.run(&["users", "list", "--realm=partners"]);
        assert!(
            table
                .out
                .contains("enabled (hard token missing, fido missing)"),
            "{}",
            table.out
        );
        let csv = house.run(&["users", "list", "--realm=partners", "--csv"]);
        let rows: Vec<&str> = csv.out.lines().collect();
        assert_eq!(rows.len(), 5, "{}", csv.out);
        assert!(
            rows[1].contains("+421905123457") && rows[1].ends_with("application_not_sent"),
            "{}",
            rows[1]
        );
    });
}

#[test]
fn pages_of_the_socket_go_on_where_the_one_before_ended() {
    let house = House::new(7);
    house.sync(0);
    let _daemon = house.daemon();
    let (mut seen, mut path) = (vec![], "users?limit=3".to_owned());
    loop {
        let page = &get(&house, &path)["result"];
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 3 && items.iter().all(|u| u["notices"].is_array()));
        seen.extend(items.iter().map(|u| u["id"].clone()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("users?limit=3&after={next}");
    }
    let all = lines(&house, &["users", "list"]);
    let ids: Vec<Value> = all.iter().map(|u| u["id"].clone()).collect();
    assert_eq!(seen, ids);
    let one = get(&house, &format!("users/{}", ids[0].as_str().unwrap()));
    assert_eq!(one["result"], all[0]);
    let by_state = get(&house, "users?state=removed&realm=r");
    assert_eq!(by_state["result"]["items"], json!([]));
    for (path, why) in [
        ("users?state=asleep", "asleep"),
        ("users?limit=0", "1 to 1000"),
        ("users?after=x", "`next`"),
        ("users?colour=blue", "colour"),
    ] {
        let refused = get(&house, path);
        let said = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(
            refused["error"]["code"] == "invalid" && said.contains(why),
            "{path}: {refused}"
        );
    }
    let none = get(&house, "users/00000000-0000-7000-8000-000000000000");
    assert_eq!(none["error"]["code"], "not-found");
}
