//! § 3.4: a plan whose cause is still there comes again after it was rejected; `reject --for` leaves its changes out for a time, while
//! the rest of the realm goes on.

use realmsync::model::{Outcome, Run, State, Trigger};
use realmsync::sync::RunRequest;

use super::{HOUR, Story};

/// Three who are to be held when they leave, in a realm in which each suspension is.
const RULES: &str = "[realm.brake]\nsuspended = \"0%\"\nrenamed = \"0%\"\nfloor = 3\n";

async fn three_leave() -> (Story, Run) {
    let s = Story::new(20, RULES).await;
    for n in ["a", "b", "c", "d"] {
        s.add(n, &format!("name-{n}"), "mobile: +421905000001\n");
    }
    s.pass().await;
    for n in ["a", "b", "c"] {
        s.leave(n);
    }
    let plan = s.pass().await;
    assert_eq!(
        (plan.outcome, plan.suspended),
        (Outcome::Held, 3),
        "{plan:?}"
    );
    (s, plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_plan_that_comes_again_is_known() {
    let (s, plan) = three_leave().await;
    let store = &s.engine.store;
    assert_eq!(store.rejected_before(plan.run).await.unwrap(), None);
    let by = Some("ada".to_owned());
    s.engine
        .reject(&plan.run.to_string(), by.clone())
        .await
        .unwrap();
    let again = s.pass().await;
    assert_ne!(again.run, plan.run);
    let before = store.rejected_before(again.run).await.unwrap().unwrap();
    assert_eq!((before.run, before.by), (plan.run, by));
    // Other changes are another plan.
    s.leave("d");
    let other = s.pass().await;
    assert_eq!(other.suspended, 4, "{other:?}");
    assert_eq!(store.rejected_before(other.run).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_for_a_day_is_left_out_while_the_rest_goes_on() {
    let (s, plan) = three_leave().await;
    let id = plan.run.to_string();
    s.engine.reject_for(&id, None, 24 * HOUR).await.unwrap();
    let end = s.clock.now().plus_ms(24 * HOUR);
    // A new colleague, and one who takes a name that is still held by somebody who is left out.
    s.add("new", "newcomer", "mobile: +421905000002\n");
    s.add("twin", "name-a", "mobile: +421905000003\n");
    let run = s.pass().await;
    assert_eq!(
        (run.outcome, run.created, run.suspended),
        (Outcome::Applied, 1, 0),
        "{run:?}"
    );
    assert_eq!(run.left_out, 3, "{run:?}");
    assert!(
        run.left_out_until.is_some_and(|until| until <= end),
        "{run:?}"
    );
    let user = s.named("name-a").await.remove(0);
    assert_eq!(user.state, State::Active);
    // A plan that is only looked at says what a run would do.
    let ask = RunRequest {
        full: true,
        ..RunRequest::new(Trigger::Command, None)
    };
    let (dry, _) = s.engine.plan(&"r".into(), ask, false).await.unwrap();
    assert_eq!(
        (dry.outcome, dry.suspended, dry.left_out),
        (Outcome::Unchanged, 0, 3),
        "{dry:?}"
    );
    let quiet = s.pass().await;
    assert_eq!(
        (quiet.outcome, quiet.left_out),
        (Outcome::Unchanged, 3),
        "{quiet:?}"
    );
    // Somebody else who leaves is not left out.
    s.leave("new");
    let other = s.pass().await;
    assert_eq!(
        (other.outcome, other.suspended, other.left_out),
        (Outcome::Applied, 1, 3),
        "{other:?}"
    );
    // The time is over: the same changes come again, and everything is read for them.
    s.clock.advance_ms(25 * HOUR);
    let again = s.pass().await;
    assert_eq!(
        (again.outcome, again.suspended, again.left_out),
        (Outcome::Held, 3, 0),
        "{again:?}"
    );
    let row = s.engine.store.realm(&"r".into()).await.unwrap().unwrap();
    assert_eq!(row.left_out_until, None);
}

/// § 3.3, § 3.4: a filter is edited, and what comes of it is rejected for a day. Whatever else is to be done would go by the new
/// filter, of which nobody has said that it is right: an administrator decides that once.
#[tokio::test(flavor = "multi_thread")]
async fn another_mapping_is_decided_though_what_it_does_was_rejected_for_a_day() {
    let mut s = Story::new(20, RULES).await;
    for n in ["a", "b"] {
        s.add(n, &format!("name-{n}"), "mobile: +421905000001\n");
    }
    s.pass().await;
    let filter = "filter = \"(&(objectClass=inetOrgPerson)(!(uid=name-*)))\"";
    let bind_dn = s.house.server["BIND_DN"].to_owned();
    s.house.configure_as(&bind_dn, filter, RULES);
    s.reload().await;
    let plan = s.pass().await;
    let limits =
        |run: &Run| -> Vec<String> { run.held_by.iter().map(|h| h.limit.clone()).collect() };
    let mapping = vec!["mapping".to_owned()];
    assert_eq!(
        (limits(&plan), plan.suspended),
        (mapping.clone(), 2),
        "{plan:?}"
    );
    let id = plan.run.to_string();
    s.engine.reject_for(&id, None, 24 * HOUR).await.unwrap();
    // Nothing else is to be done: nothing is asked.
    let quiet = s.pass().await;
    assert_eq!(
        (quiet.outcome, quiet.left_out),
        (Outcome::Unchanged, 2),
        "{quiet:?}"
    );
    s.add("new", "newcomer", "mobile: +421905000002\n");
    let rest = s.pass().await;
    assert_eq!(
        (limits(&rest), rest.created, rest.left_out),
        (mapping, 1, 2),
        "{rest:?}"
    );
    assert_eq!(s.approve(&rest).await.outcome, Outcome::Applied);
    assert_eq!(s.named("newcomer").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_ends_it_early() {
    let (s, plan) = three_leave().await;
    let id = plan.run.to_string();
    s.engine.reject_for(&id, None, 24 * HOUR).await.unwrap();
    assert_eq!(s.pass().await.left_out, 3);
    s.engine.reject_for(&id, None, 0).await.unwrap();
    let again = s.pass().await;
    assert_eq!(
        (again.outcome, again.suspended),
        (Outcome::Held, 3),
        "{again:?}"
    );
    let error = s.engine.reject_for(&id, None, HOUR).await.unwrap_err();
    assert!(error.to_string().contains("none of its changes"), "{error}");
}

/// A name is given away by a rename that is left out: whoever wants it does not get it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_stays_with_whom_a_rejected_rename_leaves_it() {
    let s = Story::new(20, RULES).await;
    s.add("x", "xavier", "");
    s.add("w", "wanda", "");
    s.pass().await;
    let name = |cn: &str, uid: &str| {
        s.house.server.modify(&format!(
            "dn: cn={cn},{}\nchangetype: modify\nreplace: uid\nuid: {uid}\n",
            s.base()
        ));
    };
    name("x", "other");
    let ask = RunRequest::new(Trigger::Command, None);
    let (held, _) = s.engine.plan(&"r".into(), ask, true).await.unwrap();
    assert_eq!((held.outcome, held.renamed), (Outcome::Held, 1), "{held:?}");
    let id = held.run.to_string();
    s.engine.reject_for(&id, None, HOUR).await.unwrap();
    s.add("y", "xavier", "");
    let run = s.pass().await;
    assert_eq!(
        (run.renamed, run.created, run.left_out),
        (0, 0, 1),
        "{run:?}"
    );
    name("x", "xavier");
    s.house
        .server
        .modify(&format!("dn: cn=y,{}\nchangetype: delete\n", s.base()));
    name("w", "other");
    assert_eq!(s.pass().await.renamed, 1);
    // Now all at once: the name is free for x, who is left out, and so is none for y.
    name("w", "third");
    name("x", "other");
    s.add("y", "xavier", "");
    let run = s.pass().await;
    assert_eq!(
        (run.outcome, run.renamed, run.created, run.left_out),
        (Outcome::Applied, 1, 0, 1),
        "{run:?}"
    );
    assert_eq!(s.named("xavier").await.len(), 1);
}
