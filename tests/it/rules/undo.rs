//! What an undo puts back, and what becomes of messages meanwhile: the engine over a real slapd.

use realmsync::model::{JobState, JobType, Outcome};
use realmsync::runs::RunError;
use realmsync::sync::DecisionOptions;
use tokio_util::sync::CancellationToken;

use crate::rules::{HOUR, STRICT, Story};
use crate::support::house::House;

/// § 5: what RUN wanted said does not go out while the undo plan is open, and is due again once that is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_undo_loses_no_message() {
    let mut s = Story::new(40, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.add("z", "zoe", "");
    s.pass().await;
    s.house.server.modify(&format!(
        "dn: cn=x,{}\nchangetype: modify\nreplace: uid\nuid: xaver\n",
        s.base()
    ));
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    s.leave("z");
    let run = s.pass().await;
    assert_eq!((run.renamed, run.suspended, run.jobs), (1, 1, 3), "{run:?}");
    s.reconfigure(STRICT).await;
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(undo.outcome, Outcome::Held, "{undo:?}");
    let kinds = [JobType::Rename, JobType::Reprovision, JobType::Suspend];
    // Even a realm that is resumed by hand says nothing of it.
    s.engine
        .store
        .resume(&"r".into(), s.clock.now())
        .await
        .unwrap();
    for kind in kinds {
        let states: Vec<_> = s.jobs(kind).await.iter().map(|j| j.state).collect();
        assert_eq!(states, [JobState::Held], "{kind:?}");
    }
    s.engine.reject(&undo.run.to_string(), None).await.unwrap();
    for kind in kinds {
        let states: Vec<_> = s.jobs(kind).await.iter().map(|j| j.state).collect();
        assert_eq!(states, [JobState::Waiting], "{kind:?}");
    }
    s.pass().await;
    for kind in kinds {
        assert_eq!(s.jobs(kind).await.len(), 1, "{kind:?}: once");
    }
}

/// § 5: once the undo plan is approved, nothing of RUN is said any more, and nobody hears of its opposite.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_undo_drops_what_was_not_said() {
    let mut s = Story::new(40, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    s.reconfigure(STRICT).await;
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(s.approve(&undo).await.outcome, Outcome::Applied);
    assert_eq!(s.jobs(JobType::Reprovision).await.len(), 0);
    let user = s.named("xavier").await.remove(0);
    assert_eq!(user.phone.unwrap().as_str(), "+421905000001");
}

/// An adoption that is undone gives the user their old directory id back: the new one is a stranger's again.
#[tokio::test(flavor = "multi_thread")]
async fn an_undone_adoption_gives_the_old_directory_id_back() {
    let s = Story::new(4, "").await;
    for n in 0..6 {
        s.add(
            &format!("x{n}"),
            &format!("xavier{n}"),
            &format!("mail: x{n}@example.org\n"),
        );
    }
    s.pass().await;
    let before = s.named("xavier1").await.remove(0);
    for n in 0..6 {
        let base = s.base();
        s.house
            .server
            .modify(&format!("dn: cn=x{n},{base}\nchangetype: delete\n"));
        s.add(
            &format!("x{n}"),
            &format!("xavier{n}"),
            &format!("mail: x{n}@example.org\n"),
        );
    }
    let held = s.pass().await;
    assert_eq!(held.outcome, Outcome::Held, "{held:?}");
    let adopted = s
        .engine
        .adopt(&held.run.to_string(), None)
        .await
        .unwrap()
        .run;
    assert_eq!(adopted.outcome, Outcome::Applied, "{adopted:?}");
    let new = s.named("xavier1").await.remove(0);
    assert_eq!(new.id, before.id);
    assert_ne!(new.directory_id, before.directory_id);
    s.clock.advance_ms(1000);
    let undone = s
        .engine
        .undo(&adopted.run.to_string(), None)
        .await
        .unwrap()
        .run;
    assert_eq!(
        (undone.outcome, undone.updated),
        (Outcome::Applied, 6),
        "{undone:?}"
    );
    let after = s.named("xavier1").await.remove(0);
    assert_eq!(
        (after.id, after.directory_id),
        (before.id, before.directory_id)
    );
}

/// The end of a hold is nobody's later change: the number from before the run comes back.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_gives_back_the_number_that_a_hold_replaced_meanwhile() {
    let s = Story::new(20, "[realm.phone-change]\nhold = \"1h\"\n").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    assert_eq!(run.phone_changed, 1, "{run:?}");
    s.clock.advance_ms(2 * HOUR);
    assert_eq!(s.engine.end_holds().await.unwrap(), 1);
    assert_eq!(s.jobs(JobType::Reprovision).await.len(), 1);
    let undone = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(
        (undone.outcome, undone.phone_changed),
        (Outcome::Applied, 1),
        "{undone:?}"
    );
    let user = s.named("xavier").await.remove(0);
    assert_eq!(user.phone.unwrap().as_str(), "+421905000001");
    assert_eq!((user.phone_raw, user.phone_pending), (None, None));
    assert_eq!(
        s.jobs(JobType::Reprovision).await.len(),
        0,
        "the number is the one that was told"
    );
    let shown = s.engine.store.changes(undone.run, 0, 10).await.unwrap();
    let said = |side: &serde_json::Map<String, serde_json::Value>| {
        side["phone"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (said(&shown[0].before), said(&shown[0].after)),
        ("+421905000002".into(), "+421905000001".into())
    );
}

