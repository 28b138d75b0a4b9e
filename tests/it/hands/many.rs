//! What is done to many users at once, to those who are named, and by a helpdesk to one; and whom methods reach.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::lists::get;
use super::{MADE, both_ways, done, lines, refused};
use crate::support::house::House;

/// What the control socket answers to a request with a body.
fn send(house: &House, method: &str, path: &str, body: &Value) -> Value {
    let output = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(house.path("control.sock"))
        .args(["-X", method, "-H", "content-type: application/json", "-d"])
        .arg(body.to_string())
        .arg(format!("http://localhost/api/v1/{path}"))
        .output()
        .expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The operation once it is over.
fn over(house: &House, id: &str) -> Value {
    for _ in 0..600 {
        let shown = get(house, &format!("operations/{id}"));
        if shown["result"]["state"] != "running" {
            return shown["result"].clone();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("operation {id} does not end: {}", house.log());
}

fn with(house: &House, method: &str) -> usize {
    let method = format!("--method={method}");
    lines(house, &["users", "list", "--realm=r", &method]).len()
}

#[test]
fn methods_of_many_are_one_run_that_undo_puts_back() {
    both_ways(|house, door| {
        house.sync(0);
        done(house, &MADE);
        for name in ["jan", "eva"] {
            done(house, &["users", "add", "--realm=partners", name]);
        }
        let before = lines(house, &["users", "list"]);
        let all = before.len();
        // Nothing is done to many unasked, and whoever is named is not also filtered.
        let said = refused(house, &["two-factor", "enable", "fido", "--realm=r"]);
        assert!(said.contains("3 users fit, and nothing is done"), "{said}");
        for arguments in [
            &["two-factor", "enable", "fido"][..],
            &["two-factor", "enable", "fido", "jan", "--status=off"],
            &["two-factor", "enable", "fido", "--all", "--realm=r"],
            &["users", "block"],
        ] {
            let said = house.run(arguments);
            assert_eq!(said.code, 64, "{arguments:?}: {}", said.err);
        }
        let said = refused(
            house,
            &["users", "block", "--realm=r", "--phone=waiting", "--yes"],
        );
        assert!(said.contains("nobody fits"), "{said}");
        assert_eq!(lines(house, &["users", "list"]), before, "nothing was done");

        let operation = done(
            house,
            &["two-factor", "enable", "fido,sms-otp", "--realm=r", "--yes"],
        );
        for (field, is) in [
            ("kind", json!("action")),
            ("state", json!("done")),
            ("total", json!(3)),
            ("done", json!(3)),
            ("changed", json!(3)),
            ("skipped", json!(0)),
            ("refused", json!(0)),
        ] {
            assert_eq!(operation[field], is, "{field}: {operation}");
        }
        assert_eq!((with(house, "fido"), with(house, "sms-otp")), (3, 3));
        let run = operation["run"].as_str().expect("a run");
        let shown = lines(house, &["runs", "show", run]);
        assert_eq!(
            (
                &shown[0]["mode"],
                &shown[0]["outcome"],
                &shown[0]["updated"]
            ),
            (&json!("action"), &json!("applied"), &json!(3)),
            "{shown:?}"
        );
        assert_eq!(shown.len(), 4, "a line for each: {shown:?}");
        // The same again changes nobody.
        let again = done(
            house,
            &["two-factor", "enable", "fido", "--realm=r", "--yes"],
        );
        assert_eq!(
            (&again["changed"], &again["skipped"], &again["run"]),
            (&json!(0), &json!(3), &json!(null))
        );
        // Somebody who changed since stays as they are.
        let first = before.iter().find(|u| u["realm"] == "r").unwrap();
        let id = first["id"].as_str().unwrap();
        done(house, &["two-factor", "disable", "fido", id]);
        let undone = house.run(&["--json", "undo", run]);
        assert_eq!(undone.code, 0, "{}{}", undone.out, undone.err);
        assert_eq!(with(house, "fido"), 0);
        assert_eq!(with(house, "sms-otp"), 1, "of whom was changed since");
        let status = lines(house, &["status"]);
        let realm = status.iter().find(|line| line["realm"] == "r");
        assert_eq!(realm.expect("the realm")["paused"], false, "{status:?}");
        // A pass changes none of it, and its brake counts none of it.
        house.sync(0);
        assert_eq!((with(house, "fido"), with(house, "sms-otp")), (0, 1));

        // Several realms: a run of each.
        let blocked = done(house, &["users", "block", "--all", "--yes"]);
        assert_eq!(
            (
                &blocked["changed"],
                blocked["runs"].as_array().map(Vec::len)
            ),
            (&json!(all), Some(2)),
            "{blocked}"
        );
        // What the directory owns is refused for each of them, and the others go.
        let removed = house.run(&["--json", "users", "remove", "--all", "--yes"]);
        assert_eq!(removed.code, 1, "{}", removed.err);
        assert_eq!(
            (&removed.json()["changed"], &removed.json()["refused"]),
            (&json!(2), &json!(3))
        );
        let audit = lines(house, &["audit"]);
        let actions: Vec<&Value> = audit.iter().filter(|l| l["act"] == "action").collect();
        assert_eq!(actions.len(), 4, "{audit:?}");
        assert!(
            actions[0]["from"] == door && actions[0]["after"]["total"] == 3,
            "{actions:?}"
        );
        assert_eq!(done(house, &["audit", "verify"])["whole"], true);
    });
}

#[test]
fn who_is_named_is_changed_alone_and_names_come_from_standard_input_too() {
    let house = House::new(3);
    done(&house, &MADE);
    for (name, phone) in [("jan", "0905123456"), ("eva", "0905123457"), ("ada", "")] {
        let phone = format!("--phone={phone}");
        done(
            &house,
            &[
                "users",
                "add",
                "--realm=partners",
                name,
                &phone,
                "--two-factor=none",
            ],
        );
    }
    let said = house.run(&["--json", "two-factor", "enable", "app-otp", "jan", "ada"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let both = said.lines();
    assert_eq!(
        (
            &both[0]["username"],
            &both[0]["two_factor"],
            &both[1]["status"]
        ),
        (&json!("jan"), &json!(["app-otp"]), &json!("enabled"))
    );
    let codes = both[1]["notices"].as_array().unwrap().len();
    assert_eq!(codes, 2, "no number, and not sent: {}", both[1]);
    let said = house.run(&["two-factor", "enable", "app-push", "jan", "ada"]);
    assert!(
        said.err
            .contains("1 user can be sent the application now: jan"),
        "{}",
        said.err
    );
    let mut command = house.command(&[
        "--json",
        "two-factor",
        "disable",
        "app-otp",
        "--stdin",
        "--yes",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let names = "jan\n\n eva \nada\njan\n";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(names.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let operation: Value = serde_json::from_slice(&output.stdout).expect("an operation");
    assert_eq!(
        (
            &operation["total"],
            &operation["changed"],
            &operation["skipped"]
        ),
        (&json!(3), &json!(2), &json!(1)),
        "each once: {operation}"
    );
}

/// A selection is frozen when it is confirmed: a crash in the middle loses no count and nothing is done twice, another number than
/// expected does nothing, and the same again changes nothing.
#[test]
fn trap_132_what_is_done_to_many_survives_a_crash_and_is_done_once() {
    let house = House::new(3300);
    house.sync(0);
    let before = lines(&house, &["users", "list"]);
    let all = before.len();
    assert!(all > 3000, "more than three batches: {all}");
    let body = |expect: usize| json!({"do": "enable", "methods": ["fido"], "filter": {"realm": "r"}, "expect": expect});
    let mut daemon = house.daemon_at("operation.after-commit");
    let other = send(&house, "POST", "actions", &body(all + 1));
    assert_eq!(other["error"]["code"], "refused", "{other}");
    for wrong in [
        json!({"do": "enable", "methods": ["fido"], "filter": {"realm": "r"}}),
        json!({"do": "enable", "filter": {}, "expect": all}),
        json!({"do": "dance", "filter": {}, "expect": all}),
        json!({"do": "block", "methods": ["fido"], "filter": {}, "expect": all}),
        json!({"do": "block", "users": [], "filter": {}, "expect": all}),
    ] {
        let refused = send(&house, "POST", "actions", &wrong);
        assert_eq!(refused["error"]["code"], "invalid", "{wrong}: {refused}");
    }
    assert_eq!(with(&house, "fido"), 0, "nothing was done");
    let begun = send(&house, "POST", "actions", &body(all));
    let id = begun["result"]["id"]
        .as_str()
        .expect("an operation")
        .to_owned();
    assert_eq!(begun["result"]["total"], all, "{begun}");
    daemon.0.wait().expect("killed after the first batch");
    assert_eq!(with(&house, "fido"), 1000, "one batch was committed");
    drop(daemon);
    // Killed again, in the middle of the second one: nothing of that is there.
    let killed = house
        .command(&["run"])
        .env("REALMSYNC_FAILPOINT", "operation.before-commit")
        .output()
        .expect("the daemon");
    assert!(!killed.status.success(), "killed before the second batch");
    assert_eq!(with(&house, "fido"), 1000, "as before");
    // It is not put back while it is under way.
    let begun = lines(&house, &["runs", "r"]);
    let run = begun.iter().find(|run| run["mode"] == "action");
    let run = run.expect("a run")["run"].as_str().unwrap().to_owned();
    let said = refused(&house, &["undo", &run]);
    assert!(said.contains("still under way"), "{said}");
    let _daemon = house.daemon();
    let ended = over(&house, &id);
    assert_eq!(
        (
            &ended["state"],
            &ended["done"],
            &ended["changed"],
            &ended["skipped"]
        ),
        (&json!("done"), &json!(all), &json!(all), &json!(0)),
        "{ended}"
    );
    let users = lines(&house, &["users", "list"]);
    assert!(users.iter().all(|u| u["version"] == 2), "each once");
    let run = ended["run"].as_str().expect("a run");
    let shown = lines(&house, &["runs", "show", run]);
    assert_eq!((shown.len(), &shown[0]["updated"]), (all + 1, &json!(all)));
    // A double click.
    let again = send(&house, "POST", "actions", &body(all));
    let again = over(&house, again["result"]["id"].as_str().unwrap());
    assert_eq!(
        (&again["changed"], &again["skipped"]),
        (&json!(0), &json!(all))
    );
    // What is over cannot be cancelled any more, and says so.
    let late = send(&house, "DELETE", &format!("operations/{id}"), &json!({}));
    assert_eq!(late["result"]["state"], "done", "{late}");
    let none = get(&house, "operations/00000000-0000-7000-8000-000000000000");
    assert_eq!(none["error"]["code"], "not-found");
    // Exactly that is put back.
    let undone = house.run(&["--json", "undo", run]);
    assert_eq!(undone.code, 0, "{}{}", undone.out, undone.err);
    let plain = |users: &[Value]| -> Vec<Value> {
        let plain = |user: &Value| {
            let mut user = user.clone();
            for moves in ["version", "updated_at"] {
                user.as_object_mut().unwrap().remove(moves);
            }
            user
        };
        users.iter().map(plain).collect()
    };
    let after = lines(&house, &["users", "list"]);
    assert_eq!(plain(&after), plain(&before));
}

/// A realm that is removed between two batches, and a user whom a newer version wrote, are refused by name; the others go.
#[test]
fn what_cannot_be_done_of_an_operation_stops_nothing_else() {
    let house = House::new(3);
    for (realm, users) in [("alpha", 1), ("beta", 1), ("gamma", 2)] {
        done(&house, &["realms", "create", realm]);
        let realm_option = format!("--realm={realm}");
        for n in 0..users {
            let name = format!("{realm}{n}");
            done(&house, &["users", "add", &realm_option, &name]);
        }
    }
    let mut daemon = house.daemon_at("operation.after-commit");
    let body = json!({"do": "enable", "methods": ["fido"], "filter": {}, "expect": 4});
    let begun = send(&house, "POST", "actions", &body);
    let id = begun["result"]["id"]
        .as_str()
        .expect("an operation")
        .to_owned();
    daemon.0.wait().expect("killed after the first batch");
    drop(daemon);
    done(&house, &["realms", "remove", "beta", "--with-users"]);
    let odd = Command::new("sqlite3")
        .arg(house.path("realmsync.db"))
        .arg("UPDATE users SET two_factor = 'telepathy' WHERE username = 'gamma0'")
        .status()
        .expect("sqlite3 is installed");
    assert!(odd.success());
    let _daemon = house.daemon();
    let ended = over(&house, &id);
    assert_eq!(
        (
            &ended["state"],
            &ended["changed"],
            &ended["refused"],
            &ended["done"]
        ),
        (&json!("done"), &json!(2), &json!(2), &json!(4)),
        "{ended}"
    );
    let with_fido = lines(&house, &["users", "list", "--method=fido"]);
    let mut names: Vec<_> = with_fido.iter().map(|user| &user["username"]).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["alpha0", "gamma1"]);
    let reasons = Command::new("sqlite3")
        .arg(house.path("realmsync.db"))
        .arg("SELECT reason FROM operation_refused")
        .output()
        .expect("sqlite3 is installed");
    let reasons = String::from_utf8_lossy(&reasons.stdout);
    assert!(reasons.contains("a newer one wrote"), "{reasons}");
    assert!(reasons.contains("no realm `beta`"), "{reasons}");
}

#[test]
fn a_temporary_code_is_shown_once_and_audited_without_it() {
    both_ways(|house, _| {
        done(house, &MADE);
        done(house, &["users", "add", "--realm=partners", "jan"]);
        let made = done(house, &["bypass", "jan", "--for=2h", "--uses=3"]);
        let code = made["code"].as_str().expect("a code");
        assert_eq!(code.split('-').count(), 4, "{code}");
        assert_eq!(
            (&made["username"], &made["uses"]),
            (&json!("jan"), &json!(3))
        );
        let audit = lines(house, &["audit"]);
        let last = audit.last().unwrap();
        assert_eq!(
            (&last["act"], &last["username"], &last["after"]["uses"]),
            (&json!("user-bypass"), &json!("jan"), &json!(3))
        );
        assert!(!last.to_string().contains(code));
        let said = refused(house, &["bypass", "jan", "--for=8d"]);
        assert!(said.contains("at most a week"), "{said}");
        let plain = house.run(&["bypass", "jan"]);
        assert_eq!(plain.out.trim().len(), 19, "the code alone: {}", plain.out);
        done(house, &["users", "remove", "jan", "--now"]);
        let id = made["user"].as_str().unwrap();
        refused(house, &["bypass", id]);
    });
}

#[test]
fn coverage_counts_whom_methods_reach_by_realm_and_country() {
    both_ways(|house, _| {
        done(house, &MADE);
        for (name, phone, methods) in [
            ("sk1", "+421905123456", "sms-otp"),
            ("sk2", "+421905123457", "app-otp"),
            ("us", "+12025550123", "sms-otp,app-otp"),
            ("ca", "+15062345678", "none"),
            ("none", "", "sms-otp"),
            ("token", "", "hard-token"),
            ("away", "+421905123459", "sms-otp"),
        ] {
            let (phone, methods) = (
                format!("--phone={phone}"),
                format!("--two-factor={methods}"),
            );
            done(
                house,
                &["users", "add", "--realm=partners", name, &phone, &methods],
            );
        }
        done(house, &["users", "block", "away"]);
        let rows = lines(house, &["coverage", "partners"]);
        let counts: Vec<Value> = rows
            .iter()
            .map(|r| {
                json!([
                    r["country"],
                    r["users"],
                    r["reachable"],
                    r["without_method"],
                    r["phone_missing"],
                    r["application_not_sent"],
                    r["hard_token_missing"]
                ])
            })
            .collect();
        assert_eq!(
            json!(counts),
            json!([
                ["CA", 1, 0, 1, 0, 0, 0],
                ["SK", 2, 1, 0, 0, 1, 0],
                ["US", 1, 1, 0, 0, 1, 0],
                [null, 2, 0, 0, 1, 0, 1],
            ]),
            "{rows:?}"
        );
        let csv = house.run(&["coverage", "--csv"]);
        assert!(
            csv.out
                .lines()
                .nth(1)
                .unwrap()
                .starts_with("partners,CA,1,0,1,1"),
            "{}",
            csv.out
        );
        let table = house.run(&["coverage"]);
        assert!(table.out.contains("1 (50 %)"), "{}", table.out);
    });
}
