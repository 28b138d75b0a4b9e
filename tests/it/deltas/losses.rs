//! People who leave, and numbers that are lost, are gathered before they are weighed: a mass deletion comes in bursts, and the first
//! ones must not pass below the limits. Nothing else waits for that.

use std::time::Duration;

use realmsync::model::{ChangeKind, Outcome, Run, State, Trigger, User};

use super::push::{Pushed, next};

impl Pushed {
    pub(super) async fn active(&self) -> Vec<User> {
        let mut users = self.users().await;
        users.retain(|u| u.state == State::Active && u.phone.is_some());
        users
    }

    async fn suspended(&self) -> usize {
        let users = self.users().await;
        // Some are seeded as disabled.
        let gone = |u: &&User| u.state == State::Suspended && u.phone.is_some();
        users.iter().filter(gone).count()
    }

    async fn cursor(&self) -> Option<String> {
        let row = self.engine.store.realm(&self.realm).await.unwrap();
        row.unwrap().cursor
    }

    /// Of whom a run changed what.
    async fn of(&self, run: &Run) -> Vec<(ChangeKind, String)> {
        let changes = self.engine.store.changes(run.run, 0, 1000).await.unwrap();
        changes
            .into_iter()
            .map(|c| (c.kind, c.username.unwrap_or_default()))
            .collect()
    }
}

fn dn(user: &User) -> &str {
    user.dn.as_deref().unwrap()
}

pub(super) fn delete(user: &User) -> String {
    format!("dn: {}\nchangetype: delete\n\n", dn(user))
}

pub(super) fn set(user: &User, mobile: &str) -> String {
    format!(
        "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: {mobile}\n\n",
        dn(user)
    )
}

