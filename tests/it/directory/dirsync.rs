//! DirSync and change notification against an Active Directory domain controller (Samba).

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use realmsync::directory::{Cursor, Delta, Scope, Session, Sighting, Way};
use tokio::time::{Instant, timeout};

use crate::deltas::told::{changed, done, named, numbered, people, start_over};
use crate::directory::{config, connect, scope, session, session_as};
use crate::support::lab::Server;

/// The lab's people with what `churn` changes.
fn whole(server: &Server) -> Scope {
    let mut scope = scope(server);
    scope
        .attributes
        .extend(["userAccountControl", "otherMobile"].map(str::to_owned));
    scope.page_size = 500;
    scope
}

async fn since(session: &mut Session, scope: &Scope, cursor: &Cursor) -> Delta {
    session.changes_since(scope, cursor).await.unwrap()
}

#[tokio::test]
async fn from_now_on_every_change_is_told_once() {
    let server = Server::start("samba", &["--users", "120"]);
    let scope = whole(&server);
    let mut sync = session(&server).await;
    assert_eq!(
        sync.ways(&scope).await.unwrap(),
        [Way::Push, Way::DirSync, Way::Timestamp]
    );
    let begin = sync.cursor_now(&scope, Way::Push).await.unwrap();
    assert_eq!(begin.way, Way::DirSync);
    let before = people(&mut sync, &scope).await;
    let idle = since(&mut sync, &scope, &begin).await;
    assert!(
        idle.is_empty() && idle.cursor.is_none() && idle.blind.is_none(),
        "{idle:?}"
    );

    let did = server.churn(&[
        "--add",
        "3",
        "--phone",
        "4",
        "--nophone",
        "2",
        "--disable",
        "2",
        "--rename",
        "3",
        "--move",
        "2",
        "--delete",
        "4",
    ]);
    let delta = since(&mut sync, &scope, &begin).await;
    let after = people(&mut sync, &scope).await;
    assert_eq!(delta.blind, None);
    assert_eq!(delta.present, None);
    let gone: BTreeSet<_> = delta.gone.iter().copied().collect();
    assert_eq!(gone, done(&did, "delete", &before));
    let must = changed(&before, &after);
    assert_eq!(must.len(), 20, "the churn is what it was");
    let told = named(&delta);
    assert!(must.is_subset(&told), "{:?}", must.difference(&told));
    // Nobody else of the realm: at most the account itself, which logged on.
    assert!(told.len() <= must.len() + 1, "{}", told.len());
    let found = sync
        .look_up(&scope, &told.iter().copied().collect::<Vec<_>>())
        .await
        .unwrap();
    for id in done(&did, "move", &before) {
        assert!(matches!(found[&id], Sighting::OutOfScope { .. }));
    }
    for id in done(&did, "add", &after) {
        assert!(matches!(found[&id], Sighting::InScope(_)));
    }

    // From the new cursor there is nothing; from the old one the same again, in another session too.
    let next = delta.cursor.clone().unwrap();
    assert!(since(&mut sync, &scope, &next).await.is_empty());
    let mut other = session(&server).await;
    assert_eq!(named(&since(&mut other, &scope, &begin).await), told);
    server.churn(&["--back", "2"]);
    let back = since(&mut other, &scope, &next).await;
    assert_eq!(named(&back), done(&did, "move", &before));

    // Trap 23: a domain controller that was restored has another invocationId, or lower USNs under the same one.
    trap_23_restored(&mut sync, &scope, &next).await;
    // Trap 19: garbage. Samba itself would take some of it for a cookie.
    trap_19_garbage(&mut sync, &scope, &next).await;
    // Trap 25: another filter, other attributes, another base, another account.
    let mut others = vec![scope.clone(); 3];
    others[0].filter = "(objectClass=user)".into();
    others[1].attributes.push("pager".into());
    others[2].bases = vec![server["SUFFIX"].to_owned()];
    for other in &others {
        let why = start_over(sync.changes_since(other, &next).await);
        assert!(why.contains("not those of the cursor"), "{why}");
    }
    let mut plain = session_as(&server, "PLAIN").await.unwrap();
    start_over(plain.changes_since(&scope, &next).await);
    // What another way gave is not for this one.
    let stamped = sync.cursor_now(&scope, Way::Timestamp).await.unwrap();
    start_over(
        sync.changes_since(
            &scope,
            &Cursor {
                way: Way::DirSync,
                ..stamped
            },
        )
        .await,
    );
    // The session lives on after all of this.
    assert!(
        since(&mut sync, &scope, &back.cursor.unwrap())
            .await
            .is_empty()
    );
}

