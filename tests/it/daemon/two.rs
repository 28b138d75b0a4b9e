//! TRAPS 30: two daemons on one PostgreSQL. One dies or stands still at any step, and the other goes on: nothing is lost, nothing
//! is half done, and every message has one key however often it is sent.

pub mod pair;
mod panics;
mod push;
mod starting;
mod whose;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::crash::{DELIVERY, RUN, told};
use crate::support::house::said;
use pair::{Member, Pair, TAKEOVER, eventually};

const OPEN_JOBS: &str = "SELECT COUNT(*) FROM jobs WHERE state IN ('waiting', 'sending')";

/// What a churn has to tell, by type.
fn tell(before: &BTreeMap<String, Value>, churn: &Value, expected: &mut BTreeMap<String, usize>) {
    let active = |person: &Value| before[person["uid"].as_str().unwrap()].clone();
    for person in churn["did"]["phone"].as_array().unwrap() {
        let was = active(person);
        if was["phone"].is_string() && was["state"] == "active" && was["phone"] != person["e164"] {
            *expected.entry("user.reprovision".into()).or_default() += 1;
        }
    }
    for person in churn["did"]["delete"].as_array().unwrap() {
        if active(person)["state"] == "active" {
            *expected.entry("user.suspend".into()).or_default() += 1;
        }
    }
}

