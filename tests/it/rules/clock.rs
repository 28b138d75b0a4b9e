//! What needs a clock that can be moved: the engine in this process, over a real slapd and a real store.

use std::sync::Arc;

use realmsync::clock::{Clock, Timestamp};
use realmsync::config::{Environment, load};
use realmsync::model::UserFilter;
use realmsync::model::{JobState, JobType, Outcome, RealmId, Run, State, StateReason, Trigger};
use realmsync::store::{Access, AuditFilter, JobSelection, Store, UserPage};
use realmsync::sync::{Engine, RunRequest};

use crate::support::house::House;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

struct Clockwork {
    house: House,
    engine: Engine,
    clock: Clock,
    realm: RealmId,
}

impl Clockwork {
    async fn new(users: u32, extra: &str) -> Self {
        let house = House::new(users);
        house.configure(extra);
        let env = Environment::from_process();
        let config = load(&house.path("realmsync.toml"), &env)
            .expect("a configuration")
            .config;
        // Certificates are judged by the same clock, so it starts today.
        let clock = Clock::fixed(Clock::system().now());
        let store = Store::open(&config.store, &env, Access::Write, clock.now())
            .await
            .expect("a store");
        let engine = Engine::new(Arc::new(config), store, clock.clone(), Arc::new(env));
        engine.declare_realms().await.expect("declared");
        Self {
            house,
            engine,
            clock,
            realm: RealmId::from("r"),
        }
    }

    async fn pass(&self) -> Run {
        let run = self
            .engine
            .sync(&self.realm, RunRequest::new(Trigger::Schedule, None))
            .await
            .expect("a run");
        assert_ne!(run.outcome, Outcome::Failed, "{run:?}");
        self.clock.advance_ms(1000);
        run
    }

    async fn count(&self, state: State, reason: Option<StateReason>) -> usize {
        let filter = UserFilter {
            realm: Some(self.realm.clone()),
            state: Some(state),
            ..UserFilter::default()
        };
        let users = self
            .engine
            .store
            .list_users(
                &filter,
                &UserPage::first(10_000, realmsync::clock::Timestamp(0)),
            )
            .await
            .expect("users");
        users
            .iter()
            .filter(|u| reason.is_none() || u.state_reason == reason)
            .count()
    }

