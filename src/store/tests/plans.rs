//! Plans are applied whole, or not at all.

use super::*;
use crate::model::{JobReason, JobType, Phone, PhoneSource, State, StateReason, TwoFactor};

pub(super) async fn a_user_comes_back_as_it_was_written(f: &Fixture) {
    let mut someone = person("ján", 1);
    someone.display_name = Some("Ján „Novák“".into());
    someone.email = Some("jan@example.org".into());
    someone.phone_raw = Some("0905 12 34 01".into());
    someone.phone_attribute = Some("mobile".into());
    someone.phone_rule = Some("national, region SK".into());
    make(f, 1, std::slice::from_ref(&someone)).await;
    let mut read = held(f, 1).await;
    read.phone_told.clone_from(&someone.phone_told);
    assert_eq!(format!("{read:?}"), format!("{someone:?}"));
    assert!(read == someone);
    let mut index = vec![];
    f.store
        .index(&realm(), |id, fingerprint, present| {
            index.push((id, fingerprint, present));
        })
        .await
        .unwrap();
    assert_eq!(index, [(DirectoryId([1; 16]), Some(1), true)]);
    let holders = f
        .store
        .name_holders(&realm(), &["ján".into(), "nobody".into()])
        .await
        .unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(
        f.store
            .present_in(&realm(), &["ou=people,dc=example,dc=org"], usize::MAX)
            .await
            .unwrap(),
        [DirectoryId([1; 16])]
    );
    let found = f.store.find_users("JÁN", None).await.unwrap();
    assert_eq!(found.len(), 1, "names are compared without case");
    let prefix = someone.id.to_string();
    for part in [
        &prefix[..],
        &prefix[..13],
        &prefix[28..],
        &prefix[29..].to_uppercase(),
    ] {
        let found = f.store.find_users(part, None).await.unwrap();
        assert_eq!(found.len(), 1, "{part}");
    }
    for part in ["", "abc", "not a number", "00000000"] {
        let found = f.store.find_users(part, None).await.unwrap();
        assert!(found.is_empty(), "{part}");
    }
}

pub(super) async fn a_run_is_named_by_the_end_of_its_id_and_candidates_are_told(f: &Fixture) {
    for n in [0xa_1234_5678, 0xb_1234_5678, 0x1234_5679] {
        f.store.begin_run(&run_of(n), false, None).await.unwrap();
    }
    let run = run_of(0x1234_5679);
    let full = run.run.to_string();
    for typed in [&full, &format!("{:#}", run.run), " 345679 ", "2345679"] {
        assert_eq!(f.store.run(typed).await.unwrap().run, run.run, "{typed}");
    }
    let of = |typed: &'static str| async move { f.store.run(typed).await.unwrap_err().to_string() };
    for typed in ["12345678", "345678", "2345678", "01a2"] {
        let told = of(typed).await;
        for n in [0xa_1234_5678, 0xb_1234_5678] {
            // By as much of their ends as tells them apart.
            assert!(told.contains(&format!(" {:#.9}", run_of(n).run)), "{told}");
        }
    }
    let longer = f.store.run("a12345678").await.unwrap();
    assert_eq!(longer.run, run_of(0xa_1234_5678).run);
    assert!(of("678").await.contains("four digits of its beginning"));
    assert!(of("99999999").await.contains("there is no run"));

    // Users too, of one realm or of any.
    let mut jan = person("jan", 1);
    jan.id = crate::model::UserId(uuid::Uuid::from_u128(
        0x01a2_0000_0000_7000_8000_0077_1234_5678,
    ));
    make(f, 9, std::slice::from_ref(&jan)).await;
    for (typed, realm, found) in [
        (format!("{:#}", jan.id), None, 1),
        (jan.id.to_string(), Some(realm()), 1),
        ("345678".to_owned(), Some(realm()), 1),
        ("345678".to_owned(), Some("elsewhere".into()), 0),
        ("345679".to_owned(), None, 0),
    ] {
        let users = f.store.find_users(&typed, realm.as_ref()).await.unwrap();
        assert_eq!(users.len(), found, "{typed}");
        assert!(users.iter().all(|u| u.id == jan.id), "{typed}");
    }
}

