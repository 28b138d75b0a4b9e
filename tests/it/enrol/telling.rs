//! Links that are sent again, what users are told of their factors, and who comes with a link that is over.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Browser, Office};
use crate::programs::Program;
use crate::support::house::Receiver;
use crate::support::lab::Server;

const DAY: i64 = 24 * 3600 * 1000;

fn reminding(receiver: &Receiver, postgres: Option<&Server>) -> Office {
    let office = Office::over(postgres, "");
    office.delivering_to(receiver, "[enrolment]\nreminders = [\"5d\", \"2d\"]\n")
}

/// The messages of a type that the receiver took.
fn of(receiver: &Receiver, kind: &str) -> Vec<Value> {
    let mut found = vec![];
    for got in receiver.accepted() {
        let body = got.json();
        if body["type"] == kind {
            found.push(body);
        }
    }
    found
}

fn reasons(receiver: &Receiver) -> Vec<String> {
    let notices = of(receiver, "user.notice");
    let reason = |body: &Value| body["data"]["reason"].as_str().unwrap_or("").to_owned();
    notices.iter().map(reason).collect()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not come about");
}

/// Makes every open link so many days older.
fn older(office: &Office, days: i64) {
    let by = days * DAY;
    office.sql(&format!(
        "UPDATE enrolments SET created_at = created_at - {by}, expires_at = expires_at - {by}, reminded_at = reminded_at - {by} WHERE state = 'open';
         UPDATE jobs SET settled_at = settled_at - {by} WHERE settled_at IS NOT NULL"
    ));
}

#[test]
fn a_link_that_nobody_used_is_sent_again_once_by_two_daemons_and_after_a_restart() {
    let postgres = Server::start("postgres", &[]);
    let receiver = Receiver::start();
    let office = reminding(&receiver, Some(&postgres));
    let other = reminding(&receiver, Some(&postgres));
    let daemon = office.daemon();
    office.with_jan();
    office.done(&[
        "users",
        "add",
        "--realm=partners",
        "eva",
        "--phone=0905 123 457",
    ]);
    let path = office.sent(&[]);
    office.done(&["send", "eva"]);
    eventually("two messages", || {
        of(&receiver, "user.provision").len() == 2 && office.lines(&["outbox", "list"]).is_empty()
    });
    drop(daemon);
    older(&office, 3);
    // Whoever has used the link, or lost it, is not reminded.
    let pair = [office.daemon(), other.daemon()];
    eventually("two reminders", || {
        of(&receiver, "user.reminder").len() >= 2
    });
    let reminders = of(&receiver, "user.reminder");
    let jan = reminders
        .iter()
        .find(|body| body["data"]["user"]["username"] == "jan")
        .expect("jan is reminded");
    let data = &jan["data"];
    let url = data["enrolment_url"].as_str().expect("a link");
    assert!(url.ends_with(&path), "the same link");
    assert_eq!(data["reason"], "sent");
    assert!(data["expires_at"].is_string() && data.get("previous_phone").is_none());
    eventually("both are settled", || {
        office.lines(&["outbox", "list"]).is_empty()
    });
    drop(pair);

    // eva's link is withdrawn while the receiver is down and her next reminder waits; jan uses his.
    older(&office, 3);
    receiver.answer(503);
    let daemon = office.daemon();
    let waiting = || {
        let jobs = office.lines(&["outbox", "list"]);
        let open = |job: &&Value| job["type"] == "user.reminder" && job["state"] == "waiting";
        jobs.iter().filter(open).count()
    };
    eventually("two reminders wait", || waiting() == 2);
    office.done(&["withdraw", "eva"]);
    office.enrol(&mut Browser::desktop(), &path, "");
    receiver.answer(200);
    eventually("jan is told of the application", || {
        reasons(&receiver) == ["activated"]
    });
    eventually("nothing waits", || waiting() == 0);
    drop(daemon);
    let both = [office.daemon(), other.daemon()];
    std::thread::sleep(Duration::from_secs(3));
    drop(both);
    let reminders = of(&receiver, "user.reminder");
    assert_eq!(reminders.len(), 2, "nothing after the end: {reminders:?}");
    assert_eq!(
        office.sql("SELECT COUNT(*) FROM jobs WHERE type = 'user.reminder'"),
        "4"
    );
}

