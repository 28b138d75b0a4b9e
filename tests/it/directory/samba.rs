//! The directory stage against an Active Directory domain controller (Samba).

use realmsync::config::{DirectoryKind, Secret};
use realmsync::directory::{ServerState, Sighting};
use realmsync::model::{ErrorCode, IdForm};

use crate::directory::{config, connect, id_of, named, read, scope, session, session_as, value};
use crate::support::lab::Server;

#[tokio::test]
async fn a_pass_its_state_and_look_ups() {
    let server = Server::start("samba", &["--users", "120"]);
    let scope = scope(&server);
    let mut sync = session(&server).await;
    assert_eq!(sync.kind(), DirectoryKind::ActiveDirectory);
    assert_eq!(sync.directory_key(), "dc=example,dc=test");
    assert!(
        matches!(sync.state(), ServerState::ActiveDirectory { usn, .. } if usn.len() == 1),
        "{:?}",
        sync.state()
    );
    let schema = sync.schema().await.unwrap();
    assert!(
        schema.has_attribute("sAMAccountName")
            && schema.has_attribute("otherMobile")
            && schema.has_object_class("user")
    );

    let (complete, before) = read(&mut sync, &scope).await.unwrap();
    assert_eq!((complete.entries(), before.len()), (&[120][..], 120));
    assert!(
        before
            .iter()
            .all(|e| e.values("objectguid").next().is_some_and(|v| v.len() == 16))
    );

    // Trap 2.
    let mut blind = session_as(&server, "BLIND").await.unwrap();
    assert_eq!(
        read(&mut blind, &scope).await.unwrap_err().code(),
        ErrorCode::Empty
    );

    // Trap 9 and 51: from the root of the domain there are other naming contexts beneath, which hide nobody.
    let mut root = scope.clone();
    root.bases = vec![server["SUFFIX"].to_owned()];
    let everybody = read(&mut sync, &root).await.unwrap().1;
    assert!(
        everybody.len() > 120 && everybody.len() < 140,
        "{}",
        everybody.len()
    );

    // The id is the one that the directory's own tools print.
    let name = value(&before[0], "samaccountname").unwrap();
    let one = named(&mut sync, &scope, "sAMAccountName", &name).await;
    let shown = id_of(&one, &scope).display(IdForm::Guid);
    let tool = std::process::Command::new("ldbsearch")
        .args([
            "-H",
            &server["SAM_LDB"],
            &format!("(sAMAccountName={name})"),
            "objectGUID",
        ])
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&tool.stdout).contains(&format!("objectGUID: {shown}")),
        "{shown}"
    );

    // Trap 10: deleted ones are in a container of their own, and are nobody.
    server.churn(&["--move", "2", "--rename", "2", "--delete", "3"]);
    let ids: Vec<_> = before.iter().map(|e| id_of(e, &scope)).collect();
    let found = sync.look_up(&scope, &ids).await.unwrap();
    assert_eq!(found.len(), 117);
    let moved: Vec<_> = found
        .values()
        .filter_map(|s| {
            if let Sighting::OutOfScope { dn, .. } = s {
                Some(dn)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(moved.len(), 2);
    assert!(moved.iter().all(|dn| dn.contains("OU=Former")), "{moved:?}");

    // Every change is seen in the state, and the past is behind.
    let after = session(&server).await;
    assert_eq!(after.not_behind(Some(sync.state())).err(), None);
    assert!(
        sync.not_behind(Some(after.state()))
            .unwrap_err()
            .to_string()
            .contains("USN")
    );

    // Trap 34: passwords of all sorts.
    let mut settings = config(&server, "BIND", &server["LDAPS_URI"]);
    settings.bind_password = Some(Secret::Inline(String::new().into()));
    assert_eq!(
        connect(&settings).await.unwrap_err().code(),
        ErrorCode::Config
    );
    settings.bind_password = Some(Secret::Inline("wrong".to_owned().into()));
    let e = connect(&settings).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Auth, "{e}");
    let e = connect(&config(&server, "BIND", &server["LDAP_URI"]))
        .await
        .unwrap_err();
    assert!(
        e.code() == ErrorCode::Auth && e.to_string().contains("ldaps://"),
        "{e}"
    );
    let mut upn = config(&server, "BIND", &server["LDAPS_URI"]);
    upn.bind_dn = Some(server["BIND_UPN"].to_owned());
    assert!(connect(&upn).await.is_ok());
}

#[tokio::test]
async fn trap_15_a_group_of_thousands_in_ranges() {
    let server = Server::start("samba", &["--users", "1600"]);
    let mut groups = scope(&server);
    groups.bases = vec![server["GROUPS_DN"].to_owned()];
    groups.filter = "(cn=phone-users)".into();
    let mut sync = session(&server).await;
    groups.attributes = vec!["cn".into(), "member".into()];
    let whole = read(&mut sync, &groups).await.unwrap().1.remove(0);
    // Samba sends ranges only to those who ask for one; Active Directory to everybody, from 1500 values on.
    groups.attributes = vec!["cn".into(), "member;range=0-499".into()];
    let joined = read(&mut sync, &groups).await.unwrap().1.remove(0);
    let sorted = |e: &realmsync::model::RawEntry| {
        let mut all: Vec<Vec<u8>> = e.values("member").map(<[u8]>::to_vec).collect();
        all.sort();
        all
    };
    assert!(sorted(&whole).len() > 1000, "{}", sorted(&whole).len());
    assert_eq!(sorted(&joined), sorted(&whole));
    assert_eq!(
        joined.attributes().filter(|a| a.name == "member").count(),
        1
    );
}
