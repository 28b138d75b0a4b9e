//! What the tests of deltas share: who changed by comparing two full passes, against who was told of.

use std::collections::{BTreeMap, BTreeSet};

use realmsync::directory::{Delta, NoDelta, Scope, Session};
use realmsync::model::{DirectoryId, RawEntry};

use crate::directory::{id_of, read};

/// Everybody, by id, in a form that can be compared.
pub type People = BTreeMap<DirectoryId, (Vec<u8>, BTreeMap<String, BTreeSet<Vec<u8>>>)>;

pub async fn people(session: &mut Session, scope: &Scope) -> People {
    let all = read(session, scope).await.unwrap().1;
    all.iter().map(|e| (id_of(e, scope), form(e))).collect()
}

fn form(entry: &RawEntry) -> (Vec<u8>, BTreeMap<String, BTreeSet<Vec<u8>>>) {
    let attributes = entry
        .attributes()
        .map(|a| (a.name.to_owned(), a.values().map(<[u8]>::to_vec).collect()));
    (entry.dn().to_vec(), attributes.collect())
}

/// The id of the person with this number, as `churn` names people.
pub fn numbered(people: &People, number: &str) -> DirectoryId {
    let value = BTreeSet::from([number.as_bytes().to_vec()]);
    let found = people
        .iter()
        .find(|(_, (_, a))| a.get("employeenumber") == Some(&value));
    *found.expect("somebody with this number").0
}

/// The ids of those with whom `churn` did one thing.
pub fn done(did: &serde_json::Value, what: &str, people: &People) -> BTreeSet<DirectoryId> {
    let who = did["did"][what].as_array().expect("a list of people");
    who.iter()
        .map(|p| numbered(people, p["employeeNumber"].as_str().expect("a number")))
        .collect()
}

/// Everybody who is there in one and not, or otherwise, in the other.
pub fn changed(before: &People, after: &People) -> BTreeSet<DirectoryId> {
    let ids = before.keys().chain(after.keys());
    ids.filter(|id| before.get(id) != after.get(id))
        .copied()
        .collect()
}

/// Everybody whom a delta names.
pub fn named(delta: &Delta) -> BTreeSet<DirectoryId> {
    let all: BTreeSet<DirectoryId> = delta.touched.iter().chain(&delta.gone).copied().collect();
    assert_eq!(
        all.len(),
        delta.touched.len() + delta.gone.len(),
        "each is named once"
    );
    all
}

/// The text of a delta that says to start over.
pub fn start_over(delta: Result<Delta, NoDelta>) -> String {
    match delta {
        Err(NoDelta::StartOver(why)) => why,
        other => panic!("not to start over: {other:?}"),
    }
}
