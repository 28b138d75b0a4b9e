//! A first load of an empty store: what takes the place of `users` is `users`, and where it cannot, nobody is missing.

use std::time::Duration;

use super::super::db::on;
use super::*;
use crate::model::{JobReason, JobType, Origin, State, StateReason, TwoFactor};

mod others;

/// Everything that makes `users` what it is, a line for each thing.
const SHAPE_SQLITE: &str = r#"
    SELECT group_concat(line, char(10)) FROM (
        SELECT type || ' ' || name || ' ' || replace(COALESCE(sql, ''), '"', '') AS line FROM sqlite_schema ORDER BY type, name)"#;
const SHAPE_POSTGRES: &str = "
    SELECT string_agg(line, chr(10) ORDER BY line) FROM (
        SELECT concat_ws(' ', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY attnum), attname, format_type(atttypid, atttypmod), attnotnull,
            attidentity, attstorage, attcollation::regcollation, pg_get_expr(adbin, adrelid)) AS line
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = attnum
        WHERE c.relname IN ('users', 'lines')
        UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, contype, pg_get_constraintdef(oid), conindid::regclass, convalidated)
        FROM pg_constraint WHERE conrelid = 'users'::regclass OR confrelid = 'users'::regclass
        UNION ALL SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisprimary, indisunique, indisvalid) FROM pg_index
        WHERE indrelid = 'users'::regclass
        UNION ALL SELECT concat_ws(' ', relname, relkind, relowner::regrole, reloptions::TEXT, relacl::TEXT, relpersistence) FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace
        UNION ALL SELECT concat_ws(' ', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT pg_get_viewdef('lines'::regclass)
        UNION ALL SELECT pg_get_serial_sequence('users', 'pk')) all_of_it";

/// Every name in the schema, and everything about `users`.
async fn shape(f: &Fixture) -> String {
    const WHOLE: &str = "SELECT group_concat(integrity_check) FROM pragma_integrity_check";
    let sql = match f.store.db {
        Db::Sqlite { .. } => SHAPE_SQLITE,
        Db::Postgres { .. } => SHAPE_POSTGRES,
    };
    if f.store.single_daemon() {
        assert_eq!(f.text(WHOLE).await.as_deref(), Some("ok"));
    }
    f.text(sql).await.expect("a schema")
}

fn staged(seq: i64, user: User, intents: Vec<Intent>) -> StagedUser {
    StagedUser {
        seq,
        base_version: 0,
        container: user.dn.as_deref().and_then(crate::model::dn::container),
        user,
        intents,
    }
}

/// People who differ in everything that may differ, the first of them with what is refused to nobody.
fn people() -> Vec<User> {
    let mut all: Vec<User> = (1..=5).map(|n| person(&format!("p{n}"), n)).collect();
    all[0].display_name = Some("Ján „Novák“\t\\N\n".into());
    all[0].email = Some("jan@example.org".into());
    all[0].phone_raw = Some("0905 12 34 01".into());
    all[0].phone_attribute = Some("mobile".into());
    all[0].phone_rule = Some("national, region SK".into());
    all[1].phone = None;
    all[1].phone_source = None;
    all[1].phone_provisioned = None;
    all[1].phone_raw = Some("none yet".into());
    all[2].state = State::Suspended;
    all[2].state_reason = Some(StateReason::Disabled);
    all[2].suspended_at = Some(START);
    all[2].suspended_clock = Some(0);
    all[3].entry_uuid = Some(DirectoryId([9; 16]));
    all[3].fingerprint = Some(u64::MAX);
    all[3].dn = None;
    all[4].fingerprint = None;
    all[4].two_factor = vec![TwoFactor::SmsOtp, TwoFactor::Fido];
    all
}

/// A run whose first load lies aside.
async fn laid_aside(f: &Fixture, n: u128, users: &[User]) -> Run {
    let mut run = run_of(n);
    f.store.begin_run(&run, true, None).await.unwrap();
    assert!(f.store.lay_aside(run.run).await.unwrap());
    let size = if users.len() < 10 { 2 } else { 500 };
    for (batch, users) in users.chunks(size).enumerate() {
        let first = i64::try_from(batch * size).unwrap() + 1;
        let rows = (first..).zip(users);
        let rows = rows.map(|(seq, user)| staged(seq, user.clone(), vec![]));
        f.store.stage_aside(run.run, rows.collect()).await.unwrap();
    }
    run.outcome = Outcome::Applied;
    run.created = i64::try_from(users.len()).unwrap();
    run
}

