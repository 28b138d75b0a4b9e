//! What of DirSync the fuzzers call (see [`crate::fuzzing`]).

use super::super::fuzzing::entries;
use super::changes::DirSyncChanges;
use super::codec::{OBJECT_SECURITY, answer, request};

/// The control of an answer, and the entries that are told: nobody is told twice, or both ways.
pub fn dirsync(data: &[u8]) {
    if let Some(read) = answer(data) {
        assert!(!read.cookie.is_empty() && read.cookie.len() < data.len());
        let asked = request(OBJECT_SECURITY, read.cookie);
        assert_eq!(answer(&asked).map(|a| a.cookie), Some(read.cookie));
    }
    let mut told = DirSyncChanges::default();
    for entry in entries(data) {
        let before = told.len();
        if told.take(&entry).is_ok() {
            assert!((before..=before + 1).contains(&told.len()));
        }
    }
    let moved = told.moved();
    for id in &moved {
        let _unused = told.along(*id);
    }
    let count = told.len();
    let (touched, gone) = told.lists();
    assert_eq!(touched.len() + gone.len(), count);
    assert!(moved.iter().all(|id| touched.contains(id)));
    assert!(gone.iter().all(|id| !touched.contains(id)));
}
