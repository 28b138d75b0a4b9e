//! Stories in which several rules meet: the engine in this process, over a real slapd and a real store.

mod approvals;
mod clock;
mod normalise;
mod orders;
mod rejections;
pub mod scripted;
mod servers;
mod traps;
mod undo;

use std::sync::Arc;

use realmsync::clock::Clock;
use realmsync::config::{Environment, load};
use realmsync::model::UserFilter;
use realmsync::model::message_rules::AttemptEnd;
use realmsync::model::{
    Job, JobState, JobType, Outcome, RealmId, Run, State, StateReason, Trigger, User,
};
use realmsync::store::{Access, JobSelection, RefusedRow, Settlement, Store, UserPage};
use realmsync::sync::{Engine, RunRequest};

use crate::support::house::House;

pub const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

pub struct Story {
    pub house: House,
    pub engine: Engine,
    pub clock: Clock,
}

impl Story {
    pub async fn new(users: u32, extra: &str) -> Self {
        let house = House::new(users);
        house.configure(extra);
        let env = Environment::from_process();
        let config = load(&house.path("realmsync.toml"), &env)
            .expect("a configuration")
            .config;
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
        }
    }

    /// As SIGHUP does it.
    pub async fn reload(&mut self) {
        let env = Environment::from_process();
        let config = load(&self.house.path("realmsync.toml"), &env)
            .expect("a configuration")
            .config;
        self.engine = Engine::new(
            Arc::new(config),
            self.engine.store.clone(),
            self.clock.clone(),
            Arc::new(env),
        );
        self.engine.declare_realms().await.expect("declared");
    }

    pub async fn reconfigure(&mut self, extra: &str) {
        self.house.configure(extra);
        self.reload().await;
    }

    pub async fn pass_of(&self, realm: &str) -> Run {
        let run = self
            .engine
            .sync(
                &RealmId::from(realm),
                RunRequest::new(Trigger::Schedule, None),
            )
            .await
            .expect("a run");
        assert_ne!(run.outcome, Outcome::Failed, "{run:?}");
        self.clock.advance_ms(1000);
        run
    }

    pub async fn pass(&self) -> Run {
        self.pass_of("r").await
    }

    pub async fn approve(&self, run: &Run) -> Run {
        let decided = self
            .engine
            .approve(&run.run.to_string(), Some("ada".into()))
            .await
            .expect("a decision");
        self.clock.advance_ms(1000);
        decided.run
    }

    pub async fn all(&self) -> Vec<User> {
        let mut users = vec![];
        for state in State::ALL {
            let filter = UserFilter {
                state: Some(*state),
                ..UserFilter::default()
            };
            users.extend(
                self.engine
                    .store
                    .list_users(
                        &filter,
                        &UserPage::first(10_000, realmsync::clock::Timestamp(0)),
                    )
                    .await
                    .expect("users"),
            );
        }
        users
    }

    /// Everybody of a name, in any realm and state.
    pub async fn named(&self, name: &str) -> Vec<User> {
        let mut users = self.all().await;
        users.retain(|u| u.username == name);
        users
    }

    pub async fn jobs(&self, kind: JobType) -> Vec<Job> {
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
    }

    pub fn base(&self) -> String {
        self.house.server["PEOPLE_DN"].to_owned()
    }

    /// Somebody whose entry is not called by the user name.
    pub fn add(&self, cn: &str, uid: &str, more: &str) {
        let dn = format!("cn={cn},{}", self.base());
        self.house.server.modify(&format!("dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: {cn}\nsn: x\nuid: {uid}\n{more}"));
    }

    /// Out of the base, and back.
    pub fn leave(&self, cn: &str) {
        self.house.server.modify(&format!(
            "dn: cn={cn},{}\nchangetype: modrdn\nnewrdn: cn={cn}\ndeleteoldrdn: 1\nnewsuperior: {}\n",
            self.base(),
            &self.house.server["SUFFIX"]
        ));
    }

    pub fn come_back(&self, cn: &str) {
        self.house.server.modify(&format!(
            "dn: cn={cn},{}\nchangetype: modrdn\nnewrdn: cn={cn}\ndeleteoldrdn: 1\nnewsuperior: {}\n",
            &self.house.server["SUFFIX"],
            self.base()
        ));
    }

    pub fn set(&self, dn: &str, mobile: &str) {
        self.house.server.modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {mobile}\n"
        ));
    }
}