#[test]
fn who_is_blocked_or_has_another_number_or_was_never_told_is_not_reminded() {
    let receiver = Receiver::start();
    let office = reminding(&receiver, None);
    let daemon = office.daemon();
    office.with_jan();
    for (name, phone) in [
        ("eva", "0905 123 457"),
        ("ota", "0905 123 458"),
        ("ivo", "0905 123 459"),
    ] {
        let phone = format!("--phone={phone}");
        office.done(&["users", "add", "--realm=partners", name, &phone]);
        office.done(&["send", name]);
    }
    eventually("three messages", || {
        of(&receiver, "user.provision").len() == 3
    });
    receiver.answer(400);
    office.done(&["send", "jan"]);
    eventually("jan is refused", || {
        let jobs = office.lines(&["outbox", "list"]);
        jobs.iter().any(|job| job["state"] == "final")
    });
    receiver.answer(200);
    office.done(&["users", "block", "eva"]);
    office.done(&["users", "edit", "ota", "--phone=0905 654 321"]);
    drop(daemon);
    older(&office, 3);
    let _daemon = office.daemon();
    eventually("ivo is reminded", || {
        !of(&receiver, "user.reminder").is_empty()
    });
    std::thread::sleep(Duration::from_secs(2));
    let names: Vec<_> = of(&receiver, "user.reminder")
        .iter()
        .map(|body| body["data"]["user"]["username"].clone())
        .collect();
    assert_eq!(names, ["ivo"]);
}

/// A link in wrong hands: the user hears of the application that was set up with it, and ends that by the link in the notice.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_of_an_application_that_is_not_theirs_freezes_the_account() {
    let receiver = Receiver::start();
    let office = reminding(&receiver, None);
    let _daemon = office.daemon();
    office.with_jan();
    let said = office.run(&["api-tokens", "create", "vpn", "--scope=verify"]);
    let vpn = Program::at(office.port).with(said.out.trim());
    let (key, codes) = office.enrol(&mut Browser::desktop(), &office.sent(&[]), "");
    eventually("jan is told", || reasons(&receiver) == ["activated"]);
    let told = of(&receiver, "user.notice").remove(0);
    assert!(told["data"]["expires_at"].is_string(), "{told}");
    let url = told["data"]["freeze_url"].as_str().expect("a link");
    let path = url.strip_prefix(&format!("http://127.0.0.1:{}", office.port));
    let path = path.expect("our page");
    let verdict = async |code: &str| {
        let body = json!({"username": "jan", "realm": "partners", "code": code});
        let answered = vpn.post("verify", &body).await.body;
        (answered["result"].clone(), answered["reason"].clone())
    };
    let mut browser = Browser::desktop();
    assert_eq!(browser.get(office.port, path).status, 200);
    let open = verdict(&codes[0]).await;
    assert_eq!(open, (json!("accepted"), json!(null)), "to look is nothing");
    assert_eq!(browser.post(office.port, path, &[]).status, 200);
    let next = super::code(&key, 30);
    for code in [&codes[1], &next] {
        assert_eq!(verdict(code).await, (json!("rejected"), json!("frozen")));
    }
    // An administrator lets jan in again; nothing of the thief's counts.
    let user = office.done(&["users", "unfreeze", "jan", "--previous"]);
    assert_eq!(user["phone"], "+421905123456");
    for code in [&codes[2], &next] {
        assert_eq!(verdict(code).await.1, json!("not_enrolled"));
    }
    let path = office.sent(&[]);
    let (_, anew) = office.enrol(&mut Browser::desktop(), &path, "");
    assert_eq!(verdict(&anew[0]).await.0, json!("accepted"));
}

