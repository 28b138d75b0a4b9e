//! A realm with two servers: the other one is taken when the first goes, and the first one again when it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use realmsync::clock::Clock;
use realmsync::config::{Environment, load};
use realmsync::model::Trigger;
use realmsync::service::follow::preferred_server;
use realmsync::store::{Access, Store};
use realmsync::story::realms::KeeperStatus;
use realmsync::sync::{Engine, RunRequest};
use tokio::sync::watch;

use crate::support::house::{Door, House};
use crate::support::lab::Server;

/// A house whose realm has one server behind two doors.
fn house() -> (House, Door, Door) {
    let house = House::with(Server::start("openldap", &["--users", "120"]), "");
    let uri = house.server["LDAPS_URI"].to_owned();
    let (first, second) = (Door::to(&uri), Door::to(&uri));
    house.configure_as(&house.server["BIND_DN"], "changes = \"auto\"", "");
    let path = house.path("realmsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let both = format!("servers = [\"{}\", \"{}\"]", first.url(), second.url());
    std::fs::write(
        &path,
        text.replace(&format!("servers = [\"{uri}\"]"), &both),
    )
    .unwrap();
    (house, first, second)
}

fn eventually(house: &House, what: &str, mut holds: impl FnMut(&serde_json::Value) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let status = house.run(&["--json", "status"]).json();
        if holds(&status) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {status}\n{}", house.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn push_goes_on_at_the_other_server_and_status_says_which_one_is_away() {
    let (house, first, second) = house();
    let _daemon = house.daemon();
    house.sync(0);
    let pushed_by = |status: &serde_json::Value, url: &str| {
        status["following"]["push"]["server"] == url && status["server"] == url
    };
    eventually(&house, "the first one pushes", |s| {
        pushed_by(s, &first.url())
    });
    let dn = house
        .users()
        .values()
        .find(|u| u["phone"].is_string() && u["state"] == "active")
        .and_then(|u| u["dn"].as_str().map(str::to_owned))
        .unwrap();
    first.shut();
    eventually(&house, "the second one pushes", |s| {
        pushed_by(s, &second.url())
    });
    eventually(&house, "the first one is away", |s| {
        s["away"][0]["server"] == first.url()
    });
    house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: +421905777321\n"
    ));
    house.receiver.wait_for(1);
    let metrics = house.metrics();
    assert!(
        metrics.contains(&format!(
            "realmsync_server_away{{realm=\"r\",server=\"{}\"}} 1",
            first.url()
        )),
        "{metrics}"
    );
    let text = house.run(&["status"]).out;
    assert!(
        text.contains(&format!("{} (in use)", second.url())) && text.contains("away"),
        "{text}"
    );
    let full = house.run(&["--json", "sync", "r", "--full"]).json();
    assert_eq!(full["outcome"], "unchanged", "{full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_free_once_the_preferred_server_can_be_used_and_is_not_behind() {
    let (house, first, second) = house();
    let env = Environment::from_process();
    let config = load(&house.path("realmsync.toml"), &env).unwrap().config;
    let realm = config.realms[0].clone();
    let clock = Clock::system();
    let store = Store::open(&config.store, &env, Access::Write, clock.now())
        .await
        .unwrap();
    let engine = Engine::new(Arc::new(config), store, clock, Arc::new(env));
    engine.declare_realms().await.unwrap();
    engine
        .sync(&realm.id, RunRequest::new(Trigger::Command, None))
        .await
        .unwrap();
    assert!(preferred_server::before(&realm, &first.url()).is_empty());
    assert_eq!(preferred_server::before(&realm, &second.url()).len(), 1);
    first.shut();
    let seen = Arc::new(watch::Sender::new(KeeperStatus::default()));
    let every = Duration::from_millis(200);
    let back = preferred_server::is_back(
        engine.clone(),
        realm.clone(),
        second.url(),
        every,
        Arc::clone(&seen),
    );
    tokio::pin!(back);
    let early = tokio::time::timeout(Duration::from_secs(2), &mut back).await;
    assert!(early.is_err(), "it is away");
    assert_eq!(seen.borrow().away[0].server, first.url());
    first.reopen();
    tokio::time::timeout(Duration::from_secs(10), back)
        .await
        .expect("it is back");
    assert!(seen.borrow().away.is_empty());
    // Who is at home already waits for ever.
    let home = preferred_server::is_back(engine, realm, first.url(), every, seen);
    let left = tokio::time::timeout(Duration::from_secs(1), home).await;
    assert!(left.is_err());
}