pub const STRICT: &str = "[realm.brake]\nphone-changed = \"0%\"\nremoved = \"0%\"\nfloor = 1\n";

/// § 3.13, § 3.6, § 3.11: names are unique in each realm, so a realm that takes over another may find them taken.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_over_and_finds_the_name_taken_is_refused_and_stops_nobody() {
    let mut s = Story::new(3, "").await;
    let base = s.base();
    for ou in ["one", "two"] {
        s.house.server.modify(&format!(
            "dn: ou={ou},{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: {ou}\n"
        ));
        for uid in ["jan", &format!("eva-{ou}")] {
            s.house.server.modify(&format!("dn: uid={uid},ou={ou},{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: x\nsn: x\n"));
        }
    }
    let text = std::fs::read_to_string(s.house.path("realmsync.toml")).unwrap();
    let (head, realm) = text.split_once("[[realm]]").unwrap();
    let whole = format!("base = [\"{base}\"]");
    let of = |id: &str, bases: &str| {
        format!("[[realm]]{realm}")
            .replace("id = \"r\"", &format!("id = \"{id}\""))
            .replace(&whole, &format!("base = [{bases}]"))
    };
    let (one, two) = (format!("\"ou=one,{base}\""), format!("\"ou=two,{base}\""));
    let path = s.house.path("realmsync.toml");
    std::fs::write(&path, format!("{head}{}{}", of("r", &one), of("b", &two))).unwrap();
    s.reload().await;
    s.pass_of("r").await;
    s.pass_of("b").await;
    // The realm b goes, and r takes its people in.
    std::fs::write(
        &path,
        format!("{head}{}", of("r", &format!("{one}, {two}"))),
    )
    .unwrap();
    s.reload().await;
    let run = s.pass().await;
    assert_eq!(
        (run.outcome, run.moved, run.refused_entries),
        (Outcome::Held, 1, 2),
        "{run:?}"
    );
    assert_eq!(s.approve(&run).await.outcome, Outcome::Applied);
    let jans = s.named("jan").await;
    let mut realms: Vec<&str> = jans.iter().map(|u| u.realm.as_str()).collect();
    realms.sort_unstable();
    assert_eq!(realms, ["b", "r"], "each keeps what they had");
    assert_eq!(s.named("eva-two").await[0].realm.as_str(), "r");
    assert_eq!(s.pass().await.outcome, Outcome::Unchanged);
}

/// § 3.3: what one person's look changes says nothing of what another mapping does to all the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_one_person_does_not_accept_another_mapping() {
    let mut s = Story::new(30, "").await;
    s.add("x", "xavier", "mail: ix@example.org\n");
    s.pass().await;
    s.reconfigure("[realm.attributes]\nusername = \"mail\"\n")
        .await;
    let ask = RunRequest {
        user: Some("xavier".into()),
        ..RunRequest::new(Trigger::Command, None)
    };
    let one = s.engine.sync(&RealmId::from("r"), ask).await.unwrap();
    assert_eq!((one.outcome, one.renamed), (Outcome::Held, 1), "{one:?}");
    s.clock.advance_ms(1000);
    assert_eq!(s.approve(&one).await.outcome, Outcome::Applied);
    let run = s.pass().await;
    assert!(run.held_by.iter().any(|h| h.limit == "mapping"), "{run:?}");
}

/// § 3.6: with a refused name, state and phone still follow; the name that is held is nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_a_refused_name_keeps_the_one_they_had() {
    let s = Story::new(60, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.leave("x");
    assert_eq!(s.pass().await.suspended, 1);
    s.come_back("x");
    let dn = format!("cn=x,{}", s.base());
    s.house
        .server
        .modify(&format!("dn: {dn}\nchangetype: modify\ndelete: uid\n"));
    let run = s.pass().await;
    assert_eq!(
        (run.restored, run.refused_entries),
        (1, 1),
        "refused is not absent: {run:?}"
    );
    assert_eq!(s.named("xavier").await[0].state, State::Active);
    // While another has the name, they stay away.
    s.house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nadd: uid\nuid: xavier\n"
    ));
    s.pass().await;
    s.leave("x");
    s.add("y", "xavier", "");
    s.pass().await;
    s.come_back("x");
    s.house
        .server
        .modify(&format!("dn: {dn}\nchangetype: modify\ndelete: uid\n"));
    let run = s.pass().await;
    assert_eq!(
        (run.restored, run.outcome),
        (0, Outcome::Unchanged),
        "{run:?}"
    );
}

