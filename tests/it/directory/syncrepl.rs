//! Deltas by content synchronisation (RFC 4533): what the tests share, and the poll against OpenLDAP.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use realmsync::directory::{Cursor, Delta, NoDelta, Scope, Session, Watch, Way};
use realmsync::model::{DirectoryId, RawEntry};

use crate::directory::{id_of, read, scope, session, session_as};
use crate::support::lab::Server;

pub type People = BTreeMap<DirectoryId, RawEntry>;

/// Everybody in scope by a plain read.
pub async fn people(session: &mut Session, scope: &Scope) -> People {
    let entries = read(session, scope).await.unwrap().1;
    entries.into_iter().map(|e| (id_of(&e, scope), e)).collect()
}

fn shown(entry: &RawEntry) -> String {
    let mut attributes: Vec<String> = entry
        .attributes()
        .map(|a| {
            let mut values: Vec<&[u8]> = a.values().collect();
            values.sort_unstable();
            format!("{}{:?}", a.name, values)
        })
        .collect();
    attributes.sort();
    format!("{:?}{}", entry.dn(), attributes.concat())
}

/// Who is new or different, and who is not there any more.
pub fn difference(
    before: &People,
    after: &People,
) -> (BTreeSet<DirectoryId>, BTreeSet<DirectoryId>) {
    let touched = after
        .iter()
        .filter(|(id, e)| before.get(id).is_none_or(|b| shown(b) != shown(e)))
        .map(|(id, _)| *id);
    let gone = before.keys().filter(|id| !after.contains_key(id)).copied();
    (touched.collect(), gone.collect())
}

pub fn set(ids: &[DirectoryId]) -> BTreeSet<DirectoryId> {
    let all: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(all.len(), ids.len(), "each once");
    all
}

/// The text of an answer that must be *start over*.
pub fn over<T: std::fmt::Debug>(answer: Result<T, NoDelta>) -> String {
    match answer {
        Err(NoDelta::StartOver(why)) => why,
        other => panic!("not to start over: {other:?}"),
    }
}

/// The text of an answer that must be *not offered*.
pub fn not_offered<T: std::fmt::Debug>(answer: Result<T, NoDelta>) -> String {
    match answer {
        Err(NoDelta::NotOffered(why)) => why,
        other => panic!("offered: {other:?}"),
    }
}

/// The next delta of a watch that must come soon.
pub async fn next(watch: &mut Watch) -> Delta {
    tokio::time::timeout(Duration::from_secs(20), watch.next())
        .await
        .expect("something is told")
        .unwrap()
}

/// A cursor with another cookie inside.
pub fn with_cookie(cursor: &Cursor, cookie: &str) -> Cursor {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(cookie);
    Cursor {
        cookie: format!("[\"{text}\"]"),
        ..cursor.clone()
    }
}

pub fn cookie_of(cursor: &Cursor) -> String {
    use base64::Engine as _;
    let texts: Vec<String> = serde_json::from_str(&cursor.cookie).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(&texts[0])
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

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

fn configure_acl(server: &Server) {
    server.configure(
        "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n\
         olcAccess: {0}to dn.children=\"ou=people,dc=example,dc=org\" by dn.exact=\"cn=sync,ou=services,dc=example,dc=org\" none by * break\n",
    );
}

#[tokio::test]
async fn openldap_tells_what_changed_since_a_cursor_that_nobody_was_read_for() {
    let server = Server::start("openldap", &["--users", "60"]);
    let scope = scope(&server);
    let mut sync = session(&server).await;
    assert_eq!(
        sync.ways(&scope).await.unwrap(),
        [Way::Push, Way::Syncrepl, Way::Timestamp]
    );

    let first = sync.cursor_now(&scope, Way::Push).await.unwrap();
    assert_eq!(first.way, Way::Syncrepl);
    assert!(cookie_of(&first).contains("csn="), "{first:?}");
    let before = people(&mut sync, &scope).await;
    let idle = sync.changes_since(&scope, &first).await.unwrap();
    assert_eq!(idle, Delta::default());

    server.churn(&CHURN);
    let after = people(&mut sync, &scope).await;
    let (touched, gone) = difference(&before, &after);
    assert_eq!((touched.len(), gone.len()), (8, 5));
    let delta = sync.changes_since(&scope, &first).await.unwrap();
    assert_eq!((set(&delta.touched), set(&delta.gone)), (touched, gone));
    assert_eq!(
        delta.present, None,
        "the session log names those who are gone"
    );
    let second = delta.cursor.unwrap();
    assert_eq!(
        sync.changes_since(&scope, &second).await.unwrap(),
        Delta::default()
    );
    // The old cursor tells the same again: nothing is lost when a run fails.
    let again = sync.changes_since(&scope, &first).await.unwrap();
    assert_eq!(again.touched, delta.touched);

    // Back again, on another connection.
    server.churn(&["--back", "2"]);
    let mut other = session(&server).await;
    let back = other.changes_since(&scope, &second).await.unwrap();
    let moved: BTreeSet<_> = delta
        .gone
        .iter()
        .filter(|id| back.touched.contains(id))
        .collect();
    assert_eq!(
        (moved.len(), back.touched.len(), back.gone.len()),
        (2, 2, 0)
    );

    // Out of the filter is gone, and looked up it is found elsewhere.
    let mut narrow = scope.clone();
    narrow.filter = "(&(objectClass=inetOrgPerson)(!(employeeType=left)))".into();
    let cursor = sync.cursor_now(&narrow, Way::Syncrepl).await.unwrap();
    let (who, entry) = after.iter().next().unwrap();
    let dn = entry.dn_shown();
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: employeeType\nemployeeType: left\n"
    ));
    let delta = sync.changes_since(&narrow, &cursor).await.unwrap();
    assert_eq!(
        (&delta.touched[..], &delta.gone[..]),
        (&[][..], &[*who][..])
    );
    // The cursor of one filter is not used for another.
    assert!(over(sync.changes_since(&scope, &cursor).await).contains("another search"));
}

