//! The store's rules, each on both engines: plans applied whole or not at all, names, removal, housekeeping, and what a disk may do.

use std::time::Duration;

use super::outbox_tests::{DAY_MS, Fixture, START, postgres, sqlite, user};
use super::*;
use crate::clock::Timestamp;
use crate::model::{
    Change, ChangeKind, DirectoryId, HeldBy, JobReason, JobType, Limit, Mode, Outcome, RealmId,
    Refusal, Run, RunId, State, StateReason, Trigger, User,
};
use crate::model::{Intent, JobState};

fn realm() -> RealmId {
    RealmId::from("example.org")
}

fn run_of(n: u128) -> Run {
    Run {
        run: RunId(uuid::Uuid::from_u128(
            0x01a2_0000_0000_7000_8000_0000_0000_0000 + n,
        )),
        realm: realm(),
        mode: Mode::Full,
        trigger: Trigger::Command,
        by: None,
        outcome: Outcome::Running,
        complete: true,
        seen: 0,
        created: 0,
        updated: 0,
        renamed: 0,
        phone_changed: 0,
        phone_lost: 0,
        suspended: 0,
        restored: 0,
        removed: 0,
        moved: 0,
        refused_entries: 0,
        refused_phones: 0,
        jobs: 0,
        held_by: vec![],
        server: None,
        started_at: START,
        decided_at: Some(START),
        elapsed_ms: 1,
        error_code: None,
        error: None,
    }
}

fn person(name: &str, n: u8) -> User {
    let mut someone = user(name, &format!("+4219051234{n:02}"));
    someone.directory_id = Some(DirectoryId([n; 16]));
    someone.dn = Some(format!("uid={name},ou=people,dc=example,dc=org"));
    someone.phone_source = Some(crate::model::PhoneSource::Directory);
    someone.fingerprint = Some(u64::from(n));
    someone
}

fn line(run: &Run, seq: i64, user: &User, kind: ChangeKind) -> Change {
    let mut after = serde_json::Map::new();
    after.insert("phone".into(), serde_json::json!(user.phone));
    Change {
        run: Some(run.run),
        seq,
        realm: realm(),
        user: user.id,
        username: Some(user.username.clone()),
        by: None,
        kind,
        before: serde_json::Map::new(),
        after,
        at: START,
    }
}

/// Stages users as a run would; a user of version 1 without a base is new.
async fn stage(f: &Fixture, run: &Run, users: &[(User, i64, Vec<Intent>)], kind: ChangeKind) {
    let staged: Vec<StagedUser> = users
        .iter()
        .enumerate()
        .map(|(i, (user, base, intents))| StagedUser {
            seq: i64::try_from(i).unwrap() + 1,
            base_version: *base,
            user: user.clone(),
            container: user.dn.as_deref().and_then(crate::model::dn::container),
            intents: intents.clone(),
        })
        .collect();
    let changes: Vec<Change> = staged
        .iter()
        .map(|s| line(run, s.seq, &s.user, kind))
        .collect();
    f.store.stage(run.run, &staged, &changes).await.unwrap();
}

async fn apply(f: &Fixture, run: &Run) -> Result<Run, StoreError> {
    let messages = f.ctx();
    f.store
        .apply(Application {
            run,
            facts: RunFacts::default(),
            realm: RealmUpdate::default(),
            refused: None,
            messages: &messages,
            replaces: None,
        })
        .await
}

/// Makes these users by a run of their own.
async fn make(f: &Fixture, n: u128, users: &[User]) {
    let mut run = run_of(n);
    f.store.begin_run(&run, false).await.unwrap();
    let list: Vec<_> = users.iter().map(|u| (u.clone(), 0, vec![])).collect();
    stage(f, &run, &list, ChangeKind::Created).await;
    run.outcome = Outcome::Applied;
    run.created = i64::try_from(users.len()).unwrap();
    apply(f, &run).await.unwrap();
}

async fn held(f: &Fixture, id: u8) -> User {
    f.store
        .users_by_directory_id(&realm(), &[DirectoryId([id; 16])])
        .await
        .unwrap()
        .pop()
        .expect("the user")
}