/// § 3.13: nothing is as final as a removal, so an approval looks at those people too.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_removes_nobody_who_came_back() {
    let s = Story::new(60, STRICT).await;
    s.add("x", "xavier", "");
    s.add("y", "ygor", "");
    s.pass().await;
    s.leave("x");
    s.leave("y");
    s.pass().await;
    let mut run = s.pass().await;
    for _ in 0..5 {
        s.clock.advance_ms(8 * DAY);
        run = s.pass().await;
    }
    assert_eq!((run.outcome, run.removed), (Outcome::Held, 2), "{run:?}");
    s.come_back("x");
    let other = s.approve(&run).await;
    assert_ne!(other.run, run.run);
    assert_eq!(
        (other.outcome, other.removed, other.restored),
        (Outcome::Held, 1, 1),
        "{other:?}"
    );
    let applied = s.approve(&other).await;
    assert_eq!(applied.outcome, Outcome::Applied, "{applied:?}");
    assert_eq!(s.named("xavier").await[0].state, State::Active);
    assert_eq!(s.named("ygor").await.len(), 0);
}

/// § 3.9: the owner of the old number gets the notice when the plan is applied, and has the whole hold to object.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_begins_when_the_plan_is_applied() {
    let s = Story::new(
        20,
        &format!("{STRICT}[realm.phone-change]\nhold = \"24h\"\nnotify-previous = true\n"),
    )
    .await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held, "{run:?}");
    s.clock.advance_ms(3 * DAY);
    assert_eq!(s.approve(&run).await.run, run.run);
    assert_eq!(s.jobs(JobType::PhoneNotice).await.len(), 1);
    assert_eq!(s.engine.end_holds().await.unwrap(), 0, "it only began");
    let shown = s.engine.store.changes(run.run, 0, 10).await.unwrap();
    assert_eq!(
        shown[0].after["phone_pending_until"],
        serde_json::json!(s.named("xavier").await[0].phone_pending_until),
        "the audit says what is so"
    );
    s.clock.advance_ms(DAY);
    assert_eq!(s.engine.end_holds().await.unwrap(), 1);
}

/// A pause that ends by itself ends for waiting numbers too, whenever the next pass may be.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_is_over_holds_no_number() {
    let s = Story::new(20, "[realm.phone-change]\nhold = \"1h\"\n").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    s.pass().await;
    let realm = RealmId::from("r");
    let until = s.clock.now().plus_ms(3 * HOUR);
    let store = &s.engine.store;
    store
        .pause(&realm, Some(until), None, s.clock.now())
        .await
        .unwrap();
    s.clock.advance_ms(2 * HOUR);
    assert_eq!(s.engine.end_holds().await.unwrap(), 0);
    assert_eq!(
        store.holds_over(s.clock.now(), 10).await.unwrap().len(),
        0,
        "who stands still takes nobody's turn"
    );
    s.clock.advance_ms(2 * HOUR);
    // A daemon whose file lacks the realm knows neither its rules nor its receiver.
    let mut other = s.engine.clone();
    let mut config = (*other.config).clone();
    config.realms.clear();
    other.config = std::sync::Arc::new(config);
    assert_eq!(other.end_holds().await.unwrap(), 0);
    assert_eq!(s.engine.end_holds().await.unwrap(), 1);
}

/// Who was put away gets a name back only while nobody else has it; one such user stops no undo.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_gives_nobody_a_name_that_another_has_by_now() {
    let s = Story::new(60, "").await;
    s.add("x", "xavier", "");
    s.add("z", "zoe", "");
    s.pass().await;
    s.leave("x");
    s.leave("z");
    let gone = s.pass().await;
    assert_eq!(gone.suspended, 2);
    s.add("y", "xavier", "");
    s.pass().await;
    let undone = s
        .engine
        .undo(&gone.run.to_string(), None)
        .await
        .expect("an undo")
        .run;
    assert_eq!(
        (undone.outcome, undone.restored),
        (Outcome::Applied, 1),
        "{undone:?}"
    );
    assert_eq!(s.named("zoe").await[0].state, State::Active);
    let states: Vec<_> = s.named("xavier").await.iter().map(|u| u.state).collect();
    assert_eq!(states, [State::Active, State::Suspended]);
}

