//! What supersedes, drops and repeats a message (design § 3.8, § 3.10; TRAPS 24, 42, 57).

use sha2::{Digest, Sha256};

use super::*;

const A: &str = "+421905000001";
const B: &str = "+421905000002";
const C: &str = "+421905000003";

#[tokio::test]
async fn a_body_is_the_designs_to_the_letter() {
    let f = sqlite().await;
    let id = "019ab000-0000-7000-8000-000000000001".parse().unwrap();
    let jan = User {
        id,
        display_name: Some("Ján Novák".into()),
        email: Some("jan@example.org".into()),
        version: 6,
        ..user("jan", "+421905654321")
    };
    f.change(&jan, &[]).await;
    assert_eq!(
        f.change(&with_phone(&jan, "+421905123456"), &[reprovision()])
            .await,
        1
    );
    let job = f.claim(1).await.remove(0);
    let head = r#"{"type":"user.reprovision","timestamp":"2026-11-24T03:00:00.000Z","data":{"reason":"phone_changed","realm":"example.org","user":{"id":"019ab000-0000-7000-8000-000000000001","version":7,"username":"jan","display_name":"Ján Novák","email":"jan@example.org","phone":"+421905123456"},"previous_phone":"+421905654321","enrolment_url":"https://mfa.example.org/enrol/"#;
    let tail = r#"","expires_at":"2026-12-01T03:00:00.000Z"}}"#;
    assert_eq!(
        job.body.as_deref(),
        Some(format!("{head}{{{{token}}}}{tail}").as_str()),
        "the store holds no token"
    );
    let sent = f.key.fill_in(
        job.body.as_deref().unwrap(),
        crate::store::MessageLink::of(&job),
    );
    let token = sent
        .strip_prefix(head)
        .and_then(|s| s.strip_suffix(tail))
        .unwrap();
    assert_eq!(token.len(), 43, "32 bytes in base64");
    assert_eq!(
        f.key.fill_in(
            job.body.as_deref().unwrap(),
            crate::store::MessageLink::of(&job)
        ),
        sent,
        "the same on every attempt"
    );
}

