//! A caller of the frame that knows no directory, as an import is one.

use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use super::undo::UndoAsk;
use super::weigh::Users;
use super::*;
use crate::config::BrakeConfig;
use crate::model::{
    ChangeKind, ErrorCode, Limit, Mode, Outcome, PhoneSource, Policy, RealmId, Run, Trigger, User,
};
use crate::plan::decide::{Decision, Draft};
use crate::store::outbox_tests::{Fixture, START, sqlite, user, with_phone};
use crate::store::{MessageContext, RealmUpdate, RunFacts};

const BRAKE: BrakeConfig = BrakeConfig {
    percent: [5.0; 7],
    floor: 10,
};

struct House {
    f: Fixture,
    runs: Runs,
    realm: RealmId,
}

async fn house() -> House {
    let f = sqlite().await;
    let runs = Runs {
        store: f.store.clone(),
        clock: Clock::fixed(START),
    };
    let realm = RealmId::from("example.org");
    House { f, runs, realm }
}

fn decision(before: Option<&User>, after: &User) -> Decision {
    let renamed = before.is_some_and(|b| b.username != after.username);
    let side = |user: &User| match &user.phone {
        _ if renamed => Map::from_iter([("username".to_owned(), json!(user.username))]),
        Some(phone) => Map::from_iter([("phone".to_owned(), json!(phone.as_str()))]),
        None => Map::new(),
    };
    Decision {
        base_version: before.map_or(0, |u| u.version),
        after: after.clone(),
        changes: vec![Draft {
            kind: match before {
                Some(_) if renamed => ChangeKind::Renamed,
                Some(_) => ChangeKind::PhoneChanged,
                None => ChangeKind::Created,
            },
            before: before.map(side).unwrap_or_default(),
            after: side(after),
        }],
        intents: vec![],
    }
}

fn messages() -> MessageContext {
    MessageContext {
        run: None,
        now: START,
        retry_for_ms: 0,
        delivers: false,
        revoke_at_once: false,
        enrolment: None,
    }
}

impl House {
    /// A run that makes or changes these users.
    async fn import(&self, people: &[(Option<&User>, User)]) -> Run {
        let now = self.runs.clock.now();
        let turn = RealmTurn::take(&self.runs.store, &self.realm, now)
            .await
            .unwrap();
        let runs = self.runs.within(&turn);
        let mut row = runs.realm_by_now(&self.realm).await.unwrap();
        row.held = runs.held_beside(&self.realm, Mode::Import).await.unwrap();
        let by = Some("eva".to_owned());
        let run = new_run(&self.realm, Mode::Import, Trigger::Command, by, now);
        let (id, by, first) = (run.run, run.by.clone(), row.first_applied_at.is_none());
        let mut plan = PlanBuilder::new(id, self.realm.clone(), by, now, first, runs.store.clone());
        let clock = runs.clock.clone();
        let mut frame = Frame::new(runs.store, clock, &row, run, PlanDisposition::ByTheBrake);
        assert!(frame.begin().await.unwrap());
        for (before, after) in people {
            plan.add(decision(*before, after)).await.unwrap();
        }
        plan.flush().await.unwrap();
        let finished = Finished {
            plan: &mut plan,
            brake: &BRAKE,
            users: Users::Counted,
            reasons: vec![],
            facts: RunFacts::default(),
            id_form: None,
            remembers: Box::new(|run| RealmUpdate {
                first_applied_at: Some(run.started_at),
                ..RealmUpdate::default()
            }),
            refused: None,
            replaces: row.held,
            delivers: false,
            messages: Box::pin(async { Ok(messages()) }),
            audit: None,
        };
        turn.work(Box::pin(frame.finish(finished))).await.unwrap();
        frame.run
    }

    async fn people(&self, made: &[(Option<&User>, User)]) -> Vec<User> {
        let ids: Vec<_> = made.iter().map(|(_, u)| u.id).collect();
        let mut users = self.runs.store.users_by_id(&ids).await.unwrap();
        users.sort_by(|a, b| a.username.cmp(&b.username));
        users
    }

    async fn held(&self) -> Option<crate::model::RunId> {
        // A file's plan waits beside those of passes.
        assert_eq!(self.runs.realm(&self.realm).await.unwrap().held, None);
        let held = self.runs.held_beside(&self.realm, Mode::Import).await;
        held.unwrap()
    }
}

fn new_people() -> Vec<(Option<&'static User>, User)> {
    (10..50)
        .map(|n| {
            let user = user(&format!("u{n}"), &format!("+4219051234{n}"));
            let phone_source = Some(PhoneSource::Manual);
            (
                None,
                User {
                    phone_source,
                    ..user
                },
            )
        })
        .collect()
}

fn renumbered(people: &[User], by: &str) -> Vec<User> {
    let number = |n: usize| format!("+42190{by}234{:02}", n + 10);
    people
        .iter()
        .enumerate()
        .map(|(n, u)| with_phone(u, &number(n)))
        .collect()
}

fn both<'a>(before: &'a [User], after: &[User]) -> Vec<(Option<&'a User>, User)> {
    before.iter().map(Some).zip(after.iter().cloned()).collect()
}