/// § 3.8: what an undo held is due again once the undo is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_undo_loses_no_number() {
    let mut s = Story::new(20, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    let run = s.pass().await;
    assert_eq!(s.jobs(JobType::Reprovision).await.len(), 1);
    s.reconfigure(STRICT).await;
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(undo.outcome, Outcome::Held, "{undo:?}");
    let states: Vec<_> = s
        .jobs(JobType::Reprovision)
        .await
        .iter()
        .map(|j| j.state)
        .collect();
    assert_eq!(states, [JobState::Held], "it does not go out meanwhile");
    s.engine.reject(&undo.run.to_string(), None).await.unwrap();
    s.pass().await;
    let jobs = s.jobs(JobType::Reprovision).await;
    assert_eq!(jobs.len(), 1, "the number is still to be told");
    s.pass().await;
    assert_eq!(s.jobs(JobType::Reprovision).await.len(), 1, "once");
}

/// § 1: refused is not absent. An entry whose id cannot be read stands where somebody known stood.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_a_readable_id_is_nobodys_absence() {
    let s = Story::new(60, "").await;
    s.add("x", "xavier", "");
    s.pass().await;
    s.house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\nolcAccess: {{0}}to dn.exact=\"cn=x,{}\" attrs=entryUUID by dn.exact=\"{}\" none by * read\n",
        s.base(),
        &s.house.server["BIND_DN"]
    ));
    let run = s.pass().await;
    assert_eq!((run.suspended, run.refused_entries), (0, 1), "{run:?}");
    assert_eq!(s.named("xavier").await[0].state, State::Active);
}

/// § 3.4: after reject, messages stay for the administrator; another plan's approval does not let them go.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rejected_plan_kept_waiting_stays() {
    let mut s = Story::new(60, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    let dn = format!("cn=x,{}", s.base());
    s.set(&dn, "+421905000002");
    s.pass().await;
    s.house.churn(&[("phone", 40)]);
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held);
    s.engine.reject(&run.run.to_string(), None).await.unwrap();
    s.reconfigure("realm: approve = true\n[realm.brake]\nphone-changed = \"100%\"\nfloor = 1000\n")
        .await;
    let run = s.pass().await;
    assert_eq!(s.approve(&run).await.outcome, Outcome::Applied);
    let jobs = s.jobs(JobType::Reprovision).await;
    let held = jobs.iter().filter(|j| j.state == JobState::Held).count();
    assert_eq!(held, 1, "only what the rejected plan kept");
}

/// § 3.4: a plan waits seven days, whether or not a daemon was there to count them; a clock that jumps is not a week of days.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_expired_cannot_be_approved_nor_confirmed() {
    let s = Story::new(60, "").await;
    s.pass().await;
    s.house.churn(&[("delete", 30)]);
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held);
    s.clock.advance_ms(8 * DAY);
    assert_eq!(s.pass().await.run, run.run, "the clock jumped");
    for _ in 0..5 {
        s.clock.advance_ms(DAY);
        assert_eq!(s.pass().await.run, run.run);
    }
    s.clock.advance_ms(DAY);
    let error = s.engine.approve(&run.run.to_string(), None).await;
    assert!(
        error.unwrap_err().to_string().contains("expired"),
        "seven days were there to decide"
    );
    let again = s.pass().await;
    assert_ne!(again.run, run.run);
    for _ in 0..6 {
        s.clock.advance_ms(DAY);
        assert_eq!(s.pass().await.run, again.run);
    }
    s.clock.advance_ms(DAY);
    assert_ne!(s.pass().await.run, again.run, "a pass decides anew, too");
}

/// A plan that adopts nobody is the same plan still; and of two who might be the same person, neither is.
#[tokio::test(flavor = "multi_thread")]
async fn adopting_finds_nobody_or_nobody_for_sure() {
    let s = Story::new(60, "").await;
    s.add("x", "xavier", "mail: x@example.org\n");
    s.pass().await;
    s.house.churn(&[("delete", 31)]);
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held);
    let adopted = s.engine.adopt(&run.run.to_string(), None).await.unwrap();
    assert_eq!((adopted.run.run, adopted.replaced), (run.run, None));
    let before = s.named("xavier").await.remove(0);
    s.house
        .server
        .modify(&format!("dn: cn=x,{}\nchangetype: delete\n", s.base()));
    s.add("a", "xavier", "mail: x@example.org\n");
    s.add("b", "xavier", "mail: x@example.org\n");
    let run = s.pass().await;
    let adopted = s.engine.adopt(&run.run.to_string(), None).await.unwrap();
    s.approve(&adopted.run).await;
    let after = s.named("xavier").await;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(
        (after[0].directory_id, after[0].state_reason),
        (before.directory_id, Some(StateReason::Deleted))
    );
}