async fn trap_23_restored(sync: &mut Session, scope: &Scope, cursor: &Cursor) {
    let mut other = cursor.clone();
    other.server = "0d06ba56-7a45-4a1e-a5b6-3ee7b6d1c2a1".into();
    let why = start_over(sync.changes_since(scope, &other).await);
    assert!(why.contains("restored"), "{why}");
    let mut place: serde_json::Value = serde_json::from_str(&cursor.cookie).unwrap();
    place["usn"] = (place["usn"].as_u64().unwrap() + 1_000_000).into();
    let mut lower = cursor.clone();
    lower.cookie = place.to_string();
    let why = start_over(sync.changes_since(scope, &lower).await);
    assert!(why.contains("USN") && why.contains("restored"), "{why}");
}

async fn trap_19_garbage(sync: &mut Session, scope: &Scope, cursor: &Cursor) {
    let place: serde_json::Value = serde_json::from_str(&cursor.cookie).unwrap();
    let with = |cookies: serde_json::Value| {
        let mut place = place.clone();
        // Otherwise nothing would have changed since, and nobody would look at the cookie.
        place["usn"] = 1.into();
        place["cookies"] = cookies;
        place.to_string()
    };
    for garbage in [
        String::new(),
        "MSDS".to_owned(),
        with(serde_json::json!([])),
        with(serde_json::json!([""])),
        with(serde_json::json!(["%%%"])),
        with(serde_json::json!(["TVNEUw=="])),
        with(serde_json::json!(["AAAA", "AAAA"])),
    ] {
        let mut cursor = cursor.clone();
        cursor.cookie = garbage;
        start_over(sync.changes_since(scope, &cursor).await);
    }
}

#[tokio::test]
async fn trap_22_what_dirsync_does_not_say_by_itself() {
    let server = Server::start("samba", &["--users", "60"]);
    let (suffix, ou) = (&server["SUFFIX"], &server["PEOPLE_DN"]);
    let mut scope = whole(&server);
    // What only the filter looks at is asked for too, and the filter itself hides nobody.
    scope.filter = "(&(objectClass=user)(!(objectClass=computer))(!(department=former)))".into();
    server.modify(&format!(
        "dn: OU=Sub,{ou}\nchangetype: add\nobjectClass: organizationalUnit\n\n\
         dn: OU=Deep,OU=Sub,{ou}\nchangetype: add\nobjectClass: organizationalUnit\n\n\
         dn: CN=Kid,OU=Deep,OU=Sub,{ou}\nchangetype: add\nobjectClass: user\nsAMAccountName: kid\nemployeeNumber: k1\n\n\
         dn: CN=Leaver,{ou}\nchangetype: add\nobjectClass: user\nsAMAccountName: leaver\nemployeeNumber: l1\nmobile: +421905123456\n"
    ));
    let mut sync = session(&server).await;
    let mut plain = session_as(&server, "PLAIN").await.unwrap();
    assert_eq!(
        plain.ways(&scope).await.unwrap(),
        [Way::Push, Way::DirSync, Way::Timestamp]
    );
    let full = sync.cursor_now(&scope, Way::DirSync).await.unwrap();
    let seen = plain.cursor_now(&scope, Way::DirSync).await.unwrap();
    let flag = |c: &Cursor| {
        let place: serde_json::Value = serde_json::from_str(&c.cookie).unwrap();
        place["object-security"].as_bool().unwrap()
    };
    assert!(
        !flag(&full) && flag(&seen),
        "without the right, with OBJECT_SECURITY"
    );
    let before = people(&mut sync, &scope).await;
    let (kid, leaver) = (numbered(&before, "k1"), numbered(&before, "l1"));

    // Out of the filter; an attribute emptied; a container moved away with whom is beneath its beneath; another renamed.
    server.modify(&format!(
        "dn: CN=Leaver,{ou}\nchangetype: modify\nreplace: department\ndepartment: former\n-\ndelete: mobile\n\n\
         dn: OU=Sub,{ou}\nchangetype: modrdn\nnewrdn: OU=Sub\ndeleteoldrdn: 1\nnewsuperior: {}\n",
        &server["FORMER_DN"]
    ));
    let did = server.churn(&["--delete", "2", "--phone", "1"]);
    let told = since(&mut sync, &scope, &full).await;
    assert!(told.touched.contains(&kid) && told.touched.contains(&leaver));
    assert_eq!(told.gone.len(), 2);
    assert_eq!(told.blind, None);
    let found = sync.look_up(&scope, &[kid, leaver]).await.unwrap();
    for id in [kid, leaver] {
        assert!(matches!(found[&id], Sighting::OutOfScope { .. }));
    }

    // The account without rights is told the same, but for the deletions; and it is told so.
    let blind = since(&mut plain, &scope, &seen).await;
    assert!(blind.touched.contains(&kid) && blind.touched.contains(&leaver));
    assert!(
        done(&did, "phone", &before)
            .iter()
            .all(|id| blind.touched.contains(id))
    );
    assert_eq!(blind.gone, []);
    let why = blind.blind.as_deref().unwrap();
    assert!(
        why.contains("deletions") && why.contains("CN=Deleted Objects"),
        "{why}"
    );

    // Back again under another name.
    server.modify(&format!(
        "dn: OU=Sub,{}\nchangetype: modrdn\nnewrdn: OU=Sub two\ndeleteoldrdn: 1\nnewsuperior: {ou}\n",
        &server["FORMER_DN"]
    ));
    let back = since(&mut sync, &scope, told.cursor.as_ref().unwrap()).await;
    assert!(back.touched.contains(&kid) && !back.touched.contains(&leaver));
    assert!(matches!(
        sync.look_up(&scope, &[kid]).await.unwrap()[&kid],
        Sighting::InScope(_)
    ));

    // People judged by their groups: said, since nothing is told.
    scope.filter = format!("(&(objectClass=user)(memberOf=CN=team-0,OU=Groups,{suffix}))");
    let cursor = sync.cursor_now(&scope, Way::DirSync).await.unwrap();
    server.churn(&["--phone", "1"]);
    let told = since(&mut sync, &scope, &cursor).await;
    assert!(told.blind.unwrap().contains("memberOf"));
}

