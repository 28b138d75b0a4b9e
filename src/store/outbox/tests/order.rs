//! Order, leases and what two daemons do to each other (design § 3.10, § 8; TRAPS 29, 49).

use super::*;

const A: &str = "+421905000001";
const B: &str = "+421905000002";

#[tokio::test]
async fn one_users_messages_go_in_order() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(
        &jan,
        &[
            say(JobType::Suspend, JobReason::Disabled),
            say(JobType::Restore, JobReason::Restored),
            say(JobType::Suspend, JobReason::Disabled),
        ],
    )
    .await;
    f.change(
        &user("eva", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    let first = f.claim(10).await;
    assert_eq!(
        first
            .iter()
            .map(|j| j.username.as_str())
            .collect::<Vec<_>>(),
        ["jan", "eva"]
    );
    assert!(f.claim(10).await.is_empty());
    let later = f.now.plus_ms(60_000);
    f.settle(
        &first[0],
        AttemptEnd::Again {
            why: "503".into(),
            unknown_end: false,
            next_attempt_at: later,
        },
    )
    .await;
    assert!(
        f.claim(10).await.is_empty(),
        "nobody overtakes a message that waits for its next attempt"
    );
    assert_eq!(
        f.store
            .next_due(std::slice::from_ref(&jan.realm))
            .await
            .unwrap(),
        vec![(jan.realm.clone(), later)],
        "nor is looked at in vain"
    );
}

#[tokio::test]
async fn one_names_messages_go_in_order_whoever_bears_it() {
    let f = sqlite().await;
    // Deleted and made again under the same name on the same day.
    let old = User {
        state: State::Suspended,
        state_reason: Some(StateReason::Deleted),
        ..user("jan", A)
    };
    f.change(&old, &[say(JobType::Suspend, JobReason::Deleted)])
        .await;
    f.change(
        &user("jan", A),
        &[say(JobType::Provision, JobReason::Created)],
    )
    .await;
    assert_eq!(
        f.attempt(AttemptEnd::Accepted).await.0.r#type,
        JobType::Suspend
    );
    assert_eq!(
        f.attempt(AttemptEnd::Accepted).await.0.r#type,
        JobType::Provision
    );

    // A rename speaks of two names.
    let rename = |from: &str| Intent::Say {
        r#type: JobType::Rename,
        reason: JobReason::Renamed,
        previous_phone: None,
        previous_username: Some(from.into()),
    };
    f.change(&user("eva", A), &[rename("Ota")]).await;
    f.change(&user("iva", A), &[rename("EVA")]).await;
    f.change(
        &user("ota", A),
        &[say(JobType::Provision, JobReason::Created)],
    )
    .await;
    let names = |jobs: &[Job]| jobs.iter().map(|j| j.username.clone()).collect::<Vec<_>>();
    let first = f.claim(10).await;
    assert_eq!(names(&first), ["eva"]);
    f.settle(&first[0], AttemptEnd::Accepted).await;
    assert_eq!(names(&f.claim(10).await), ["iva", "ota"]);
}

#[tokio::test]
async fn a_lease_that_is_over_comes_back_with_the_same_key_and_an_unknown_end() {
    let mut f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    f.change(&with_phone(&jan, B), &[reprovision()]).await;
    let lost = f.claim(1).await.remove(0);
    assert_eq!(f.reclaim("two", f.now, false).await, 0, "the lease runs");
    assert_eq!(
        f.reclaim("one", f.now.plus_ms(60_000), false).await,
        0,
        "one's own is under way"
    );
    f.now = f.now.plus_ms(15_001);
    assert_eq!(f.reclaim("two", f.now, false).await, 1);
    let again = f
        .store
        .claim("two", std::slice::from_ref(&jan.realm), f.now, 15_000, 5)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (again.id, &again.body, again.uncertain, again.attempts),
        (lost.id, &lost.body, true, 2)
    );
    // The first owner's refusal is of no interest any more, its acceptance is.
    assert_eq!(
        f.settle(&lost, AttemptEnd::Final("410".into())).await,
        Fate::Gone
    );
    assert_eq!(f.settle(&lost, AttemptEnd::Accepted).await, Fate::Delivered);
    assert_eq!(f.settle(&again, AttemptEnd::Accepted).await, Fate::Gone);
    assert_eq!(f.provisioned(&jan).await.as_deref(), Some(B));
}

