//! Content synchronisation with 389-ds, in both of its dialects.

use std::collections::BTreeSet;
use std::time::Duration;

use realmsync::directory::{Cursor, Delta, Way};
use realmsync::model::IdForm;

use crate::directory::syncrepl::{
    cookie_of, difference, next, not_offered, over, people, set, with_cookie,
};
use crate::directory::{scope, session};
use crate::support::lab::Server;

const CHURN: [&str; 12] = [
    "--add",
    "2",
    "--phone",
    "3",
    "--nophone",
    "1",
    "--rename",
    "2",
    "--move",
    "2",
    "--delete",
    "3",
];

#[tokio::test]
async fn trap_17_389_tells_in_both_dialects_and_an_idle_poll_makes_nobody_absent() {
    let mut server = Server::start("ds389", &["--users", "60"]);
    let own = scope(&server);
    let mut by_uuid = own.clone();
    (by_uuid.id_attribute, by_uuid.id_form) = ("entryUUID".into(), IdForm::Uuid);
    let mut sync = session(&server).await;
    assert_eq!(
        sync.ways(&own).await.unwrap(),
        [Way::Push, Way::Syncrepl, Way::Timestamp]
    );
    assert_eq!(
        sync.ways(&by_uuid).await.unwrap(),
        [Way::Syncrepl, Way::Timestamp]
    );

    let mut firsts = Vec::new();
    let mut befores = Vec::new();
    for scope in [&own, &by_uuid] {
        let first = sync.cursor_now(scope, Way::Syncrepl).await.unwrap();
        befores.push(people(&mut sync, scope).await);
        let idle = sync.changes_since(scope, &first).await.unwrap();
        assert_eq!(idle, Delta::default());
        firsts.push(first);
    }
    assert!(cookie_of(&firsts[0]).contains("#cn=sync"), "{firsts:?}");
    assert!(cookie_of(&firsts[1]).starts_with("rid=000,csn=2100"));
    assert!(not_offered(sync.watch(&by_uuid, &firsts[1]).await).contains("nsUniqueId"));

    server.churn(&CHURN);
    let mut seconds = Vec::new();
    for ((scope, first), before) in [&own, &by_uuid].iter().zip(&firsts).zip(&befores) {
        let after = people(&mut sync, scope).await;
        let (touched, gone) = difference(before, &after);
        assert_eq!((touched.len(), gone.len()), (8, 5));
        let delta = sync.changes_since(scope, first).await.unwrap();
        // The ids are those of the entries themselves.
        assert_eq!((set(&delta.touched), set(&delta.gone)), (touched, gone));
        assert_eq!(delta.present, None);
        seconds.push(delta.cursor.unwrap());
    }

    // Trap 21: who leaves the filter is told all the same.
    let mut narrow = own.clone();
    narrow.filter = "(&(objectClass=inetOrgPerson)(!(employeeType=left)))".into();
    let cursor = sync.cursor_now(&narrow, Way::Syncrepl).await.unwrap();
    let after = people(&mut sync, &own).await;
    let (who, entry) = after.iter().next().unwrap();
    let dn = entry.dn_shown();
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: employeeType\nemployeeType: left\n"
    ));
    let delta = sync.changes_since(&narrow, &cursor).await.unwrap();
    assert_eq!(
        (&delta.touched[..], &delta.gone[..]),
        (&[*who][..], &[][..])
    );

    // The changelog outlives a restart.
    server.stop();
    server.resume();
    let mut sync = session(&server).await;
    for (scope, second) in [&own, &by_uuid].iter().zip(&seconds) {
        let delta = sync.changes_since(scope, second).await.unwrap();
        assert_eq!((delta.touched.len(), delta.gone.len()), (1, 0));
        assert_eq!(delta.present, None);
    }
}

#[tokio::test]
async fn trap_19_a_cursor_that_389_does_not_know_starts_over() {
    let server = Server::start("ds389", &["--users", "10"]);
    let own = scope(&server);
    let mut by_uuid = own.clone();
    (by_uuid.id_attribute, by_uuid.id_form) = ("entryUUID".into(), IdForm::Uuid);
    let mut sync = session(&server).await;
    server.churn(&["--phone", "3"]);
    let good = sync.cursor_now(&own, Way::Push).await.unwrap();
    let cookie = cookie_of(&good);
    let (signature, _) = cookie.rsplit_once('#').unwrap();
    for (cookie, says) in [
        (String::new(), "cannot be read"),
        ("garbage".into(), "cannot be read"),
        (format!("{signature}#99999"), "the server's last one"),
        (format!("x{cookie}"), "e-syncRefreshRequired (4096)"),
    ] {
        let why = over(sync.changes_since(&own, &with_cookie(&good, &cookie)).await);
        assert!(why.contains(says), "{cookie}: {why}");
        let why = over(sync.watch(&own, &with_cookie(&good, &cookie)).await);
        assert!(why.contains(says), "{cookie}: {why}");
    }
    let other = Cursor {
        server: "ldaps://other.example.org".into(),
        ..good.clone()
    };
    assert!(over(sync.changes_since(&own, &other).await).contains("other.example.org"));
    let like = sync.cursor_now(&by_uuid, Way::Syncrepl).await.unwrap();
    let newer = with_cookie(
        &like,
        "rid=000,csn=21010101010101.000000Z#000000#000#000000",
    );
    assert!(over(sync.changes_since(&by_uuid, &newer).await).contains("the server's last one"));
}

