//! `reject --for` and what the directory tells: a delta leaves the same changes out as a full pass, and their time ends by itself.

use realmsync::model::{Mode, Outcome, Run, Trigger, User};
use serde_json::Value;

use super::losses::{delete, set};
use super::push::{Pushed, next};
use crate::support::house::House;
use crate::support::lab::Server;
use crate::support::outcome::eventually;

/// Three new numbers are held, and so are three who leave.
const RULES: &str = "[realm.brake]\nphone-changed = \"0%\"\nsuspended = \"0%\"\nfloor = 3\n";

const HOUR: i64 = 3_600_000;

fn describe(user: &User, text: &str) -> String {
    let dn = user.dn.as_deref().unwrap();
    format!("dn: {dn}\nchangetype: modify\nreplace: description\ndescription: {text}\n\n")
}

fn mail(user: &User, mail: &str) -> String {
    let dn = user.dn.as_deref().unwrap();
    format!("dn: {dn}\nchangetype: modify\nreplace: mail\nmail: {mail}\n\n")
}

/// Three new numbers that were told and held, and rejected for an hour.
async fn three_numbers_rejected(p: &Pushed) -> Vec<User> {
    p.pass(Trigger::Schedule, false).await;
    let people = p.active().await;
    let new: String = (0..3)
        .map(|n| set(&people[n], &format!("+42190577700{n}")))
        .collect();
    p.house.server.modify(&new);
    let held = p.pass(Trigger::Poll, false).await;
    assert_eq!(
        (held.outcome, held.mode, held.phone_changed),
        (Outcome::Held, Mode::Delta, 3),
        "{held:?}"
    );
    let id = held.run.to_string();
    p.engine.reject_for(&id, None, HOUR).await.unwrap();
    // Whatever the rejection looks at anew is over.
    let quiet = p.pass(Trigger::Poll, false).await;
    assert_eq!((quiet.phone_changed, quiet.left_out), (0, 3), "{quiet:?}");
    people
}

/// Those whose numbers are left out are told of again, with somebody else: only they are left out.
fn left_out(run: &Run) {
    assert_eq!(
        (run.outcome, run.mode, run.phone_changed, run.updated),
        (Outcome::Applied, Mode::Delta, 1, 0),
        "{run:?}"
    );
    assert_eq!(run.left_out, 3, "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_delta_leaves_out_what_was_rejected_for_a_time() {
    for kind in ["openldap", "ds389"] {
        let p = Pushed::with(kind, &["--users", "40"], RULES).await;
        let people = three_numbers_rejected(&p).await;
        let told: String = people[..3].iter().map(|u| describe(u, "x")).collect();
        p.house
            .server
            .modify(&(told + &set(&people[3], "+421905777009")));
        left_out(&p.pass(Trigger::Poll, false).await);
        let numbers =
            |users: &[User]| -> Vec<_> { users[..3].iter().map(|u| u.phone.clone()).collect() };
        let mut now = p.users().await;
        now.retain(|u| people[..3].iter().any(|was| was.id == u.id));
        now.sort_by_key(|u| people.iter().position(|was| was.id == u.id));
        assert_eq!(numbers(&now), numbers(&people), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_delta_leaves_out_what_was_rejected_for_a_time() {
    let p = Pushed::with("openldap", &["--users", "40"], RULES).await;
    let people = three_numbers_rejected(&p).await;
    let mut follower = p.follow().await;
    // One burst may come as several runs.
    for user in &people[..3] {
        p.house.server.modify(&mail(user, "new@example.org"));
        let run = next(&mut follower).await;
        assert_eq!(
            (run.mode, run.phone_changed, run.left_out),
            (Mode::Delta, 0, 1),
            "{run:?}"
        );
    }
    p.house.server.modify(&set(&people[3], "+421905777009"));
    let run = next(&mut follower).await;
    assert_eq!(
        (run.outcome, run.phone_changed, run.left_out),
        (Outcome::Applied, 1, 0),
        "{run:?}"
    );
    // Somebody who leaves is no part of what was rejected.
    p.house.server.modify(&delete(&people[4]));
    let run = next(&mut follower).await;
    assert_eq!(
        (run.outcome, run.suspended),
        (Outcome::Applied, 1),
        "{run:?}"
    );
}

fn held(house: &House) -> Value {
    house.run(&["--json", "status"]).lines()[0]["held"].clone()
}

/// A full pass found what was rejected, and no delta will tell the rest: it does not wait for the next tick.
#[test]
fn what_is_left_of_a_realm_goes_on_at_once() {
    let house = House::with(Server::start("openldap", &["--users", "40"]), RULES);
    house.sync(0);
    let _daemon = house.daemon();
    house.churn(&[("delete", 4)]);
    let plan = house.sync(3)["run"].as_str().expect("a run").to_owned();
    let people = &house.server["PEOPLE_DN"];
    house.server.modify(&format!(
        "dn: uid=newcomer,{people}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: newcomer\ncn: New\nsn: New\n"
    ));
    let said = house.run(&["reject", &plan, "--for", "1h"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    eventually(&house, "the newcomer is a user", || {
        house.users().contains_key("newcomer")
    });
}

/// The same where the command that rejects it has no daemon: the next one to start goes on.
#[test]
fn what_is_left_of_a_realm_goes_on_when_a_daemon_starts() {
    let house = House::with(Server::start("openldap", &["--users", "40"]), RULES);
    house.sync(0);
    house.churn(&[("delete", 4), ("add", 1)]);
    let plan = house.sync(3)["run"].as_str().expect("a run").to_owned();
    house.run(&["reject", &plan, "--for", "1h"]);
    let before = house.users().len();
    let people = &house.server["PEOPLE_DN"];
    house.server.modify(&format!(
        "dn: uid=newcomer,{people}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: newcomer\ncn: New\nsn: New\n"
    ));
    let _daemon = house.daemon();
    eventually(&house, "the newcomer is a user", || {
        house.users().contains_key("newcomer")
    });
    assert_eq!(house.users().len(), before + 1);
}

/// Nobody asks and no tick is near: the daemon itself looks at the realm again when the time is over.
#[test]
fn a_daemon_wakes_a_realm_when_the_time_of_a_rejection_is_over() {
    let house = House::with(Server::start("openldap", &["--users", "40"]), "");
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", RULES);
    house.sync(0);
    let _daemon = house.daemon();
    house.churn(&[("delete", 4)]);
    eventually(&house, "the plan is held", || held(&house).is_string());
    let plan = held(&house);
    let said = house.run(&["reject", plan.as_str().unwrap(), "--for", "12s"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    // What was told while the plan was held is caught up with before: nothing is left that would wake it by itself.
    eventually(&house, "they are left out", || {
        let runs = house.run(&["--json", "runs", "r"]).lines();
        runs.iter().any(|run| run["left_out"] == 4)
    });
    eventually(&house, "the same plan is held again", || {
        let now = held(&house);
        now.is_string() && now != plan
    });
}
