//! Two daemons on one database, one of them with its clock an hour ahead: codes are judged by the database's clock, once for every
//! purpose, and the wrong clock judges nothing.

use serde_json::json;

use super::page::wrong_code;
use super::{Browser, Office, code};
use crate::programs::Program;
use crate::support::lab::Server;

const BEGIN: [(&str, &str); 1] = [("step", "begin")];

/// What gives a process a clock that is an hour ahead.
const AHEAD: [(&str, &str); 3] = [
    ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1"),
    ("FAKETIME", "+1h"),
    ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
];

/// What an application shows so many steps after the given one.
fn shown(key: &str, step: u64) -> String {
    let output = std::process::Command::new("oathtool")
        .args(["--totp", "--base32", "--now"])
        .arg(format!("@{}", step * 30))
        .arg(key)
        .output()
        .expect("oathtool");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The step now, of which at least so many seconds are left.
fn step_with(seconds: u64) -> u64 {
    loop {
        let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs();
        if now % 30 < 30 - seconds {
            return now / 30;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_68_a_daemon_an_hour_ahead_judges_no_code_and_a_step_counts_once_for_all_purposes() {
    let postgres = Server::start("postgres", &[]);
    let (office, other) = (
        Office::over(Some(&postgres), ""),
        Office::over(Some(&postgres), ""),
    );
    let _daemon = office.daemon();
    office.with_jan();
    let wrong_clock = other.daemon_with(&AHEAD);
    let said = office.run(&["api-tokens", "create", "vpn", "--scope=verify"]);
    let [vpn, elsewhere] = [&office, &other].map(|o| Program::at(o.port).with(said.out.trim()));
    let verified = async |program: &Program, code: &str| {
        let body = json!({"username": "jan", "realm": "partners", "code": code});
        let got = program.post("verify", &body).await;
        (got.status.as_u16(), got.body["reason"].clone())
    };

    // The link was made a moment ago, and the page of the wrong clock neither ends it nor makes a secret.
    let path = office.sent(&[]);
    let mut browser = Browser::desktop();
    for page in [
        browser.get(other.port, &path),
        browser.post(other.port, &path, &BEGIN),
    ] {
        assert_eq!(page.status, 503, "{}", page.body);
        assert!(
            page.body.contains("Try again in a few minutes"),
            "{}",
            page.body
        );
    }
    let key = browser.post(office.port, &path, &BEGIN).key();
    let step = step_with(20);
    let first = shown(&key, step);
    let form = [("step", "use"), ("code", first.as_str())];
    assert_eq!(browser.post(other.port, &path, &form).status, 503);
    let used = browser.post(office.port, &path, &form);
    let codes = used.codes();
    assert_eq!(codes.len(), 10, "{}", used.body);

    // Neither what is right now nor what would be right there is told to be wrong, and nothing counts.
    let next = shown(&key, step + 1);
    for code in [&next, &shown(&key, step + 120)] {
        let (status, _) = verified(&elsewhere, code).await;
        assert_eq!(status, 503);
    }
    let status = other.run(&["status"]);
    assert!(
        ["3599 s", "3600 s"]
            .iter()
            .any(|off| status.out.contains(&format!(
                "{off} from the database's, and nobody is verified here"
            ))),
        "{}",
        status.out
    );
    let replayed = (200, json!("replayed"));
    assert_eq!(verified(&vpn, &first).await, replayed, "the page used it");
    assert_eq!(verified(&vpn, &next).await, (200, json!(null)));

    // With a right clock the other daemon knows what was used here, whatever for.
    drop(wrong_clock);
    let _right_clock = other.daemon();
    assert_eq!(verified(&elsewhere, &next).await, replayed);
    let path = office.sent(&[]);
    let asked = |proof: &str| {
        let form = [("step", "begin"), ("proof", proof)];
        Browser::desktop().post(other.port, &path, &form)
    };
    let page = asked(&next);
    assert!(page.body.contains("has been used already"), "{}", page.body);
    let page = asked(&codes[0]);
    assert!(page.body.contains("otpauth"), "{}", page.body);
    assert_eq!(verified(&vpn, &codes[0]).await, replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_64_guesses_on_the_page_and_at_a_logon_are_one_count() {
    let office = Office::new();
    let _daemon = office.daemon();
    office.with_jan();
    let said = office.run(&["api-tokens", "create", "vpn", "--scope=verify"]);
    let vpn = Program::at(office.port).with(said.out.trim());
    let first = office.sent(&[]);
    let (key, codes) = office.enrol(&mut Browser::desktop(), &first, "");
    let path = office.sent(&[]);
    let wrong = wrong_code(&key);
    let guess = |code: &str| {
        let form = [("step", "begin"), ("proof", code)];
        Browser::desktop().post(office.port, &path, &form).body
    };
    let verified = async |code: &str| {
        let body = json!({"username": "jan", "realm": "partners", "code": code});
        vpn.post("verify", &body).await.body["reason"].clone()
    };
    for _ in 0..2 {
        assert!(guess(&wrong).contains("That code is wrong"));
        assert_eq!(verified(&wrong).await, "wrong_code");
    }
    assert!(guess(&wrong).contains("That code is wrong"), "the fifth");
    // Both hold back now, and what is right is not looked at either.
    assert_eq!(verified(&code(&key, 30)).await, "locked");
    assert!(guess(&code(&key, 30)).contains("too many wrong codes"));
    // A recovery code passes, by either way, and lifts it for both.
    assert_eq!(verified(&codes[3]).await, json!(null));
    assert_eq!(verified(&wrong).await, "wrong_code");
    let list = office.lines(&["authenticators", "list", "jan"]);
    let left: Vec<_> = list.iter().filter_map(|a| a["left"].as_i64()).collect();
    assert_eq!(left, [9]);
    let page = guess(&codes[4]);
    assert!(page.contains("otpauth"), "{page}");
}