    async fn jobs(&self, kind: JobType) -> usize {
        let selection = JobSelection {
            types: vec![kind],
            states: vec![JobState::Waiting, JobState::Held],
            ..JobSelection::default()
        };
        self.engine
            .store
            .jobs(&selection, 1000)
            .await
            .expect("jobs")
            .len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_48_nobody_is_removed_by_the_calendar_alone() {
    let c = Clockwork::new(60, "").await;
    c.pass().await;
    c.house.churn(&[("delete", 3), ("disable", 2)]);
    c.clock.advance_ms(HOUR);
    let run = c.pass().await;
    assert_eq!(run.suspended, 5 - i64::from(false), "{run:?}");
    let disabled = c.count(State::Suspended, Some(StateReason::Disabled)).await;
    // A clock that jumps a year, and an outage of a month: a quarter of the grace each at most.
    for jump in [365 * DAY, 30 * DAY, 8 * DAY] {
        c.clock.advance_ms(jump);
        let run = c.pass().await;
        assert_eq!(run.removed, 0, "{run:?}");
        assert_eq!(
            c.count(State::Suspended, Some(StateReason::Deleted)).await,
            3
        );
    }
    // The fourth quarter: grace is over, the ids are looked up once more, and personal data goes.
    c.clock.advance_ms(8 * DAY);
    let run = c.pass().await;
    assert_eq!((run.removed, run.jobs), (3, 3), "{run:?}");
    let filter = UserFilter {
        realm: Some(c.realm.clone()),
        state: Some(State::Removed),
        ..UserFilter::default()
    };
    for user in c
        .engine
        .store
        .list_users(
            &filter,
            &UserPage::first(10, realmsync::clock::Timestamp(0)),
        )
        .await
        .unwrap()
    {
        assert_eq!(
            (
                user.username.as_str(),
                &user.phone,
                &user.email,
                &user.dn,
                user.directory_id
            ),
            ("", &None, &None, &None, None)
        );
        for change in c.engine.store.changes_of_user(user.id, 100).await.unwrap() {
            assert!(
                change.username.is_none() && change.before.is_empty() && change.after.is_empty(),
                "{change:?}"
            );
        }
    }
    assert_eq!(c.jobs(JobType::Deprovision).await, 3);
    assert_eq!(
        c.count(State::Suspended, Some(StateReason::Disabled)).await,
        disabled,
        "parental leave never ends in removal"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_28_a_slow_bleed_is_held_by_the_window() {
    let c = Clockwork::new(1000, "").await;
    c.pass().await;
    let mut outcomes = vec![];
    for _ in 0..3 {
        c.clock.advance_ms(HOUR);
        c.house.churn(&[("nophone", 10)]);
        outcomes.push(c.pass().await.outcome);
    }
    assert_eq!(
        outcomes,
        [Outcome::Applied, Outcome::Applied, Outcome::Held]
    );
    // A day later the window has moved on.
    c.clock.advance_ms(25 * HOUR);
    assert_eq!(c.pass().await.outcome, Outcome::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_37_a_new_number_waits_until_the_timer_ends_it() {
    let c = Clockwork::new(
        60,
        "[realm.phone-change]\nhold = \"24h\"\nnotify-previous = true\n",
    )
    .await;
    c.pass().await;
    c.house.churn(&[("phone", 4)]);
    let run = c.pass().await;
    let notices = c.jobs(JobType::PhoneNotice).await;
    assert!(notices > 0, "{run:?}");
    assert_eq!(c.jobs(JobType::Reprovision).await, 0);
    c.clock.advance_ms(23 * HOUR);
    assert_eq!(c.engine.end_holds().await.unwrap(), 0);
    assert_eq!(
        c.pass().await.outcome,
        Outcome::Unchanged,
        "a waiting number is no change again"
    );
    c.clock.advance_ms(2 * HOUR);
    assert_eq!(
        c.engine.end_holds().await.unwrap(),
        u64::try_from(notices).unwrap()
    );
    assert_eq!(c.jobs(JobType::Reprovision).await, notices);
    // Passes leave no line in the audit, and a number that takes effect does.
    let filter = AuditFilter::default();
    let (lines, _) = c
        .engine
        .store
        .audit(&filter, 0, 100)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lines.len(), notices);
    for line in &lines {
        assert_eq!(
            (line.act.as_str(), line.from.as_str(), &line.by),
            ("phone-effective", "timer", &None)
        );
        assert!(
            line.user.is_some() && line.after.as_ref().is_some_and(|a| a.contains_key("phone")),
            "{line:?}"
        );
    }
    assert_eq!(c.pass().await.outcome, Outcome::Unchanged);
    assert_eq!(c.jobs(JobType::Reprovision).await, notices, "told once");
}

/// A realm that was made by hand is in no file: its holds end by the default rules, whatever another realm is busy with.
#[tokio::test(flavor = "multi_thread")]
async fn trap_37_a_hold_in_a_realm_that_is_in_no_file_ends_too() {
    let c = Clockwork::new(60, "[realm.phone-change]\nhold = \"24h\"\n").await;
    c.pass().await;
    c.house.churn(&[("phone", 4)]);
    c.pass().await;
    c.clock.advance_ms(25 * HOUR);
    let waiting = c.engine.store.holds_over(c.clock.now(), 10).await.unwrap();
    assert!(waiting.len() >= 2, "{waiting:?}");
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        db.execute(\"INSERT INTO realms (id, kind, name) VALUES ('by-hand', 'custom', 'By hand')\")\n\
        assert db.execute(\"UPDATE users SET realm = 'by-hand' WHERE username = ?\", (sys.argv[2],)).rowcount == 1\n\
        db.commit()";
    let status = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(c.house.path("realmsync.db"))
        .arg(&waiting[0].username)
        .status()
        .expect("python3 runs");
    assert!(status.success());
    let lock = c.engine.store.lock_realm(&c.realm).await.unwrap();
    assert_eq!(c.engine.end_holds().await.unwrap(), 1, "the other is busy");
    drop(lock);
    let moved = c.engine.store.users_by_id(&[waiting[0].id]).await.unwrap();
    assert_eq!(moved[0].phone, waiting[0].phone_pending);
    // Who was told the old number is told the new one.
    assert_eq!(c.jobs(JobType::Reprovision).await, 1);
    let rest = u64::try_from(waiting.len() - 1).unwrap();
    assert_eq!(c.engine.end_holds().await.unwrap(), rest);
}

/// TRAPS 37: whoever deletes the number first does not get round the hold, nor the notice.
#[tokio::test(flavor = "multi_thread")]
async fn trap_37_a_number_that_was_deleted_first_waits_too() {
    let c = Clockwork::new(
        60,
        "[realm.phone-change]\nhold = \"24h\"\nnotify-previous = true\n",
    )
    .await;
    c.pass().await;
    let filter = UserFilter {
        realm: Some(c.realm.clone()),
        state: Some(State::Active),
        ..UserFilter::default()
    };
    let users = c
        .engine
        .store
        .list_users(
            &filter,
            &UserPage::first(100, realmsync::clock::Timestamp(0)),
        )
        .await
        .unwrap();
    let mut with_number = users.iter().filter(|u| u.phone.is_some());
    let (one, two) = (with_number.next().unwrap(), with_number.next().unwrap());
    let modify = |user: &realmsync::model::User, what: &str| {
        let dn = user.dn.as_deref().unwrap();
        c.house
            .server
            .modify(&format!("dn: {dn}\nchangetype: modify\n{what}\n"));
    };
    let is = async |user: &realmsync::model::User| {
        let mut users = c.engine.store.users_by_id(&[user.id]).await.unwrap();
        users.pop().unwrap()
    };
    for user in [one, two] {
        modify(user, "delete: mobile");
    }
    assert_eq!(c.pass().await.phone_lost, 2);
    modify(one, "replace: mobile\nmobile: +421905666666");
    modify(two, "replace: mobile\nmobile: +421905666667");
    let run = c.pass().await;
    assert_eq!((run.phone_changed, run.jobs), (2, 2), "{run:?}");
    assert_eq!(c.jobs(JobType::PhoneNotice).await, 2);
    assert_eq!(c.jobs(JobType::Reprovision).await, 0);
    let waits = is(one).await;
    assert_eq!(
        (waits.phone, waits.phone_pending.unwrap().as_str()),
        (None, "+421905666666")
    );
    // One is taken away again before the hold is over.
    modify(two, "delete: mobile");
    let run = c.pass().await;
    assert_eq!(
        (run.updated, run.phone_lost, run.jobs),
        (1, 0, 0),
        "{run:?}"
    );
    c.clock.advance_ms(25 * HOUR);
    assert_eq!(c.engine.end_holds().await.unwrap(), 1);
    assert_eq!(c.jobs(JobType::Reprovision).await, 1);
    assert_eq!(is(one).await.phone.unwrap().as_str(), "+421905666666");
    assert_eq!(is(two).await.phone, None);
    assert_eq!(c.pass().await.outcome, Outcome::Unchanged);
    // And back at once to the number that the outside world knows.
    modify(
        two,
        &format!(
            "replace: mobile\nmobile: {}",
            two.phone.as_ref().unwrap().as_str()
        ),
    );
    let run = c.pass().await;
    assert_eq!((run.phone_changed, run.jobs), (1, 0), "{run:?}");
    assert_eq!(is(two).await.phone, two.phone);
}

/// What was approved while the clock was a year ahead neither fills the window for a year, nor empties it.
#[tokio::test(flavor = "multi_thread")]
async fn trap_28_a_clock_that_was_ahead_does_not_stop_the_counting() {
    let c = Clockwork::new(1000, "").await;
    c.pass().await;
    c.clock.advance_ms(365 * DAY);
    c.house.churn(&[("nophone", 30)]);
    let run = c.pass().await;
    assert_eq!(run.outcome, Outcome::Held);
    c.engine
        .approve(&run.run.to_string(), Some("ada".into()))
        .await
        .unwrap();
    c.clock.advance_ms(-365 * DAY);
    let mut outcomes = vec![];
    for _ in 0..3 {
        c.clock.advance_ms(HOUR);
        c.house.churn(&[("nophone", 10)]);
        outcomes.push(c.pass().await.outcome);
    }
    assert_eq!(
        outcomes,
        [Outcome::Applied, Outcome::Applied, Outcome::Held]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_42_lost_in_one_pass_and_another_given_in_the_next() {
    let c = Clockwork::new(60, "").await;
    c.pass().await;
    let filter = UserFilter {
        realm: Some(c.realm.clone()),
        ..UserFilter::default()
    };
    let users = c
        .engine
        .store
        .list_users(
            &filter,
            &UserPage::first(100, realmsync::clock::Timestamp(0)),
        )
        .await
        .unwrap();
    let user = users
        .iter()
        .find(|u| u.phone.is_some() && u.state == State::Active)
        .unwrap();
    let dn = user.dn.as_deref().unwrap();
    c.house
        .server
        .modify(&format!("dn: {dn}\nchangetype: modify\ndelete: mobile\n"));
    let run = c.pass().await;
    assert_eq!((run.phone_lost, run.jobs), (1, 0), "{run:?}");
    c.house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nadd: mobile\nmobile: +421905777666\n"
    ));
    let run = c.pass().await;
    assert_eq!((run.phone_changed, run.jobs), (1, 1), "{run:?}");
    let jobs = c
        .engine
        .store
        .jobs(
            &JobSelection {
                types: vec![JobType::Reprovision],
                ..JobSelection::default()
            },
            10,
        )
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_str(jobs[0].body.as_deref().unwrap()).unwrap();
    assert_eq!(
        body["data"]["previous_phone"].as_str(),
        user.phone.as_ref().map(realmsync::model::Phone::as_str),
        "{body}"
    );
    assert_eq!(body["data"]["reason"], "phone_given");
    // Back to the number that the receiver knows, before it was told: nothing is to be said any more.
    let old = user.phone.as_ref().unwrap().as_str();
    c.house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {old}\n"
    ));
    c.pass().await;
    assert_eq!(c.jobs(JobType::Reprovision).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_plan_expires_after_a_week() {
    let c = Clockwork::new(60, "").await;
    c.pass().await;
    c.house.churn(&[("delete", 30)]);
    let run = c.pass().await;
    assert_eq!(run.outcome, Outcome::Held);
    assert_eq!(
        c.engine
            .store
            .expired_held(c.clock.now())
            .await
            .unwrap()
            .len(),
        0
    );
    for _ in 0..6 {
        c.clock.advance_ms(DAY);
        let early = c.engine.store.expired_held(c.clock.now()).await.unwrap();
        assert!(early.is_empty(), "{early:?}");
    }
    c.clock.advance_ms(DAY + HOUR);
    let expired = c.engine.store.expired_held(c.clock.now()).await.unwrap();
    assert_eq!(expired.iter().map(|r| r.run).collect::<Vec<_>>(), [run.run]);
    let ended = c
        .engine
        .store
        .decide_held(
            run.run,
            Outcome::Expired,
            None,
            None,
            Timestamp(c.clock.now().0),
        )
        .await
        .unwrap();
    assert_eq!(ended.outcome, Outcome::Expired);
    let error = c
        .engine
        .approve(&run.run.to_string(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    // The next pass decides anew.
    let again = c.pass().await;
    assert_eq!(again.outcome, Outcome::Held);
    assert_ne!(again.run, run.run);
}