/// Applies a first pass whose load lies aside.
async fn apply_first(f: &Fixture, run: &Run) -> Result<Run, StoreError> {
    let staged = Staged {
        aside: true,
        changed: Some(0),
        made: run.created,
    };
    apply_as(f, &f.store, run, staged).await
}

async fn apply_as(
    f: &Fixture,
    store: &Store,
    run: &Run,
    staged: Staged,
) -> Result<Run, StoreError> {
    let messages = f.ctx();
    let facts = RunFacts {
        first_pass: true,
        ..RunFacts::default()
    };
    store
        .apply(Application {
            run,
            facts,
            realm: RealmUpdate::default(),
            refused: None,
            messages: &messages,
            replaces: None,
            staged,
            audit: None,
        })
        .await
}

/// Everybody is there as they were written, and has the line that says so.
async fn all_there(f: &Fixture, run: &Run, users: &[User]) {
    for (n, written) in (1..).zip(users) {
        let read = held(f, n).await;
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
    }
    let lines = f.store.changes(run.run, 0, 100).await.unwrap();
    let told: Vec<_> = lines.iter().map(|l| (l.seq, l.user, l.kind)).collect();
    let expected: Vec<_> = (1..)
        .zip(users)
        .map(|(seq, user)| (seq, user.id, ChangeKind::Created))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(
        f.store.not_removed(&realm()).await.unwrap(),
        i64::try_from(users.len()).unwrap()
    );
}

/// No rule of `users` is lost: names, ids and numbers are watched, and the next user gets a place of their own.
async fn rules_hold(f: &Fixture) {
    let mut twice = person("P1", 77);
    twice.username_key = "p1".into();
    let mut same_id = person("somebody", 1);
    same_id.email = None;
    for (n, wrong) in (20..).zip([twice, same_id]) {
        let mut run = run_of(n);
        f.store.begin_run(&run, false, None).await.unwrap();
        stage(f, &run, &[(wrong, 0, vec![])], ChangeKind::Created).await;
        run.outcome = Outcome::Applied;
        run.created = 1;
        let error = apply(f, &run).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Database { .. } | StoreError::Conflict(1)),
            "{error:?}"
        );
        f.store.sweep(run.run).await.unwrap();
    }
    for wrong in [
        "UPDATE users SET phone = '+0905' WHERE username = 'p1'",
        "UPDATE users SET state = 'gone' WHERE username = 'p1'",
        "UPDATE users SET version = 0 WHERE username = 'p1'",
        "UPDATE users SET id = NULL WHERE username = 'p1'",
        "INSERT INTO enrolments (id, user_id, token_sha256, state, expires_at, created_at) \
         SELECT id, directory_id, id, 'open', 1, 1 FROM users WHERE username = 'p1'",
    ] {
        let mut tx = f.store.db.begin().await.unwrap();
        let done = on!(tx, c => sqlx::query(wrong).execute(&mut *c).await.map(|_| ()));
        assert!(done.is_err(), "{wrong}");
    }
    make(f, 30, &[person("next", 50)]).await;
    assert_eq!(held(f, 50).await.username, "next");
    let places =
        "SELECT CASE WHEN COUNT(DISTINCT pk) = COUNT(*) AND COUNT(*) = 6 THEN 'own' END FROM users";
    assert_eq!(f.text(places).await.as_deref(), Some("own"));
}

/// Which table `users` is: another one, once something took its place.
async fn which(f: &Fixture) -> String {
    let sql = match f.store.db {
        Db::Sqlite { .. } => "SELECT substr(sql, 1, 20) FROM sqlite_schema WHERE name = 'users'",
        Db::Postgres { .. } => "SELECT 'users'::regclass::oid::TEXT",
    };
    f.text(sql).await.expect("a table")
}

