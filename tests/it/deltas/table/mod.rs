//! The scenario table: the same life in two houses, one told by deltas and one that reads everything into a fresh store. Both
//! must know the same people and say the same. Each scene is written once, and played by commands and by a daemon.

mod chance;
mod picture;
mod pushed;
mod restarts;
mod scenes;
mod words;

use serde_json::Value;

use crate::support::house::House;
use crate::support::lab::Server;
use picture::{COPY, FRESH, agree, kept};
use pushed::Pushed;
use words::Words;

/// How a life hears of changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Somebody types `sync` after each scene.
    Command,
    /// A daemon is up all the time, and the directory pushes.
    Push,
}

/// One realm that lives on deltas.
struct Life {
    words: Words,
    /// The daemon, where there is one.
    pushed: Option<Pushed>,
    house: House,
    base: String,
    former: String,
    /// Messages that were looked at.
    counted: std::cell::Cell<usize>,
}

impl Life {
    fn new(words: Words, options: &[&str], by: By) -> Self {
        let mut options = options.to_vec();
        if by == By::Push && words.kind == "samba" {
            // What another process wrote is told after seconds, and there are many scenes.
            options.extend(["--workers", "1"]);
        }
        let house = House::with(Server::lasting(words.kind, &options), "");
        let password = &house.server[&format!("{}_PASSWORD", words.account)];
        std::fs::write(house.path("bind"), password).expect("a password");
        let (base, former) = (
            house.server["PEOPLE_DN"].to_owned(),
            house.server["FORMER_DN"].to_owned(),
        );
        let mut life = Self {
            words,
            pushed: None,
            house,
            base,
            former,
            counted: std::cell::Cell::new(0),
        };
        life.configure();
        if by == By::Push {
            life.pushed = Some(Pushed::over(&life));
        } else {
            let first = life.house.sync_and_deliver(0);
            assert_eq!(first["mode"], "full", "{first}");
        }
        assert_eq!(life.heard(), [""; 0]);
        // What is not told is said from the beginning.
        let status = life.house.run(&["status"]).out;
        let all = words.deletions && words.moves;
        assert_eq!(!status.contains("not told"), all, "{status}");
        life.rest();
        life
    }

    /// Writes the configuration, after the server's addresses may have changed too: not under a daemon, which must find its own.
    fn configure(&self) {
        if self.pushed.is_some() {
            return;
        }
        let account = &self.house.server[&format!("{}_DN", self.words.account)];
        self.house
            .configure_as(account, &self.words.directory(), &self.words.realm());
    }

