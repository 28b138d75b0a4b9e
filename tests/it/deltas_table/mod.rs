//! The scenario table: the same life in two houses, one told by deltas and one that reads everything into a fresh store. Both
//! must know the same people and say the same.

mod chance;
mod restarts;
mod scenes;
mod words;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::house::House;
use crate::lab::Server;
use words::Words;

/// One realm that lives on deltas.
struct Life {
    words: Words,
    house: House,
    base: String,
    former: String,
    /// Messages that were looked at.
    counted: std::cell::Cell<usize>,
}

/// What two stores must agree on.
type Picture = (BTreeMap<String, String>, Vec<String>);

fn same(scene: &str, lived: &Picture, read: &Picture) {
    let of = |one: &Picture, other: &Picture| -> Vec<String> {
        let people = one
            .0
            .iter()
            .filter(|(id, user)| other.0.get(*id) != Some(*user));
        let refused = one.1.iter().filter(|row| !other.1.contains(row));
        people
            .map(|p| p.1.clone())
            .chain(refused.cloned())
            .collect()
    };
    let (only_lived, only_read) = (of(lived, read), of(read, lived));
    assert!(
        only_lived.is_empty() && only_read.is_empty(),
        "{scene}: by deltas {only_lived:#?}, by a full pass {only_read:#?}"
    );
}

impl Life {
    fn new(words: Words, options: &[&str]) -> Self {
        let house = House::with(Server::start(words.kind, options), "");
        let password = &house.server[&format!("{}_PASSWORD", words.account)];
        std::fs::write(house.path("bind"), password).expect("a password");
        let (base, former) = (
            house.server["PEOPLE_DN"].to_owned(),
            house.server["FORMER_DN"].to_owned(),
        );
        let life = Self {
            words,
            house,
            base,
            former,
            counted: std::cell::Cell::new(0),
        };
        life.configure();
        let first = life.house.sync_and_deliver(0);
        assert_eq!(first["mode"], "full", "{first}");
        assert_eq!(life.heard(), [""; 0], "{first}");
        // What is not told is said from the beginning.
        let status = life.house.run(&["status"]).out;
        let all = words.deletions && words.moves;
        assert_eq!(!status.contains("not told"), all, "{status}");
        life.rest();
        life
    }

    /// Writes the configuration, after the server's addresses may have changed too.
    fn configure(&self) {
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

    /// The next run, which must be a delta. A full pass over a copy of the store comes to the same, and so does one into a
    /// fresh store, unless somebody keeps what a newcomer would not get.
    fn delta(&self, scene: &str) -> Value {
        self.copy("realmsync.db", "copy.db");
        let said = self.house.run(&["--json", "sync", "r", "--deliver"]);
        assert_eq!(said.code, 0, "{scene}: {}\n{}", said.out, said.err);
        let run = said.json();
        assert_eq!(run["mode"], "delta", "{scene}: {run}");
        let lived = self.picture(false);
        // 389-ds takes its time to check a password: there one comparison must do.
        if self.words.kind != "ds389" || scene.ends_with("(kept)") {
            let full = self.beside("copy.db", &["--json", "sync", "r", "--full"], || {
                same(scene, &lived, &self.picture(false));
            });
            assert_eq!(full["outcome"], run["outcome"], "{scene}: {run}, {full}");
        }
        if !scene.ends_with("(kept)") {
            let lived = self.picture(true);
            self.copy("none", "fresh.db");
            let first = self.beside("fresh.db", &["--json", "sync", "r"], || {
                same(scene, &lived, &self.picture(true));
            });
            assert_eq!(first["mode"], "full", "{scene}: {first}");
        }
        run
    }

    fn copy(&self, from: &str, to: &str) {
        for end in ["", "-wal", "-shm", ".lock"] {
            let (from, to) = (
                self.house.path(&format!("{from}{end}")),
                self.house.path(&format!("{to}{end}")),
            );
            let _was_there = std::fs::remove_file(&to);
            if from.exists() {
                std::fs::copy(from, to).expect("a copy");
            }
        }
    }

    /// Runs something over another store, and looks at it.
    fn beside(&self, store: &str, what: &[&str], look: impl FnOnce()) -> Value {
        let file = self.house.path("realmsync.toml");
        let own = std::fs::read_to_string(&file).expect("a configuration");
        // A full pass that is no delta in disguise: deltas are what it is compared with.
        let other = own
            .replace("realmsync.db", store)
            .replace(&self.words.directory(), "changes = \"full\"");
        std::fs::write(&file, other).expect("written");
        let said = self.house.run(what);
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        look();
        std::fs::write(&file, own).expect("written");
        said.json()
    }

    /// By directory id who they are, and what is refused; `there`: without those who are gone, whom a fresh store never knew.
    fn picture(&self, there: bool) -> Picture {
        let mut people = BTreeMap::new();
        for state in ["active", "suspended"] {
            let said = self
                .house
                .run(&["--json", "users", "list", "--realm", "r", "--state", state]);
            assert_eq!(said.code, 0, "{}", said.err);
            for mut user in said.lines() {
                let gone = matches!(
                    user["state_reason"].as_str(),
                    Some("deleted" | "out_of_scope")
                );
                if gone && there {
                    continue;
                }
                let fields = user.as_object_mut().expect("an object");
                // Of the store, and of what was said so far.
                for own in [
                    "id",
                    "version",
                    "created_at",
                    "updated_at",
                    "suspended_at",
                    "phone_provisioned",
                    "enrolment",
                ] {
                    fields.remove(own);
                }
                let id = user["directory_id"].as_str().expect("an id").to_owned();
                assert!(people.insert(id, user.to_string()).is_none(), "an id twice");
            }
        }
        let mut refused = self.house.run(&["--json", "refused", "r"]).lines();
        for row in &mut refused {
            row.as_object_mut().expect("an object").remove("since");
        }
        let refused = refused.iter().map(Value::to_string).collect();
        (people, refused)
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
        self.ldif(ldif);
        let run = self.delta(name);
        counted(name, &run, counts);
        assert_eq!(self.heard(), heard, "{name}: {run}");
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
        let said = self
            .house
            .run(&["--json", "sync", "r", "--full", "--deliver"]);
        assert_eq!(said.code, 0, "{name}: {}\n{}", said.out, said.err);
        let full = said.json();
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
