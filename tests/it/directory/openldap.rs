//! The directory stage against slapd.

use std::process::Command;
use std::time::Duration;

use realmsync::clock::Clock;
use realmsync::config::{DirectoryKind, Secret};
use realmsync::directory::{self, ServerState, Sighting};
use realmsync::model::{ErrorCode, RawEntry};
use tokio::time::Instant;

use crate::directory::{config, connect, id_of, named, read, scope, session, session_as, value};
use crate::support::lab::Server;

fn slapd(users: &str) -> Server {
    Server::start("openldap", &["--users", users])
}

pub fn signal(server: &Server, name: &str) {
    let done = Command::new("kill")
        .args([name, &server["PID"]])
        .status()
        .unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn everybody_is_read_and_the_server_is_known() {
    let server = slapd("30");
    let mut session = session(&server).await;
    assert_eq!(session.kind(), DirectoryKind::OpenLdap);
    assert_eq!(session.server(), &server["LDAPS_URI"]);
    assert_eq!(session.directory_key(), "dc=example,dc=org");
    assert_eq!(
        session.who_am_i().await.unwrap().unwrap(),
        format!("dn:{}", &server["BIND_DN"])
    );
    assert!(
        matches!(session.state(), ServerState::OpenLdap { csn } if csn.len() == 1),
        "{:?}",
        session.state()
    );

    let schema = session.schema().await.unwrap();
    assert!(
        schema.has_attribute("mobile")
            && schema.has_attribute("entryUUID")
            && !schema.has_attribute("objectClas")
    );
    assert!(schema.has_object_class("inetOrgPerson") && !schema.has_object_class("user"));

    let scope = scope(&server);
    let (complete, entries) = read(&mut session, &scope).await.unwrap();
    assert_eq!((complete.entries(), entries.len()), (&[30][..], 30));
    let ids: std::collections::HashSet<_> = entries.iter().map(|e| id_of(e, &scope)).collect();
    assert_eq!(ids.len(), 30);
    assert!(entries.iter().all(|e| value(e, "uid").is_some()));
    // The same session reads again, and the same.
    assert_eq!(read(&mut session, &scope).await.unwrap().1, entries);
}

#[tokio::test]
async fn each_base_is_counted_by_itself() {
    let server = slapd("20");
    let mut session = session(&server).await;
    let mut scope = scope(&server);
    scope.bases.push(server["FORMER_DN"].to_owned());
    let e = read(&mut session, &scope).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Empty);
    assert!(e.to_string().contains("ou=former"), "{e}");
    server.churn(&["--move", "2"]);
    let (complete, entries) = read(&mut session, &scope).await.unwrap();
    assert_eq!((complete.entries(), entries.len()), (&[18, 2][..], 20));
}

#[tokio::test]
async fn trap_01_filter_typo_is_a_failure() {
    let server = slapd("10");
    let mut session = session(&server).await;
    let mut scope = scope(&server);
    scope.filter = "(objectClas=inetOrgPerson)".into();
    let e = read(&mut session, &scope).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Empty);
    assert!(
        e.to_string().contains("(objectClas=inetOrgPerson)")
            && e.to_string().contains("typing error"),
        "{e}"
    );

    scope.filter = "(objectClass=inetOrgPerson)".into();
    scope.bases = vec!["ou=peple,dc=example,dc=org".into()];
    let e = read(&mut session, &scope).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Empty);
    assert!(
        e.to_string().contains("noSuchObject (32)") && e.to_string().contains("check `base`"),
        "{e}"
    );

    scope.bases = vec![server["PEOPLE_DN"].to_owned()];
    scope.filter = "(objectClass=".into();
    assert_eq!(
        read(&mut session, &scope).await.unwrap_err().code(),
        ErrorCode::Config
    );
}

#[tokio::test]
async fn trap_02_a_blind_account_is_a_failure() {
    let server = slapd("10");
    let mut session = session_as(&server, "BLIND").await.unwrap();
    let e = read(&mut session, &scope(&server)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Empty);
    assert!(e.to_string().contains("what the account may see"), "{e}");
    // It is as blind when it looks somebody up: that is why a whole container gone at once is held.
    let sentinel = session
        .entry("uid=nobody,ou=people,dc=example,dc=org", &[])
        .await
        .unwrap();
    assert_eq!(sentinel, None);
}