pub(super) async fn two_users_swap_names(f: &Fixture) {
    let (a, b) = (person("a", 1), person("b", 2));
    make(f, 1, &[a.clone(), b.clone()]).await;
    let swapped = |u: &User, name: &str| User {
        username: name.into(),
        username_key: name.into(),
        version: 2,
        ..u.clone()
    };
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let plan = [(swapped(&a, "b"), 1, vec![]), (swapped(&b, "a"), 1, vec![])];
    stage(f, &run, &plan, ChangeKind::Renamed).await;
    run.outcome = Outcome::Applied;
    run.renamed = 2;
    apply(f, &run).await.unwrap();
    assert_eq!(
        (held(f, 1).await.username, held(f, 2).await.username),
        ("b".into(), "a".into())
    );
}

pub(super) async fn who_is_suspended_yields_the_name_in_the_same_plan(f: &Fixture) {
    let old = person("jan", 1);
    make(f, 1, std::slice::from_ref(&old)).await;
    let away = User {
        state: State::Suspended,
        state_reason: Some(StateReason::Deleted),
        suspended_at: Some(START),
        suspended_clock: Some(0),
        version: 2,
        ..old
    };
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let mut next = person("jan", 2);
    next.id = crate::model::UserId(uuid::Uuid::from_u128(5));
    stage(
        f,
        &run,
        &[(away, 1, vec![]), (next, 0, vec![])],
        ChangeKind::Created,
    )
    .await;
    run.outcome = Outcome::Applied;
    run.created = 1;
    apply(f, &run).await.unwrap();
    let holders = f
        .store
        .name_holders(&realm(), &["jan".into()])
        .await
        .unwrap();
    assert_eq!(holders[0].directory_id, Some(DirectoryId([2; 16])));
}

pub(super) async fn a_plan_over_a_user_who_changed_applies_nothing(f: &Fixture) {
    let (a, b) = (person("a", 1), person("b", 2));
    make(f, 1, &[a.clone(), b.clone()]).await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let changed = |u: &User| User {
        email: Some("x@example.org".into()),
        version: 2,
        ..u.clone()
    };
    stage(
        f,
        &run,
        &[
            (changed(&a), 1, vec![]),
            (changed(&b), 1, vec![]),
            (person("c", 3), 0, vec![]),
        ],
        ChangeKind::Updated,
    )
    .await;
    f.sql("UPDATE users SET version = 7 WHERE username = 'b'")
        .await;
    run.outcome = Outcome::Applied;
    run.created = 1;
    let error = apply(f, &run).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(1)), "{error}");
    assert_eq!(held(f, 1).await.email, a.email);
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 2);
    assert_eq!(
        f.store.run(&run.run.to_string()).await.unwrap().outcome,
        Outcome::Running
    );
}

pub(super) async fn an_error_in_the_middle_leaves_nothing_half_done(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    // Two new users with one name: the constraint says no in the middle.
    stage(
        f,
        &run,
        &[(person("new", 2), 0, vec![]), (person("new", 3), 0, vec![])],
        ChangeKind::Created,
    )
    .await;
    run.outcome = Outcome::Applied;
    run.created = 2;
    assert!(apply(f, &run).await.is_err());
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 1);
    f.store.sweep_abandoned(START).await.unwrap();
    let ended = f.store.run(&run.run.to_string()).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Failed);
    assert_eq!(f.store.changes(run.run, 0, 10).await.unwrap(), []);
}

pub(super) async fn a_message_that_was_accepted_meanwhile_is_not_forgotten(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    f.sql("UPDATE users SET phone_provisioned = '+421905000999', provisioned = (1 = 1), phone_told = '+421905000999'").await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let after = User {
        email: Some("new@example.org".into()),
        version: 2,
        ..someone
    };
    stage(f, &run, &[(after, 1, vec![])], ChangeKind::Updated).await;
    run.outcome = Outcome::Applied;
    apply(f, &run).await.unwrap();
    let is = held(f, 1).await;
    assert_eq!(
        (
            is.phone_provisioned
                .as_ref()
                .map(crate::model::Phone::as_str),
            is.provisioned
        ),
        (Some("+421905000999"), true),
        "what the outbox knows is the outbox's"
    );
}