/// One daemon after the other dies (or stands still) at each of these points in the middle of a pass that it was asked for.
fn in_turn(points: &[&str], stop: bool) {
    let pair = Pair::new(600);
    let mut other = pair.daemon(1, None);
    pair.sync_within(1, TAKEOVER);
    let mut expected = BTreeMap::new();
    for (turn, point) in points.iter().enumerate() {
        let how = if stop {
            format!("stop@{point}")
        } else {
            (*point).to_owned()
        };
        let mut victim = pair.daemon(turn % 2, Some(&how));
        let before = pair.house.users();
        let churn = pair.house.churn(&[("phone", 2), ("delete", 1), ("add", 1)]);
        tell(&before, &churn, &mut expected);
        // What the outbox does is open to both, so only one is awake.
        let sending = point.starts_with("outbox");
        if sending {
            other.daemon.signal("STOP");
        }
        let asked = pair
            .command(victim.place, &["--json", "sync", "r"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let wanted = stop.then_some('T');
        eventually(
            &format!("{point} was reached: {}", pair.log(victim.place)),
            || victim.state() == wanted,
        );
        if sending {
            other.daemon.signal("CONT");
        }
        let begun = Instant::now();
        let run = pair.sync_within(other.place, TAKEOVER);
        assert_ne!(run["outcome"], "failed", "{point}: {run}");
        // All of it is there, by whichever of the two.
        let after = pair.house.users();
        assert_eq!(after.len(), before.len() + 1, "{point}");
        for person in churn["did"]["phone"].as_array().unwrap() {
            assert_eq!(
                after[person["uid"].as_str().unwrap()]["phone"],
                person["e164"],
                "{point}"
            );
        }
        eventually(
            &format!("{point}: {expected:?} of {:?}", told(&pair.house)),
            || told(&pair.house) == expected,
        );
        assert!(begun.elapsed() < TAKEOVER, "{point}: {:?}", begun.elapsed());
        if stop {
            // What was told is written down a moment later.
            eventually(&format!("{point}: all is settled"), || {
                pair.sql(OPEN_JOBS) == "0"
            });
            let settled = pair.house.users();
            woken(&pair, &victim, point, asked);
            assert_eq!(
                pair.house.users(),
                settled,
                "{point}: whoever woke up changed something"
            );
            let outcome = pair.sync_within(victim.place, TAKEOVER)["outcome"].clone();
            assert_eq!(outcome, "unchanged", "{point}: it works again");
        } else {
            let _answer = asked.wait_with_output();
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(told(&pair.house), expected, "{point}");
        let staged = "SELECT COUNT(*) FROM staged_users";
        assert_eq!(pair.sql(staged), "0", "{point}: what it staged is swept");
        let running = "SELECT COUNT(*) FROM runs WHERE outcome = 'running'";
        assert_eq!(pair.sql(running), "0", "{point}");
        // The next one to fall is the one that stood.
        drop(victim);
        if turn + 1 < points.len() {
            let place = turn % 2;
            drop(other);
            other = pair.daemon(place, None);
        }
    }
    drop(other);
    let ids: BTreeSet<String> = pair
        .house
        .users()
        .values()
        .map(|u| u["id"].to_string())
        .collect();
    assert_eq!(ids.len(), pair.house.users().len());
    assert_eq!(
        pair.people(false),
        pair.people(true),
        "the same as one full load"
    );
}

/// Whoever stood still goes on: what it was asked for was not done by it, and it says so.
fn woken(pair: &Pair, victim: &Member, point: &str, asked: Child) {
    victim.daemon.signal("CONT");
    let answer = said(&asked.wait_with_output().expect("an answer"));
    if point.starts_with("outbox") {
        assert_eq!(answer.code, 0, "{point}: {}", answer.err);
        return;
    }
    assert_eq!(answer.code, 75, "{point}: {}\n{}", answer.out, answer.err);
    let run = answer.json();
    assert_eq!(run["error_code"], "busy", "{point}: {run}");
    let why = run["error"].as_str().unwrap();
    assert!(why.contains("another daemon took the realm over"), "{why}");
    let shown = pair.run(
        1 - victim.place,
        &["--json", "runs", "show", run["run"].as_str().unwrap()],
    );
    let shown = shown.json();
    assert_eq!(shown["outcome"], "failed", "{point}: {shown}");
    let who = format!(":{} ended or stood still", victim.daemon.0.id());
    assert!(shown["error"].as_str().unwrap().contains(&who), "{shown}");
}

#[test]
fn trap_30_two_daemons_killed_in_turn_lose_and_repeat_nothing() {
    let points: Vec<&str> = RUN.iter().chain(&DELIVERY).copied().collect();
    in_turn(&points, false);
}

#[test]
fn trap_30_a_daemon_frozen_while_it_plans_wakes_up_and_writes_nothing() {
    in_turn(&["stage.before", "stage.after", "plan.complete"], true);
}

#[test]
fn trap_30_a_daemon_frozen_while_it_applies_wakes_up_and_writes_nothing() {
    in_turn(
        &["apply.before", "apply.after-users", "apply.before-commit"],
        true,
    );
}

#[test]
fn trap_30_a_daemon_frozen_while_it_sends_wakes_up_and_nothing_counts_twice() {
    in_turn(&["outbox.claimed", "outbox.sent"], true);
}

/// It had taken four messages ahead, of which one was on its way, when it was stopped for longer than its leases last.
#[test]
fn trap_30_a_daemon_frozen_with_messages_taken_ahead_begins_none_of_them() {
    let pair = Pair::new(200);
    pair.rewrite("timeout = \"2s\"", "timeout = \"20s\"\nconcurrency = 1");
    let frozen = pair.daemon(0, None);
    pair.sync_within(0, TAKEOVER);
    let people: Vec<Value> = pair
        .house
        .users()
        .into_values()
        .filter(|u| u["phone"].is_string() && u["state"] == "active")
        .take(4)
        .collect();
    let change = |user: &Value, number: &str| {
        pair.house.server.modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n",
            user["dn"].as_str().unwrap()
        ));
    };
    pair.house.receiver.slow(Duration::from_secs(3));
    for (n, user) in people.iter().enumerate() {
        change(user, &format!("+42190555000{n}"));
    }
    assert_eq!(pair.sync_within(0, TAKEOVER)["jobs"], 4);
    eventually("one is on its way", || {
        !pair.house.receiver.all().is_empty()
    });
    frozen.daemon.signal("STOP");
    let taken = "SELECT COUNT(*) FROM jobs WHERE state = 'sending'";
    assert_eq!(pair.sql(taken), "4");
    pair.house.receiver.slow(Duration::ZERO);

    let _other = pair.daemon(1, None);
    let first = pair.house.receiver.all()[0].json()["data"]["user"]["username"].clone();
    let two: Vec<&Value> = people
        .iter()
        .filter(|u| u["username"] != first)
        .take(2)
        .collect();
    for (n, user) in two.iter().enumerate() {
        change(user, &format!("+42190555111{n}"));
    }
    assert_eq!(pair.sync_within(1, TAKEOVER)["jobs"], 2);
    eventually("the other one told all", || pair.sql(OPEN_JOBS) == "0");
    let before = pair.house.receiver.all().len();
    frozen.daemon.signal("CONT");
    std::thread::sleep(Duration::from_secs(8));
    let late: Vec<String> = pair.house.receiver.all()[before..]
        .iter()
        .map(|r| r.body.clone())
        .collect();
    assert!(late.is_empty(), "begun after it woke up: {late:#?}");
    // It works on.
    change(&people[3], "+421905552223");
    pair.sync_within(0, TAKEOVER);
    eventually("the newest is told", || pair.sql(OPEN_JOBS) == "0");
    let last = pair.house.receiver.all().pop().unwrap();
    assert_eq!(last.json()["data"]["user"]["phone"], "+421905552223");
}

/// Both have the schedule; whoever begins a tick's pass dies or stands still in it.
#[test]
fn a_tick_is_done_once_and_by_the_other_daemon_if_the_first_one_fails() {
    let pair = Pair::new(60);
    let mut victim = pair.daemon(0, Some("plan.complete:2"));
    pair.sync_within(0, TAKEOVER);
    let other = pair.daemon(1, None);
    let ticks = |outcome: &str| {
        pair.sql(&format!(
            "SELECT COUNT(*) FROM runs WHERE trigger_by = 'schedule' AND outcome IN ({outcome})"
        ))
    };
    let missed = "UPDATE realms SET last_tick_at = last_tick_at - 90000000";
    for stop in [false, true] {
        // Only the victim is awake when the tick turns out to be missed.
        std::thread::sleep(Duration::from_secs(4));
        other.daemon.signal("STOP");
        pair.sql(missed);
        let wanted = stop.then_some('T');
        eventually(&format!("it began: {}", pair.log(0)), || {
            victim.state() == wanted
        });
        other.daemon.signal("CONT");
        if stop {
            let status = pair.run(1, &["status"]).out;
            let who = format!(":{} since", victim.daemon.0.id());
            assert!(
                status.contains("held by") && status.contains(&who),
                "{status}"
            );
        }
        eventually(&format!("the other one did it: {}", pair.log(1)), || {
            ticks("'unchanged', 'applied'") == if stop { "2" } else { "1" }
        });
        if !stop {
            drop(victim);
            victim = pair.daemon(0, Some("stop@plan.complete:1"));
        }
    }
    victim.daemon.signal("CONT");
    eventually("the frozen one says what happened", || {
        pair.log(0).contains("another daemon took the realm over")
    });
    // Nobody does it once more.
    std::thread::sleep(Duration::from_secs(8));
    let all = "SELECT trigger_by, outcome, to_timestamp(started_at / 1000.0), error FROM runs ORDER BY started_at";
    assert_eq!(
        ticks("'unchanged', 'applied'"),
        "2",
        "{}\n{}\n{}",
        pair.sql(all),
        pair.log(0),
        pair.log(1)
    );
    assert_eq!(ticks("'failed'"), "2");
    assert_eq!(ticks("'running'"), "0");
    let log = pair.log(1);
    assert!(log.contains("ended or stood still in the middle"), "{log}");
}

#[test]
fn a_users_messages_are_in_order_over_two_daemons() {
    const ROUNDS: usize = 8;
    let pair = Pair::new(400);
    let _two = [pair.daemon(0, None), pair.daemon(1, None)];
    pair.sync_within(0, TAKEOVER);
    let people: Vec<Value> = pair
        .house
        .users()
        .into_values()
        .filter(|u| u["phone"].is_string() && u["state"] == "active")
        .take(2)
        .collect();
    let mut jobs = 0;
    for round in 0..ROUNDS {
        for (n, user) in people.iter().enumerate() {
            pair.house.server.modify(&format!(
                "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: +42190555{n}{round:03}\n",
                user["dn"].as_str().unwrap()
            ));
        }
        let run = pair.sync_within(round % 2, TAKEOVER);
        jobs += usize::try_from(run["jobs"].as_u64().unwrap()).unwrap();
        // Some rounds are told before the next one, some are overtaken by it.
        if round % 4 != 3 {
            eventually("the outbox is empty", || pair.sql(OPEN_JOBS) == "0");
        }
    }
    eventually("the outbox is empty", || pair.sql(OPEN_JOBS) == "0");
    assert_eq!(jobs, ROUNDS * people.len(), "each change is one message");
    let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
    for message in pair.house.receiver.accepted() {
        let user = &message.json()["data"]["user"];
        let version = user["version"].as_i64().unwrap();
        let name = user["username"].as_str().unwrap().to_owned();
        let phone = user["phone"].as_str().unwrap().to_owned();
        let before = last.insert(name, (version, phone));
        assert!(
            before.is_none_or(|(v, _)| v < version),
            "older after newer: {}",
            message.body
        );
    }
    for (n, user) in people.iter().enumerate() {
        let (_, phone) = &last[user["username"].as_str().unwrap()];
        assert_eq!(*phone, format!("+42190555{n}{:03}", ROUNDS - 1));
    }
    let delivered = |place| {
        let metrics = pair.control(place, "/metrics");
        metrics.contains("realmsync_deliveries_total{outcome=\"delivered\"}")
            && !metrics.contains("realmsync_deliveries_total{outcome=\"delivered\"} 0")
    };
    assert!(delivered(0) && delivered(1), "both had their part");
}

/// A newer program has taken the schema one step on while this one runs.
#[test]
fn an_older_program_goes_on_beside_a_newer_one_for_one_additive_step() {
    let pair = Pair::new(20);
    let old = pair.daemon(0, None);
    pair.sync_within(0, TAKEOVER);
    let step =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT MAX(version) + 1, 'newer', TRUE, '', 0 FROM _sqlx_migrations";
    pair.sql(&format!(
        "{step}; ALTER TABLE users ADD COLUMN of_tomorrow TEXT"
    ));
    drop(old);
    let refused = pair.run(0, &["run"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("newer realmsync"), "{}", refused.err);
    pair.sql("INSERT INTO meta SELECT 'schema-' || MAX(version), 'additive' FROM _sqlx_migrations");
    let _two = [pair.daemon(0, None), pair.daemon(1, None)];
    pair.house.churn(&[("phone", 2), ("add", 1)]);
    assert_eq!(pair.sync_within(0, TAKEOVER)["created"], 1);
    assert_eq!(pair.sync_within(1, TAKEOVER)["outcome"], "unchanged");
    assert!(pair.log(0).contains("upgrade it too"), "{}", pair.log(0));
    pair.sql(step);
    assert!(pair.run(0, &["run"]).err.contains("newer realmsync"));
}