fn lose(user: &User) -> String {
    format!("dn: {}\nchangetype: modify\ndelete: mobile\n\n", dn(user))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_told_by_push_is_held_and_nobody_is_suspended() {
    for kind in ["openldap", "ds389"] {
        let p = Pushed::new(kind, &["--users", "500"]).await;
        p.pass(Trigger::Schedule, false).await;
        let mut follower = p.follow().await;
        let before = p.suspended().await;
        let all: String = p.users().await.iter().map(delete).collect();
        let held = std::thread::scope(|threads| {
            threads.spawn(|| p.house.server.modify(&all));
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(next(&mut follower))
            })
        });
        assert_eq!(held.outcome, Outcome::Held, "{kind}: {held:?}");
        assert!(held.suspended >= 10, "{kind}: {held:?}");
        assert_eq!(p.suspended().await, before, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_in_the_middle_of_which_is_polled_is_held_and_nobody_is_suspended() {
    let p = Pushed::new("openldap", &["--users", "500"]).await;
    p.pass(Trigger::Schedule, false).await;
    let before = p.suspended().await;
    let all: String = p.users().await.iter().map(delete).collect();
    let held = std::thread::scope(|threads| {
        threads.spawn(|| p.house.server.modify(&all));
        let polled = async {
            // Before the first one is gone nothing is told.
            while p
                .engine
                .store
                .realm(&p.realm)
                .await
                .unwrap()
                .unwrap()
                .held
                .is_none()
            {
                let run = p.pass(Trigger::Poll, false).await;
                assert_ne!(run.outcome, Outcome::Failed, "{run:?}");
            }
        };
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current()
                .block_on(tokio::time::timeout(Duration::from_secs(30), polled))
        })
    });
    held.expect("a plan is held");
    // One or two may have been all that was told.
    let applied = p.suspended().await - before;
    assert!(applied < 3, "{applied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_number_does_not_wait_for_who_left_in_the_same_burst() {
    for kind in ["openldap", "ds389"] {
        let p = Pushed::new(kind, &["--users", "40"]).await;
        p.pass(Trigger::Schedule, false).await;
        let mut follower = p.follow().await;
        let cursor = p.cursor().await;
        let people = p.active().await;
        let [left, one, loser, other] = &people[..4] else {
            panic!("too few")
        };
        p.house.server.modify(
            &[
                delete(left),
                set(one, "+421905777001"),
                lose(loser),
                set(other, "+421905777002"),
            ]
            .concat(),
        );
        let (mut changed, mut lost) = (vec![], vec![]);
        while lost.len() < 2 {
            let run = next(&mut follower).await;
            assert_eq!(run.outcome, Outcome::Applied, "{kind}: {run:?}");
            if run.suspended + run.phone_lost == 0 {
                assert!(lost.is_empty(), "{kind}: what is not lost comes first");
                assert_eq!(p.cursor().await, cursor, "{kind}: it waits for them");
                changed.extend(p.of(&run).await);
            } else {
                lost.extend(p.of(&run).await);
            }
        }
        let of = |kind: ChangeKind, user: &User| (kind, user.username.clone());
        changed.sort();
        lost.sort();
        let mut expected = vec![
            of(ChangeKind::PhoneChanged, one),
            of(ChangeKind::PhoneChanged, other),
        ];
        expected.sort();
        assert_eq!(changed, expected, "{kind}");
        assert_eq!(
            lost,
            [
                of(ChangeKind::PhoneLost, loser),
                of(ChangeKind::Suspended, left)
            ],
            "{kind}"
        );
        assert_ne!(p.cursor().await, cursor, "{kind}");
        let full = p.pass(Trigger::Command, true).await;
        assert_eq!(full.outcome, Outcome::Unchanged, "{kind}: {full:?}");
    }
}

/// A daemon that is killed, or stops, while losses are gathered has them in memory only.
#[tokio::test(flavor = "multi_thread")]
async fn who_left_is_told_again_to_the_next_follower_when_this_one_goes() {
    let p = Pushed::new("openldap", &["--users", "40"]).await;
    p.pass(Trigger::Schedule, false).await;
    let people = p.active().await;
    let [a, b, c] = &people[..3] else {
        panic!("too few")
    };
    for stops in [false, true] {
        let mut follower = p.follow().await;
        let (gone, number) = if stops {
            (b, "+421905777004")
        } else {
            (a, "+421905777003")
        };
        p.house
            .server
            .modify(&[set(c, number), delete(gone)].concat());
        let run = next(&mut follower).await;
        assert_eq!((run.phone_changed, run.suspended), (1, 0), "{run:?}");
        if stops {
            p.cancel.cancel();
            assert!(follower.next().await.unwrap().is_none());
        }
        drop(follower);
        let poll = p.pass(Trigger::Poll, false).await;
        assert_eq!((poll.suspended, poll.phone_changed), (1, 0), "{poll:?}");
    }
    let full = p.pass(Trigger::Command, true).await;
    assert_eq!(full.outcome, Outcome::Unchanged, "{full:?}");
}

/// Both are one decision: the name is free once its holder is suspended.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_name_of_somebody_who_left_waits_with_them() {
    let p = Pushed::new("openldap", &["--users", "40"]).await;
    p.pass(Trigger::Schedule, false).await;
    let mut follower = p.follow().await;
    let people = p.active().await;
    let [a, b] = &people[..2] else {
        panic!("too few")
    };
    let name = &a.username;
    let heir = format!(
        "dn: cn=heir,{}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: heir\nsn: heir\nuid: {name}\nmobile: +421905777005\n\n",
        &p.house.server["PEOPLE_DN"]
    );
    p.house
        .server
        .modify(&[set(b, "+421905777006"), delete(a), heir].concat());
    let first = next(&mut follower).await;
    assert_eq!(
        (first.phone_changed, first.created, first.suspended),
        (1, 0, 0),
        "{first:?}"
    );
    let then = next(&mut follower).await;
    assert_eq!((then.created, then.suspended), (1, 1), "{then:?}");
    let full = p.pass(Trigger::Command, true).await;
    assert_eq!(full.outcome, Outcome::Unchanged, "{full:?}");
}

/// What is below the limits goes through, and the next burst is weighed with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_burst_is_weighed_with_the_first() {
    let p = Pushed::new("openldap", &["--users", "100"]).await;
    p.pass(Trigger::Schedule, false).await;
    let mut follower = p.follow().await;
    let before = p.suspended().await;
    let people = p.active().await;
    let gone = |users: &[User]| users.iter().map(delete).collect::<String>();
    p.house.server.modify(&gone(&people[..8]));
    let first = next(&mut follower).await;
    assert_eq!(
        (first.outcome, first.suspended),
        (Outcome::Applied, 8),
        "{first:?}"
    );
    p.house.server.modify(&gone(&people[8..12]));
    let second = next(&mut follower).await;
    assert_eq!(
        (second.outcome, second.suspended, second.held_by[0].count),
        (Outcome::Held, 4, 12),
        "{second:?}"
    );
    assert_eq!(p.suspended().await, before + 8);
}