#[tokio::test]
async fn a_plan_is_weighed_held_confirmed_replaced_and_rejected() {
    let house = house().await;
    let made = new_people();
    let first = house.import(&made).await;
    // The first one is not measured by what it creates.
    assert_eq!((first.outcome, first.created), (Outcome::Applied, 40));
    assert_eq!(house.import(&[]).await.outcome, Outcome::Unchanged);
    let people = house.people(&made).await;
    let edit = renumbered(&people, "6");
    let held = house.import(&both(&people, &edit)).await;
    assert_eq!((held.outcome, held.phone_changed), (Outcome::Held, 40));
    assert_eq!(held.held_by[0].limit, Limit::PhoneChanged.as_str());
    assert_eq!(house.people(&made).await, people);
    let same = house.import(&both(&people, &edit)).await;
    assert_eq!((same.run, house.held().await), (held.run, Some(held.run)));
    let other = house
        .import(&both(&people, &renumbered(&people, "7")))
        .await;
    assert_ne!(other.run, held.run);
    let (typed, old) = (other.run.to_string(), held.run.to_string());
    let replaced = house.runs.held(&old).await.unwrap_err().to_string();
    assert!(replaced.contains("it was replaced by"), "{replaced}");
    let by = Some("eva".to_owned());
    let rejected = house.runs.reject(&typed, by, None, None).await.unwrap().run;
    assert_eq!(rejected.outcome, Outcome::Rejected);
    assert_eq!(house.held().await, None);
    drop(house.f);
}

fn ask<'a>(policy: &'a Policy, cancel: &'a CancellationToken) -> UndoAsk<'a> {
    UndoAsk {
        note: None,
        brake: &BRAKE,
        policy,
        policies: std::collections::BTreeMap::new(),
        delivers: false,
        messages: Box::new(|_| Box::pin(async { Ok(messages()) })),
        by: Some("eva"),
        cancel,
    }
}

fn renamed(user: &User, name: &str) -> User {
    User {
        username: name.into(),
        username_key: name.into(),
        version: user.version + 1,
        ..user.clone()
    }
}

/// Whoever keeps a name for that stands in the way of the next, who was looked at before.
#[tokio::test]
async fn an_undo_leaves_those_whose_name_another_has_by_now() {
    let house = house().await;
    let made = new_people();
    house.import(&made).await;
    let people = house.people(&made).await;
    let names = [
        renamed(&people[0], "new"),
        renamed(&people[1], "u10"),
        renamed(&people[2], "other"),
    ];
    let changed = house.import(&both(&people[..3], &names)).await;
    assert_eq!((changed.outcome, changed.renamed), (Outcome::Applied, 3));
    let later = [renamed(&people[3], "u11")];
    house.import(&both(&people[3..4], &later)).await;
    let (policy, cancel) = (Policy::default(), CancellationToken::new());
    let undone = house.runs.undo(&changed, &ask(&policy, &cancel)).await;
    let undone = undone.unwrap().run;
    assert_eq!((undone.outcome, undone.renamed), (Outcome::Applied, 1));
    let left = undone.error.unwrap_or_default();
    assert!(left.starts_with("2 users changed since"), "{left}");
    let ids: Vec<_> = people[..3].iter().map(|u| u.id).collect();
    let now = house.runs.store.users_by_id(&ids).await.unwrap();
    let named = |id| now.iter().find(|u| u.id == id).map(|u| u.username.as_str());
    let names: Vec<_> = ids.into_iter().filter_map(named).collect();
    assert_eq!(names, ["new", "u10", "u12"]);
}

#[tokio::test]
async fn an_applied_plan_is_undone_and_undone_again_as_it_was() {
    let house = house().await;
    let made = new_people();
    house.import(&made).await;
    let people = house.people(&made).await;
    let edit = renumbered(&people[..2], "6");
    let changed = house.import(&both(&people[..2], &edit)).await;
    assert_eq!(
        (changed.outcome, changed.phone_changed),
        (Outcome::Applied, 2)
    );
    let (policy, cancel) = (Policy::default(), CancellationToken::new());
    let ask = ask(&policy, &cancel);
    let undone = house.runs.undo(&changed, &ask).await.unwrap();
    assert_eq!(
        (
            undone.run.outcome,
            undone.run.mode,
            undone.run.phone_changed
        ),
        (Outcome::Applied, Mode::Undo, 2)
    );
    let numbers = |users: &[User]| users.iter().map(|u| u.phone.clone()).collect::<Vec<_>>();
    assert_eq!(numbers(&house.people(&made).await), numbers(&people));
    // Stopped in time, it is a run that came to nothing, and says so.
    cancel.cancel();
    let stopped = house.runs.undo(&undone.run, &ask).await;
    assert!(matches!(stopped, Err(RunError::Stopped(_))), "{stopped:?}");
    let runs = house.runs.store.runs(Some(&house.realm), 10).await.unwrap();
    assert!(runs.iter().any(|run| run.outcome == Outcome::Cancelled));
}

#[tokio::test]
async fn a_failure_is_kept_where_it_is_news() {
    let house = house().await;
    let row = house.runs.realm(&house.realm).await.unwrap();
    let frame = || {
        let run = new_run(&house.realm, Mode::Import, Trigger::Command, None, START);
        let Runs { store, clock } = house.runs.clone();
        Frame::new(store, clock, &row, run, PlanDisposition::ByTheBrake)
    };
    let why = RunFailure::new(ErrorCode::Incomplete, "the file ended early");
    let mut first = frame();
    assert!(!first.failed_so_before(why.code).await.unwrap());
    first.fail(&why, true).await.unwrap();
    let mut again = frame();
    assert!(again.failed_so_before(why.code).await.unwrap());
    again.fail(&why, false).await.unwrap();
    let kept = house.runs.store.runs(Some(&house.realm), 10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].run, kept[0].outcome),
        (first.run.run, Outcome::Failed)
    );
    // One that the store knows of is kept in any case, unless it was no run after all.
    let mut begun = frame();
    begun.begin().await.unwrap();
    begun.forget().await.unwrap();
    let mut begun = frame();
    begun.begin().await.unwrap();
    begun.fail(&RunFailure::cancelled(), false).await.unwrap();
    let kept = house.runs.store.runs(Some(&house.realm), 10).await.unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().any(|run| run.outcome == Outcome::Cancelled));
}
