//! The directory stage against 389 Directory Server.

use realmsync::config::DirectoryKind;
use realmsync::directory::{ServerState, Sighting};
use realmsync::model::{ErrorCode, IdForm};

use crate::directory::{id_of, named, read, scope, session, session_as, value};
use crate::support::lab::Server;

#[tokio::test]
async fn a_pass_its_limits_and_look_ups() {
    let server = Server::start("ds389", &["--users", "600"]);
    let mut wide = scope(&server);
    wide.page_size = 100;
    let mut sync = session(&server).await;
    assert_eq!(sync.kind(), DirectoryKind::Ds389);
    assert_eq!(sync.state(), &ServerState::Unknown);
    assert_eq!(sync.directory_key(), "dc=example,dc=org");
    assert!(
        sync.who_am_i()
            .await
            .unwrap()
            .unwrap()
            .to_lowercase()
            .contains("cn=sync")
    );
    let schema = sync.schema().await.unwrap();
    assert!(
        schema.has_attribute("nsUniqueId")
            && schema.has_attribute("mobile")
            && schema.has_object_class("inetOrgPerson")
    );

    let (complete, before) = read(&mut sync, &wide).await.unwrap();
    assert_eq!((complete.entries(), before.len()), (&[600][..], 600));

    // Trap 1 and 2: a typing error, and an account that sees nobody.
    let mut typo = wide.clone();
    typo.filter = "(objectClas=inetOrgPerson)".into();
    let e = read(&mut sync, &typo).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Empty, "{e}");
    typo.bases = vec!["ou=peple,dc=example,dc=org".into()];
    let e = read(&mut sync, &typo).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Empty, "{e}");
    let mut blind = session_as(&server, "BLIND").await.unwrap();
    assert_eq!(
        read(&mut blind, &wide).await.unwrap_err().code(),
        ErrorCode::Empty
    );

    // Trap 4: the limit is for one page here, and is never met.
    for who in ["LIMITED", "CAPPED"] {
        let mut limited = session_as(&server, who).await.unwrap();
        assert_eq!(
            read(&mut limited, &wide).await.unwrap().1.len(),
            600,
            "{who}"
        );
    }

    // The id is the one that the directory's own tools print.
    let uid = value(&before[0], "uid").unwrap();
    let one = named(&mut sync, &wide, "uid", &uid).await;
    assert_eq!(
        id_of(&one, &wide).display(IdForm::NsUniqueId),
        value(&one, "nsuniqueid").unwrap()
    );

    // Trap 10: moved, renamed, deleted; a deleted one leaves a tombstone, which is nobody.
    server.churn(&["--move", "2", "--rename", "2", "--delete", "3"]);
    let ids: Vec<_> = before.iter().map(|e| id_of(e, &wide)).collect();
    let found = sync.look_up(&wide, &ids).await.unwrap();
    assert_eq!(found.len(), 597);
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
    assert!(moved.iter().all(|dn| dn.contains("ou=former")), "{moved:?}");

    // The other id works the same way.
    let mut by_uuid = wide.clone();
    (by_uuid.id_attribute, by_uuid.id_form) = ("entryUUID".into(), IdForm::Uuid);
    let people = read(&mut sync, &by_uuid).await.unwrap().1;
    let ids: Vec<_> = people.iter().map(|e| id_of(e, &by_uuid)).collect();
    assert_eq!(sync.look_up(&by_uuid, &ids).await.unwrap().len(), 595);
}