/// Whoever talks a helpdesk into it cannot do so unseen by the user.
#[test]
fn users_are_told_of_what_a_helpdesk_does_with_their_factors() {
    let receiver = Receiver::start();
    let office = reminding(&receiver, None);
    let _daemon = office.daemon();
    office.with_jan();
    let code = office.done(&["bypass", "jan"])["code"].clone();
    eventually("jan is told of the code", || {
        reasons(&receiver) == ["bypass_made"]
    });
    let told = of(&receiver, "user.notice").remove(0);
    assert!(!told.to_string().contains(code.as_str().expect("a code")));
    assert!(told["data"]["freeze_url"].is_string(), "{told}");
    // The same of one who is named and of many.
    office.lines(&["send", "--realm=partners", "--lost", "--yes"]);
    eventually("jan is told of the link", || {
        reasons(&receiver) == ["bypass_made", "application_lost"]
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_78_users_are_told_of_every_activation_and_of_what_becomes_of_recovery_codes() {
    let receiver = Receiver::start();
    let office = reminding(&receiver, None);
    let _daemon = office.daemon();
    office.with_jan();
    let said = office.run(&["api-tokens", "create", "vpn", "--scope=verify"]);
    let vpn = Program::at(office.port).with(said.out.trim());
    let first = office.sent(&[]);
    let (_, codes) = office.enrol(&mut Browser::desktop(), &first, "");
    eventually("jan is told", || reasons(&receiver) == ["activated"]);
    let told = of(&receiver, "user.notice").remove(0);
    assert_eq!(told["data"]["user"]["phone"], "+421905123456");
    assert!(
        told["data"].get("enrolment_url").is_none() && told["data"].get("previous_phone").is_none()
    );

    // Used at a logon, then on the page, until two are left.
    for code in &codes[..7] {
        let body = json!({"username": "jan", "realm": "partners", "code": code});
        assert_eq!(vpn.post("verify", &body).await.body["result"], "accepted");
    }
    let path = office.sent(&[]);
    let form = [("step", "begin"), ("proof", codes[7].as_str())];
    let page = Browser::desktop().post(office.port, &path, &form);
    assert!(page.body.contains("otpauth"), "{}", page.body);
    eventually("jan is told of each", || reasons(&receiver).len() == 9);
    let left: Vec<_> = of(&receiver, "user.notice")[1..]
        .iter()
        .map(|body| {
            body["data"]["recovery_codes_left"]
                .as_i64()
                .expect("a number")
        })
        .collect();
    assert_eq!(left, [9, 8, 7, 6, 5, 4, 3, 2]);
    let said = reasons(&receiver);
    assert!(
        said[1..8]
            .iter()
            .all(|reason| reason == "recovery_code_used"),
        "{said:?}"
    );
    assert_eq!(said[8], "recovery_codes_low");

    // New ones, and an application that an administrator sends as lost.
    let form = [("step", "codes"), ("proof", codes[8].as_str())];
    assert_eq!(
        Browser::desktop()
            .post(office.port, &path, &form)
            .codes()
            .len(),
        10
    );
    office.sent(&["--lost"]);
    eventually("jan is told of these too", || {
        reasons(&receiver).len() == 12
    });
    assert_eq!(
        reasons(&receiver)[9..],
        [
            "recovery_codes_low",
            "recovery_codes_renewed",
            "application_lost"
        ]
    );
    for code in &codes {
        let all = receiver.all();
        assert!(
            all.iter()
                .all(|got| !got.json().to_string().contains(code.as_str()))
        );
    }
}

#[test]
fn trap_129_who_comes_with_a_link_that_is_over_can_ask_and_administrators_see_it() {
    let office = Office::over(None, "[enrolment]\ncontact = \"Helpdesk <5678>\"\n");
    let _daemon = office.daemon();
    office.with_jan();
    let path = office.sent(&[]);
    let asked = |path: &str| Browser::desktop().post(office.port, path, &[("step", "ask")]);
    let codes = || {
        let user = office.done(&["users", "show", "jan"]);
        let notices = user["notices"].as_array().expect("a list").clone();
        notices
            .iter()
            .map(|n| n["code"].clone())
            .collect::<Vec<_>>()
    };
    // A link that works asks for nothing.
    asked(&path);
    assert_eq!(codes(), ["enrolment_pending"]);
    older(&office, 8);
    assert_eq!(codes(), ["enrolment_expired"]);
    let over = Browser::desktop().get(office.port, &path);
    assert_eq!(over.status, 410);
    assert!(
        over.body.contains("Helpdesk &#60;5678&#62;"),
        "{}",
        over.body
    );
    assert!(over.body.contains("value=\"ask\""), "{}", over.body);
    assert_eq!(codes(), ["enrolment_expired"], "scanners open links");
    let unknown = asked(&format!("/enrol/{}", "A".repeat(43)));
    assert_eq!(codes(), ["enrolment_expired"]);
    let page = asked(&path);
    assert_eq!((page.status, &page.body), (410, &unknown.body));
    assert!(
        page.body.contains("the administrators see now"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("jan"), "{}", page.body);
    assert_eq!(codes(), ["enrolment_expired", "link_asked"]);
    // Once an hour for each link; what is sent is an answer.
    let at = office.sql("SELECT MAX(asked_at) FROM enrolments");
    asked(&path);
    assert_eq!(office.sql("SELECT MAX(asked_at) FROM enrolments"), at);
    let newer = office.sent(&[]);
    assert_eq!(codes(), ["enrolment_pending"]);
    office.enrol(&mut Browser::desktop(), &newer, "");
    // The telephone is lost, and the link was used.
    asked(&newer);
    assert_eq!(codes(), ["link_asked"]);
    office.done(&["users", "block", "jan"]);
    assert_eq!(codes(), [] as [Value; 0]);
}
