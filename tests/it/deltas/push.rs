//! Push: the engine in this process holds a search open on a real server, and each burst becomes a run.

use std::sync::Arc;
use std::time::Duration;

use realmsync::clock::Clock;
use realmsync::config::{Environment, load};
use realmsync::directory::Way;
use realmsync::model::UserFilter;
use realmsync::model::{Mode, Outcome, RealmId, Run, State, Trigger, User};
use realmsync::store::{Access, Store, UserPage};
use realmsync::sync::{Engine, Follower, RunRequest, Unfollowed};
use tokio_util::sync::CancellationToken;

use crate::support::house::House;
use crate::support::lab::Server;

pub struct Pushed {
    pub house: House,
    pub engine: Engine,
    pub realm: RealmId,
    pub cancel: CancellationToken,
}

impl Pushed {
    pub async fn new(kind: &'static str, options: &[&str]) -> Self {
        Self::with(kind, options, "").await
    }

    pub async fn with(kind: &'static str, options: &[&str], extra: &str) -> Self {
        let house = House::with(Server::start(kind, options), "");
        house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", extra);
        let env = Environment::from_process();
        let config = load(&house.path("realmsync.toml"), &env)
            .expect("a configuration")
            .config;
        let clock = Clock::system();
        let store = Store::open(&config.store, &env, Access::Write, clock.now())
            .await
            .expect("a store");
        let engine = Engine::new(Arc::new(config), store, clock, Arc::new(env));
        engine.declare_realms().await.expect("declared");
        Self {
            house,
            engine,
            realm: RealmId::from("r"),
            cancel: CancellationToken::new(),
        }
    }

    pub async fn pass(&self, trigger: Trigger, full: bool) -> Run {
        let ask = RunRequest {
            full,
            ..RunRequest::new(trigger, None)
        };
        self.engine.sync(&self.realm, ask).await.expect("a run")
    }

    pub async fn follow(&self) -> Follower {
        self.engine
            .follow(&self.realm, self.cancel.clone())
            .await
            .expect("followed")
    }

    pub async fn users(&self) -> Vec<User> {
        let filter = UserFilter {
            realm: Some(self.realm.clone()),
            ..UserFilter::default()
        };
        self.engine
            .store
            .list_users(
                &filter,
                &UserPage::first(10_000, realmsync::clock::Timestamp(0)),
            )
            .await
            .expect("users")
    }

    pub async fn runs(&self) -> usize {
        self.engine
            .store
            .runs(Some(&self.realm), 1000)
            .await
            .expect("runs")
            .len()
    }

    fn set(&self, dn: &str, mobile: &str) {
        self.house.server.modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {mobile}\n"
        ));
    }
}

/// The next run of a follower, which must come soon.
pub async fn next(follower: &mut Follower) -> Run {
    tokio::time::timeout(Duration::from_secs(20), follower.next())
        .await
        .expect("something is told")
        .expect("no error")
        .expect("not cancelled")
}

