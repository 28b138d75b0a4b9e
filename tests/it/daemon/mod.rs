//! The daemon beside its commands: orders, reload, stop, and what it must never do.

pub mod crash;
mod failover;
mod half_open;
mod lease_lost;
mod panics;
mod push;
mod rights;
mod store_lost;
mod systemd;
pub mod two;
mod web_tls;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::House;

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Keys and codes are in its memory.
#[test]
fn no_core_is_left_of_a_daemon_that_is_aborted() {
    use std::os::unix::process::ExitStatusExt;
    let house = House::new(3);
    let plain = house.command(&["run"]);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(house.folder.path());
    for (name, value) in plain.get_envs() {
        command.env(name, value.expect("a value"));
    }
    let mut child = command.spawn().expect("the daemon");
    eventually("the daemon answers", || house.run(&["status"]).code == 0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    let killed = std::process::Command::new("kill")
        .args(["-ABRT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    let ended = child.wait().expect("it ends");
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false));
}

#[test]
fn commands_go_through_the_daemon_and_its_outbox_delivers() {
    let house = House::new(50);
    let daemon = house.daemon();
    let run = house.sync(0);
    assert_eq!(
        (run["created"].as_i64(), &run["trigger"]),
        (Some(50), &Value::from("command")),
        "{run}\n{}",
        house.log()
    );
    let churn = house.churn(&[("phone", 3)]);
    let run = house.sync(0);
    let jobs = usize::try_from(run["jobs"].as_u64().unwrap()).unwrap();
    house.receiver.wait_for(jobs);
    assert!(jobs <= churn["did"]["phone"].as_array().unwrap().len());
    let status = house.run(&["--json", "status"]).json();
    assert_eq!(
        status["users"]["active"].as_i64().unwrap()
            + status["users"]["suspended"].as_i64().unwrap(),
        50,
        "{status}"
    );
    assert!(status["next_run_at"].is_string(), "{status}");
    drop(daemon);
}

#[test]
fn trap_30_a_second_daemon_is_told_who_holds_the_store() {
    let house = House::new(5);
    let daemon = house.daemon();
    let second = house.run(&["run"]);
    assert_eq!(second.code, 75, "{}", second.err);
    let who = format!("process {} (", daemon.0.id());
    assert!(second.err.contains("holds"), "{}", second.err);
    assert!(second.err.contains(&who), "{who}: {}", second.err);
}

#[test]
fn trap_33_sigterm_ends_it_within_five_seconds_and_a_bad_reload_keeps_the_old() {
    let house = House::new(20);
    let mut daemon = house.daemon();
    house.sync(0);
    let good = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
    std::fs::write(
        house.path("realmsync.toml"),
        good.replace("schedule = \"0 3 * * *\"", "schedule = \"nonsense\""),
    )
    .unwrap();
    daemon.signal("HUP");
    eventually("a refused reload is said", || {
        house.log().contains("nonsense") || house.log().to_lowercase().contains("refused")
    });
    std::fs::write(house.path("realmsync.toml"), &good).unwrap();
    assert_eq!(house.run(&["--json", "status"]).code, 0);
    daemon.signal("USR1");
    eventually("SIGUSR1 runs every realm", || {
        house
            .run(&["--json", "runs", "r"])
            .lines()
            .iter()
            .any(|r| r["trigger"] == "signal")
    });
    let asked = Instant::now();
    daemon.signal("TERM");
    let status = daemon.0.wait().unwrap();
    assert!(status.success(), "{status}: {}", house.log());
    assert!(
        asked.elapsed() < Duration::from_secs(6),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn trap_54_the_receiver_is_down_for_a_while_and_everything_arrives_afterwards() {
    let house = House::new(60);
    let _daemon = house.daemon();
    house.sync(0);
    house.receiver.answer(404);
    house.churn(&[("phone", 5)]);
    let run = house.sync(0);
    let jobs = usize::try_from(run["jobs"].as_u64().unwrap()).unwrap();
    eventually("they are tried", || house.receiver.all().len() >= jobs);
    assert_eq!(house.receiver.accepted().len(), 0);
    house.receiver.answer(204);
    house.receiver.wait_for(jobs);
    let waiting = house.run(&["--json", "outbox", "list"]);
    assert_eq!(waiting.lines().len(), 0, "{}", waiting.out);
}

#[test]
fn secrets_and_numbers_are_in_no_log() {
    let house = House::new(40);
    let text = std::fs::read_to_string(house.path("realmsync.toml"))
        .unwrap()
        .replace("format = \"text\"", "format = \"json\"\nlevel = \"trace\"");
    std::fs::write(house.path("realmsync.toml"), text).unwrap();
    let daemon = house.daemon();
    house.sync(0);
    house.receiver.answer(500);
    house.churn(&[("phone", 3)]);
    house.sync(0);
    eventually("a message failed", || !house.receiver.all().is_empty());
    let bodies = house.receiver.all();
    let log = house.log();
    let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.0.id())).unwrap();
    drop(daemon);
    assert!(log.len() > 1000, "the log says something: {log}");
    let mut canaries = vec![
        house.server["BIND_PASSWORD"].to_owned(),
        crate::support::house::SECRET.to_owned(),
        crate::support::house::SECRET[6..].to_owned(),
    ];
    canaries.extend(
        house
            .users()
            .values()
            .filter_map(|u| u["phone"].as_str().map(str::to_owned)),
    );
    canaries.extend(bodies.iter().filter_map(|b| {
        b.json()["data"]["enrolment_url"]
            .as_str()
            .and_then(|u| u.rsplit('/').next().map(str::to_owned))
    }));
    for canary in canaries {
        assert!(!log.contains(&canary), "`{canary}` is in the log");
        assert!(!cmdline.contains(&canary));
    }
}
