//! Transactions of PostgreSQL that change many messages never wait for each other (`outbox::locks`). Each deadlock would fail one of
//! them as busy.

use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::model::{AuditAct, AuditEntry};
use crate::store::{AuditKey, AuditNote, Counted, StoreError};

const A: &str = "+421905000001";
const RETRY: JobAction = JobAction::Retry { retry_for_ms: 1000 };
const EXAMPLE: &str = "example.org";

/// Users of whom each has so many messages, one after the other.
async fn messages(f: &Fixture, users: usize, each: usize) -> Vec<User> {
    let mut made = Vec::new();
    for n in 0..users {
        let someone = user(&format!("user{n}"), A);
        for _ in 0..each {
            f.change(&someone, &[say(JobType::Restore, JobReason::Restored)])
                .await;
        }
        made.push(someone);
    }
    made
}

/// Both in step: the settling has changed the later user's messages when it meets the earlier user's, and the act the other way round.
#[tokio::test]
async fn an_act_on_many_and_the_settling_of_attempts_in_step() {
    let f = postgres().await;
    messages(&f, 2, 2).await;
    let mut claimed = f.claim(10).await;
    assert_eq!(claimed.len(), 2, "the first of each user");
    claimed.sort_by_key(|job| -job.seq);
    let attempts: Vec<Settlement> = claimed
        .iter()
        .map(|job| Settlement {
            job: job.clone(),
            ending: refused(f.now.plus_ms(60_000)),
            now: f.now,
        })
        .collect();

    // Somebody has the earlier user's message that is being sent.
    let mut other = f.store.db.begin().await.unwrap();
    let earlier = claimed[1].seq;
    on!(other, c => sqlx::query("SELECT seq FROM jobs WHERE seq = $1 FOR UPDATE").bind(earlier).execute(&mut *c).await.map(|_| ())).unwrap();
    let store = f.store.clone();
    let tracker = tokio_util::task::TaskTracker::new();
    let settling = tracker.spawn(async move { store.settle(&attempts).await });
    while !settling.is_finished() && f.waiting_for_locks().await == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let stopped = f.waiting_for_locks().await;
    let (store, now) = (f.store.clone(), f.now);
    let acting =
        tracker.spawn(async move { store.outbox_act(RETRY, &JobSelection::default(), now).await });
    while !acting.is_finished() && f.waiting_for_locks().await == stopped {
        sleep(Duration::from_millis(5)).await;
    }
    other.commit().await.unwrap();

    let (fates, acted) = (settling.await.unwrap(), acting.await.unwrap());
    assert_eq!(no_deadlock(acted).len(), 3, "all that wait");
    assert_eq!(no_deadlock(fates), [Fate::Again, Fate::Deferred]);
}