#[tokio::test]
async fn trap_04_size_limits_with_and_without_pages() {
    let server = slapd("600");
    let mut wide = scope(&server);
    wide.page_size = 100;
    let mut limited = session_as(&server, "LIMITED").await.unwrap();
    assert_eq!(
        read(&mut limited, &wide).await.unwrap().1.len(),
        600,
        "paged, the limit is for one page"
    );

    let mut capped = session_as(&server, "CAPPED").await.unwrap();
    let e = read(&mut capped, &wide).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Incomplete);
    let text = e.to_string();
    assert!(
        text.contains("page 6")
            && text.contains("sizeLimitExceeded (4)")
            && text.contains("unlimited paged reads"),
        "{text}"
    );
}

/// Puts an entry into the people's OU that makes slapd answer with an error as soon as a search meets it.
fn bad_entry(server: &Server, what: &str) {
    server.configure(
        "dn: olcOverlay=retcode,olcDatabase={1}mdb,cn=config\nchangetype: add\nobjectClass: olcOverlayConfig\nobjectClass: olcRetcodeConfig\n\
         olcOverlay: retcode\nolcRetcodeParent: ou=retcodes,dc=example,dc=org\nolcRetcodeInDir: TRUE\n",
    );
    server.modify(&format!(
        "dn: cn=bad,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: errAuxObject\ncn: bad\nsn: bad\nuid: bad\nerrOp: search\n{what}\n"
    ));
}

#[tokio::test]
async fn trap_04_time_and_admin_limits_in_the_middle() {
    for (code, name) in [
        (3, "timeLimitExceeded"),
        (11, "adminLimitExceeded"),
        (52, "unavailable"),
    ] {
        let server = slapd("20");
        bad_entry(&server, &format!("errCode: {code}\nerrText: by order"));
        let e = read(&mut session(&server).await, &scope(&server))
            .await
            .unwrap_err();
        assert_eq!(e.code(), ErrorCode::Incomplete, "{e}");
        assert!(e.to_string().contains(&format!("{name} ({code})")), "{e}");
    }
}

#[tokio::test]
async fn trap_06_a_server_that_stops_answering() {
    let server = slapd("30");
    let narrow = scope(&server);
    let settings = config(&server, "BIND", &server["LDAPS_URI"]);
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut session = directory::connect(&settings, &Clock::system(), deadline)
        .await
        .unwrap();
    signal(&server, "-STOP");
    let e = read(&mut session, &narrow).await.unwrap_err();
    assert!(Instant::now() < deadline + Duration::from_secs(1));
    assert_eq!(e.code(), ErrorCode::Incomplete);
    assert!(e.to_string().contains("run-timeout"), "{e}");

    // The kernel still takes connections, but nobody speaks: the next server is asked.
    let other = slapd("5");
    let mut both = config(&other, "BIND", &server["LDAP_URI"]);
    both.servers.push(other["LDAP_URI"].parse().unwrap());
    both.connect_timeout_ms = 500;
    let mut session = connect(&both).await.unwrap();
    assert_eq!(session.server(), &other["LDAP_URI"]);
    assert_eq!(session.failed().len(), 1);
    assert_eq!(read(&mut session, &narrow).await.unwrap().1.len(), 5);
    both.servers.pop();
    assert_eq!(
        connect(&both).await.unwrap_err().code(),
        ErrorCode::Unreachable
    );
    signal(&server, "-CONT");
}

#[tokio::test]
async fn trap_06_a_connection_that_breaks_between_pages() {
    let mut server = slapd("60");
    let scope = scope(&server);
    let mut session = session(&server).await;
    let (sender, mut pages) = tokio::sync::mpsc::channel::<Vec<RawEntry>>(1);
    let breaker = async {
        let first = pages.recv().await.unwrap();
        server.crash();
        let mut seen = first.len();
        while let Some(page) = pages.recv().await {
            seen += page.len();
        }
        seen
    };
    let (result, seen) = tokio::join!(session.read(&scope, sender), breaker);
    assert_eq!(result.unwrap_err().code(), ErrorCode::Incomplete);
    assert!((7..60).contains(&seen), "{seen}");
    // Trap 7: nothing is continued on another connection; a new session begins at the first page.
    server.resume();
    assert_eq!(
        read(&mut crate::directory::session(&server).await, &scope)
            .await
            .unwrap()
            .1
            .len(),
        60
    );
}

