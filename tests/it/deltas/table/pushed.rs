//! A life that a daemon follows: nobody types anything, and what is done in the directory comes by itself.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Life;
use super::picture::{COPY, FRESH, Picture, agree, differ, kept};
use super::words::set;
use crate::support::house::{Daemon, Door};
use crate::support::outcome::{eventually, following, status};

/// Who is changed after each scene: once that has come, all that was before it has, too. No scene and no picture shows them.
pub const MARK: &str = "mark";

/// How long a change may take to come: a server that was away for some seconds is tried again within as many more, and disks that
/// are shared stand still for longer.
const SOON: Duration = Duration::from_mins(1);

/// What the log says when the connection is lost.
const AWAY: &str = "changes are not pushed now";

/// What the daemon's side of a life needs.
pub struct Pushed {
    daemon: Daemon,
    /// The daemon's way to the directory; whoever plays a scene takes another one.
    door: Door,
    /// How often the mark was set.
    marks: Cell<u32>,
    /// Runs that were looked at.
    runs: RefCell<BTreeSet<String>>,
}

impl Pushed {
    /// Starts the daemon behind a door, and makes the first pass.
    pub fn over(life: &Life) -> Self {
        life.ldif(&life.words.person("Mark", MARK, "+421905999000"));
        let (house, uri) = (&life.house, &life.house.server["LDAPS_URI"]);
        let door = Door::to(uri);
        let path = house.path("realmsync.toml");
        let own = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(&path, own.replace(uri, &door.url())).expect("written");
        let pushed = Self {
            daemon: following(house),
            door,
            marks: Cell::new(0),
            runs: RefCell::default(),
        };
        let first = pushed.new_runs(life);
        assert!(first.len() == 1 && first[0]["mode"] == "full", "{first:#?}");
        assert_eq!(status(house)["changes"], "push", "{}", status(house));
        pushed
    }

    /// A run that somebody typed.
    pub fn knows(&self, run: &Value) {
        let id = run["run"].as_str().expect("an id").to_owned();
        self.runs.borrow_mut().insert(id);
    }

    fn new_runs(&self, life: &Life) -> Vec<Value> {
        let list = ["--json", "runs", "r", "--limit", "1000"];
        let mut runs = life.house.run(&list).lines();
        let mut known = self.runs.borrow_mut();
        runs.retain(|run| known.insert(run["run"].as_str().expect("an id").to_owned()));
        runs
    }

    /// What the runs since the last time come to, without the mark.
    fn came_to(&self, life: &Life, scene: &str) -> Value {
        let was_away = life.house.log().contains(AWAY);
        let (mut sum, mut full) = (BTreeMap::new(), false);
        for kind in ["updated", "seen"] {
            sum.insert(kind, -1);
        }
        for run in self.new_runs(life) {
            assert_eq!(run["trigger"], "push", "{scene}: {run}");
            let outcome = run["outcome"].as_str().unwrap_or_default();
            if outcome == "failed" && was_away {
                continue;
            }
            assert!(
                matches!(outcome, "applied" | "unchanged"),
                "{scene}: {run}\n{}",
                life.house.log()
            );
            full |= run["mode"] == "full";
            for kind in SUMS {
                *sum.entry(kind).or_default() += run[kind].as_i64().expect("a count");
            }
            // Those who are refused are refused in each run that looks at them.
            for kind in ["refused_entries", "refused_phones"] {
                let most = sum.entry(kind).or_default();
                *most = run[kind].as_i64().expect("a count").max(*most);
            }
        }
        let idle = SUMS.iter().all(|kind| *kind == "seen" || sum[kind] == 0);
        let mut came = json!(sum);
        came["mode"] = if full { "full" } else { "delta" }.into();
        came["outcome"] = if idle { "unchanged" } else { "applied" }.into();
        came
    }
}

/// What each run counts for itself.
const SUMS: [&str; 9] = [
    "seen",
    "created",
    "updated",
    "renamed",
    "phone_changed",
    "phone_lost",
    "suspended",
    "restored",
    "jobs",
];

impl Life {
    /// Waits until the daemon has done what it should, and nothing else.
    pub fn settled(&self, pushed: &Pushed, scene: &str) -> Value {
        let run = self.settled_somehow(pushed, scene);
        assert_eq!(run["mode"], "delta", "{scene}: {run}");
        run
    }

    /// The same of a scene that only who saw it knows the end of.
    pub fn kept_so(&self, pushed: &Pushed, scene: &str) -> Value {
        self.marked(pushed, scene);
        self.copy();
        let (full, read) = self.read(scene, COPY);
        agree(scene, &self.picture(false), &read);
        assert_eq!(full["outcome"], "unchanged", "{scene}: {full}");
        self.delivered(scene);
        self.said_what_is(scene);
        pushed.came_to(self, scene)
    }

    /// [`Life::settled`], whether or not everything had to be read.
    pub fn settled_somehow(&self, pushed: &Pushed, scene: &str) -> Value {
        let store = if kept(scene) { COPY } else { FRESH };
        let (_, read) = self.read(scene, store);
        // It comes by itself, and not with what is changed next.
        let there = store == FRESH;
        self.comes_to(scene, &read, there);
        self.marked(pushed, scene);
        agree(scene, &self.picture(there), &read);
        self.delivered(scene);
        self.said_what_is(scene);
        pushed.came_to(self, scene)
    }