pub(super) async fn a_first_load_takes_the_place_of_users(f: &Fixture) {
    let (before, former) = (shape(f).await, which(f).await);
    let users = people();
    let run = laid_aside(f, 1, &users).await;
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 0);
    let seen = f
        .store
        .aside_of(
            run.run,
            &[
                Origin::Directory(DirectoryId([3; 16])),
                Origin::Directory(DirectoryId([99; 16])),
            ],
        )
        .await
        .unwrap();
    assert_eq!(seen, [staged(3, users[2].clone(), vec![])]);
    apply_first(f, &run).await.unwrap();
    all_there(f, &run, &users).await;
    assert_eq!(shape(f).await, before);
    assert_ne!(which(f).await, former, "it was added to the old table");
    rules_hold(f).await;
}

/// Who comes by a file has nothing of a directory. Values that mostly are another's may be others, or none.
pub(super) async fn who_comes_by_a_file_is_written_as_decided(f: &Fixture) {
    let by_file = |name: &str, n: u8| User {
        origin: crate::model::UserOrigin::Import,
        phone_source: Some(crate::model::PhoneSource::Manual),
        ..user(name, &format!("+4219051234{n:02}"))
    };
    let mut users: Vec<User> = (1..=5).map(|n| by_file(&format!("f{n}"), n)).collect();
    users[0].phone_raw = users[0].phone.clone().map(String::from);
    users[1].phone_raw = Some("0905 12 34 02".into());
    users[1].username = "F2".into();
    users[2].phone = None;
    users[2].phone_raw = Some("none yet".into());
    users[3].phone = None;
    users[4].display_name = Some("Ján".into());
    for user in &mut users {
        user.phone_source = user.phone_source.filter(|_| user.phone.is_some());
        user.phone_provisioned.clone_from(&user.phone);
    }
    let run = laid_aside(f, 1, &users).await;
    apply_first(f, &run).await.unwrap();
    let more: Vec<User> = users
        .iter()
        .map(|user| User {
            id: crate::model::UserId(uuid::Uuid::now_v7()),
            username: format!("{}m", user.username),
            username_key: format!("{}m", user.username_key),
            ..user.clone()
        })
        .collect();
    make(f, 2, &more).await;
    for written in users.iter().chain(&more) {
        let read = f.store.users_by_id(&[written.id]).await.unwrap().remove(0);
        let told = |u: &User| {
            let phones = (
                u.phone.clone(),
                u.phone_raw.clone(),
                u.phone_source,
                u.phone_provisioned.clone(),
            );
            (
                u.username.clone(),
                u.username_key.clone(),
                u.display_name.clone(),
                phones,
            )
        };
        assert_eq!(told(&read), told(written));
    }
    settled(f, &users).await;
}

/// Which of them are told apart as settled, and what is told of them.
async fn settled(f: &Fixture, users: &[User]) {
    let keys: Vec<&str> = users.iter().map(|u| u.username_key.as_str()).collect();
    let there = async |sends| {
        let found = f.store.settled_users(&realm(), &keys, sends).await.unwrap();
        let mut names: Vec<String> = found.into_keys().collect();
        names.sort();
        names
    };
    assert_eq!(there(false).await, ["f1", "f2", "f3", "f4", "f5"]);
    assert_eq!(there(true).await, [""; 0], "they are to be told");
    f.sql("UPDATE users SET provisioned = (1 = 1), note = 'a \"b\"', two_factor = 'sms-otp,fido' WHERE username_key = 'f5'").await;
    assert_eq!(there(true).await, ["f5"]);
    let f5 = f.store.settled_users(&realm(), &keys, true).await.unwrap();
    let f5 = &f5["f5"];
    assert_eq!(
        (
            f5.display_name.as_deref(),
            f5.note.as_deref(),
            f5.phone.as_deref()
        ),
        (Some("Ján"), Some("a \"b\""), Some("+421905123405"))
    );
    assert_eq!(
        (f5.two_factor.as_slice(), &f5.email),
        (&[TwoFactor::SmsOtp, TwoFactor::Fido][..], &None)
    );
    for (n, open) in [
        "state = 'suspended', state_reason = 'disabled', suspended_at = 1, suspended_clock = 1",
        "blocked = (1 = 1)",
        "phone_provisioned = '+421905999999'",
    ]
    .into_iter()
    .enumerate()
    {
        let n = n + 1;
        let sql = format!("UPDATE users SET {open} WHERE username_key = 'f{n}'");
        let mut tx = f.store.db.begin().await.unwrap();
        super::super::aside::execute(&mut tx, sql, "open")
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(there(false).await.len(), 5 - n, "{open}");
    }
    let found = f
        .store
        .users_by_name(&realm(), &["f1", "f2m", "nobody"])
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
}