/// § 1: after a removal nothing in the store tells who it was, once the last message has gone out.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_farewell_leaves_no_name_behind() {
    let s = Story::new(60, "").await;
    s.add("x", "xavierius", "mail: xavierius@example.org\n");
    s.pass().await;
    s.house
        .server
        .modify(&format!("dn: cn=x,{}\nchangetype: delete\n", s.base()));
    s.pass().await;
    let realm = [RealmId::from("r")];
    let store = &s.engine.store;
    let deliver = async || {
        for job in store
            .claim("w", &realm, s.clock.now(), HOUR, 100)
            .await
            .unwrap()
        {
            let settlement = Settlement {
                job,
                ending: AttemptEnd::Accepted,
                now: s.clock.now(),
            };
            store.settle(&[settlement]).await.unwrap();
        }
    };
    // The message of the suspension is under way when the removal comes.
    let under_way = store
        .claim("w", &realm, s.clock.now(), HOUR, 1)
        .await
        .unwrap();
    let mut removed = 0;
    for _ in 0..5 {
        s.clock.advance_ms(8 * DAY);
        removed += s.pass().await.removed;
    }
    assert_eq!(removed, 1);
    for job in under_way {
        let settlement = Settlement {
            job,
            ending: AttemptEnd::Accepted,
            now: s.clock.now(),
        };
        store.settle(&[settlement]).await.unwrap();
    }
    deliver().await;
    store
        .backup(&s.house.path("copy.db"), s.clock.now())
        .await
        .unwrap();
    let bytes = std::fs::read(s.house.path("copy.db")).unwrap();
    assert!(
        !bytes.windows(9).any(|w| w == b"xavierius"),
        "the copy holds no freed page, and the name is in none of its rows"
    );
    // Nor does the file itself, whose pages were freed and used again meanwhile, nor its log once housekeeping came by.
    store.prune(s.clock.now(), 400 * DAY).await.unwrap();
    for file in ["realmsync.db", "realmsync.db-wal"] {
        let bytes = std::fs::read(s.house.path(file)).unwrap();
        let found = bytes.windows(9).filter(|w| w == b"xavierius").count();
        assert_eq!(found, 0, "{file} of {} bytes", bytes.len());
    }
}

/// § 3.4: a plan that says the same but no longer fits the store is made anew, or nobody could ever approve it.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_plan_survives_a_hold_that_ends_meanwhile() {
    let s = Story::new(60, "[realm.phone-change]\nhold = \"1h\"\n").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    s.set(&format!("cn=x,{}", s.base()), "+421905000002");
    s.pass().await;
    s.leave("x");
    s.house.churn(&[("delete", 30)]);
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held, "{run:?}");
    s.clock.advance_ms(2 * HOUR);
    assert_eq!(s.engine.end_holds().await.unwrap(), 1);
    let other = s.approve(&run).await;
    assert_eq!(other.outcome, Outcome::Held, "the store no longer agrees");
    let applied = s.approve(&other).await;
    assert_eq!(applied.outcome, Outcome::Applied, "{applied:?}");
    let x = s.named("xavier").await.remove(0);
    assert_eq!(
        (
            x.state,
            x.phone.as_ref().map(realmsync::model::Phone::as_str)
        ),
        (State::Suspended, Some("+421905000002"))
    );
}

/// § 3.2: why somebody is gone is no part of the plan, so another reason must not keep it from being approved.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_takes_the_reason_as_it_is_now() {
    let s = Story::new(60, "realm: approve = true\n").await;
    s.add("x", "xavier", "");
    let first = s.pass().await;
    s.approve(&first).await;
    let hide = format!(
        "olcAccess: {{0}}to dn.exact=\"cn=x,{}\" by dn.exact=\"{}\" none by * read\n",
        &s.house.server["SUFFIX"], &s.house.server["BIND_DN"]
    );
    s.house.server.configure(&format!(
        "dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nadd: olcAccess\n{hide}"
    ));
    s.leave("x");
    let run = s.pass().await;
    assert_eq!((run.outcome, run.suspended), (Outcome::Held, 1), "{run:?}");
    s.house.server.configure(
        "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\ndelete: olcAccess\nolcAccess: {0}\n",
    );
    let again = s.pass().await;
    assert_eq!(again.run, run.run, "the same changes");
    assert_eq!(s.approve(&run).await.outcome, Outcome::Applied);
    let reason = s.named("xavier").await[0].state_reason;
    assert_eq!(reason, Some(StateReason::OutOfScope));
}

