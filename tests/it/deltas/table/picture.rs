//! Who a store knows, beside who another one does.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Life;
use super::pushed::MARK;

/// The configuration whose store is a copy of the life's own.
pub const COPY: &str = "copy";
/// The one whose store is empty.
pub const FRESH: &str = "fresh";

/// What two stores must agree on.
pub type Picture = (BTreeMap<String, String>, Vec<String>);

/// How what is lived differs from what is read.
pub fn differ(lived: &Picture, read: &Picture) -> Option<String> {
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
    (!only_lived.is_empty() || !only_read.is_empty())
        .then(|| format!("by deltas {only_lived:#?}, by a full pass {only_read:#?}"))
}

pub fn agree(scene: &str, lived: &Picture, read: &Picture) {
    if let Some(how) = differ(lived, read) {
        panic!("{scene}: {how}");
    }
}

impl Life {
    /// Keeps the store as it is now for [`Life::read`].
    pub fn copy(&self) {
        self.away_with(COPY);
        let copy = self.house.path(&format!("{COPY}.db"));
        let said = self.house.run(&["backup", &copy.display().to_string()]);
        assert_eq!(said.code, 0, "{}", said.err);
    }

    fn away_with(&self, store: &str) {
        for end in ["", "-wal", "-shm", ".lock"] {
            let _was_there = std::fs::remove_file(self.house.path(&format!("{store}.db{end}")));
        }
    }

    /// A full pass into the copy or the empty store, and who is known there then.
    pub fn read(&self, scene: &str, store: &str) -> (Value, Picture) {
        if store == FRESH {
            self.away_with(FRESH);
        }
        // A full pass that is no delta in disguise: deltas are what it is compared with.
        let full = [(&*self.words.directory(), "changes = \"full\"")];
        self.house.beside(store, &full);
        let pass = ["--json", "sync", "r", "--full"];
        let said = self.house.run_of(store, &pass);
        assert_eq!(said.code, 0, "{scene}: {}\n{}", said.out, said.err);
        (said.json(), self.pictured(store, store == FRESH))
    }

    /// By directory id who they are, and what is refused; `there`: without those who are gone, whom a fresh store never knew.
    pub fn picture(&self, there: bool) -> Picture {
        self.pictured("realmsync", there)
    }

    fn pictured(&self, store: &str, there: bool) -> Picture {
        let mut people = BTreeMap::new();
        for mut user in self.known(store) {
            let gone = matches!(
                user["state_reason"].as_str(),
                Some("deleted" | "out_of_scope")
            );
            if (gone && there) || user["username"] == MARK {
                continue;
            }
            let fields = user.as_object_mut().expect("an object");
            // Of the store, and of what was said so far.
            for own in [
                "id",
                "version",
                "created_at",
                "updated_at",
                // It names the time at which a link ends.
                "notices",
                "suspended_at",
                "phone_provisioned",
                "enrolment",
            ] {
                fields.remove(own);
            }
            let id = user["directory_id"].as_str().expect("an id").to_owned();
            assert!(people.insert(id, user.to_string()).is_none(), "an id twice");
        }
        let mut refused = self
            .house
            .run_of(store, &["--json", "refused", "r"])
            .lines();
        for row in &mut refused {
            row.as_object_mut().expect("an object").remove("since");
        }
        let refused = refused.iter().map(Value::to_string).collect();
        (people, refused)
    }

    /// Everybody whom a store knows.
    pub fn known(&self, store: &str) -> Vec<Value> {
        let list = ["--json", "users", "list", "--realm", "r"];
        let said = self.house.run_of(store, &list);
        assert_eq!(said.code, 0, "{}", said.err);
        said.lines()
    }
}

/// Whether somebody keeps in this scene what a newcomer would not get.
pub fn kept(scene: &str) -> bool {
    scene.ends_with("(kept)")
}