#[tokio::test]
async fn trap_06_a_reader_that_stops_ends_the_pass() {
    let server = slapd("60");
    let mut session = session(&server).await;
    let (sender, pages) = tokio::sync::mpsc::channel::<Vec<RawEntry>>(1);
    drop(pages);
    assert_eq!(
        session
            .read(&scope(&server), sender)
            .await
            .unwrap_err()
            .code(),
        ErrorCode::Incomplete
    );
}

#[tokio::test]
async fn trap_08_and_50_an_older_or_empty_server_is_stale() {
    // Made first, so its newest change is the older one.
    let lagging = slapd("10");
    let ahead = slapd("10");
    let before = session(&ahead).await.state().clone();
    ahead.churn(&["--phone", "1"]);
    let after = session(&ahead).await;
    assert_eq!(after.not_behind(Some(&before)).err(), None);
    assert_eq!(after.not_behind(None).err(), None);
    let seen = after.state().merged(Some(&before));
    assert_eq!(&seen, after.state());
    assert!(
        before
            .behind(&seen)
            .unwrap()
            .contains("contextCSN of server id 000")
    );

    let e = session(&lagging).await.not_behind(Some(&seen)).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Stale);
    assert!(e.to_string().contains("--accept-older"), "{e}");

    // A replica that was never filled has no contextCSN to show.
    ahead.configure("dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {0}to attrs=contextCSN by * none\n");
    let empty = session(&ahead).await;
    assert_eq!(empty.state(), &ServerState::Unknown);
    assert_eq!(
        empty.not_behind(Some(&seen)).unwrap_err().code(),
        ErrorCode::Stale
    );
    assert_eq!(empty.not_behind(Some(&ServerState::Unknown)).err(), None);
}

#[tokio::test]
async fn trap_09_a_referral_hides_a_part_of_the_base() {
    let server = slapd("20");
    let scope = scope(&server);
    let mut session = session(&server).await;
    let all = read(&mut session, &scope).await.unwrap().1;
    let referral = |at: &str| {
        server.modify(&format!(
            "dn: ou=far,{at}\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\nou: far\nref: ldap://elsewhere.example.net/ou=far,{at}\n"
        ));
    };
    // Beside the base it hides nobody, and somebody who is gone is gone.
    referral("dc=example,dc=org");
    assert_eq!(read(&mut session, &scope).await.unwrap().1.len(), 20);
    let id = id_of(&all[0], &scope);
    server.modify(&format!("dn: {}\nchangetype: delete\n", all[0].dn_shown()));
    assert!(session.look_up(&scope, &[id]).await.unwrap().is_empty());

    referral("ou=people,dc=example,dc=org");
    let e = read(&mut session, &scope).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Incomplete);
    assert!(e.to_string().contains("elsewhere.example.net"), "{e}");
    assert_eq!(
        session.look_up(&scope, &[id]).await.unwrap_err().code(),
        ErrorCode::Incomplete
    );

    let mut elsewhere = scope.clone();
    elsewhere.bases = vec!["ou=far,ou=people,dc=example,dc=org".into()];
    let e = read(&mut session, &elsewhere).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Incomplete);
    assert!(
        e.to_string().contains("referral (10)") || e.to_string().contains("another server"),
        "{e}"
    );
}

