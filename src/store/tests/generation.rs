//! An SQLite file that lacks what the store held is told from one that is whole.

use std::path::{Path, PathBuf};

use super::*;
use crate::store::db::on;

async fn names(store: &Store, n: usize) {
    let realm = RealmDecl {
        id: RealmId::from(format!("realm-{n}")),
        name: "x".into(),
    };
    store.declare_realms(&[realm], START).await.unwrap();
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What a kill leaves: all files as they are while the store is in use.
fn killed(path: &Path, to: &Path, endings: &[&str]) {
    for ending in endings {
        std::fs::copy(beside(path, ending), beside(to, ending)).unwrap();
    }
}

fn incomplete(opened: &Result<Store, StoreError>) -> bool {
    matches!(opened, Err(StoreError::Incomplete { .. }))
}

#[tokio::test]
async fn trap_24_a_plain_copy_without_its_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    names(&store, 1).await;
    // Elsewhere, with nothing beside it; and in the place of the store itself.
    let elsewhere = dir.path().join("elsewhere.db");
    killed(&path, &elsewhere, &[""]);
    let opened = open(&elsewhere, Access::Write).await;
    assert!(incomplete(&opened), "{opened:?}");
    let text = opened.unwrap_err().to_string();
    assert!(
        text.contains("-wal") && text.contains("elsewhere.db-generation"),
        "{text}"
    );
    let with_file = dir.path().join("with_file.db");
    killed(&path, &with_file, &["", "-generation"]);
    assert!(incomplete(&open(&with_file, Access::Write).await));
    store.close().await;
    std::fs::copy(&elsewhere, &path).unwrap();
    assert!(
        incomplete(&open(&path, Access::Write).await),
        "an older copy in its place"
    );
    assert!(
        incomplete(&open(&path, Access::Write).await),
        "and it stays refused"
    );
    // An administrator takes it as it is.
    std::fs::write(beside(&path, "-generation"), "accept\n").unwrap();
    let store = open(&path, Access::Write).await.unwrap();
    names(&store, 2).await;
    store.close().await;
    open(&path, Access::Write).await.unwrap().close().await;
}

#[tokio::test]
async fn what_is_whole_is_never_taken_for_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    for n in 0..3 {
        names(&store, n).await;
        // Killed at any time, with its log, also with a file that is behind after a power cut, or with none.
        let after = dir.path().join(format!("killed-{n}.db"));
        killed(&path, &after, &["", "-wal", "-generation"]);
        open(&after, Access::Write).await.unwrap().close().await;
        let behind = dir.path().join(format!("behind-{n}.db"));
        killed(&path, &behind, &["", "-wal"]);
        std::fs::write(beside(&behind, "-generation"), "00000000000000000001\n").unwrap();
        open(&behind, Access::Write).await.unwrap().close().await;
        let without = dir.path().join(format!("without-{n}.db"));
        killed(&path, &without, &["", "-wal"]);
        open(&without, Access::Write).await.unwrap().close().await;
        // Whoever only reads after a kill folds the log into the file.
        let read = dir.path().join(format!("read-{n}.db"));
        killed(&path, &read, &["", "-wal", "-generation"]);
        open(&read, Access::Read).await.unwrap().close().await;
        open(&read, Access::Write).await.unwrap().close().await;
    }
    store.close().await;
    assert!(!beside(&path, "-wal").exists());
    // Stopped and moved, with the file or without.
    let moved = dir.path().join("moved.db");
    killed(&path, &moved, &[""]);
    open(&moved, Access::Write).await.unwrap().close().await;
    std::fs::write(beside(&moved, "-generation"), "\0\0\0").unwrap();
    open(&moved, Access::Write).await.unwrap().close().await;
    // A store that was taken away is made anew.
    std::fs::remove_file(&moved).unwrap();
    open(&moved, Access::Write).await.unwrap().close().await;
    // A copy that says that it is one may be older than what was there.
    let store = open(&path, Access::Write).await.unwrap();
    let copy = dir.path().join("copy.db");
    store.backup(&copy, START).await.unwrap();
    assert!(!beside(&copy, "-generation").exists());
    names(&store, 9).await;
    store.close().await;
    std::fs::copy(&copy, &path).unwrap();
    open(&path, Access::Write).await.unwrap().close().await;
    open(&copy, Access::Write).await.unwrap().close().await;
}

#[tokio::test]
async fn who_takes_an_incomplete_store_finds_its_messages_on_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    store.close().await;
    std::fs::write(beside(&path, "-generation"), "00000000000000009999\n").unwrap();
    assert!(incomplete(&open(&path, Access::Write).await));
    std::fs::write(beside(&path, "-generation"), "accept").unwrap();
    let store = open(&path, Access::Write).await.unwrap();
    let noted = std::fs::read_to_string(beside(&path, "-generation")).unwrap();
    assert!(noted.trim().parse::<i64>().is_ok_and(|n| n > 1), "{noted}");
    let mut tx = store.db.begin().await.unwrap();
    let there = on!(tx, c => sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = 'generation'").fetch_one(&mut *c).await);
    assert_eq!(
        there.unwrap().parse::<i64>().unwrap(),
        noted.trim().parse::<i64>().unwrap()
    );
}

#[tokio::test]
async fn a_writer_waits_for_its_own_process_as_long_as_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    let long = store.db.begin().await.unwrap();
    let other = store.clone();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { other.db.begin().await.map(|_| ()) });
    tokio::task::yield_now().await;
    tokio::time::pause();
    for _ in 0..20 {
        tokio::time::advance(std::time::Duration::from_mins(1)).await;
        assert!(waiting.try_join_next().is_none(), "it gave up");
    }
    tokio::time::resume();
    long.commit().await.unwrap();
    waiting.join_next().await.unwrap().unwrap().unwrap();
}
