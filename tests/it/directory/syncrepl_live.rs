//! Push from OpenLDAP: a search that stays open, breaks, and is taken up again.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use realmsync::directory::{Delta, NoDelta, Sighting, Way};
use realmsync::model::ErrorCode;

use crate::directory::syncrepl::{difference, next, people};
use crate::directory::{id_of, named, scope, session, value};
use crate::support::lab::Server;

#[tokio::test]
async fn openldap_pushes_and_a_reconnect_misses_and_repeats_nothing() {
    let mut server = Server::start("openldap", &["--users", "40"]);
    let mut scope = scope(&server);
    scope.filter = "(&(objectClass=inetOrgPerson)(!(employeeType=left)))".into();
    let mut sync = session(&server).await;
    let cursor = sync.cursor_now(&scope, Way::Push).await.unwrap();
    let before = people(&mut sync, &scope).await;
    let mut watch = sync.watch(&scope, &cursor).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");

    // Each kind of change, while the same session looks people up.
    let mut ids = before.keys().copied();
    let (changed, left) = (ids.next().unwrap(), ids.next().unwrap());
    let dn = before[&changed].dn_shown();
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: +421905000001\n"
    ));
    let delta = next(&mut watch).await;
    assert_eq!(
        (&delta.touched[..], &delta.gone[..]),
        (&[changed][..], &[][..])
    );
    assert!(delta.cursor.is_some());
    let found = sync.look_up(&scope, &delta.touched).await.unwrap();
    let Some(Sighting::InScope(entry)) = found.get(&changed) else {
        panic!("in scope")
    };
    assert_eq!(value(entry, "mobile").as_deref(), Some("+421905000001"));

    let dn = before[&left].dn_shown();
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: employeeType\nemployeeType: left\n"
    ));
    let delta = next(&mut watch).await;
    assert_eq!(
        (&delta.touched[..], &delta.gone[..]),
        (&[][..], &[left][..])
    );
    let found = sync.look_up(&scope, &delta.gone).await.unwrap();
    assert!(matches!(found[&left], Sighting::OutOfScope { .. }));
    let mut last = delta.cursor.unwrap();

    server.churn(&[
        "--add", "2", "--rename", "2", "--move", "2", "--delete", "2",
    ]);
    let now = people(&mut sync, &scope).await;
    let (touched, mut gone) = difference(&before, &now);
    gone.remove(&left);
    let (mut told, mut absent) = (BTreeSet::from([changed]), BTreeSet::new());
    while told.len() < touched.len() || absent.len() < gone.len() {
        let delta = next(&mut watch).await;
        told.extend(delta.touched);
        absent.extend(delta.gone);
        last = delta.cursor.unwrap_or(last);
    }
    assert_eq!((told, absent), (touched, gone));

    // A dropped wait loses nothing.
    server.churn(&["--phone", "1"]);
    let patient = async {
        loop {
            if let Ok(delta) = tokio::time::timeout(Duration::from_millis(1), watch.next()).await {
                break delta.unwrap();
            }
        }
    };
    let delta = tokio::time::timeout(Duration::from_secs(20), patient)
        .await
        .expect("it is told");
    assert_eq!(delta.touched.len(), 1);
    last = delta.cursor.unwrap_or(last);

    // The server is killed; what happens until the next connection comes with it, in one delta.
    server.crash();
    let e = loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next())
            .await
            .expect("an end")
        {
            Ok(delta) => last = delta.cursor.unwrap_or(last),
            Err(e) => break e,
        }
    };
    let NoDelta::Directory(e) = e else {
        panic!("{e:?}")
    };
    assert_eq!(e.code(), ErrorCode::Unreachable);
    assert!(
        e.to_string().contains("goes on from the last cursor"),
        "{e}"
    );
    server.resume();
    let mut sync = session(&server).await;
    let before = people(&mut sync, &scope).await;
    server.churn(&["--phone", "2", "--delete", "1"]);
    let after = people(&mut sync, &scope).await;
    let (touched, gone) = difference(&before, &after);
    let mut watch = sync.watch(&scope, &last).await.unwrap();
    let delta = next(&mut watch).await;
    let (told, absent): (BTreeSet<_>, BTreeSet<_>) = (
        delta.touched.iter().copied().collect(),
        delta.gone.iter().copied().collect(),
    );
    if let Some(present) = delta.present {
        // After the crash the session log is empty: who is not told is absent.
        let there: BTreeSet<_> = present.into_iter().chain(told.iter().copied()).collect();
        assert!(gone.iter().all(|id| !there.contains(id)));
    } else {
        assert_eq!(absent, gone);
    }
    assert!(told.is_superset(&touched));
    // Dropped, it is over for the server too: the session goes on.
    drop(watch);
    let idle = sync
        .changes_since(&scope, &delta.cursor.unwrap())
        .await
        .unwrap();
    assert_eq!(idle, Delta::default());
}

#[tokio::test]
async fn trap_06_a_dead_peer_is_noticed_within_a_minute_and_silence_is_no_death() {
    let server = Server::start("openldap", &["--users", "10"]);
    let scope = scope(&server);
    let mut sync = session(&server).await;
    let cursor = sync.cursor_now(&scope, Way::Push).await.unwrap();
    let mut watch = sync.watch(&scope, &cursor).await.unwrap();

    // A long silence is questioned, and the answer keeps the watch alive. Other people's changes move the cursor meanwhile.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(26)).await;
    tokio::time::resume();
    let quiet = tokio::time::timeout(Duration::from_secs(1), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    server.churn(&["--phone", "1"]);
    let delta = next(&mut watch).await;
    assert_eq!(delta.touched.len(), 1);

    // Stopped, the server's machine still takes what is sent.
    let signal = |name: &str| {
        let pid = server["PID"].to_owned();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    };
    signal("-STOP");
    tokio::time::pause();
    let from = tokio::time::Instant::now();
    let e = watch.next().await.unwrap_err();
    let took = from.elapsed();
    signal("-CONT");
    tokio::time::resume();
    assert!(took <= Duration::from_mins(1), "{took:?}");
    let NoDelta::Directory(e) = e else {
        panic!("{e:?}")
    };
    assert_eq!(e.code(), ErrorCode::Unreachable);
    assert!(e.to_string().contains("no answer within 25 s"), "{e}");

    let mut sync = session(&server).await;
    let uid = value(&people(&mut sync, &scope).await[&delta.touched[0]], "uid").unwrap();
    let found = named(&mut sync, &scope, "uid", &uid).await;
    assert_eq!(id_of(&found, &scope), delta.touched[0]);
}
