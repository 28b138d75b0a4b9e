//! What is asked before a pass: a server that refuses has not said that there is nothing, nor that it is behind.

use std::time::Duration;

use realmsync::clock::Clock;
use realmsync::directory::{self, DirectoryError, ServerState, Session};
use realmsync::model::ErrorCode;
use tokio::time::Instant;

use crate::directory::scripted::config;
use crate::support::ber_server::{BerServer, Reply, result};
use crate::support::house::House;
use crate::support::lab::Server;

/// A session with a server that answers the root DSE or what is asked after it with this code.
async fn opened(root: bool, code: u8) -> Result<Session, DirectoryError> {
    let server = BerServer::start("OpenLDAP", move |r| {
        let of_root = r.body.starts_with(&[4, 0]);
        (r.tag == 0x63 && of_root == root)
            .then(|| vec![Reply::Send(result(r.id, 0x65, code, b"not now", None))])
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(3);
    directory::connect(&config(&server), &Clock::system(), deadline).await
}

fn seen() -> ServerState {
    serde_json::from_str(
        r#"{"open-ldap":{"csn":{"001":"20260101000000.000000Z#000000#001#000000"}}}"#,
    )
    .expect("a state")
}

#[tokio::test]
async fn a_server_that_is_busy_has_not_said_that_there_is_nothing() {
    for root in [true, false] {
        for (code, word) in [(51, "busy"), (52, "unavailable")] {
            let e = opened(root, code).await.expect_err(word);
            assert_eq!(e.code(), ErrorCode::Unreachable, "{e}");
            let text = e.to_string();
            assert!(text.contains(word) && text.contains("not now"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_right_that_is_missing_now_is_no_server_that_is_behind() {
    let session = opened(false, 50)
        .await
        .expect("as before, where none was ever shown");
    assert_eq!(session.not_behind(None), Ok(()));
    let e = session
        .not_behind(Some(&seen()))
        .expect_err("one was shown");
    assert_eq!(e.code(), ErrorCode::Incomplete, "{e}");
    let text = e.to_string();
    assert!(
        text.contains("insufficientAccess") && !text.contains("accept-older"),
        "{text}"
    );
    // What is clearly not there is still one that may be behind.
    let session = opened(false, 32).await.expect("a session");
    let e = session
        .not_behind(Some(&seen()))
        .expect_err("one was shown");
    assert_eq!(e.code(), ErrorCode::Stale, "{e}");
}

fn says_that_the_password_must_be_changed(house: &House) {
    let run = house.run(&["--json", "sync", "r"]).json();
    assert_eq!(run["error_code"], "auth", "{run}");
    let error = run["error"].as_str().expect("words");
    assert!(
        error.contains("password must be changed") && !error.contains("accept-older"),
        "{error}"
    );
    let check = house.run(&["check", "--connect"]);
    assert_ne!(check.code, 0, "{}", check.out);
    assert!(
        check.out.contains("password must be changed") && !check.out.contains("naming contexts"),
        "{}",
        check.out
    );
}

#[test]
fn a_password_that_must_be_changed_is_said_as_such_by_openldap() {
    let house = House::with(Server::start("openldap", &["--users", "10"]), "");
    house.sync(0);
    let policy = "cn=default,ou=policies,dc=example,dc=org";
    house.server.modify(&format!(
        "dn: ou=policies,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalUnit\nou: policies\n\n\
         dn: {policy}\nchangetype: add\nobjectClass: device\nobjectClass: pwdPolicy\ncn: default\npwdAttribute: userPassword\npwdMustChange: TRUE\n"
    ));
    house.server.configure(&format!(
        "dn: olcOverlay={{1}}ppolicy,olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nreplace: olcPPolicyDefault\nolcPPolicyDefault: {policy}\n"
    ));
    house.server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n",
        &house.server["BIND_DN"]
    ));
    says_that_the_password_must_be_changed(&house);
}

#[test]
fn a_password_that_must_be_changed_is_said_as_such_by_389_ds() {
    let house = House::with(Server::start("ds389", &["--users", "10"]), "");
    house.sync(0);
    house.server.modify(
        "dn: cn=config\nchangetype: modify\nreplace: passwordMustChange\npasswordMustChange: on\n",
    );
    house.server.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: userPassword\nuserPassword: {}\n",
        &house.server["BIND_DN"], &house.server["BIND_PASSWORD"]
    ));
    says_that_the_password_must_be_changed(&house);
}