#[tokio::test]
async fn changes_that_389_trimmed_from_its_changelog_start_over_though_it_says_success() {
    let mut server = Server::start("ds389", &["--users", "10"]);
    let own = scope(&server);
    let mut by_uuid = own.clone();
    (by_uuid.id_attribute, by_uuid.id_form) = ("entryUUID".into(), IdForm::Uuid);
    let mut sync = session(&server).await;
    let old = sync.cursor_now(&own, Way::Push).await.unwrap();
    let like = sync.cursor_now(&by_uuid, Way::Syncrepl).await.unwrap();
    server.modify(
        "dn: cn=Retro Changelog Plugin,cn=plugins,cn=config\nchangetype: modify\n\
         replace: nsslapd-changelogmaxage\nnsslapd-changelogmaxage: 1s\n-\n\
         replace: nsslapd-changelog-trim-interval\nnsslapd-changelog-trim-interval: 1\n",
    );
    server.stop();
    server.resume();
    let mut sync = session(&server).await;
    // The trimming goes by its own clock.
    for _ in 0..20 {
        server.churn(&["--phone", "1"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if sync.changes_since(&own, &old).await.is_err() {
            break;
        }
    }
    let why = over(sync.changes_since(&own, &old).await);
    assert!(why.contains("remembers those since"), "{why}");
    over(sync.watch(&own, &old).await);
    over(sync.changes_since(&by_uuid, &like).await);
    // From now on it goes on, though nothing but the newest change is remembered.
    let new = sync.cursor_now(&own, Way::Push).await.unwrap();
    assert_eq!(
        sync.changes_since(&own, &new).await.unwrap(),
        Delta::default()
    );
}

#[tokio::test]
async fn trap_21_push_from_389_with_moves_deletions_and_those_who_leave_the_filter() {
    let server = Server::start("ds389", &["--users", "30"]);
    let mut own = scope(&server);
    own.filter = "(&(objectClass=inetOrgPerson)(!(employeeType=left)))".into();
    let mut sync = session(&server).await;
    let cursor = sync.cursor_now(&own, Way::Push).await.unwrap();
    let before = people(&mut sync, &own).await;
    server.churn(&["--phone", "1"]);
    // What came between the cursor and the watch is told first.
    let mut watch = sync.watch(&own, &cursor).await.unwrap();
    let first = next(&mut watch).await;
    assert_eq!((first.touched.len(), first.gone.len()), (1, 0));
    let mut last = first.cursor.unwrap();

    server.churn(&[
        "--add", "1", "--rename", "1", "--move", "1", "--delete", "1",
    ]);
    let dn = before[&first.touched[0]].dn_shown();
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: employeeType\nemployeeType: left\n"
    ));
    let (mut touched, mut gone) = (BTreeSet::new(), BTreeSet::new());
    while touched.len() < 3 || gone.len() < 2 {
        let delta = next(&mut watch).await;
        touched.extend(delta.touched);
        gone.extend(delta.gone);
        last = delta.cursor.unwrap_or(last);
    }
    // The session can be used meanwhile.
    let after = people(&mut sync, &own).await;
    let (expected, absent) = difference(&before, &after);
    assert!(touched.is_superset(&expected) && touched.contains(&first.touched[0]));
    assert_eq!(
        gone,
        absent
            .into_iter()
            .filter(|id| *id != first.touched[0])
            .collect()
    );
    drop(watch);
    assert_eq!(
        sync.changes_since(&own, &last).await.unwrap(),
        Delta::default()
    );
}

#[tokio::test]
async fn a_389_that_does_not_speak_a_dialect_says_so() {
    let server = Server::start("ds389", &["--users", "5", "--no-openldap-compat"]);
    let own = scope(&server);
    let mut by_uuid = own.clone();
    (by_uuid.id_attribute, by_uuid.id_form) = ("entryUUID".into(), IdForm::Uuid);
    let mut sync = session(&server).await;
    assert_eq!(
        sync.ways(&own).await.unwrap(),
        [Way::Push, Way::Syncrepl, Way::Timestamp]
    );
    assert_eq!(sync.ways(&by_uuid).await.unwrap(), [Way::Timestamp]);
    let server = Server::start("ds389", &["--users", "5", "--no-sync"]);
    let mut sync = session(&server).await;
    assert_eq!(sync.ways(&scope(&server)).await.unwrap(), [Way::Timestamp]);
}