/// Whether a transaction may fail so.
fn no_deadlock<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// All that changes many messages, at once and again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_changes_many_messages_at_once() {
    const ROUNDS: usize = 20;
    let f = postgres().await;
    let users = messages(&f, 40, 3).await;
    let realm: RealmId = EXAMPLE.into();
    let now = f.now;
    let mut ids: Vec<JobId> = f.jobs().await.iter().map(|job| job.id).collect();
    ids.reverse();
    let mut tasks = tokio::task::JoinSet::new();

    let (store, here) = (f.store.clone(), realm.clone());
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            let here = std::slice::from_ref(&here);
            let mut jobs = no_deadlock(store.claim("one", here, now, 15_000, 100).await);
            jobs.reverse();
            no_deadlock(store.renew("one", now, 15_000).await);
            let attempt = |job: &Job| Settlement {
                job: job.clone(),
                ending: refused(now),
                now,
            };
            let mut left: Vec<Settlement> = jobs.iter().map(attempt).collect();
            while !left.is_empty() {
                let fates = no_deadlock(store.settle(&left).await);
                let mut fates = fates.into_iter();
                left.retain(|_| fates.next() == Some(Fate::Deferred));
            }
            no_deadlock(store.give_up(here, true, now.plus_ms(-DAY_MS)).await);
        }
    });
    for ids in [Vec::new(), ids] {
        let store = f.store.clone();
        tasks.spawn(async move {
            let which = JobSelection {
                ids,
                ..JobSelection::default()
            };
            for _ in 0..ROUNDS {
                for act in [RETRY, JobAction::Hold, JobAction::Release] {
                    no_deadlock(store.outbox_act(act, &which, now).await);
                }
            }
        });
    }
    let (store, here) = (f.store.clone(), realm.clone());
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            no_deadlock(store.pause(&here, None, None, now).await);
            no_deadlock(store.resume(&here, now.plus_ms(1000)).await);
        }
    });
    let (store, here) = (f.store.clone(), realm.clone());
    tasks.spawn(async move {
        for lost in [2000, -2000].repeat(ROUNDS) {
            let counted = Counted {
                realm: here.clone(),
                retry_for_ms: DAY_MS,
                lost_ms: Some(lost),
            };
            no_deadlock(store.keep_time(&[counted], now).await);
        }
    });
    let (store, here) = (f.store.clone(), realm.clone());
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            let mut tx = store.db.begin().await.unwrap();
            let kinds = [JobType::Restore, JobType::Suspend];
            no_deadlock(set_waiting_on_hold(&mut tx, &here, &kinds, now).await);
            no_deadlock(tx.commit().await);
            let mut tx = store.db.begin().await.unwrap();
            no_deadlock(release_brake(&mut tx, &here, now).await);
            no_deadlock(tx.commit().await);
        }
    });
    let (store, key) = (f.store.clone(), AuditKey::of(&f.key));
    tasks.spawn(async move {
        let entry = AuditEntry::new(AuditAct::Restored, None, "command", now);
        let note = AuditNote { entry, key };
        for _ in 0..ROUNDS {
            no_deadlock(store.restored(now, &note).await);
        }
    });
    let (store, ctx) = (f.store.clone(), f.ctx());
    tasks.spawn(async move {
        let mut users = users;
        for n in 0..ROUNDS * 3 {
            let at = n % users.len();
            let someone = &mut users[at];
            let version = someone.version;
            someone.phone_source = Some(crate::model::PhoneSource::Directory);
            someone.version += 1;
            let reason = JobReason::Disabled;
            let intents = [Intent::Withdraw { reason }, reprovision()];
            no_deadlock(store.act(&[], someone, version, &intents, &ctx).await);
        }
    });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// A plan has a message locked for longer than its lease lasts: the owner lives, knows that the attempt was refused, and can write
/// neither that down nor its lease on.
#[tokio::test]
async fn whoever_could_not_renew_a_lease_is_heard_before_the_message_is_taken() {
    const LOCK: &str = "SELECT seq FROM jobs FOR UPDATE";
    let f = postgres().await;
    messages(&f, 1, 1).await;
    let job = f.claim(1).await.remove(0);
    let mut others = Overdue::default();
    let mut look = async || no_deadlock(f.store.reclaim("two", f.now, false, &mut others).await);

    f.sql("UPDATE jobs SET lease_until = 0").await;
    let mut plan = f.store.db.begin().await.unwrap();
    on!(plan, c => sqlx::query(LOCK).execute(&mut *c).await.map(|_| ())).unwrap();
    for _ in 0..=Overdue::LOOKS {
        assert_eq!(look().await, 0);
    }
    assert_eq!(f.settle(&job, refused(f.now)).await, Fate::Deferred);
    assert_eq!(f.store.renew("one", f.now, 15_000).await.unwrap(), 1);
    plan.commit().await.unwrap();

    // The other one is faster.
    assert_eq!(
        look().await,
        0,
        "the lease was over, and nobody had a chance"
    );
    assert_eq!(f.settle(&job, refused(f.now)).await, Fate::Again);
    assert!(!f.jobs().await[0].uncertain, "the end is known");
}

#[tokio::test]
async fn a_dead_daemons_message_is_taken_and_one_that_is_renewed_in_between_is_not() {
    for f in [sqlite().await, postgres().await] {
        messages(&f, 1, 1).await;
        f.claim(1).await;
        let mut others = Overdue::default();
        let mut look =
            async || no_deadlock(f.store.reclaim("two", f.now, false, &mut others).await);
        for _ in 0..3 {
            f.store.renew("one", f.now, -1).await.unwrap();
            for _ in 1..Overdue::LOOKS {
                assert_eq!(look().await, 0);
            }
            f.store.renew("one", f.now, 15_000).await.unwrap();
            assert_eq!(look().await, 0, "its owner lives");
        }
        f.store.renew("one", f.now, -1).await.unwrap();
        for _ in 1..Overdue::LOOKS {
            assert_eq!(look().await, 0);
        }
        assert_eq!(look().await, 1);
        let job = f.jobs().await.remove(0);
        assert_eq!((job.state, job.uncertain), (JobState::Waiting, true));
    }
}