pub(super) async fn who_is_told_something_comes_with_a_first_load(f: &Fixture) {
    let users = people();
    let mut run = laid_aside(f, 1, &users).await;
    let invited = person("invited", 9);
    let intent = say(JobType::Provision, JobReason::Created);
    let row = staged(6, invited.clone(), vec![intent]);
    f.store.stage(run.run, vec![row], &[]).await.unwrap();
    run.created += 1;
    let applied = apply_first(f, &run).await.unwrap();
    assert_eq!(f.store.lying_aside().await.unwrap(), []);
    assert_eq!(applied.jobs, 1);
    assert_eq!(f.jobs().await[0].user, invited.id);
    assert_eq!(held(f, 9).await.username, "invited");
    let lines = f.store.changes(run.run, 0, 100).await.unwrap();
    let seqs: Vec<i64> = lines.iter().map(|l| l.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
}

pub(super) async fn a_first_load_that_is_held_lies_among_the_plans(f: &Fixture) {
    let before = shape(f).await;
    let users = people();
    let mut run = laid_aside(f, 1, &users).await;
    f.store.put_in_line(run.run).await.unwrap();
    assert_eq!(shape(f).await, before);
    run.outcome = Outcome::Held;
    let facts = RunFacts {
        first_pass: true,
        ..RunFacts::default()
    };
    let mut staged = Staged {
        aside: false,
        changed: Some(0),
        made: 6,
    };
    let lost = f
        .store
        .hold(&run, staged, facts.clone(), None, None, &[])
        .await;
    assert!(
        matches!(lost, Err(StoreError::Forgotten { there: 5, given: 6 })),
        "{lost:?}"
    );
    staged.made = 5;
    f.store
        .hold(&run, staged, facts, None, None, &[])
        .await
        .unwrap();
    let shown = f.store.changes(run.run, 0, 100).await.unwrap();
    assert_eq!(shown.len(), 5);
    run.outcome = Outcome::Applied;
    apply_as(f, &f.store, &run, Staged::default())
        .await
        .unwrap();
    all_there(f, &run, &users).await;
}

pub(super) async fn what_is_taken_back_of_a_first_load_is_gone(f: &Fixture) {
    let mut users = people();
    users[3].directory_id = None;
    let mut run = laid_aside(f, 1, &users).await;
    // Of no directory, and so by our own id: whoever has one of a directory is not meant.
    let whom = [
        Origin::Own(users[3].id),
        Origin::Own(users[0].id),
        Origin::Directory(DirectoryId([5; 16])),
        Origin::Directory(DirectoryId([42; 16])),
    ];
    let taken = f.store.unstage_aside(run.run, &whom).await.unwrap();
    let expected = [
        staged(5, users[4].clone(), vec![]),
        staged(4, users[3].clone(), vec![]),
    ];
    assert_eq!(taken, expected);
    run.created = 3;
    apply_first(f, &run).await.unwrap();
    all_there(f, &run, &users[..3]).await;
}

pub(super) async fn a_wrong_row_ends_a_first_load_and_leaves_nothing(f: &Fixture) {
    let before = shape(f).await;
    // Two with one name: nothing watches them while they lie there, the index does when it is built.
    let mut users = people();
    users[1].username_key = "p1".into();
    let run = laid_aside(f, 1, &users).await;
    let error = apply_first(f, &run).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(1)), "{error:?}");
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 0);
    f.store.sweep(run.run).await.unwrap();
    assert_eq!(shape(f).await, before);
    // A row that no rule allows is refused when it is staged.
    let run = laid_aside(f, 2, &[]).await;
    let mut wrong = person("a", 1);
    wrong.version = 0;
    let rows = vec![staged(1, wrong, vec![])];
    let error = f.store.stage_aside(run.run, rows).await.unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
    f.store.sweep(run.run).await.unwrap();
    let run = laid_aside(f, 3, &people()).await;
    apply_first(f, &run).await.unwrap();
    assert_eq!(shape(f).await, before);
}