    /// Waits until nothing is told any more of what is there.
    fn rest(&self) {
        for _ in 0..if self.words.rests() { 0 } else { 10 } {
            if self.house.sync(0)["seen"] == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(600));
        }
    }

    fn ldif(&self, text: &str) {
        self.house.server.modify(
            &text
                .replace("BASE", &self.base)
                .replace("FORMER", &self.former),
        );
    }

    /// What the scene came to, which must have come by deltas.
    fn delta(&self, scene: &str) -> Value {
        match &self.pushed {
            Some(pushed) => self.settled(pushed, scene),
            None => self.typed(scene),
        }
    }

    /// The same of a scene after which everything had to be read.
    fn read_again(&self, scene: &str) -> Value {
        let pushed = self.pushed.as_ref().expect("a daemon");
        self.settled_somehow(pushed, scene)
    }

    /// The next run, which must be a delta. A full pass over a copy of the store comes to the same, and so does one into a
    /// fresh store, unless somebody keeps what a newcomer would not get.
    fn typed(&self, scene: &str) -> Value {
        self.copy();
        let said = self.house.run(&["--json", "sync", "r", "--deliver"]);
        assert_eq!(said.code, 0, "{scene}: {}\n{}", said.out, said.err);
        let run = said.json();
        assert_eq!(run["mode"], "delta", "{scene}: {run}");
        // 389-ds takes its time to check a password: there one comparison must do.
        if self.words.kind != "ds389" || kept(scene) {
            let (full, read) = self.read(scene, COPY);
            agree(scene, &self.picture(false), &read);
            assert_eq!(full["outcome"], run["outcome"], "{scene}: {run}, {full}");
        }
        if !kept(scene) {
            let (_, read) = self.read(scene, FRESH);
            agree(scene, &self.picture(true), &read);
        }
        run
    }

    /// What a receiver heard since the last time, as `type username`.
    fn heard(&self) -> Vec<String> {
        let all = self.house.receiver.all();
        let before = self.counted.replace(all.len());
        let mut heard: Vec<String> = all[before..]
            .iter()
            .map(|r| {
                let json = r.json();
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                format!(
                    "{} {}",
                    text(&json["type"]),
                    text(&json["data"]["user"]["username"])
                )
            })
            .collect();
        heard.sort();
        heard
    }

    /// One scene: what is done, what the delta counts (kinds in the order given), and what is said.
    fn scene(&self, name: &str, ldif: &str, counts: &[(&str, i64)], heard: &[&str]) -> Value {
        if self.pushed.is_some() && kept(name) {
            self.copy();
        }
        self.ldif(ldif);
        let run = self.delta(name);
        counted(name, &run, counts);
        assert_eq!(self.heard(), heard, "{name}: {run}");
        run
    }

    /// A scene with something in between, which a daemon may see or not: where it did, it may have said so of these people, and
    /// of nobody else.
    fn passing(
        &self,
        name: &str,
        ldif: &str,
        counts: &[(&str, i64)],
        heard: &[&str],
        people: &[&str],
    ) -> Value {
        let Some(pushed) = &self.pushed else {
            return self.scene(name, ldif, counts, heard);
        };
        self.ldif(ldif);
        let run = self.settled(pushed, name);
        self.heard_only_of(name, people);
        run
    }

    /// A scene that ends where its order leads, before a daemon's eyes: a full pass keeps it so.
    fn contested(&self, name: &str, ldif: &str, counts: &[(&str, i64)], people: &[&str]) -> Value {
        let Some(pushed) = &self.pushed else {
            return self.scene(name, ldif, counts, &[]);
        };
        self.ldif(ldif);
        let run = self.kept_so(pushed, name);
        self.heard_only_of(name, people);
        run
    }

    /// A scene at whose end somebody is not there any more. Where the way does not tell of that, a delta does nothing, and the
    /// full pass finds it, which is no drift.
    fn away(&self, told: bool, name: &str, ldif: &str, counts: &[(&str, i64)], heard: &[&str]) {
        if told {
            self.scene(name, ldif, counts, heard);
            return;
        }
        self.ldif(ldif);
        let silent = self.house.sync_and_deliver(0);
        assert_eq!(silent["mode"], "delta", "{name}: {silent}");
        counted(name, &silent, &[]);
        self.found(name, counts, heard);
        self.delta(name);
    }

    /// A full pass finds this, and no drift.
    fn found(&self, name: &str, counts: &[(&str, i64)], heard: &[&str]) {
        let mut full = vec!["--json", "sync", "r", "--full"];
        full.extend(self.pushed.is_none().then_some("--deliver"));
        let said = self.house.run(&full);
        assert_eq!(said.code, 0, "{name}: {}\n{}", said.out, said.err);
        let full = said.json();
        if let Some(pushed) = &self.pushed {
            pushed.knows(&full);
            self.delivered(name);
        }
        counted(name, &full, counts);
        assert_eq!(full["drift"], 0, "{name}: {full}");
        assert_eq!(self.heard(), heard, "{name}: {full}");
    }
}

/// That a run did this to users, and nothing else.
fn counted(name: &str, run: &Value, counts: &[(&str, i64)]) {
    for kind in [
        "created",
        "renamed",
        "phone_changed",
        "phone_lost",
        "suspended",
        "restored",
    ] {
        let expected = counts.iter().find(|(k, _)| *k == kind).map_or(0, |c| c.1);
        assert_eq!(run[kind], expected, "{name}: {kind}: {run}");
    }
}