/// A stop ends an undo like a run: nothing is put back, and nothing of the other run stays on hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_undo_puts_nothing_back() {
    let s = Story::new(20, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let asking = DecisionOptions {
        cancel,
        ..DecisionOptions::default()
    };
    let stopped = s.engine.undo(&run.run.to_string(), asking).await;
    assert!(matches!(stopped, Err(RunError::Stopped(_))), "{stopped:?}");
    let last = s.engine.store.last_run(&"r".into()).await.unwrap().unwrap();
    assert_eq!((last.outcome, last.error_code), (Outcome::Cancelled, None));
    let states: Vec<_> = s
        .jobs(JobType::Reprovision)
        .await
        .iter()
        .map(|j| j.state)
        .collect();
    assert_eq!(states, [JobState::Waiting]);
    assert!(
        !s.engine
            .store
            .realm(&"r".into())
            .await
            .unwrap()
            .unwrap()
            .paused
    );
}

/// § 5: no pass replaces what an undo put back: not even one that already waited for the realm while it was undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_waits_for_the_realm_sees_that_it_was_paused_meanwhile() {
    use realmsync::model::{RealmId, Trigger};
    use realmsync::sync::RunRequest;
    let s = Story::new(40, "").await;
    s.pass().await;
    let runs = s.engine.store.runs(None, 100).await.unwrap().len();
    let realm = RealmId::from("r");
    let lock = s.engine.store.lock_realm(&realm).await.unwrap();
    let waiting = s
        .engine
        .sync(&realm, RunRequest::new(Trigger::Schedule, None));
    let undoing = async {
        // The other has looked at the realm, and waits for its lock.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        s.engine
            .store
            .pause(&realm, None, None, s.clock.now())
            .await
            .unwrap();
        drop(lock);
    };
    let (waited, ()) = tokio::join!(waiting, undoing);
    let error = waited.expect_err("a paused realm");
    assert!(matches!(error, RunError::Refused(_)), "{error}");
    assert_eq!(s.engine.store.runs(None, 100).await.unwrap().len(), runs);
}

/// The pause of an undo whose process is killed is settled by whoever comes next: over, where nothing was put back; until
/// somebody resumes it, where it was, since the next pass would do all that again.
#[test]
fn trap_29_a_killed_undo_leaves_no_realm_paused_without_a_reason() {
    // So many that the few changes are nothing to the brake.
    let house = House::new(400);
    house.sync(0);
    for (point, put_back) in [
        ("stage.after", false),
        ("apply.before", false),
        ("apply.before-commit", false),
        ("apply.after-commit", true),
    ] {
        house.churn(&[("phone", 2)]);
        let run = house.sync(0);
        assert_eq!(run["outcome"], "applied", "{run}");
        let run = run["run"].as_str().unwrap();
        let killed = house
            .command(&["undo", run])
            .env("REALMSYNC_FAILPOINT", point)
            .output()
            .expect("the binary");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&killed.status),
            Some(9),
            "{point}: {}",
            String::from_utf8_lossy(&killed.stderr)
        );
        let next = house.run(&["--json", "sync", "r"]);
        let status = house.run(&["status"]).out;
        if put_back {
            assert_eq!(next.code, 1, "{point}: {}", next.err);
            assert!(status.contains("paused by undo"), "{point}: {status}");
            assert!(status.contains("realmsync resume r"), "{point}: {status}");
            let json = house.run(&["--json", "status"]).json();
            let undo = &house.run(&["--json", "runs", "r"]).lines()[0]["run"];
            assert_eq!(&json["paused_by_undo"], undo, "{point}: {json}");
            assert_eq!(json["paused_until"], serde_json::Value::Null);
            assert_eq!(house.run(&["resume", "r"]).code, 0);
            let again = house.sync(0);
            assert_eq!(again["outcome"], "applied", "{point}: {again}");
        } else {
            assert_eq!(next.code, 0, "{point}: {}", next.err);
            assert!(!status.contains("paused"), "{point}: {status}");
        }
    }
}