#[tokio::test]
async fn trap_10_a_look_up_tells_moved_from_gone() {
    let server = slapd("300");
    let scope = scope(&server);
    let mut session = session(&server).await;
    let before = read(&mut session, &scope).await.unwrap().1;
    server.churn(&["--move", "2", "--rename", "2", "--delete", "3"]);
    // One leaves the filter instead of the base.
    let now: std::collections::HashMap<_, _> = read(&mut session, &scope)
        .await
        .unwrap()
        .1
        .into_iter()
        .map(|e| (id_of(&e, &scope), e))
        .collect();
    assert_eq!(now.len(), 295);
    let ids: Vec<_> = before.iter().map(|e| id_of(e, &scope)).collect();
    let found = session.look_up(&scope, &ids).await.unwrap();
    assert_eq!(found.len(), 297, "two batches, three gone");
    let moved: Vec<_> = found
        .values()
        .filter_map(|s| {
            if let Sighting::OutOfScope { dn, entry } = s {
                Some((dn, entry))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(moved.len(), 2);
    assert!(
        moved
            .iter()
            .all(|(dn, entry)| dn.ends_with("ou=former,dc=example,dc=org")
                && value(entry, "cn").is_some())
    );
    for (id, sighting) in &found {
        if let Sighting::InScope(entry) = sighting {
            assert_eq!(now.get(id), Some(entry));
        }
    }

    let mut narrow = scope.clone();
    let one = now.values().find(|e| value(e, "mobile").is_some()).unwrap();
    narrow.filter = format!(
        "(&(objectClass=inetOrgPerson)(!(uid={})))",
        value(one, "uid").unwrap()
    );
    let id = id_of(one, &scope);
    assert!(matches!(
        &session.look_up(&narrow, &[id]).await.unwrap()[&id],
        Sighting::OutOfScope { .. }
    ));
    assert!(session.look_up(&scope, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_finds_its_entry_and_nothing_else() {
    let server = slapd("10");
    let scope = scope(&server);
    let mut session = session(&server).await;
    let everybody = read(&mut session, &scope).await.unwrap().1;
    let uid = value(&everybody[3], "uid").unwrap();
    assert_eq!(
        named(&mut session, &scope, "uid", &uid.to_uppercase()).await,
        everybody[3]
    );
    for odd in ["*", "*)(uid=*", "nobody", "", "ž\\"] {
        assert_eq!(
            session
                .find_by_name(&scope, &["uid".into()], odd)
                .await
                .unwrap(),
            [],
            "{odd}"
        );
    }
    let sentinel = session
        .entry(&everybody[3].dn_shown(), &["uid".into()])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(value(&sentinel, "uid"), Some(uid));
    assert_eq!(
        session
            .entry("uid=none,ou=people,dc=example,dc=org", &[])
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        session.entry("no dn", &[]).await.unwrap_err().code(),
        ErrorCode::Incomplete
    );
}

#[tokio::test]
async fn trap_15_attribute_options() {
    let server = slapd("5");
    let scope = scope(&server);
    let mut session = session(&server).await;
    let one = read(&mut session, &scope).await.unwrap().1.remove(0);
    server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: +421905000001\n-\nadd: mobile;lang-fi\nmobile;lang-fi: +358401234567\n",
        one.dn_shown()
    ));
    let again = named(&mut session, &scope, "uid", &value(&one, "uid").unwrap()).await;
    let mut mobile: Vec<_> = again
        .attributes()
        .filter(|a| a.name == "mobile")
        .map(|a| (a.options.to_string(), a.values().len()))
        .collect();
    mobile.sort();
    assert_eq!(mobile, [(String::new(), 1), ("lang-fi".to_owned(), 1)]);
    assert_eq!(again.values("mobile").count(), 2);
}

#[tokio::test]
async fn trap_34_empty_wrong_and_missing_passwords() {
    let server = slapd("2");
    let mut settings = config(&server, "BIND", &server["LDAPS_URI"]);
    settings.bind_password = Some(Secret::Inline(String::new().into()));
    let e = connect(&settings).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Config);
    assert!(e.to_string().contains("anonymous"), "{e}");

    settings.bind_password = Some(Secret::Inline("wrong-and-secret".to_owned().into()));
    settings.servers.push(server["LDAP_URI"].parse().unwrap());
    let e = connect(&settings).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Auth);
    let text = e.to_string();
    assert!(
        text.contains("invalidCredentials (49)") && !text.contains("wrong-and-secret"),
        "{text}"
    );
    assert!(
        !text.contains(&server["LDAP_URI"]),
        "one wrong password is one attempt: {text}"
    );

    settings.bind_password = None;
    assert_eq!(
        connect(&settings).await.unwrap_err().code(),
        ErrorCode::Config
    );
    settings.bind_dn = None;
    let mut anonymous = connect(&settings).await.unwrap();
    assert_eq!(anonymous.who_am_i().await.unwrap().as_deref(), Some(""));
}