pub(super) async fn a_first_load_into_a_store_that_fills_adds_to_it(f: &Fixture) {
    let before = shape(f).await;
    let users = people();
    let run = laid_aside(f, 1, &users).await;
    // Another realm's people came meanwhile.
    let mut other = person("other", 60);
    other.realm = RealmId::from("other");
    let decl = RealmDecl {
        id: other.realm.clone(),
        name: "Other".into(),
    };
    f.store.declare_realms(&[decl], START).await.unwrap();
    make(f, 2, std::slice::from_ref(&other)).await;
    apply_first(f, &run).await.unwrap();
    all_there(f, &run, &users).await;
    let there = f
        .store
        .users_by_directory_id(&other.realm, &[DirectoryId([60; 16])]);
    assert_eq!(there.await.unwrap().len(), 1);
    assert_eq!(shape(f).await, before);
    let late = run_of(3);
    f.store.begin_run(&late, true, None).await.unwrap();
    assert!(!f.store.lay_aside(late.run).await.unwrap());
}

/// An administrator adds somebody by hand whose name the load has too.
pub(super) async fn a_name_that_is_taken_during_a_first_load_is_a_conflict(f: &Fixture) {
    super::by_hand::ready(f).await;
    let users = people();
    let run = laid_aside(f, 1, &users).await;
    let taken = super::by_hand::by_hand("p1", 77);
    let add = crate::model::AuditAct::UserAdd;
    super::by_hand::act(f, &taken, 0, add).await.unwrap();
    let late = apply_first(f, &run).await;
    assert!(matches!(late, Err(StoreError::Conflict(1))), "{late:?}");
    f.store.forget_aside(run.run).await.unwrap();
}

pub(super) async fn what_a_crash_leaves_of_a_first_load_is_swept(f: &Fixture) {
    let before = shape(f).await;
    let going = laid_aside(f, 1, &people()).await;
    let over = laid_aside(f, 2, &people()).await;
    f.sql("UPDATE runs SET outcome = 'failed' WHERE id NOT IN (SELECT id FROM runs ORDER BY id LIMIT 1)").await;
    let unknown = run_of(3);
    assert!(f.store.lay_aside(unknown.run).await.unwrap());
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    assert_eq!(f.store.sweep_abandoned(START).await.unwrap(), 0);
    assert_eq!(f.store.lying_aside().await.unwrap(), [going.run]);
    drop(lock);
    for _ in 0..100 {
        // PostgreSQL notices a closed connection a moment later.
        if f.store.sweep_abandoned(START).await.unwrap() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(f.store.lying_aside().await.unwrap(), []);
    assert_eq!(shape(f).await, before);
    let there = f.store.run(&over.run.to_string()).await.unwrap();
    assert_eq!(there.outcome, Outcome::Failed);
}

/// What PostgreSQL forgot of a plan is missed, whether it is about new users or about others.
pub(super) async fn what_the_database_forgot_is_missed(f: &Fixture) {
    let users = people();
    let run = laid_aside(f, 1, &users).await;
    let more = Staged {
        aside: true,
        changed: Some(0),
        made: 6,
    };
    let error = apply_as(f, &f.store, &run, more).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Forgotten { given: 6, .. }),
        "{error:?}"
    );
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 0);
    apply_first(f, &run).await.unwrap();
    let mut run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let list = [(later(&users[0]), 1, vec![])];
    stage(f, &run, &list, ChangeKind::Updated).await;
    run.outcome = Outcome::Applied;
    let two = Staged {
        aside: false,
        changed: Some(2),
        made: 0,
    };
    let error = apply_as(f, &f.store, &run, two).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database was started anew while the plan was made, and has 1 of the plan's 2 rows. Nothing was applied; the next run decides anew"
    );
    assert_eq!(held(f, 1).await.version, 1);
}