async fn a_user_comes_back_as_it_was_written(f: &Fixture) {
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
            .present_in_container(&realm(), "ou=people,dc=example,dc=org")
            .await
            .unwrap(),
        1
    );
    let found = f.store.find_users("JÁN", None).await.unwrap();
    assert_eq!(found.len(), 1, "names are compared without case");
    let prefix = someone.id.to_string();
    assert_eq!(
        f.store.find_users(&prefix[..8], None).await.unwrap().len(),
        1
    );
}

async fn two_users_swap_names(f: &Fixture) {
    let (a, b) = (person("a", 1), person("b", 2));
    make(f, 1, &[a.clone(), b.clone()]).await;
    let swapped = |u: &User, name: &str| User {
        username: name.into(),
        username_key: name.into(),
        version: 2,
        ..u.clone()
    };
    let mut run = run_of(2);
    f.store.begin_run(&run, false).await.unwrap();
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

async fn a_plan_over_a_user_who_changed_applies_nothing(f: &Fixture) {
    let (a, b) = (person("a", 1), person("b", 2));
    make(f, 1, &[a.clone(), b.clone()]).await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false).await.unwrap();
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

async fn an_error_in_the_middle_leaves_nothing_half_done(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false).await.unwrap();
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

async fn removal_erases_everything_personal(f: &Fixture) {
    let someone = person("jana", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
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
    f.store.begin_run(&run, false).await.unwrap();
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

async fn a_held_plan_is_decided_once(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    let hold = async |n: u128, replaces: Option<RunId>| {
        let mut run = run_of(n);
        f.store.begin_run(&run, false).await.unwrap();
        let after = User {
            version: 2,
            ..person("a", 1)
        };
        stage(f, &run, &[(after, 1, vec![])], ChangeKind::Updated).await;
        run.outcome = Outcome::Held;
        run.held_by = vec![HeldBy {
            limit: "suspended".into(),
            count: 9,
            of: 10,
            allowed: 2,
        }];
        f.store
            .hold(
                &run,
                RunFacts::default(),
                None,
                replaces,
                &[JobType::Suspend],
            )
            .await
            .unwrap();
        run
    };
    let first = hold(2, None).await;
    assert_eq!(
        f.store.realm(&realm()).await.unwrap().unwrap().held,
        Some(first.run)
    );
    f.store.confirm_held(first.run).await.unwrap();
    assert_eq!(f.store.run_facts(first.run).await.unwrap().confirmed, 1);
    let second = hold(3, Some(first.run)).await;
    let old = f.store.run_facts(first.run).await.unwrap();
    assert_eq!(old.replaced_by, Some(second.run));
    assert_eq!(
        f.store.run(&first.run.to_string()).await.unwrap().outcome,
        Outcome::Replaced
    );
    let expired = f
        .store
        .expired_held(START.plus_ms(8 * DAY_MS))
        .await
        .unwrap();
    assert_eq!(expired.len(), 1);
    let rejected = f
        .store
        .decide_held(
            second.run,
            Outcome::Rejected,
            Some("eva".into()),
            None,
            START,
        )
        .await
        .unwrap();
    assert_eq!(
        (rejected.outcome, rejected.by.as_deref()),
        (Outcome::Rejected, Some("eva"))
    );
    let twice = f
        .store
        .decide_held(second.run, Outcome::Rejected, None, None, START)
        .await;
    assert!(matches!(twice, Err(StoreError::Refused(_))));
    assert_eq!(f.store.realm(&realm()).await.unwrap().unwrap().held, None);
}

async fn what_was_staged_is_taken_back_and_swept(f: &Fixture) {
    let run = run_of(1);
    f.store.begin_run(&run, false).await.unwrap();
    let people: Vec<_> = (1..=9)
        .map(|n| (person(&format!("p{n}"), n), 0, vec![]))
        .collect();
    stage(f, &run, &people, ChangeKind::Created).await;
    let (users, changes) = f
        .store
        .unstage(run.run, &[DirectoryId([3; 16]), DirectoryId([4; 16])])
        .await
        .unwrap();
    assert_eq!((users.len(), changes.len()), (2, 2));
    let left = f
        .store
        .staged_by_kind(run.run, &[ChangeKind::Created], 0, 100)
        .await
        .unwrap();
    assert_eq!(left.len(), 7);
    f.store.sweep(run.run).await.unwrap();
    assert_eq!(f.store.changes(run.run, 0, 100).await.unwrap(), []);
}

async fn the_window_sums_what_was_applied_since(f: &Fixture) {
    make(f, 1, &[person("a", 1), person("b", 2)]).await;
    let since = |at: Timestamp| [(Limit::Created, at), (Limit::Suspended, at)];
    let sums = f
        .store
        .window(&realm(), &since(START.plus_ms(-1)))
        .await
        .unwrap();
    assert_eq!(sums, [(Limit::Created, 2), (Limit::Suspended, 0)]);
    let sums = f.store.window(&realm(), &since(START)).await.unwrap();
    assert_eq!(sums, [(Limit::Created, 0), (Limit::Suspended, 0)]);
}

async fn refusals_are_kept_by_difference(f: &Fixture) {
    let refusal = |dn: &str| Refusal {
        dn: dn.into(),
        directory_id: None,
        username: None,
        attribute: Some("mobile".into()),
        raw: Some("n/a".into()),
        reason: "no number".into(),
        entry: false,
    };
    let diff = RefusedDiff {
        add: vec![(1, refusal("a")), (2, refusal("b"))],
        gone: vec![],
    };
    let write = async |n: u128, diff: RefusedDiff| {
        let mut run = run_of(n);
        f.store.begin_run(&run, false).await.unwrap();
        run.outcome = Outcome::Unchanged;
        let messages = f.ctx();
        f.store
            .apply(Application {
                run: &run,
                facts: RunFacts::default(),
                realm: RealmUpdate::default(),
                refused: Some(diff),
                messages: &messages,
                replaces: None,
            })
            .await
            .unwrap();
    };
    write(1, diff).await;
    write(
        2,
        RefusedDiff {
            add: vec![(3, refusal("c"))],
            gone: vec![1],
        },
    )
    .await;
    let rows = f.store.refused(Some(&realm())).await.unwrap();
    let dns: Vec<&str> = rows.iter().map(|r| r.refusal.dn.as_str()).collect();
    assert_eq!(dns, ["b", "c"]);
}

async fn old_runs_are_forgotten_but_never_a_held_plan_or_the_last_success(f: &Fixture) {
    make(f, 1, &[person("a", 1)]).await;
    for n in 2..6 {
        let mut run = run_of(n);
        f.store.begin_run(&run, false).await.unwrap();
        run.outcome = Outcome::Unchanged;
        apply(f, &run).await.unwrap();
    }
    let later = START.plus_ms(3 * DAY_MS);
    assert_eq!(f.store.prune(later, 400 * DAY_MS).await.unwrap(), 3);
    let left = f.store.runs(None, 10).await.unwrap();
    assert_eq!(
        left.len(),
        2,
        "the one that changed something, and the newest"
    );
    f.store
        .prune(START.plus_ms(500 * DAY_MS), 400 * DAY_MS)
        .await
        .unwrap();
    assert_eq!(f.store.runs(None, 10).await.unwrap().len(), 1);
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 1);
}

async fn one_run_a_realm(f: &Fixture) {
    let lock = f.store.lock_realm(&realm()).await.unwrap();
    assert!(matches!(
        f.store.lock_realm(&realm()).await,
        Err(StoreError::Busy { .. })
    ));
    f.store.lock_realm(&RealmId::from("other")).await.unwrap();
    drop(lock);
    f.store.lock_realm(&realm()).await.unwrap();
}

async fn a_message_that_was_accepted_meanwhile_is_not_forgotten(f: &Fixture) {
    let someone = person("a", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    f.sql("UPDATE users SET phone_provisioned = '+421905000999', provisioned = (1 = 1), phone_told = '+421905000999'").await;
    let mut run = run_of(2);
    f.store.begin_run(&run, false).await.unwrap();
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

async fn who_is_suspended_yields_the_name_in_the_same_plan(f: &Fixture) {
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
    f.store.begin_run(&run, false).await.unwrap();
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

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite_tests {
            $(#[tokio::test] async fn $name() { super::$name(&super::sqlite().await).await; })+
        }

        #[tokio::test]
        async fn everything_on_postgresql() {
            let f = postgres().await;
            $(
                f.sql("DELETE FROM refused").await;
                f.sql("DELETE FROM enrolments").await;
                f.sql("DELETE FROM jobs").await;
                f.sql("DELETE FROM staged_users").await;
                f.sql("DELETE FROM changes").await;
                f.sql("DELETE FROM runs").await;
                f.sql("DELETE FROM users").await;
                f.sql("UPDATE realms SET held = NULL").await;
                $name(&f).await;
            )+
        }
    };
}

on_both!(
    a_user_comes_back_as_it_was_written,
    two_users_swap_names,
    a_plan_over_a_user_who_changed_applies_nothing,
    an_error_in_the_middle_leaves_nothing_half_done,
    removal_erases_everything_personal,
    a_held_plan_is_decided_once,
    what_was_staged_is_taken_back_and_swept,
    the_window_sums_what_was_applied_since,
    refusals_are_kept_by_difference,
    old_runs_are_forgotten_but_never_a_held_plan_or_the_last_success,
    one_run_a_realm,
    a_message_that_was_accepted_meanwhile_is_not_forgotten,
    who_is_suspended_yields_the_name_in_the_same_plan,
);

fn config(path: &std::path::Path) -> StoreConfig {
    StoreConfig {
        url: StoreUrl::Sqlite(path.to_owned()),
        password: None,
        keep_runs_ms: DAY_MS,
    }
}

async fn open(path: &std::path::Path, access: Access) -> Result<Store, StoreError> {
    Store::open(&config(path), &Environment::default(), access, START).await
}

#[tokio::test]
async fn reading_makes_nothing_and_a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let error = open(&path, Access::Read).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    assert!(!path.exists());
    let store = open(&path, Access::Write).await.unwrap();
    open(&path, Access::Read).await.unwrap();
    let mut tx = store.db.begin().await.unwrap();
    db::on!(tx, c => sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99990101000000, 'from the future', 1, x'00', 0)").execute(&mut *c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
    store.close().await;
    for access in [Access::Read, Access::Write] {
        let error = open(&path, access).await.unwrap_err();
        assert!(matches!(error, StoreError::TooNew { .. }), "{error}");
        assert!(error.to_string().contains("newer realmsync"), "{error}");
    }
    let folder = open(&dir.path().join("missing/store.db"), Access::Write)
        .await
        .unwrap_err();
    assert!(folder.to_string().contains("install -d"), "{folder}");
}

#[tokio::test]
async fn trap_31_writers_never_meet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8_u32 {
        let store = store.clone();
        writers.spawn(async move {
            for i in 0..25_u32 {
                let decl = RealmDecl {
                    id: RealmId::from(format!("r{n}-{i}")),
                    name: "x".into(),
                };
                store.declare_realms(&[decl], START).await?;
            }
            Ok::<(), StoreError>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(store.realms().await.unwrap().len(), 200);
}

#[test]
fn trap_30_the_lock_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("store.db"));
    let _held = lock(&config, Duration::ZERO).unwrap();
    let error = lock(&config, Duration::ZERO).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    assert_eq!(error.code(), ErrorCode::Busy);
}

#[tokio::test]
async fn trap_31_a_full_disk_leaves_nothing_half_done() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(dir.path())
            .status()
            .expect("mount");
        assert!(status.success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    let names: Vec<RealmDecl> = (0..40_000)
        .map(|n| RealmDecl {
            id: RealmId::from(format!("a-realm-with-quite-a-long-name-{n}")),
            name: "x".repeat(60),
        })
        .collect();
    let error = store.declare_realms(&names, START).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable(_)), "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(
        store.realms().await.unwrap().len(),
        0,
        "nothing is half done"
    );
    // Room is made, and the next one mends it.
    mount(&["mount", "-o", "remount,size=64m"]);
    store.declare_realms(&names[..100], START).await.unwrap();
    assert_eq!(store.realms().await.unwrap().len(), 100);
    store.close().await;
    mount(&["umount"]);
}

#[tokio::test]
async fn a_lost_postgresql_is_said_and_found_again() {
    let f = postgres().await;
    assert_eq!(f.store.realms().await.unwrap().len(), 1);
    f.restart();
    let mut said = vec![];
    for _ in 0..20 {
        match f.store.realms().await {
            Ok(realms) => {
                assert_eq!(realms.len(), 1);
                let jobs = f
                    .store
                    .jobs(
                        &JobSelection {
                            states: vec![JobState::Waiting],
                            ..JobSelection::default()
                        },
                        1,
                    )
                    .await;
                assert!(jobs.is_ok());
                return;
            }
            Err(error) => said.push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("it was not found again: {said:?}");
}