#[tokio::test]
async fn a_watch_is_woken_by_changes_and_catches_up() {
    let mut server = Server::start("samba", &["--users", "60"]);
    let scope = whole(&server);
    let mut sync = session(&server).await;
    let cursor = sync.cursor_now(&scope, Way::Push).await.unwrap();
    let before = people(&mut sync, &scope).await;
    let missed = server.churn(&["--phone", "1"]);
    let mut watch = sync.watch(&scope, &cursor).await.unwrap();
    let moment = Duration::from_secs(15);

    // What changed before the search was open.
    let first = timeout(moment, watch.next()).await.unwrap().unwrap();
    assert!(
        done(&missed, "phone", &before)
            .iter()
            .all(|id| first.touched.contains(id))
    );
    let mut kept = first.cursor.unwrap();

    // Giving up waiting loses nothing, and the session is free meanwhile.
    for _ in 0..3 {
        assert!(
            timeout(Duration::from_millis(50), watch.next())
                .await
                .is_err()
        );
    }
    let someone = *before.keys().next().unwrap();
    assert_eq!(sync.look_up(&scope, &[someone]).await.unwrap().len(), 1);

    let mut told = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for what in ["--phone", "--rename", "--move", "--delete"] {
        let did = server.churn(&[what, "1"]);
        let begun = Instant::now();
        let delta = timeout(moment, watch.next()).await.unwrap().unwrap();
        assert!(begun.elapsed() < moment, "a stroke, not a round: {what}");
        let who = done(&did, what.trim_start_matches('-'), &before);
        assert!(who.is_subset(&named(&delta)), "{what}: {delta:?}");
        assert_eq!(delta.gone.len(), usize::from(what == "--delete"));
        wanted.extend(who);
        told.extend(named(&delta));
        kept = delta.cursor.unwrap();
    }
    let after = people(&mut sync, &scope).await;
    assert!(changed(&before, &after).is_superset(&wanted));

    // A server that dies is noticed at once; the cursor goes on where it was, in a new session.
    server.crash();
    let e = timeout(moment, watch.next()).await.unwrap();
    assert!(e.is_err(), "{e:?}");
    server.resume();
    let mut again = session(&server).await;
    let did = server.churn(&["--phone", "2"]);
    let mut watch = again.watch(&scope, &kept).await.unwrap();
    let delta = timeout(moment, watch.next()).await.unwrap().unwrap();
    assert!(done(&did, "phone", &before).is_subset(&named(&delta)));
}

/// A relay to the server that falls silent when told to, without closing anything.
fn relay(to: String) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = Arc::new(AtomicBool::new(false));
    let hush = Arc::clone(&silent);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&to).unwrap();
            for (mut from, mut into) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                let hush = Arc::clone(&hush);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(n @ 1..) = from.read(&mut buffer) {
                        if !hush.load(Ordering::SeqCst) && into.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (port, silent)
}

#[tokio::test]
async fn trap_06_a_watch_notices_a_peer_that_says_nothing_more() {
    let server = Server::start("samba", &["--users", "20"]);
    let scope = whole(&server);
    let (port, silent) = relay(format!("{}:636", &server["HOST"]));
    let settings = config(&server, "BIND", &format!("ldaps://127.0.0.1:{port}"));
    let mut sync = connect(&settings).await.unwrap();
    let cursor = sync.cursor_now(&scope, Way::Push).await.unwrap();
    let mut watch = sync.watch(&scope, &cursor).await.unwrap();
    assert!(timeout(Duration::from_secs(1), watch.next()).await.is_err());
    silent.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let e = timeout(Duration::from_mins(1), watch.next())
        .await
        .expect("within a minute")
        .unwrap_err();
    assert!(e.to_string().contains("no answer within"), "{e}");
    assert!(
        begun.elapsed() > Duration::from_secs(10),
        "not before it had time to answer"
    );
}