/// Containers are told of too, since they take people along.
fn everybody_and_the_base(there: &BTreeSet<DirectoryId>, after: &People) {
    assert!(after.keys().all(|id| there.contains(id)));
    assert_eq!(there.len(), after.len() + 1);
}

#[tokio::test]
async fn trap_20_without_the_session_log_openldap_tells_who_is_there() {
    let mut server = Server::start("openldap", &["--users", "60"]);
    let scope = scope(&server);
    let mut sync = session(&server).await;
    let first = sync.cursor_now(&scope, Way::Syncrepl).await.unwrap();
    let before = people(&mut sync, &scope).await;
    server.churn(&CHURN);
    server.stop();
    server.resume();

    // After a restart the log is empty.
    let mut sync = session(&server).await;
    let after = people(&mut sync, &scope).await;
    let (touched, gone) = difference(&before, &after);
    let delta = sync.changes_since(&scope, &first).await.unwrap();
    assert_eq!((set(&delta.touched), delta.gone.len()), (touched, 0));
    let mut there: BTreeSet<_> = delta.present.unwrap().into_iter().collect();
    there.extend(&delta.touched);
    everybody_and_the_base(&there, &after);
    assert_eq!(
        before.keys().filter(|id| !there.contains(id)).count(),
        gone.len()
    );
    // A current cursor needs no log.
    let second = delta.cursor.unwrap();
    assert_eq!(
        sync.changes_since(&scope, &second).await.unwrap(),
        Delta::default()
    );
    // And neither has the watch one.
    let mut watch = sync.watch(&scope, &first).await.unwrap();
    let caught_up = next(&mut watch).await;
    assert_eq!(set(&caught_up.touched), set(&delta.touched));
    assert!(caught_up.present.unwrap().len() + caught_up.touched.len() >= after.len());

    // Trap 18: nobody is to be seen any more, and the server says with success that all who are there were told: the base alone.
    // That nobody of whom the store knows is among those is the engine's evidence (`tests/it/deltas/containers.rs`).
    configure_acl(&server);
    server.modify("dn: ou=more,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalUnit\nou: more\n");
    server.stop();
    server.resume();
    let mut sync = session(&server).await;
    let told = sync.changes_since(&scope, &first).await.unwrap();
    let alone = told.present.expect("a present phase");
    assert_eq!((alone.len(), told.touched.len()), (1, 0));
    let mut watch = sync.watch(&scope, &first).await.unwrap();
    assert_eq!(next(&mut watch).await.present, Some(alone));
}

#[tokio::test]
async fn trap_20_a_session_log_that_overflows_or_is_none() {
    for log in ["5", "0"] {
        let server = Server::start("openldap", &["--users", "40", "--sessionlog", log]);
        let scope = scope(&server);
        let mut sync = session(&server).await;
        let first = sync.cursor_now(&scope, Way::Syncrepl).await.unwrap();
        let before = people(&mut sync, &scope).await;
        server.churn(&["--delete", "12", "--phone", "3"]);
        let after = people(&mut sync, &scope).await;
        let (touched, gone) = difference(&before, &after);
        let delta = sync.changes_since(&scope, &first).await.unwrap();
        assert!(
            set(&delta.touched).is_superset(&touched) && gone.len() == 12,
            "log {log}"
        );
        let mut there: BTreeSet<_> = delta.present.expect(log).into_iter().collect();
        there.extend(&delta.touched);
        everybody_and_the_base(&there, &after);
    }
}