#[tokio::test]
async fn every_type_carries_what_belongs_to_it() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let rename = Intent::Say {
        r#type: JobType::Rename,
        reason: JobReason::Renamed,
        previous_phone: None,
        previous_username: Some("honza".into()),
    };
    let notice = Intent::Say {
        r#type: JobType::PhoneNotice,
        reason: JobReason::PhoneChanged,
        previous_phone: phone(B),
        previous_username: None,
    };
    let others = [
        (JobType::Provision, JobReason::Created),
        (JobType::Suspend, JobReason::Disabled),
        (JobType::Restore, JobReason::Restored),
        (JobType::Reprovision, JobReason::PhoneGiven),
    ];
    let mut intents: Vec<Intent> = others
        .into_iter()
        .map(|(kind, reason)| say(kind, reason))
        .collect();
    intents.extend([rename, notice]);
    let without_http = MessageContext {
        enrolment: None,
        ..f.ctx()
    };
    assert_eq!(f.change_with(&jan, &intents, &without_http).await, 6);
    let removed = User {
        state: State::Removed,
        username: String::new(),
        username_key: String::new(),
        phone: None,
        version: 2,
        ..jan.clone()
    };
    let data = |job: &Job| {
        let body: serde_json::Value = serde_json::from_str(job.body.as_deref().unwrap()).unwrap();
        body["data"]
            .as_object()
            .unwrap()
            .keys()
            .filter(|k| !["reason", "realm", "user"].contains(&k.as_str()))
            .map(|k| format!("{k}={}", body["data"][k]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let waiting = f
        .store
        .jobs(
            &JobSelection {
                states: vec![JobState::Waiting],
                ..JobSelection::default()
            },
            100,
        )
        .await
        .unwrap();
    let lines: Vec<String> = waiting
        .iter()
        .map(|j| format!("{} {}", j.r#type, data(j)).trim_end().to_owned())
        .collect();
    assert_eq!(
        lines,
        [
            "user.suspend".to_owned(),
            "user.restore".to_owned(),
            format!("user.reprovision previous_phone=\"{A}\" enrolment_url=null expires_at=null"),
            "user.rename previous_username=\"honza\"".to_owned(),
            format!("user.phone_notice previous_phone=\"{B}\" freeze_url=null expires_at=null"),
        ]
    );
    f.change(&removed, &[say(JobType::Deprovision, JobReason::GraceOver)])
        .await;
    let open = f.claim(10).await;
    assert_eq!(
        open.len(),
        1,
        "a removed user's other messages are not needed"
    );
    assert!(
        open[0]
            .body
            .as_deref()
            .unwrap()
            .contains(r#""username":null,"display_name":null,"email":null,"phone":null}"#),
        "{:?}",
        open[0].body
    );
    let names = f.text("SELECT MAX(username) FROM jobs").await;
    assert_eq!(
        names.as_deref(),
        Some(""),
        "nothing tells any more who it was"
    );
}

#[tokio::test]
async fn a_newer_number_supersedes_and_keeps_the_right_previous_one() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(&b, &[reprovision()]).await;
    f.attempt(refused(f.now)).await;
    f.change(&with_phone(&b, C), &[reprovision()]).await;
    assert_eq!(f.told(&jan).await, (Some(C.into()), true));
    let (job, fate) = f.attempt(AttemptEnd::Accepted).await;
    assert_eq!(fate, Fate::Delivered);
    assert!(
        job.body
            .unwrap()
            .contains(&format!(r#""previous_phone":"{A}""#))
    );
    assert_eq!(f.provisioned(&jan).await.as_deref(), Some(C));
    assert_eq!(f.states().await, ["dropped: superseded", "delivered"]);
    assert_eq!(
        f.text("SELECT MAX(body) FROM jobs").await,
        None,
        "settled bodies are erased"
    );
    assert_eq!(
        f.text("SELECT CAST(COUNT(*) AS TEXT) FROM enrolments WHERE state = 'open'")
            .await
            .as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn back_to_the_old_number_unsent_drops_and_forgets() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(&b, &[reprovision()]).await;
    f.attempt(refused(f.now)).await;
    assert_eq!(f.change(&with_phone(&b, A), &[Intent::Unsay]).await, 0);
    assert_eq!(f.states().await, ["dropped: equal again"]);
    assert_eq!(f.told(&jan).await, (None, false));
    assert_eq!(
        f.text("SELECT MAX(state) FROM enrolments").await.as_deref(),
        Some("void")
    );
}

#[tokio::test]
async fn after_an_unknown_end_the_newest_number_is_told_even_if_equal() {
    for dies in [false, true] {
        let mut f = sqlite().await;
        let jan = user("jan", A);
        f.change(&jan, &[]).await;
        let b = with_phone(&jan, B);
        f.change(&b, &[reprovision()]).await;
        f.attempt(timed_out(f.now)).await;
        if dies {
            f.now = f.now.plus_ms(4 * DAY_MS);
            assert_eq!(f.attempt(refused(f.now)).await.1, Fate::Dead);
        }
        assert_eq!(f.change(&with_phone(&b, A), &[Intent::Unsay]).await, 1);
        let (job, _) = f.attempt(AttemptEnd::Accepted).await;
        assert_eq!((job.r#type, job.phone), (JobType::Reprovision, phone(A)));
        assert_eq!(f.told(&jan).await, (Some(A.into()), true));
        // The acceptance ends the doubt.
        let c = with_phone(&b, C);
        f.change(&c, &[reprovision()]).await;
        assert_eq!(f.change(&with_phone(&c, A), &[Intent::Unsay]).await, 0);
    }
}

#[tokio::test]
async fn back_to_the_old_number_while_the_new_one_is_being_sent() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(&b, &[reprovision()]).await;
    let sending = f.claim(1).await.remove(0);
    assert_eq!(f.change(&with_phone(&b, A), &[Intent::Unsay]).await, 1);
    assert!(
        f.claim(5).await.is_empty(),
        "the newer one waits for the one under way"
    );
    assert_eq!(
        f.settle(&sending, refused(f.now)).await,
        Fate::Dropped,
        "what comes back is superseded"
    );
    let (job, _) = f.attempt(AttemptEnd::Accepted).await;
    assert_eq!(job.phone, phone(A));
    assert_eq!(f.provisioned(&jan).await.as_deref(), Some(A));
}

#[tokio::test]
async fn a_delivery_accepted_after_the_decision_is_seen() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(&b, &[reprovision()]).await;
    // The plan read provisioned = A; meanwhile B was accepted.
    f.attempt(AttemptEnd::Accepted).await;
    assert_eq!(f.change(&with_phone(&b, A), &[Intent::Unsay]).await, 1);
    let (job, _) = f.attempt(AttemptEnd::Accepted).await;
    assert!(
        job.body
            .unwrap()
            .contains(&format!(r#""previous_phone":"{B}""#))
    );
}

#[tokio::test]
async fn a_suspension_drops_what_is_unsent_also_what_was_being_sent() {
    let f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(&b, &[reprovision()]).await;
    let sending = f.claim(1).await.remove(0);
    let gone = User {
        state: State::Suspended,
        state_reason: Some(StateReason::Deleted),
        version: 3,
        ..b.clone()
    };
    f.change(
        &gone,
        &[
            Intent::Withdraw {
                reason: JobReason::Deleted,
            },
            say(JobType::Suspend, JobReason::Deleted),
        ],
    )
    .await;
    assert_eq!(f.settle(&sending, refused(f.now)).await, Fate::Dropped);
    assert_eq!(
        f.told(&jan).await,
        (None, false),
        "so that a return is told"
    );
    assert_eq!(
        f.text("SELECT MAX(state) FROM enrolments").await.as_deref(),
        Some("void")
    );
    assert_eq!(f.states().await, ["dropped: deleted", "waiting"]);
    assert_eq!(
        f.attempt(AttemptEnd::Accepted).await.0.r#type,
        JobType::Suspend
    );
}

#[tokio::test]
async fn nothing_is_made_without_a_delivery() {
    let f = sqlite().await;
    let jan = user("jan", A);
    let silent = MessageContext {
        delivers: false,
        ..f.ctx()
    };
    assert_eq!(
        f.change_with(
            &with_phone(&jan, B),
            &[reprovision(), say(JobType::Restore, JobReason::Restored)],
            &silent
        )
        .await,
        0
    );
    assert!(f.jobs().await.is_empty());
    assert_eq!(f.told(&jan).await, (None, false));
}

#[tokio::test]
async fn the_token_is_an_hmac_of_which_only_a_hash_is_stored() {
    let f = sqlite().await;
    let mallory = User {
        display_name: Some("{{token}}".into()),
        ..user("mallory", A)
    };
    f.change(&mallory, &[say(JobType::Provision, JobReason::Created)])
        .await;
    let job = f.claim(1).await.remove(0);
    let enrolment = job.enrolment.unwrap();
    let mut link = f.store.db.read().await.unwrap();
    let stored = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>("SELECT token_sha256 FROM enrolments").fetch_one(&mut *c).await).unwrap();
    assert_eq!(stored, Sha256::digest(f.key.token(enrolment)).to_vec());
    let sent = f.key.fill_in(
        job.body.as_deref().unwrap(),
        Some(crate::store::MessageLink::Enrolment(enrolment)),
    );
    assert!(
        sent.contains(r#""display_name":"{{token}}""#),
        "a name is no place for a token: {sent}"
    );
    assert!(!sent.contains("/enrol/{{token}}"));
    assert_eq!(format!("{:?}", f.key), "EnrolmentKey(•••)");
}

#[tokio::test]
async fn the_enrolment_key_is_made_once_unless_configured() {
    let f = sqlite().await;
    let first = f.store.enrolment_key(None).await.unwrap();
    assert_eq!(f.store.enrolment_key(None).await.unwrap(), first);
    assert_ne!(first, EnrolmentKey::new([0; 32]));
    assert_eq!(
        f.store.enrolment_key(Some([9; 32])).await.unwrap(),
        EnrolmentKey::new([9; 32])
    );
}

#[tokio::test]
async fn dead_after_retry_for_and_retried_by_hand_with_the_same_key_and_bytes() {
    let mut f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    f.change(&with_phone(&jan, B), &[reprovision()]).await;
    let (first, _) = f.attempt(refused(f.now.plus_ms(1000))).await;
    f.now = f.now.plus_ms(3 * DAY_MS - 1);
    assert_eq!(
        f.attempt(refused(f.now.plus_ms(900_000))).await.1,
        Fate::Again,
        "not before retry-for is over"
    );
    f.now = f.now.plus_ms(1);
    assert_eq!(
        f.attempt(refused(f.now)).await.1,
        Fate::Dead,
        "the last attempt is at its very end"
    );
    assert_eq!(f.states().await, ["dead: 503"]);
    let act = JobAction::Retry {
        retry_for_ms: DAY_MS,
    };
    assert_eq!(
        f.store
            .outbox_act(
                act,
                &JobSelection {
                    ids: vec![first.id],
                    ..JobSelection::default()
                },
                f.now
            )
            .await
            .unwrap(),
        [first.id]
    );
    let (again, fate) = f.attempt(AttemptEnd::Accepted).await;
    assert_eq!(
        (again.id, again.body, fate),
        (first.id, first.body, Fate::Delivered)
    );
}

#[tokio::test]
async fn a_dead_message_that_was_overtaken_cannot_be_retried() {
    let mut f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    let b = with_phone(&jan, B);
    f.change(&b, &[reprovision()]).await;
    f.now = f.now.plus_ms(3 * DAY_MS);
    assert_eq!(f.attempt(refused(f.now)).await.1, Fate::Dead);
    f.change(&with_phone(&b, C), &[reprovision()]).await;
    let dead = JobSelection {
        states: vec![JobState::Dead],
        ..JobSelection::default()
    };
    assert!(
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
            .is_empty()
    );
    assert_eq!(
        f.store
            .outbox_act(JobAction::Drop, &dead, f.now)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn retry_for_stands_still_on_hold_and_in_a_paused_realm() {
    let mut f = sqlite().await;
    let jan = user("jan", A);
    f.change(&jan, &[]).await;
    f.change(&with_phone(&jan, B), &[reprovision()]).await;
    let end = f.jobs().await[0].give_up_at;
    let all = JobSelection::default();
    f.store
        .outbox_act(JobAction::Hold, &all, f.now)
        .await
        .unwrap();
    assert!(f.claim(5).await.is_empty());
    f.now = f.now.plus_ms(30 * DAY_MS);
    f.store
        .outbox_act(JobAction::Release, &all, f.now)
        .await
        .unwrap();
    assert_eq!(f.jobs().await[0].give_up_at, end.plus_ms(30 * DAY_MS));

    f.sql("UPDATE realms SET paused = TRUE").await;
    assert!(
        f.store
            .sending_realms(&["example.org".into()], f.now)
            .await
            .unwrap()
            .is_empty()
    );
    f.now = f.now.plus_ms(DAY_MS);
    // Held for the second day of the pause: no time counts twice.
    f.store
        .outbox_act(JobAction::Hold, &all, f.now)
        .await
        .unwrap();
    f.now = f.now.plus_ms(DAY_MS);
    f.sql("UPDATE realms SET paused = FALSE").await;
    assert_eq!(
        f.store
            .sending_realms(&["example.org".into()], f.now)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(f.jobs().await[0].give_up_at, end.plus_ms(31 * DAY_MS));
    f.store
        .outbox_act(JobAction::Release, &all, f.now)
        .await
        .unwrap();
    assert_eq!(f.jobs().await[0].give_up_at, end.plus_ms(32 * DAY_MS));
}

#[tokio::test]
async fn the_brake_holds_its_kind_also_what_comes_back_and_lets_it_go() {
    let f = sqlite().await;
    let (jan, eva) = (user("jan", A), user("eva", A));
    for u in [&jan, &eva] {
        f.change(u, &[]).await;
        f.change(&with_phone(u, B), &[reprovision()]).await;
    }
    f.change(
        &user("ota", A),
        &[say(JobType::Restore, JobReason::Restored)],
    )
    .await;
    let sending = f.claim(1).await.remove(0);
    let mut tx = f.store.db.begin().await.unwrap();
    let held = set_waiting_on_hold(&mut tx, &jan.realm, &[JobType::Reprovision], f.now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(held, 2);
    f.settle(&sending, refused(f.now)).await;
    assert_eq!(f.states().await, ["held: 503", "held", "waiting"]);
    assert_eq!(f.claim(5).await.len(), 1, "the restore goes");
    let mut tx = f.store.db.begin().await.unwrap();
    assert_eq!(release_brake(&mut tx, &jan.realm, f.now).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(f.claim(5).await.len(), 2);
}

#[tokio::test]
async fn a_restored_copy_sends_nothing_until_released() {
    let f = sqlite().await;
    let (jan, eva) = (user("jan", A), user("eva", A));
    for u in [&jan, &eva] {
        f.change(u, &[]).await;
        f.change(&with_phone(u, B), &[reprovision()]).await;
    }
    f.claim(1).await;
    let mut tx = f.store.db.begin().await.unwrap();
    assert_eq!(hold_copy(&mut tx, f.now).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert!(f.claim(5).await.is_empty());
    assert_eq!(
        f.jobs()
            .await
            .iter()
            .map(|j| (j.state, j.uncertain))
            .collect::<Vec<_>>(),
        [(JobState::Held, true), (JobState::Held, false)]
    );
    f.store
        .outbox_act(JobAction::Release, &JobSelection::default(), f.now)
        .await
        .unwrap();
    assert_eq!(f.claim(5).await.len(), 2);
}
