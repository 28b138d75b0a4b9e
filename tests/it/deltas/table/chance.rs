//! Any life, heard of in any way: changes by chance, between them deltas, full passes and runs that are killed. At the end the store
//! is that of one full pass, and each message was said once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use super::words::{DS389, OPENLDAP, SAMBA, Words, deleted, moved, set};
use super::{By, Life};

const STEPS: u32 = 30;

/// Numbers by chance, the same ones for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Who is there: cn → user name; and who is in the other place.
#[derive(Default)]
struct People {
    here: BTreeMap<String, String>,
    former: BTreeMap<String, String>,
    made: u32,
}

impl People {
    fn any(of: &BTreeMap<String, String>, chance: &mut Chance) -> Option<(String, String)> {
        let (cn, name) = of.iter().nth(chance.below(of.len().max(1)))?;
        Some((cn.clone(), name.clone()))
    }

    /// One change, as LDIF.
    fn change(&mut self, words: &Words, chance: &mut Chance, step: u32) -> String {
        let number = format!("+4219051{:05}", chance.below(100_000));
        let Some((cn, name)) = Self::any(&self.here, chance) else {
            return self.newcomer(words, &number, format!("n{step}"));
        };
        match chance.below(10) {
            0 | 1 => self.newcomer(words, &number, format!("n{step}")),
            2 | 3 => set(&cn, "mobile", &number),
            4 => {
                let name = format!("r{step}");
                self.here.insert(cn.clone(), name.clone());
                words.named(&cn, &name)
            }
            5 => {
                self.here.remove(&cn);
                deleted(&cn)
            }
            6 => {
                self.here.remove(&cn);
                self.former.insert(cn.clone(), name);
                moved(&cn, "BASE", "FORMER")
            }
            7 => match Self::any(&self.former, chance) {
                Some((cn, name)) => {
                    self.former.remove(&cn);
                    self.here.insert(cn.clone(), name);
                    moved(&cn, "FORMER", "BASE")
                }
                None => String::new(),
            },
            // Deleted, and another one with the name.
            8 => {
                self.here.remove(&cn);
                deleted(&cn) + &self.newcomer(words, &number, name)
            }
            _ => match Self::any(&self.here, chance) {
                Some((other, theirs)) if other != cn => {
                    self.here.insert(cn.clone(), theirs.clone());
                    self.here.insert(other.clone(), name.clone());
                    words.swapped((&cn, &name), (&other, &theirs))
                }
                _ => String::new(),
            },
        }
    }

    fn newcomer(&mut self, words: &Words, number: &str, name: String) -> String {
        self.made += 1;
        let cn = format!("P{}", self.made);
        let ldif = words.person(&cn, &name, number);
        self.here.insert(cn, name);
        ldif
    }
}

impl Life {
    /// A run that is killed after a while, wherever it is by then.
    fn killed(&self, after: Duration) {
        let mut run = self
            .house
            .command(&["--json", "sync", "r"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary");
        std::thread::sleep(after);
        let _ended_already = run.kill();
        run.wait().expect("ended");
    }

    /// That everything was said once: no message twice, and nobody suspended who is, or restored who is not.
    fn said_once(&self, seed: u64) {
        let mut ids = BTreeSet::new();
        let mut away: BTreeMap<String, bool> = BTreeMap::new();
        for message in self.house.receiver.all() {
            assert!(
                ids.insert(message.id.clone()),
                "seed {seed}: twice {}",
                message.body
            );
            let json = message.json();
            let user = json["data"]["user"]["id"]
                .as_str()
                .expect("an id")
                .to_owned();
            let suspends = match json["type"].as_str() {
                Some("user.suspend") => true,
                Some("user.restore") => false,
                _ => continue,
            };
            let before = away.insert(user, suspends).unwrap_or(false);
            assert_ne!(before, suspends, "seed {seed}: {}", message.body);
        }
    }
}

fn lives(words: Words, seed: u64) {
    let life = Life::new(words, &["--users", "40"], By::Command);
    let (mut chance, mut people) = (Chance(seed), People::default());
    let mut told = vec![];
    for step in 0..STEPS {
        let ldif = people.change(&words, &mut chance, step);
        life.ldif(&ldif);
        told.push(ldif);
        let run = match chance.below(8) {
            // More comes before anybody looks.
            0..3 => continue,
            3 => {
                let after = Duration::from_millis(u64::try_from(chance.below(120)).unwrap());
                life.killed(after);
                continue;
            }
            4 => life
                .house
                .run(&["--json", "sync", "r", "--full", "--deliver"]),
            _ => life.house.run(&["--json", "sync", "r", "--deliver"]),
        };
        let what = format!(
            "seed {seed}, step {step}: {}{}\n{told:#?}",
            run.out, run.err
        );
        assert_eq!(run.code, 0, "{what}");
        let drift = &run.json()["drift"];
        assert!(drift.is_null() || *drift == 0, "{what}");
    }
    life.delta(&format!("seed {seed}: {told:#?}"));
    life.heard();
    life.found(&format!("seed {seed}"), &[], &[]);
    life.said_once(seed);
    // And who is there is who should be.
    let active = [
        "--json", "users", "list", "--realm", "r", "--state", "active",
    ];
    let users = life.house.run(&active).lines();
    let name = |user: &serde_json::Value| user["username"].as_str().expect("a name").to_owned();
    let names: BTreeSet<String> = users.iter().map(name).collect();
    for name in people.here.values() {
        assert!(names.contains(name), "seed {seed}: {name}: {told:#?}");
    }
    for name in people.former.values() {
        assert!(!names.contains(name), "seed {seed}: {name}: {told:#?}");
    }
}

#[test]
fn any_life_on_openldap() {
    for seed in [1, 2, 3] {
        lives(OPENLDAP, seed);
    }
}

#[test]
fn any_life_on_389_ds() {
    lives(DS389, 4);
}

#[test]
fn any_life_on_active_directory() {
    lives(SAMBA, 5);
}
