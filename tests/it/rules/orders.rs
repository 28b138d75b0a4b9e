//! What an administrator asks for, and what is answered: the engine and the command over a real slapd.

use std::time::{Duration, Instant};

use realmsync::model::{ErrorCode, Outcome, StateReason, Trigger};
use realmsync::runs::RunError;
use realmsync::sync::{DecisionOptions, RunRequest};
use tokio_util::sync::CancellationToken;

use crate::rules::Story;
use crate::support::house::House;
use crate::support::lab::Server;

/// A slip of the pen says nothing of the realm: no run, and no last error in `status`.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_no_run() {
    let s = Story::new(20, "").await;
    s.add("x", "xavier", "");
    s.pass().await;
    let runs = async || s.engine.store.runs(None, 100).await.unwrap().len();
    let look = async |name: &str| {
        let ask = RunRequest {
            user: Some(name.into()),
            ..RunRequest::new(Trigger::Command, None)
        };
        s.engine.sync(&"r".into(), ask).await
    };
    assert_eq!(runs().await, 1);
    let error = look("nobody").await.expect_err("nobody");
    assert!(matches!(error, RunError::NotFound(_)), "{error:?}");
    assert!(error.to_string().contains("check the name"), "{error}");
    // Nor does one who is held and not there any more: absence is a full pass's matter.
    s.leave("x");
    let error = look("xavier").await.expect_err("gone");
    assert!(error.to_string().contains("run `sync r`"), "{error}");
    assert_eq!(runs().await, 1);
    let said = s.house.run(&["sync", "r", "--user", "nobody"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("neither the directory"), "{}", said.err);
    let status = s.house.run(&["--json", "status"]).json();
    assert_eq!(status["last_error"], serde_json::Value::Null, "{status}");
}

/// Everybody was refused: `refused` says why there was nobody.
#[test]
fn an_empty_pass_keeps_what_it_could_not_use() {
    let house = House::new(12);
    house.configure("[realm.attributes]\nusername = \"seeAlso\"\n");
    let run = house.run(&["--json", "sync", "r"]);
    assert_eq!(run.json()["error_code"], "empty", "{}", run.out);
    let refused = house.run(&["--json", "refused", "r"]);
    assert_eq!(refused.lines().len(), 12, "{}{}", refused.out, refused.err);
    // Once it is mended, they are gone.
    house.configure("");
    house.sync(0);
    let left = house.run(&["--json", "refused", "r"]);
    assert!(!left.out.contains("seeAlso"), "{}", left.out);
}

/// Where nothing is delivered, no plan promises a message.
#[test]
fn a_plan_counts_no_messages_without_a_delivery() {
    let house = House::new(20);
    house.configure("realm: new-users = \"send\"\n");
    let counts = |house: &House| house.run(&["--json", "plan", "r"]).json()["jobs"].as_i64();
    assert!(counts(&house) > Some(0));
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let from = text.find("[delivery]").unwrap();
    let to = text.find("[log]").unwrap();
    std::fs::write(&path, format!("{}{}", &text[..from], &text[to..])).unwrap();
    assert_eq!(counts(&house), Some(0));
    assert_eq!(
        house.run(&["--json", "plan", "r", "--hold"]).json()["jobs"],
        0
    );
}

/// § 3.3: a filter that leaves out who is disabled would let them age, and be removed with their factors.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_leaves_the_disabled_out_is_held() {
    let mut s = Story::new(60, "").await;
    s.house.churn(&[("disable", 2)]);
    s.pass().await;
    let disabled = async |s: &Story| {
        let of = |u: &&realmsync::model::User| u.state_reason == Some(StateReason::Disabled);
        s.all().await.iter().filter(of).count()
    };
    let before = disabled(&s).await;
    assert!(before >= 2, "{before}");
    s.house.configure_as(
        &s.house.server["BIND_DN"],
        "filter = \"(&(objectClass=inetOrgPerson)(!(pwdAccountLockedTime=*)))\"\n",
        "",
    );
    s.reload().await;
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held, "{run:?}");
    assert!(
        run.held_by
            .iter()
            .any(|h| h.limit == "mapping" && usize::try_from(h.count) == Ok(before)),
        "{run:?}"
    );
    assert_eq!(disabled(&s).await, before);
}

/// A held plan over a server that is behind: refused with what to do, and taken when told so.
#[test]
fn an_approval_takes_an_older_server_when_told_so() {
    let house = House::new(40);
    let behind = Server::start("openldap", &["--users", "40"]);
    house.churn(&[("phone", 3)]);
    house.sync(0);
    house.churn(&[("phone", 1)]);
    house.configure("realm: approve = true\n");
    let held = house.sync(3);
    let run = held["run"].as_str().unwrap();
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(&house.server["LDAPS_URI"], &behind["LDAPS_URI"])
        .replace(&house.server["CA_FILE"], &behind["CA_FILE"]);
    std::fs::write(&path, text).unwrap();
    let refused = house.run(&["approve", run]);
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    assert!(
        refused
            .err
            .contains(&format!("approve {run} --accept-older")),
        "{}",
        refused.err
    );
    // That server does not have the new number: directory and plan do not agree, so another plan is held.
    let told = house.run(&["--json", "approve", run, "--accept-older"]);
    assert!(!told.out.contains("\"stale\""), "{}{}", told.out, told.err);
    assert_ne!(told.code, 1, "{}{}", told.out, told.err);
}

/// § 8: SIGTERM ends an approval within five seconds, also while the directory hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_approval_leaves_the_plan_as_it_is() {
    let s = Story::new(60, "").await;
    s.pass().await;
    s.house.churn(&[("delete", 31)]);
    let held = s.pass().await;
    assert_eq!(held.outcome, Outcome::Held);
    crate::directory::openldap::signal(&s.house.server, "-STOP");
    for adopt in [false, true] {
        let cancel = CancellationToken::new();
        let asking = DecisionOptions {
            cancel: cancel.clone(),
            ..DecisionOptions::default()
        };
        let id = held.run.to_string();
        let begun = Instant::now();
        let deciding = async {
            if adopt {
                s.engine.adopt(&id, asking).await
            } else {
                s.engine.approve(&id, asking).await
            }
        };
        let stop = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cancel.cancel();
        };
        let (done, ()) = tokio::join!(deciding, stop);
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
        match done {
            Err(RunError::Stopped(why)) => {
                assert!(why.contains(&format!("{:#}", held.run)), "{why}");
            }
            Ok(decided) => assert_eq!((adopt, decided.run.outcome), (true, Outcome::Cancelled)),
            Err(error) => panic!("{error:?}"),
        }
    }
    crate::directory::openldap::signal(&s.house.server, "-CONT");
    let again = s.engine.store.run(&held.run.to_string()).await.unwrap();
    assert_eq!(
        (again.outcome, again.error_code),
        (Outcome::Held, None::<ErrorCode>)
    );
}