/// Nothing comes of what was told.
async fn silent(follower: &mut Follower) {
    let came = tokio::time::timeout(Duration::from_secs(3), follower.next()).await;
    assert!(came.is_err(), "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_becomes_a_run_at_once() {
    for kind in ["openldap", "ds389"] {
        let p = Pushed::new(kind, &["--users", "40"]).await;
        let early = p.engine.follow(&p.realm, p.cancel.clone()).await;
        assert!(
            matches!(early, Err(Unfollowed::PassFirst(_))),
            "{kind}: {early:?}"
        );
        p.pass(Trigger::Schedule, false).await;
        let following = p.engine.following(&p.realm).await.unwrap().unwrap();
        assert_eq!(following.way, Some(Way::Push), "{kind}");
        let mut follower = p.follow().await;
        let user = p
            .users()
            .await
            .into_iter()
            .find(|u| u.phone.is_some() && u.state == State::Active)
            .unwrap();
        let dn = user.dn.clone().unwrap();
        p.set(&dn, "+421905777001");
        let run = next(&mut follower).await;
        assert_eq!(
            (run.mode, run.trigger, run.phone_changed, run.seen),
            (Mode::Delta, Trigger::Push, 1, 1),
            "{kind}: {run:?}"
        );
        p.house
            .server
            .modify(&format!("dn: {dn}\nchangetype: delete\n"));
        let run = next(&mut follower).await;
        assert_eq!((run.suspended, run.seen), (1, 0), "{kind}: {run:?}");
        // Both runs moved the cursor: a poll finds nothing, and leaves no row.
        let runs = p.runs().await;
        let poll = p.pass(Trigger::Poll, false).await;
        assert_eq!(
            (poll.mode, poll.outcome, p.runs().await),
            (Mode::Delta, Outcome::Unchanged, runs),
            "{kind}: {poll:?}"
        );
        let full = p.pass(Trigger::Command, true).await;
        assert_eq!(full.outcome, Outcome::Unchanged, "{kind}: {full:?}");
        // What a full pass did meanwhile is no error.
        p.house.churn(&[("add", 1)]);
        let run = next(&mut follower).await;
        assert_eq!(run.created, 1, "{kind}: {run:?}");
        p.cancel.cancel();
        assert!(follower.next().await.unwrap().is_none(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_plan_makes_the_realm_due_and_the_rest_follows_afterwards() {
    let p = Pushed::new("openldap", &["--users", "40"]).await;
    p.pass(Trigger::Schedule, false).await;
    let mut follower = p.follow().await;
    p.house.churn(&[("delete", 25)]);
    let mut held = next(&mut follower).await;
    while held.outcome != Outcome::Held {
        held = next(&mut follower).await;
    }
    assert_eq!(held.mode, Mode::Delta, "{held:?}");
    let row = p.engine.store.realm(&p.realm).await.unwrap().unwrap();
    assert_eq!(row.held, Some(held.run));
    let runs = p.runs().await;
    p.house.churn(&[("phone", 2)]);
    silent(&mut follower).await;
    let row = p.engine.store.realm(&p.realm).await.unwrap().unwrap();
    assert!(row.due);
    let poll = p.pass(Trigger::Poll, false).await;
    assert_eq!((poll.run, p.runs().await), (held.run, runs));
    p.engine
        .approve(&held.run.to_string(), Some("ada".into()))
        .await
        .unwrap();
    let caught_up = next(&mut follower).await;
    assert_eq!(
        (caught_up.mode, caught_up.outcome),
        (Mode::Delta, Outcome::Applied),
        "{caught_up:?}"
    );
    let full = p.pass(Trigger::Command, true).await;
    assert_eq!(full.outcome, Outcome::Unchanged, "{full:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_ends_it_and_the_next_one_goes_on_from_the_cursor() {
    let mut p = Pushed::new("openldap", &["--users", "40"]).await;
    p.pass(Trigger::Schedule, false).await;
    let mut follower = p.follow().await;
    p.house.server.stop();
    let error = follower.next().await.unwrap_err();
    assert!(matches!(error, Unfollowed::Failed(_)), "{error:?}");
    let refused = p.engine.follow(&p.realm, p.cancel.clone()).await;
    assert!(matches!(refused, Err(Unfollowed::Failed(_))), "{refused:?}");
    // Each poll fails, and one of them is kept.
    let runs = p.runs().await;
    for _ in 0..3 {
        let run = p.pass(Trigger::Poll, false).await;
        assert_eq!(run.outcome, Outcome::Failed);
    }
    assert_eq!(p.runs().await, runs + 1);
    p.house.server.resume();
    p.house.churn(&[("phone", 1), ("delete", 1)]);
    let mut follower = p.follow().await;
    let run = next(&mut follower).await;
    assert_eq!((run.phone_changed, run.suspended), (1, 0), "{run:?}");
    // Who left comes afterwards, once nobody else does.
    let run = next(&mut follower).await;
    assert_eq!((run.phone_changed, run.suspended), (0, 1), "{run:?}");
    let full = p.pass(Trigger::Command, true).await;
    assert_eq!(full.outcome, Outcome::Unchanged, "{full:?}");
}