/// § 5: what is refused is counted once, however late a contest is noticed.
#[tokio::test(flavor = "multi_thread")]
async fn many_twins_are_counted_once_each() {
    let s = Story::new(60, "").await;
    for i in 0..20 {
        s.add(&format!("a{i}"), &format!("twin{i}"), "mobile: 123\n");
    }
    s.pass().await;
    for i in 0..20 {
        s.add(&format!("b{i}"), &format!("twin{i}"), "mobile: 123\n");
        s.add(&format!("c{i}"), &format!("new{}", i / 2), "mobile: 123\n");
    }
    let run = s.pass().await;
    // The ten pairs, and the twenty who have their name with the twenty who want it.
    assert_eq!(
        (run.outcome, run.created, run.refused_entries),
        (Outcome::Unchanged, 0, 60),
        "{run:?}"
    );
    let mut entries = 0;
    let each = |row: RefusedRow| entries += u32::from(row.refusal.entry);
    s.engine.store.refused_each(None, each).await.unwrap();
    assert_eq!(entries, 60);
}

/// § 1, § 3.4: an undone creation is lifted by no pass; a held first pass stays the same plan.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_pass_is_confirmed_approved_and_undone() {
    let s = Story::new(30, "realm: new-users = \"send\"\n").await;
    s.add("x", "xavier", "");
    let run = s.pass().await;
    assert_eq!(run.outcome, Outcome::Held);
    assert_eq!(s.pass().await.run, run.run, "the same people");
    let applied = s.approve(&run).await;
    assert_eq!((applied.run, applied.created), (run.run, 31));
    assert_eq!(s.pass().await.outcome, Outcome::Unchanged);
    let undo = s.engine.undo(&run.run.to_string(), None).await.unwrap().run;
    assert_eq!(undo.outcome, Outcome::Held, "half of a realm: {undo:?}");
    assert_eq!(s.approve(&undo).await.outcome, Outcome::Applied);
    let jobs = s.jobs(JobType::Provision).await;
    assert_eq!(jobs.len(), 0, "what it wanted said is not said");
    let realm = RealmId::from("r");
    s.engine.store.resume(&realm, s.clock.now()).await.unwrap();
    let run = s.pass().await;
    assert_eq!((run.outcome, run.jobs), (Outcome::Unchanged, 0), "{run:?}");
    s.house
        .server
        .modify(&format!("dn: cn=x,{}\nchangetype: delete\n", s.base()));
    assert_eq!(s.pass().await.updated, 1);
    let x = s.named("xavier").await.remove(0);
    assert_eq!(x.state_reason, Some(StateReason::Deleted));
}

/// § 3.6, § 3.8: much happens to one person at once, and everything is told once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn renamed_renumbered_and_disabled_in_one_pass() {
    let s = Story::new(30, "").await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.pass().await;
    let dn = format!("cn=x,{}", s.base());
    s.house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: uid\nuid: ximena\n-\nreplace: mobile\nmobile: +421905000002\n-\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    let run = s.pass().await;
    assert_eq!(
        (run.suspended, run.renamed, run.phone_changed, run.updated),
        (1, 1, 1, 0),
        "{run:?}"
    );
    assert_eq!(s.jobs(JobType::Reprovision).await.len(), 0);
    let x = s.named("ximena").await.remove(0);
    assert_eq!(
        (x.version, x.state_reason),
        (2, Some(StateReason::Disabled))
    );
    s.house.server.modify(&format!(
        "dn: {dn}\nchangetype: modify\ndelete: pwdAccountLockedTime\n"
    ));
    let run = s.pass().await;
    assert_eq!((run.restored, run.jobs), (1, 2), "{run:?}");
    let job = s.jobs(JobType::Reprovision).await.remove(0);
    let body: serde_json::Value = serde_json::from_str(job.body.as_deref().unwrap()).unwrap();
    assert_eq!(
        (&body["data"]["reason"], &body["data"]["previous_phone"]),
        (&"restored".into(), &"+421905000001".into()),
        "{body}"
    );
    assert_eq!(s.pass().await.outcome, Outcome::Unchanged);
}