#[tokio::test]
async fn trap_19_a_cursor_that_is_none_or_of_another_server_starts_over() {
    let server = Server::start("openldap", &["--users", "20"]);
    let scope = scope(&server);
    let mut sync = session(&server).await;
    let good = sync.cursor_now(&scope, Way::Syncrepl).await.unwrap();
    assert_eq!(
        sync.changes_since(&scope, &with_cookie(&good, &cookie_of(&good)))
            .await
            .unwrap(),
        Delta::default()
    );
    for (cookie, says) in [
        ("", "cannot be read"),
        ("garbage", "cannot be read"),
        ("rid=000", "cannot be read"),
        (
            "rid=000,csn=21260101000000.000000Z#000000#000#000000",
            "older than the cursor's",
        ),
        (
            "rid=000,csn=20200101000000.000000Z#000000#007#000000",
            "no contextCSN of server id 007",
        ),
    ] {
        let why = over(
            sync.changes_since(&scope, &with_cookie(&good, cookie))
                .await,
        );
        assert!(
            why.contains(says) && why.contains("everything is read"),
            "{cookie}: {why}"
        );
        over(sync.watch(&scope, &with_cookie(&good, cookie)).await);
    }
    for bad in ["", "{}", "[]", "[\"!\"]", "[1]"] {
        let cursor = Cursor {
            cookie: bad.into(),
            ..good.clone()
        };
        assert!(over(sync.changes_since(&scope, &cursor).await).contains("cannot be read"));
    }
    // Another account sees others.
    let mut limited = session_as(&server, "LIMITED").await.unwrap();
    assert!(over(limited.changes_since(&scope, &good).await).contains("another search"));

    // Trap 8: a server that holds less, and one that holds the same.
    server.churn(&["--phone", "1"]);
    let newer = sync.changes_since(&scope, &good).await.unwrap();
    let newer = newer.cursor.unwrap();
    let empty = Server::start("openldap", &["--users", "1"]);
    let far = format!("rid=000,csn={}", "20200101000000.000000Z#000000#001#000000");
    let mut other = session(&empty).await;
    let why = over(
        other
            .changes_since(&scope, &with_cookie(&newer, &far))
            .await,
    );
    assert!(
        why.contains("no contextCSN of server id 001") && why.contains(&newer.server),
        "{why}"
    );
    let by_other_url = Cursor {
        server: "ldaps://other.example.org".into(),
        ..newer.clone()
    };
    assert_eq!(
        sync.changes_since(&scope, &by_other_url).await.unwrap(),
        Delta::default()
    );
}

#[tokio::test]
async fn two_bases_keep_two_cookies_and_a_server_without_syncprov_says_so() {
    let server = Server::start("openldap", &["--users", "30"]);
    let mut both = scope(&server);
    both.bases.push(server["FORMER_DN"].to_owned());
    server.churn(&["--move", "2"]);
    let mut sync = session(&server).await;
    let first = sync.cursor_now(&both, Way::Syncrepl).await.unwrap();
    let before = people(&mut sync, &both).await;
    server.churn(&[
        "--move", "1", "--back", "1", "--phone", "1", "--delete", "1",
    ]);
    let after = people(&mut sync, &both).await;
    let (touched, gone) = difference(&before, &after);
    let delta = sync.changes_since(&both, &first).await.unwrap();
    assert_eq!((set(&delta.touched), set(&delta.gone)), (touched, gone));
    let cookies: Vec<String> = serde_json::from_str(&delta.cursor.unwrap().cookie).unwrap();
    assert_eq!(cookies.len(), 2);
    let mut wrong = both.clone();
    wrong.id_attribute = "uid".into();
    assert!(not_offered(sync.cursor_now(&wrong, Way::Syncrepl).await).contains("entryUUID"));

    let without = Server::start("openldap", &["--users", "5", "--no-syncprov"]);
    let mut sync = session(&without).await;
    let scope = scope(&without);
    assert_eq!(sync.ways(&scope).await.unwrap(), [Way::Timestamp]);
    let why = not_offered(sync.cursor_now(&scope, Way::Syncrepl).await);
    assert!(
        why.contains("Sync Request") || why.contains("syncprov"),
        "{why}"
    );
}