    fn comes_to(&self, scene: &str, read: &Picture, there: bool) {
        self.soon(scene, || differ(&self.picture(there), read));
    }

    /// Waits until nothing is wrong.
    fn soon(&self, scene: &str, wrong: impl Fn() -> Option<String>) {
        let end = Instant::now() + SOON;
        while let Some(how) = wrong() {
            let house = &self.house;
            let late = Instant::now() > end;
            assert!(!late, "{scene}: {how}\n{}\n{}", status(house), house.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Changes the mark, and waits until that has come.
    fn marked(&self, pushed: &Pushed, scene: &str) {
        pushed.marks.set(pushed.marks.get() + 1);
        let mark = format!("Mark {}", pushed.marks.get());
        self.ldif(&set("Mark", "displayName", &mark));
        self.soon(scene, || {
            let came = self.house.users()[MARK]["display_name"].clone();
            (came != *mark).then(|| format!("{mark} does not come, but {came}"))
        });
    }

    /// Waits until no message waits.
    pub fn delivered(&self, scene: &str) {
        eventually(&self.house, &format!("{scene}: all is sent"), || {
            self.house.run(&["--json", "outbox", "list"]).lines() == [Value::Null; 0]
        });
    }

    /// That what was said of each person is in order, each message once, and ends where they are now.
    fn said_what_is(&self, scene: &str) {
        let (mut keys, mut last) = (BTreeSet::new(), BTreeMap::new());
        let mut away: BTreeMap<String, bool> = BTreeMap::new();
        for message in self.house.receiver.all() {
            let body = &message.body;
            assert!(keys.insert(message.id.clone()), "{scene}: twice {body}");
            let said = message.json();
            let id = said["data"]["user"]["id"]
                .as_str()
                .expect("an id")
                .to_owned();
            let version = |said: &Value| said["data"]["user"]["version"].as_i64();
            let before: Option<Value> = last.insert(id.clone(), said.clone());
            let older = before.as_ref().is_some_and(|b| version(b) > version(&said));
            assert!(!older, "{scene}: {body} after {before:?}");
            let suspends = match said["type"].as_str() {
                Some("user.suspend") => true,
                Some("user.restore") => false,
                _ => continue,
            };
            let before = away.insert(id, suspends).unwrap_or(false);
            assert_ne!(before, suspends, "{scene}: {body}");
        }
        for user in self.known("realmsync") {
            let id = user["id"].as_str().expect("an id");
            let gone = away.get(id).copied();
            let active = user["state"] == "active";
            assert_ne!(gone, Some(active), "{scene}: {user}");
            if !active {
                continue;
            }
            let told = &user["phone_provisioned"];
            assert!(
                user["phone"].is_null() || user["phone"] == *told,
                "{scene}: {user}"
            );
            let Some(said) = last.get(id) else { continue };
            let said = &said["data"]["user"];
            for of in ["username", "phone"] {
                assert!(
                    user[of].is_null() || said[of] == user[of],
                    "{scene}: {user}, and said was {said}"
                );
            }
        }
    }

    /// That what was said since the last time is about these people, as their entries are called.
    pub fn heard_only_of(&self, scene: &str, people: &[&str]) {
        let known = self.known("realmsync");
        let before = self.counted.get();
        self.heard();
        for message in &self.house.receiver.all()[before..] {
            let said = message.json();
            let id = &said["data"]["user"]["id"];
            let user = known.iter().find(|user| user["id"] == *id);
            let dn = user
                .and_then(|user| user["dn"].as_str())
                .unwrap_or_default();
            let rdn = dn.split(',').next().unwrap_or_default();
            let cn = rdn.split_once('=').map_or(rdn, |(_, value)| value);
            assert!(people.contains(&cn), "{scene}: {}", message.body);
        }
    }

    /// That a daemon kept its connection all the time.
    pub fn never_away(&self) {
        let log = self.house.log();
        assert!(!log.contains(AWAY), "{log}");
    }

    /// Does something of which the daemon hears only when it is over, all at once.
    pub fn at_once(&self, what: impl FnOnce()) {
        let signal = |signal| {
            if let Some(pushed) = &self.pushed {
                pushed.daemon.signal(signal);
            }
        };
        signal("STOP");
        what();
        signal("CONT");
    }

    /// Does something while nobody hears of it.
    pub fn unheard(&mut self, what: impl FnOnce(&mut Self)) {
        if let Some(pushed) = &self.pushed {
            pushed.door.shut();
            self.cut_off();
        }
        what(self);
        if let Some(pushed) = &self.pushed {
            pushed.door.reopen();
        }
        self.configure();
    }

    /// Whoever asks now finds no server.
    pub fn cut_off(&self) {
        if self.pushed.is_none() {
            let away = self.house.run(&["--json", "sync", "r", "--deliver"]);
            assert_eq!(away.code, 69, "{}", away.out);
            return;
        }
        eventually(&self.house, "the push is away", || {
            let push = &status(&self.house)["following"]["push"];
            push["connected"] == false && push["error"].is_string()
        });
    }
}