pub(super) async fn removal_erases_everything_personal(f: &Fixture) {
    let someone = person("jana", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('other.org', 'directory', 'Other')")
        .await;
    let refusal = crate::model::Refusal {
        dn: someone.dn.clone().unwrap(),
        directory_id: someone.directory_id,
        username: Some("jana".into()),
        attribute: Some("mobile".into()),
        raw: Some("0905 none".into()),
        reason: "no number".into(),
        entry: false,
    };
    for realm in [super::realm(), crate::model::RealmId::from("other.org")] {
        f.store
            .add_refused(
                &realm,
                RefusedDiff {
                    add: vec![(1, refusal.clone())],
                    ..RefusedDiff::default()
                },
                START,
            )
            .await
            .unwrap();
    }
    let mut gone = someone.clone();
    gone.state = State::Removed;
    gone.directory_id = None;
    gone.username = String::new();
    gone.username_key = String::new();
    gone.display_name = None;
    gone.email = None;
    gone.dn = None;
    gone.phone = None;
    gone.phone_raw = None;
    gone.phone_source = None;
    gone.phone_provisioned = None;
    gone.fingerprint = None;
    gone.version = 2;
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let say = Intent::Say {
        r#type: JobType::Deprovision,
        reason: JobReason::GraceOver,
        previous_phone: None,
        previous_username: Some("jana".into()),
    };
    stage(f, &run, &[(gone, 1, vec![say])], ChangeKind::Removed).await;
    run.outcome = Outcome::Applied;
    run.removed = 1;
    let run = apply(f, &run).await.unwrap();
    assert_eq!(run.jobs, 1);
    for change in f.store.changes_of_user(someone.id, 10).await.unwrap() {
        assert!(
            change.username.is_none() && change.before.is_empty() && change.after.is_empty(),
            "{change:?}"
        );
    }
    let refused = f.refused().await;
    let of: Vec<_> = refused.iter().map(|r| r.realm.as_str()).collect();
    assert_eq!(of, ["other.org"], "another realm's refusal is its own");
    f.sql("DELETE FROM refused").await;
    f.sql("DELETE FROM realms WHERE id = 'other.org'").await;
    let left = f.store.users_by_id(&[someone.id]).await.unwrap();
    assert_eq!(
        (left[0].state, left[0].username.as_str(), &left[0].phone),
        (State::Removed, "", &None)
    );
    // The name and the directory id are free again.
    let mut next = person("jana", 1);
    next.id = crate::model::UserId(uuid::Uuid::from_u128(77));
    make(f, 3, &[next]).await;
}

pub(super) async fn texts_of_all_kinds_are_kept(f: &Fixture) {
    let mut someone = person("tab\tand \\N, \\. and 'quote'", 1);
    someone.display_name = Some("two\nlines\r, a \\ and 🦊".into());
    someone.email = Some(String::new());
    someone.entry_uuid = Some(DirectoryId([0; 16]));
    someone.phone_raw = Some("\u{200e}0905\u{a0}12".into());
    someone.phone_pending = Phone::from_e164("+421905000001");
    someone.phone_pending_raw = Some("\\x00".into());
    someone.phone_pending_until = Some(START);
    someone.phone_told = Phone::from_e164("+421905000002");
    someone.phone_source = Some(PhoneSource::Manual);
    (someone.told, someone.provisioned, someone.blocked) = (true, true, true);
    someone.state = State::Suspended;
    someone.state_reason = Some(StateReason::Disabled);
    someone.suspended_at = Some(START);
    someone.suspended_clock = Some(-5);
    someone.two_factor = vec![TwoFactor::SmsOtp, TwoFactor::Fido];
    someone.last_used_at = Some(START.plus_ms(1));
    someone.fingerprint = Some((1 << 62) - 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    assert!(held(f, 1).await == someone);
    let mut index = vec![];
    let each = |id, fingerprint, present| index.push((id, fingerprint, present));
    f.store.index(&realm(), each).await.unwrap();
    let expected = (DirectoryId([1; 16]), someone.fingerprint, true);
    assert_eq!(index, [expected], "who is disabled is present");
}

pub(super) async fn an_act_changes_one_user_and_tells_of_it(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let blocked = User {
        blocked: true,
        ..later(&someone)
    };
    let mut change = line(&run_of(9), 1, &someone, ChangeKind::Blocked);
    change.run = None;
    change.by = Some("eva".into());
    change.at = START.plus_ms(1);
    let say = Intent::Say {
        r#type: JobType::Suspend,
        reason: JobReason::Blocked,
        previous_phone: None,
        previous_username: None,
    };
    let act = async |base| {
        let (changes, intents) = (std::slice::from_ref(&change), std::slice::from_ref(&say));
        f.store
            .act(changes, &blocked, base, intents, &f.ctx())
            .await
    };
    act(1).await.unwrap();
    assert!(held(f, 1).await == blocked);
    assert_eq!(f.states().await, ["waiting"]);
    let lines = f.store.changes_of_user(someone.id, 9).await.unwrap();
    let own: Vec<&Change> = lines.iter().filter(|c| c.run.is_none()).collect();
    assert_eq!((own.len(), own[0].kind), (1, ChangeKind::Blocked));
    assert_eq!(own[0].by.as_deref(), Some("eva"));
    assert!(matches!(act(1).await, Err(StoreError::Conflict(1))));
    assert_eq!(f.states().await, ["waiting"], "nothing is told twice");
    assert_eq!(
        f.sql("DELETE FROM staged_users").await,
        0,
        "nothing stays staged"
    );
}

pub(super) async fn the_index_has_everybody_once(f: &Fixture) {
    const MANY: u32 = 4001;
    let people: Vec<User> = (0..MANY)
        .map(|n| {
            let mut someone = person(&format!("p{n}"), 1);
            someone.id = crate::model::UserId(uuid::Uuid::from_u128(u128::from(n) + 1));
            someone.directory_id = Some(DirectoryId(u128::from(n).to_be_bytes()));
            someone.fingerprint = (n % 2 == 0).then(|| u64::from(n) + 1);
            if n % 3 == 0 {
                someone.state = State::Suspended;
                someone.state_reason = Some(StateReason::Deleted);
            }
            someone
        })
        .collect();
    make(f, 1, &people).await;
    let mut seen = std::collections::BTreeMap::new();
    let each = |id: DirectoryId, fingerprint, present| {
        let n = u128::from_be_bytes(id.0);
        assert_eq!(seen.insert(n, (fingerprint, present)), None, "{n} twice");
    };
    f.store.index(&realm(), each).await.unwrap();
    assert_eq!(seen.len(), people.len());
    for (n, (fingerprint, present)) in seen {
        assert_eq!(present, n % 3 != 0);
        assert_eq!(fingerprint.map(u128::from), (n % 2 == 0).then_some(n + 1));
    }
    let other = RealmId::from("other");
    f.store
        .index(&other, |_, _, _| panic!("nobody"))
        .await
        .unwrap();
}

/// So many that SQLite makes its indexes anew.
#[tokio::test]
async fn a_great_first_load_keeps_the_constraints() {
    let f = sqlite().await;
    let people: Vec<User> = (0..20_000_u32)
        .map(|n| {
            let mut someone = person(&format!("p{n}"), 1);
            someone.id = crate::model::UserId(uuid::Uuid::from_u128(u128::from(n) + 1));
            someone.directory_id = Some(DirectoryId(u128::from(n).to_be_bytes()));
            someone
        })
        .collect();
    let indexes = "SELECT group_concat(name || sql, ';' ORDER BY name) FROM sqlite_schema WHERE type = 'index'";
    let before = f.text(indexes).await;
    // Two of one name: nothing is applied, and the indexes are there as before.
    let mut twins = people.clone();
    twins[7].username_key = "p8".into();
    let mut run = run_of(1);
    f.store.begin_run(&run, false, None).await.unwrap();
    let plan: Vec<_> = twins.into_iter().map(|u| (u, 0, vec![])).collect();
    stage(&f, &run, &plan, ChangeKind::Created).await;
    run.outcome = Outcome::Applied;
    run.created = 20_000;
    let error = apply(&f, &run).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(1)), "{error:?}");
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 0);
    assert_eq!(f.text(indexes).await, before);
    f.store.sweep_abandoned(START).await.unwrap();
    make(&f, 2, &people).await;
    assert_eq!(f.text(indexes).await, before);
    let keys = ["p7".to_owned(), "p19999".to_owned()];
    let holders = f.store.name_holders(&realm(), &keys).await.unwrap();
    assert_eq!(holders.len(), 2);
    let ids = [DirectoryId(9_u128.to_be_bytes())];
    let nine = f.store.users_by_directory_id(&realm(), &ids).await.unwrap();
    assert_eq!(nine[0].username, "p9");
}