/// § 3.4: where users changed since an undo plan was made, its approval applies nothing: another plan is made, and held.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_plan_that_no_longer_fits_is_replaced_by_one_that_does() {
    let hold = "[realm.phone-change]\nhold = \"1h\"\n";
    let mut s = Story::new(40, hold).await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    s.reconfigure(&format!("{hold}{STRICT}")).await;
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(undo.outcome, Outcome::Held, "{undo:?}");
    // The realm is resumed by hand, and the new number's time has come before anybody decided.
    s.clock.advance_ms(2 * HOUR);
    let now = s.clock.now();
    s.engine.store.resume(&"r".into(), now).await.unwrap();
    assert_eq!(s.engine.end_holds().await.unwrap(), 1);
    let decided = s.engine.approve(&undo.run.to_string(), None).await.unwrap();
    assert_eq!(decided.replaced, Some(undo.run));
    assert_eq!(decided.run.outcome, Outcome::Held, "{:?}", decided.run);
    assert_eq!(decided.run.phone_changed, 1, "{:?}", decided.run);
    let row = s.engine.store.realm(&"r".into()).await.unwrap().unwrap();
    assert_eq!((row.held, row.paused), (Some(decided.run.run), true));
    let user = s.named("xavier").await.remove(0);
    assert_eq!(user.phone.unwrap().as_str(), "+421905000002");
    let applied = s.approve(&decided.run).await;
    assert_eq!(applied.outcome, Outcome::Applied);
    let user = s.named("xavier").await.remove(0);
    assert_eq!(user.phone.unwrap().as_str(), "+421905000001");
}

/// An undo plan that expires puts nothing back, so its pause ends as after a rejection.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_plan_that_expires_ends_its_pause() {
    let mut s = Story::new(40, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    s.reconfigure(STRICT).await;
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(undo.outcome, Outcome::Held, "{undo:?}");
    for _ in 0..6 {
        s.clock.advance_ms(24 * HOUR);
        let early = s.engine.store.expired_held(s.clock.now()).await.unwrap();
        assert!(early.is_empty(), "{early:?}");
    }
    s.clock.advance_ms(24 * HOUR);
    let late = s.engine.approve(&undo.run.to_string(), None).await;
    assert!(matches!(late, Err(RunError::Refused(_))), "{late:?}");
    let row = s.engine.store.realm(&"r".into()).await.unwrap().unwrap();
    assert_eq!((row.held, row.paused), (None, false));
    s.pass().await;
}

/// A pause ends by its owner alone: an undo plan that is rejected ends neither an administrator's pause nor that of an earlier
/// undo that was applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_undo_ends_no_pause_but_its_own() {
    let mut s = Story::new(40, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    let realm = "r".into();
    let until = s.clock.now().plus_ms(HOUR);
    let store = s.engine.store.clone();
    store
        .pause(&realm, Some(until), Some("ada"), s.clock.now())
        .await
        .unwrap();
    s.reconfigure(STRICT).await;
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(undo.outcome, Outcome::Held, "{undo:?}");
    s.engine.reject(&undo.run.to_string(), None).await.unwrap();
    let row = store.realm(&realm).await.unwrap().unwrap();
    assert_eq!((row.paused, row.paused_until), (true, Some(until)));
    store.resume(&realm, s.clock.now()).await.unwrap();
    // One undo is applied; another one, of it, comes to nothing.
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(s.approve(&undo).await.outcome, Outcome::Applied);
    let second = s
        .engine
        .undo(&undo.run.to_string(), None)
        .await
        .unwrap()
        .run;
    assert_eq!(second.outcome, Outcome::Held, "{second:?}");
    s.engine
        .reject(&second.run.to_string(), None)
        .await
        .unwrap();
    let row = store.realm(&realm).await.unwrap().unwrap();
    assert_eq!((row.paused, row.paused_by_undo), (true, Some(undo.run)));
}

/// The same id is a realm's once more: everybody goes back with all that they have, and is told so once that realm runs again.
#[test]
fn a_takeover_is_undone_and_everybody_is_back_in_their_realm() {
    let house = House::new(20);
    house.sync(0);
    let people = || {
        let users = house.run(&["--json", "users", "list"]).lines();
        users
            .into_iter()
            .map(|u| {
                let of = |field: &str| u[field].to_string();
                (
                    of("id"),
                    [of("realm"), of("state"), of("state_reason"), of("phone")],
                )
            })
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = people();
    let text = std::fs::read_to_string(house.path("realmsync.toml"))
        .unwrap()
        .replace("id = \"r\"", "id = \"s\"");
    std::fs::write(house.path("realmsync.toml"), text).unwrap();
    // Only a daemon lets go of a realm that its file lacks.
    drop(house.daemon());
    let held = house.run(&["--json", "sync", "s"]);
    assert_eq!(held.code, 3, "{}{}", held.out, held.err);
    let run = held.json()["run"].clone();
    let run = run.as_str().unwrap();
    let approved = house.run(&["approve", run]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    assert!(people().values().all(|u| u[0] == "\"s\""));
    let undone = house.run(&["--json", "undo", run]);
    assert_eq!(undone.code, 0, "{}{}", undone.out, undone.err);
    assert_eq!(undone.json()["moved"], 20, "{}", undone.out);
    assert_eq!(people(), before);
}