#[tokio::test]
async fn the_start_of_the_only_daemon_voids_every_lease_and_kills_nothing() {
    let mut f = sqlite().await;
    f.change(
        &user("jan", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    f.claim(1).await;
    f.now = f.now.plus_ms(30 * DAY_MS);
    assert_eq!(f.reclaim("two", f.now, true).await, 1);
    assert_eq!(
        f.jobs().await[0].state,
        JobState::Waiting,
        "after an outage of this machine each message gets another attempt"
    );
}

#[tokio::test]
async fn what_was_not_tried_goes_back_as_it_was() {
    let f = sqlite().await;
    f.change(
        &user("jan", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    let before = f.jobs().await.remove(0);
    f.attempt(AttemptEnd::NotTried).await;
    assert_eq!(f.jobs().await.remove(0), before);
}

#[tokio::test]
async fn a_claim_on_sqlite_uses_the_indexes() {
    let f = sqlite().await;
    let Db::Sqlite { read, .. } = &f.store.db else {
        unreachable!()
    };
    let sql = format!("EXPLAIN QUERY PLAN {}", super::claim::CLAIM_SQLITE);
    let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(sqlx::AssertSqlSafe(sql))
        .bind("example.org")
        .bind(0_i64)
        .bind(0_i64)
        .bind("")
        .bind(1_i64)
        .fetch_all(read)
        .await
        .unwrap();
    let lines: Vec<String> = plan.into_iter().map(|r| r.3).collect();
    assert!(
        lines
            .iter()
            .any(|l| l.contains("SEARCH j USING INDEX jobs_due (realm=? AND next_attempt_at<?)")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .all(|l| !l.contains("SCAN") && !l.contains("TEMP B-TREE")),
        "{lines:#?}"
    );
    for index in ["jobs_open_user", "jobs_open_name", "jobs_open_old_name"] {
        assert!(
            lines.iter().any(|l| l.contains(index)),
            "{index}: {lines:#?}"
        );
    }
}

#[tokio::test]
async fn two_daemons_on_postgresql_share_the_outbox_and_send_each_message_once() {
    let f = postgres().await;
    let realm = [RealmId::from("example.org")];
    for i in 0..60 {
        let someone = user(&format!("u{i}"), A);
        f.change(&someone, &[]).await;
        f.change(
            &with_phone(&someone, B),
            &[reprovision(), say(JobType::Restore, JobReason::Restored)],
        )
        .await;
    }
    let daemon = async |owner: &'static str| {
        let mut sent = Vec::new();
        let mut empty = 0;
        while empty < 20 {
            let jobs = f
                .store
                .claim(owner, &realm, f.now, 15_000, 7)
                .await
                .unwrap();
            if jobs.is_empty() {
                empty += 1;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let mut open: Vec<Settlement> = jobs
                .into_iter()
                .map(|job| Settlement {
                    job,
                    ending: AttemptEnd::Accepted,
                    now: f.now,
                })
                .collect();
            sent.extend(open.iter().map(|s| (s.job.id, s.job.user, s.job.seq)));
            while !open.is_empty() {
                let fates = f.store.settle(&open).await.unwrap();
                open = open
                    .into_iter()
                    .zip(fates)
                    .filter(|(_, fate)| *fate == Fate::Deferred)
                    .map(|(s, _)| s)
                    .collect();
            }
        }
        sent
    };
    let (one, two) = tokio::join!(daemon("one"), daemon("two"));
    assert_eq!(one.len() + two.len(), 120);
    assert!(!one.is_empty() && !two.is_empty());
    let ids: std::collections::HashSet<_> = one.iter().chain(&two).map(|s| s.0).collect();
    assert_eq!(ids.len(), 120, "each once");
    assert_eq!(
        f.store.outbox_counts(Some(&realm[0])).await.unwrap(),
        [(JobState::Delivered, 120)]
    );
}

#[tokio::test]
async fn a_run_that_holds_the_user_on_postgresql_defers_the_settlement() {
    let f = postgres().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    f.change(&with_phone(&jan, B), &[reprovision()]).await;
    let job = f.claim(1).await.remove(0);
    let mut run = f.store.db.begin().await.unwrap();
    on!(run, c => sqlx::query("UPDATE users SET version = version + 1").execute(&mut *c).await.map(|_| ())).unwrap();
    assert_eq!(f.settle(&job, AttemptEnd::Accepted).await, Fate::Deferred);
    run.commit().await.unwrap();
    assert_eq!(f.settle(&job, AttemptEnd::Accepted).await, Fate::Delivered);
    assert_eq!(f.provisioned(&jan).await.as_deref(), Some(B));
}

/// Every statement of the outbox runs on both engines: the rest of it, once, on PostgreSQL.
#[tokio::test]
async fn the_life_of_a_message_on_postgresql() {
    let mut f = postgres().await;
    let realm = RealmId::from("example.org");
    let all = JobSelection::default();
    assert_eq!(
        f.store.enrolment_key(None).await.unwrap(),
        f.store.enrolment_key(None).await.unwrap()
    );
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(
        &b,
        &[
            reprovision(),
            say(JobType::PhoneNotice, JobReason::PhoneChanged),
        ],
    )
    .await;
    assert_eq!(
        f.store
            .next_due(std::slice::from_ref(&realm))
            .await
            .unwrap(),
        vec![(realm.clone(), f.now)]
    );
    assert_eq!(f.attempt(timed_out(f.now)).await.1, Fate::Again);
    f.claim(1).await;
    f.now = f.now.plus_ms(20_000);
    f.store.renew("one", f.now, 15_000).await.unwrap();
    assert_eq!(f.reclaim("two", f.now, false).await, 0);
    f.store.renew("one", f.now, -1).await.unwrap();
    assert_eq!(f.reclaim("two", f.now, false).await, 1);
    assert_eq!(f.attempt(AttemptEnd::NotTried).await.1, Fate::Again);

    assert_eq!(
        f.store
            .outbox_act(JobAction::Hold, &all, f.now)
            .await
            .unwrap()
            .len(),
        2
    );
    let only = JobSelection {
        realm: Some(realm.clone()),
        user: Some(jan.id),
        types: vec![JobType::Reprovision],
        states: vec![JobState::Held],
        ids: Vec::new(),
    };
    assert_eq!(
        f.store
            .outbox_act(JobAction::Release, &only, f.now)
            .await
            .unwrap()
            .len(),
        1
    );
    let mut tx = f.store.db.begin().await.unwrap();
    assert_eq!(
        set_waiting_on_hold(&mut tx, &realm, &[JobType::Reprovision], f.now)
            .await
            .unwrap(),
        1
    );
    assert_eq!(release_brake(&mut tx, &realm, f.now).await.unwrap(), 1);
    assert_eq!(hold_copy(&mut tx, f.now).await.unwrap(), 2);
    tx.commit().await.unwrap();
    f.store
        .outbox_act(JobAction::Release, &all, f.now)
        .await
        .unwrap();
    f.sql("UPDATE realms SET paused = TRUE").await;
    assert!(
        f.store
            .sending_realms(&["example.org".into()], f.now)
            .await
            .unwrap()
            .is_empty()
    );
    f.now = f.now.plus_ms(DAY_MS);
    f.sql("UPDATE realms SET paused = FALSE").await;
    assert_eq!(
        f.store
            .sending_realms(&["example.org".into()], f.now)
            .await
            .unwrap(),
        std::slice::from_ref(&realm)
    );
    assert_eq!(f.jobs().await[0].give_up_at, START.plus_ms(4 * DAY_MS));

    f.now = f.now.plus_ms(3 * DAY_MS);
    assert_eq!(
        f.store
            .give_up(std::slice::from_ref(&realm), false, f.now)
            .await
            .unwrap(),
        1,
        "only what was tried"
    );
    let dead = JobSelection {
        states: vec![JobState::Dead],
        ..all.clone()
    };
    assert_eq!(
        f.store
            .outbox_act(
                JobAction::Retry {
                    retry_for_ms: DAY_MS
                },
                &dead,
                f.now
            )
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        f.change(&with_phone(&b, A), &[Intent::Unsay]).await,
        1,
        "after an unknown end the newest number is told"
    );
    assert_eq!(
        f.attempt(AttemptEnd::Final("410".into())).await.0.r#type,
        JobType::PhoneNotice
    );
    assert_eq!(f.attempt(AttemptEnd::Accepted).await.0.phone, phone(A));
    let gone = User {
        state: State::Removed,
        username: String::new(),
        username_key: String::new(),
        phone: None,
        version: 5,
        ..jan.clone()
    };
    assert_eq!(
        f.change(
            &gone,
            &[
                Intent::Withdraw {
                    reason: JobReason::Removed
                },
                say(JobType::Deprovision, JobReason::Removed)
            ]
        )
        .await,
        1
    );
    f.attempt(AttemptEnd::Accepted).await;
    assert_eq!(
        f.store.outbox_counts(None).await.unwrap(),
        [
            (JobState::Delivered, 2),
            (JobState::Final, 1),
            (JobState::Dropped, 1)
        ]
    );
    assert_eq!(f.text("SELECT MAX(body) FROM jobs").await, None);
}

const NEW_TYPE: &str = "UPDATE jobs SET type = 'user.greeting' WHERE seq = 1";

#[tokio::test]
async fn a_message_of_a_type_that_a_newer_daemon_wrote_stops_nobody_and_is_left_to_it() {
    let f = sqlite().await;
    for name in ["jan", "eva"] {
        let restore = say(JobType::Restore, JobReason::Restored);
        f.change(&user(name, A), &[restore.clone(), restore]).await;
    }
    f.sql(NEW_TYPE).await;
    let taken = f.claim(10).await;
    assert_eq!(
        taken.iter().map(|j| j.seq).collect::<Vec<_>>(),
        [3],
        "and what stands behind it waits, in order"
    );
    assert_eq!(
        f.settle(&taken[0], AttemptEnd::Accepted).await,
        Fate::Delivered
    );
    assert_eq!(f.jobs().await.len(), 3, "the others are listed");
    assert_eq!(f.store.unknown_types().await.unwrap(), ["user.greeting"]);
    // A newer daemon died with it under way.
    f.sql("UPDATE jobs SET state = 'sending', leased_by = 'newer', lease_until = 0 WHERE seq = 1")
        .await;
    assert_eq!(f.reclaim("one", f.now, true).await, 1);
    let waits = f.text("SELECT state FROM jobs WHERE seq = 1").await;
    assert_eq!(waits.as_deref(), Some("waiting"));
}

#[test]
fn the_types_that_are_claimed_are_those_of_the_model() {
    for kind in JobType::ALL {
        assert!(super::claim::CLAIM_SQLITE.contains(&format!("'{kind}'")));
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_dead_and_visible() {
    let f = sqlite().await;
    for name in ["jan", "eva"] {
        let someone = user(name, A);
        f.change(&someone, &[]).await;
        f.change(&with_phone(&someone, B), &[reprovision()]).await;
    }
    f.sql("UPDATE jobs SET phone = 'rubbish' WHERE seq = 1")
        .await;
    assert_eq!(f.claim(10).await.len(), 1);
    let state = f.text("SELECT state FROM jobs WHERE seq = 1").await;
    assert_eq!(state.as_deref(), Some("dead"));
}

#[tokio::test]
async fn each_realm_has_its_share_whatever_the_others_backlog_is() {
    let f = sqlite().await;
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('a.busy', 'directory', 'Busy'), ('z.quiet', 'directory', 'Quiet')").await;
    for i in 0..40 {
        let realm = if i < 36 { "a.busy" } else { "z.quiet" };
        let someone = User {
            realm: RealmId::from(realm),
            ..user(&format!("u{i}"), A)
        };
        f.change(&someone, &[say(JobType::Restore, JobReason::Restored)])
            .await;
    }
    let realms = ["a.busy", "z.quiet"].map(RealmId::from);
    let claim = async |n| {
        let jobs = f.store.claim("one", &realms, f.now, 15_000, n).await;
        let jobs = jobs.unwrap();
        let names: Vec<String> = jobs.iter().map(|j| j.username.clone()).collect();
        names
    };
    assert_eq!(
        claim(5).await,
        ["u0", "u36", "u1", "u37", "u2"],
        "in turn, and the oldest first within each"
    );
    assert_eq!(
        claim(10).await.len(),
        10,
        "what one leaves goes to the other"
    );
    assert_eq!(claim(100).await.len(), 25);
}

#[tokio::test]
async fn a_refused_message_is_tried_again_when_an_administrator_says_so() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    f.change(&with_phone(&jan, B), &[reprovision()]).await;
    let (job, fate) = f.attempt(AttemptEnd::Final("410".into())).await;
    assert_eq!(fate, Fate::Final);
    let retry = JobAction::Retry {
        retry_for_ms: DAY_MS,
    };
    let prefix = job.id.to_string();
    let all = JobSelection::default();
    assert_eq!(
        f.store.job_ids(&prefix[..20], &all).await.unwrap(),
        [job.id],
        "named by the beginning of its id"
    );
    for end in [30, 28, 25] {
        assert_eq!(
            f.store.job_ids(&prefix[end..], &all).await.unwrap(),
            [job.id],
            "named by its end"
        );
    }
    let waiting = JobSelection {
        states: vec![JobState::Waiting],
        ..all.clone()
    };
    let none = f.store.job_ids(&prefix[28..], &waiting).await.unwrap();
    assert_eq!(none, [], "of those that are meant");
    let one = JobSelection {
        ids: vec![job.id],
        ..all
    };
    assert_eq!(
        f.store.outbox_act(retry, &one, f.now).await.unwrap(),
        [job.id]
    );
    let (again, fate) = f.attempt(AttemptEnd::Accepted).await;
    assert_eq!(
        (again.id, again.body, fate),
        (job.id, job.body, Fate::Delivered)
    );
    assert_eq!(f.provisioned(&jan).await.as_deref(), Some(B));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_put_aside_and_the_others_are_settled() {
    let damaged = [
        (
            sqlite().await,
            "UPDATE jobs SET phone = 'none' WHERE seq = 1",
        ),
        (
            postgres().await,
            "UPDATE users SET phone = '+0' WHERE username = 'jan'",
        ),
    ];
    for (f, damage) in damaged {
        for name in ["jan", "eva"] {
            let someone = user(name, A);
            f.change(&someone, &[]).await;
            f.change(&with_phone(&someone, B), &[reprovision()]).await;
        }
        let settle = async |jobs: Vec<Job>, ending: AttemptEnd| {
            let attempt = |job: Job| Settlement {
                job,
                ending: ending.clone(),
                now: f.now,
            };
            let attempts: Vec<_> = jobs.into_iter().map(attempt).collect();
            f.store.settle(&attempts).await.unwrap()
        };
        let jobs = f.claim(10).await;
        if matches!(f.store.db, Db::Postgres { .. }) {
            f.sql("ALTER TABLE users DROP CONSTRAINT users_phone_check")
                .await;
        }
        f.sql(damage).await;
        let fates = settle(jobs, refused(f.now)).await;
        assert_eq!(fates, [Fate::Unreadable, Fate::Again]);
        let why = f.text("SELECT last_error FROM jobs WHERE seq = 1").await;
        assert!(why.as_deref().unwrap().starts_with("it cannot be read"));
        let kept = "SELECT body FROM jobs WHERE seq = 1";
        assert!(f.text(kept).await.is_some(), "it may be mended and retried");
        f.sql("UPDATE jobs SET state = 'sending', leased_by = 'dead', lease_until = 0")
            .await;
        assert_eq!(f.reclaim("two", f.now, false).await, 2, "nor a sweep");
    }
}

/// One user's number, whoever wrote it so, and everybody else's end of a hold.
#[tokio::test]
async fn a_user_who_cannot_be_read_keeps_nobodys_number_waiting() {
    let f = postgres().await;
    for name in ["jan", "eva"] {
        f.change(&user(name, A), &[]).await;
    }
    f.sql("ALTER TABLE users DROP CONSTRAINT users_phone_check")
        .await;
    f.sql("UPDATE users SET phone_pending = '+421905000009', phone_pending_until = 0")
        .await;
    f.sql("UPDATE users SET phone = '+0' WHERE username = 'jan'")
        .await;
    let over = f.store.holds_over(f.now, 10).await.unwrap();
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].username, "eva");
}

#[tokio::test]
async fn a_list_of_more_than_a_page_has_each_message_once() {
    const MANY: &str = "
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
        INSERT INTO jobs (id, realm, user_id, username, name_key, type, state, next_attempt_at, give_up_at, created_at)
        SELECT CAST(printf('%016d', i) AS BLOB), realm, user_id, username, name_key, type, CASE WHEN i % 2 = 0 THEN 'held' ELSE 'delivered' END, 0, 0, 0
        FROM n, jobs WHERE jobs.seq = 1";
    let f = sqlite().await;
    f.change(
        &user("jan", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    f.sql(MANY).await;
    let which = JobSelection {
        states: vec![JobState::Waiting, JobState::Held],
        ..JobSelection::default()
    };
    let mut places = Vec::new();
    let each = |job: Job| places.push(job.seq);
    f.store.jobs_each(&which, each).await.unwrap();
    let expected: Vec<i64> = (1..=2501).filter(|seq| seq % 2 == 1).collect();
    assert_eq!(places, expected);
}
