//! Timestamps and USNs against three kinds of servers.

use std::collections::BTreeSet;
use std::time::Duration;

use realmsync::directory::{Cursor, Scope, Session, Way};

use crate::deltas::told::{done, named, people, start_over};
use crate::directory::{scope, session, session_as};
use crate::support::lab::Server;

fn whole(server: &Server) -> Scope {
    let mut scope = scope(server);
    scope.page_size = 50;
    scope
}

/// Asks until nothing is told any more, as polls do; who was told, and the last cursor.
async fn polls(
    session: &mut Session,
    scope: &Scope,
    mut cursor: Cursor,
) -> (BTreeSet<realmsync::model::DirectoryId>, Cursor) {
    let mut told = BTreeSet::new();
    for _ in 0..5 {
        let delta = session.changes_since(scope, &cursor).await.unwrap();
        assert_eq!((delta.gone.as_slice(), &delta.present), (&[][..], &None));
        let idle = delta.is_empty();
        if !idle {
            assert!(
                delta
                    .blind
                    .as_deref()
                    .is_some_and(|b| b.contains("deletions"))
            );
        }
        told.extend(named(&delta));
        cursor = delta.cursor.unwrap_or(cursor);
        if idle {
            return (told, cursor);
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    panic!("it never comes to rest");
}

async fn follows(server: &Server) {
    let scope = whole(server);
    let mut sync = session(server).await;
    assert!(sync.ways(&scope).await.unwrap().contains(&Way::Timestamp));
    let begin = sync.cursor_now(&scope, Way::Timestamp).await.unwrap();
    let before = people(&mut sync, &scope).await;
    // Everybody was made just now, and is within the overlap of servers that have one.
    let (_, rest) = polls(&mut sync, &scope, begin.clone()).await;

    let did = server.churn(&[
        "--add",
        "2",
        "--phone",
        "3",
        "--nophone",
        "1",
        "--disable",
        "1",
        "--rename",
        "2",
        "--delete",
        "2",
        "--move",
        "1",
    ]);
    let (told, next) = polls(&mut sync, &scope, rest.clone()).await;
    let after = people(&mut sync, &scope).await;
    for what in ["phone", "nophone", "disable", "rename"] {
        let who = done(&did, what, &before);
        assert!(who.is_subset(&told), "{what}");
    }
    assert!(done(&did, "add", &after).is_subset(&told));
    for what in ["delete", "move"] {
        assert!(
            done(&did, what, &before).is_disjoint(&told),
            "{what} cannot be told"
        );
    }
    // The cursor of before and another session tell the same and perhaps more.
    let mut other = session(server).await;
    let again = named(&other.changes_since(&scope, &begin).await.unwrap());
    assert!(again.is_superset(&told));

    // Two changes within a second, with a delta between them: both are told.
    let one = *done(&did, "phone", &before).first().unwrap();
    let dn = String::from_utf8(after[&one].0.clone()).unwrap();
    let line = if dn.is_ascii() {
        format!("dn: {dn}")
    } else {
        use base64::Engine as _;
        format!(
            "dn:: {}",
            base64::engine::general_purpose::STANDARD.encode(&dn)
        )
    };
    let mut cursor = next;
    for number in ["+421905000001", "+421905000002", "+421905000003"] {
        server.modify(&format!(
            "{line}\nchangetype: modify\nreplace: mobile\nmobile: {number}\n"
        ));
        let delta = sync.changes_since(&scope, &cursor).await.unwrap();
        assert!(delta.touched.contains(&one), "{number}");
        cursor = delta.cursor.unwrap_or(cursor);
    }

    // Another search, another account, another server, garbage.
    let mut elsewhere = scope.clone();
    elsewhere.bases = vec![server["GROUPS_DN"].to_owned()];
    start_over(sync.changes_since(&elsewhere, &cursor).await);
    let mut blind = session_as(server, "BLIND").await.unwrap();
    start_over(blind.changes_since(&scope, &cursor).await);
    for garbage in ["", "x", "{}", "-1"] {
        let mut bad = cursor.clone();
        bad.cookie = garbage.into();
        start_over(sync.changes_since(&scope, &bad).await);
    }
    let mut foreign = cursor.clone();
    foreign.server = "ldaps://another.example.org".into();
    start_over(sync.changes_since(&scope, &foreign).await);
}

#[tokio::test]
async fn timestamps_of_slapd() {
    let server = Server::start("openldap", &["--users", "60"]);
    follows(&server).await;

    // The realm's filter hides nobody who leaves it.
    let mut scope = whole(&server);
    scope.filter = "(&(objectClass=inetOrgPerson)(!(title=former)))".into();
    let mut sync = session(&server).await;
    let before = people(&mut sync, &scope).await;
    let cursor = sync.cursor_now(&scope, Way::Timestamp).await.unwrap();
    let leaver = before.iter().find(|(_, (dn, _))| dn.is_ascii()).unwrap();
    let dn = String::from_utf8(leaver.1.0.clone()).unwrap();
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: title\ntitle: former\n"
    ));
    let delta = sync.changes_since(&scope, &cursor).await.unwrap();
    assert!(delta.touched.contains(leaver.0));
    // The contextCSN was seen to move with a change: as long as it stands still there is no search at all.
    let (_, rest) = polls(&mut sync, &scope, cursor.clone()).await;
    let window: serde_json::Value = serde_json::from_str(&rest.cookie).unwrap();
    assert_eq!(window["moved"], true, "{window}");
    let idle = sync.changes_since(&scope, &rest).await.unwrap();
    assert!(idle.is_empty() && idle.cursor.is_none());

    // A server whose time was set back, or that was restored: the cursor is of its future.
    let mut future: serde_json::Value = serde_json::from_str(&cursor.cookie).unwrap();
    future["at"] = (future["at"].as_i64().unwrap() + 3600).into();
    future["state"] = serde_json::Value::Null;
    let mut ahead = cursor.clone();
    ahead.cookie = future.to_string();
    let why = start_over(sync.changes_since(&scope, &ahead).await);
    assert!(why.contains("older than the cursor"), "{why}");
}

#[tokio::test]
async fn timestamps_of_389_ds() {
    let server = Server::start("ds389", &["--users", "60"]);
    follows(&server).await;
}

#[tokio::test]
async fn trap_23_usns_of_active_directory() {
    let server = Server::start("samba", &["--users", "60"]);
    follows(&server).await;
    let scope = whole(&server);
    let mut sync = session_as(&server, "PLAIN").await.unwrap();
    let cursor = sync.cursor_now(&scope, Way::Timestamp).await.unwrap();
    let usn: u64 = cursor.cookie.parse().unwrap();
    // Exactly what changed since, without an overlap.
    let before = people(&mut sync, &scope).await;
    let did = server.churn(&["--phone", "2"]);
    let delta = sync.changes_since(&scope, &cursor).await.unwrap();
    assert_eq!(named(&delta), done(&did, "phone", &before));
    // A lower USN within one invocationId, and another invocationId.
    let mut lower = cursor.clone();
    lower.cookie = (usn + 1_000_000).to_string();
    let why = start_over(sync.changes_since(&scope, &lower).await);
    assert!(why.contains("restored"), "{why}");
    let mut other = cursor.clone();
    other.server = "0d06ba56-7a45-4a1e-a5b6-3ee7b6d1c2a1".into();
    let why = start_over(sync.changes_since(&scope, &other).await);
    assert!(why.contains("restored"), "{why}");
}
