//! TRAPS 30: two daemons on one PostgreSQL. One dies or stands still at any step, and the other goes on: nothing is lost, nothing
//! is half done, and every message has one key however often it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::crash::{DELIVERY, RUN, told};
use crate::house::{Daemon, House, Said, said};
use crate::lab::Server;

/// DESIGN § 8: one dies, another takes over within this.
const TAKEOVER: Duration = Duration::from_secs(30);

const OPEN_JOBS: &str = "SELECT COUNT(*) FROM jobs WHERE state IN ('waiting', 'sending')";

/// Two places to run a daemon from, over one directory, one database and one receiver.
struct Pair {
    house: House,
    postgres: Server,
}

/// A daemon of the pair, and where its commands go.
struct Member {
    daemon: Daemon,
    place: usize,
}

impl Pair {
    fn new(users: u32) -> Self {
        let server = Server::start("openldap", &["--users", &users.to_string()]);
        let postgres = Server::start("postgres", &[]);
        let mut house = House::with(server, "");
        postgres["DATABASE_URL"].clone_into(&mut house.database);
        house.configure("");
        let text = std::fs::read_to_string(house.path("realmsync.toml")).unwrap();
        for place in [0, 1] {
            let own = text.replace("control.sock", &format!("control{place}.sock"));
            let path = house.path(&format!("realmsync{place}.toml"));
            std::fs::copy(house.path("realmsync.toml"), &path).unwrap();
            std::fs::write(path, own).unwrap();
        }
        Self { house, postgres }
    }

    fn command(&self, place: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_realmsync"));
        command
            .arg("-c")
            .arg(self.house.path(&format!("realmsync{place}.toml")))
            .args(arguments)
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        command
    }

    fn run(&self, place: usize, arguments: &[&str]) -> Said {
        said(&self.command(place, arguments).output().expect("the binary"))
    }

    /// A daemon that will die or stand still at a fail point.
    fn daemon(&self, place: usize, point: Option<&str>) -> Member {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.house.path(&format!("daemon{place}.log")))
            .expect("a log");
        let mut command = self.command(place, &["run"]);
        command
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        if let Some(point) = point {
            command.env("REALMSYNC_FAILPOINT", point);
        }
        let daemon = Daemon(command.spawn().expect("the daemon"));
        let member = Member { daemon, place };
        eventually(&format!("daemon {place}: {}", self.log(place)), || {
            self.control(place, "/readyz").starts_with("HTTP/1.1 200")
        });
        member
    }

    /// What a daemon says on its control socket.
    fn control(&self, place: usize, path: &str) -> String {
        let socket = self.house.path(&format!("control{place}.sock"));
        let Ok(mut stream) = UnixStream::connect(socket) else {
            return String::new();
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        let _ended = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer));
        answer
    }

    fn log(&self, place: usize) -> String {
        std::fs::read_to_string(self.house.path(&format!("daemon{place}.log"))).unwrap_or_default()
    }

    /// A pass through this daemon, asked for again while another has the realm.
    fn sync_within(&self, place: usize, limit: Duration) -> Value {
        let asked = Instant::now();
        loop {
            let said = self.run(place, &["--json", "sync", "r"]);
            if said.code == 0 {
                return said.json();
            }
            assert_eq!(said.code, 75, "{}\n{}", said.out, said.err);
            assert!(
                asked.elapsed() < limit,
                "{:?}: {}",
                asked.elapsed(),
                said.err
            );
        }
    }

    fn sql(&self, sql: &str) -> String {
        let output = Command::new("psql")
            .args([&self.postgres["DATABASE_URL"], "-Atc", sql])
            .output()
            .expect("psql is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The people whose entry is there, with number and state: of the pair's store, or of a new one.
    fn people(&self, fresh: bool) -> Vec<(String, Value, Value)> {
        let users = if fresh {
            let text = std::fs::read_to_string(self.house.path("realmsync.toml")).unwrap();
            let url = format!("sqlite:{}", self.house.path("fresh.db").display());
            let text = text
                .replace(&self.house.database, &url)
                .replace("control.sock", "fresh.sock");
            std::fs::write(self.house.path("realmsync.toml"), text).unwrap();
            self.house.sync(0);
            self.house.users()
        } else {
            self.house.users()
        };
        users
            .into_iter()
            .filter(|(_, u)| u["state_reason"] != "deleted")
            .map(|(n, u)| (n, u["phone"].clone(), u["state"].clone()))
            .collect()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TAKEOVER;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Member {
    /// The state of the process as the kernel writes it; `None`: it ended.
    fn state(&mut self) -> Option<char> {
        if let Ok(Some(_)) = self.daemon.0.try_wait() {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.0.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

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
