//! A first load of an empty store: what takes the place of `users` is `users`, and where it cannot, nobody is missing.

use std::time::Duration;

use super::super::db::on;
use super::races::another;
use super::*;
use crate::model::{JobReason, JobType, State, StateReason, TwoFactor};

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
    let sql = match f.store.db {
        Db::Sqlite { .. } => SHAPE_SQLITE,
        Db::Postgres { .. } => SHAPE_POSTGRES,
    };
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
    f.store.begin_run(&run, true).await.unwrap();
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
        f.store.begin_run(&run, false).await.unwrap();
        stage(f, &run, &[(wrong, 0, vec![])], ChangeKind::Created).await;
        run.outcome = Outcome::Applied;
        run.created = 1;
        let error = apply(f, &run).await.unwrap_err();
        assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
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
        .aside_by_directory_id(run.run, &[DirectoryId([3; 16]), DirectoryId([99; 16])])
        .await
        .unwrap();
    assert_eq!(seen, [staged(3, users[2].clone(), vec![])]);
    apply_first(f, &run).await.unwrap();
    all_there(f, &run, &users).await;
    assert_eq!(shape(f).await, before);
    assert_ne!(which(f).await, former, "it was added to the old table");
    rules_hold(f).await;
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
    let users = people();
    let mut run = laid_aside(f, 1, &users).await;
    let ids = [DirectoryId([5; 16]), DirectoryId([42; 16])];
    let taken = f.store.unstage_aside(run.run, &ids).await.unwrap();
    assert_eq!(taken, [staged(5, users[4].clone(), vec![])]);
    run.created = 4;
    apply_first(f, &run).await.unwrap();
    all_there(f, &run, &users[..4]).await;
}

pub(super) async fn a_wrong_row_ends_a_first_load_and_leaves_nothing(f: &Fixture) {
    let before = shape(f).await;
    // Two with one name: nothing watches them while they lie there, the index does when it is built.
    let mut users = people();
    users[1].username_key = "p1".into();
    let run = laid_aside(f, 1, &users).await;
    let error = apply_first(f, &run).await.unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
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
    f.store.begin_run(&late, true).await.unwrap();
    assert!(!f.store.lay_aside(late.run).await.unwrap());
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
    f.store.begin_run(&run, false).await.unwrap();
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

/// What somebody else made of `users` would not come along, and so nothing takes its place.
const OF_OTHERS: [(&str, &str); 26] = [
    (
        "CREATE SEQUENCE badges OWNED BY users.username",
        "DROP SEQUENCE badges",
    ),
    (
        "ALTER TABLE users SET (toast.autovacuum_enabled = false)",
        "ALTER TABLE users RESET (toast.autovacuum_enabled)",
    ),
    (
        "ALTER TABLE users ALTER COLUMN pk SET GENERATED BY DEFAULT",
        "ALTER TABLE users ALTER COLUMN pk SET GENERATED ALWAYS",
    ),
    (
        "ALTER TABLE users ALTER COLUMN dn SET COMPRESSION pglz",
        "ALTER TABLE users ALTER COLUMN dn SET COMPRESSION DEFAULT",
    ),
    (
        "GRANT SELECT ON users TO pg_monitor",
        "REVOKE SELECT ON users FROM pg_monitor",
    ),
    (
        "GRANT SELECT (username) ON users TO pg_monitor",
        "REVOKE SELECT (username) ON users FROM pg_monitor",
    ),
    (
        "GRANT SELECT ON lines TO pg_monitor",
        "REVOKE SELECT ON lines FROM pg_monitor",
    ),
    (
        "GRANT USAGE ON SEQUENCE users_pk_seq TO pg_monitor",
        "REVOKE USAGE ON SEQUENCE users_pk_seq FROM pg_monitor",
    ),
    (
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor",
        "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM pg_monitor",
    ),
    (
        "CREATE VIEW phones AS SELECT username, phone FROM users",
        "DROP VIEW phones",
    ),
    (
        "CREATE FUNCTION everybody() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users'",
        "DROP FUNCTION everybody",
    ),
    (
        "CREATE TABLE badges (pk BIGINT REFERENCES users (pk))",
        "DROP TABLE badges",
    ),
    (
        "CREATE TABLE badges (pk BIGINT REFERENCES users (pk)) PARTITION BY HASH (pk)",
        "DROP TABLE badges",
    ),
    (
        "CREATE TRIGGER watched BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "DROP TRIGGER watched ON users",
    ),
    (
        "CREATE RULE nothing AS ON DELETE TO users WHERE OLD.pk = 0 DO INSTEAD NOTHING",
        "DROP RULE nothing ON users",
    ),
    (
        "CREATE RULE nothing AS ON DELETE TO lines DO INSTEAD NOTHING",
        "DROP RULE nothing ON lines",
    ),
    (
        "CREATE POLICY own ON users USING (username = current_user)",
        "DROP POLICY own ON users",
    ),
    (
        "COMMENT ON TABLE users IS 'people'",
        "COMMENT ON TABLE users IS NULL",
    ),
    (
        "COMMENT ON INDEX users_name IS 'one name'",
        "COMMENT ON INDEX users_name IS NULL",
    ),
    (
        "COMMENT ON CONSTRAINT jobs_user_id_fkey ON jobs IS 'whose'",
        "COMMENT ON CONSTRAINT jobs_user_id_fkey ON jobs IS NULL",
    ),
    (
        "ALTER TABLE users ALTER COLUMN email SET STATISTICS 500",
        "ALTER TABLE users ALTER COLUMN email SET STATISTICS -1",
    ),
    (
        "CREATE STATISTICS both_of_them ON realm, state FROM users",
        "DROP STATISTICS both_of_them",
    ),
    (
        "ALTER TABLE users SET (fillfactor = 70)",
        "ALTER TABLE users RESET (fillfactor)",
    ),
    (
        "CREATE INDEX \"Users-Mail\" ON users (lower(email))",
        "DROP INDEX \"Users-Mail\"",
    ),
    (
        "ALTER TABLE users ADD CONSTRAINT known_mail CHECK (email LIKE '%@%')",
        "ALTER TABLE users DROP CONSTRAINT known_mail",
    ),
    (
        "ALTER TABLE users ADD COLUMN badge TEXT",
        "ALTER TABLE users DROP COLUMN badge",
    ),
];

/// Everything in the catalogue that may be around `users`, as it is and as text.
const AROUND: &str = "
    SELECT concat_ws(chr(10), obj_description('users'::regclass),
        (SELECT string_agg(concat_ws(' ', relname, relkind, COALESCE(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner)), reloptions::TEXT), ',' ORDER BY relname)
         FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'first_load_%' AND relname NOT LIKE 'pg_toast%'),
        (SELECT string_agg(reloptions::TEXT, '') FROM pg_class t WHERE t.oid = (SELECT reltoastrelid FROM pg_class WHERE oid = 'users'::regclass)),
        (SELECT string_agg(concat_ws(' ', attname, attacl::TEXT, attstattarget, attidentity, attcompression), ',' ORDER BY attname)
         FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped),
        (SELECT string_agg(tgname, ',' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal),
        (SELECT string_agg(conname || conrelid::regclass || COALESCE(obj_description(oid, 'pg_constraint'), ''), ',' ORDER BY conname, conrelid)
         FROM pg_constraint WHERE 'users'::regclass IN (conrelid, confrelid)),
        (SELECT string_agg(rulename || ev_class::regclass, ',' ORDER BY rulename, ev_class) FROM pg_rewrite WHERE ev_class > 16383),
        (SELECT string_agg(polname, ',') FROM pg_policy), (SELECT string_agg(proname, ',') FROM pg_proc WHERE oid > 16383 AND proname <> 'fence'),
        (SELECT string_agg(stxname, ',') FROM pg_statistic_ext), (SELECT string_agg(defaclacl::TEXT, ',') FROM pg_default_acl),
        (SELECT string_agg(indexname || COALESCE(obj_description(quote_ident(indexname)::regclass), ''), ',' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'users'))";

#[tokio::test]
async fn what_others_made_of_users_is_never_lost() {
    let f = postgres().await;
    let users = people();
    // The rule of a view that nobody touched has another name for each table; that the view is there is seen by its class.
    for (n, (make, unmake)) in (1..).zip(OF_OTHERS) {
        f.sql(make).await;
        let early = run_of(100 + n);
        // What is a part of the table itself comes along if it was there before.
        let comes = ["INDEX", "CHECK", "COLUMN badge", "COMPRESSION"];
        let comes = comes.iter().any(|what| make.contains(what));
        let laid = f.store.lay_aside(early.run).await.unwrap();
        assert_eq!(laid, comes, "{make}");
        f.store.sweep(early.run).await.unwrap();
        f.sql(unmake).await;
        // And the same when it came in the middle, also after the indexes were built.
        let run = laid_aside(&f, n, &users).await;
        if n % 2 == 0 {
            f.store.index_aside(run.run).await.unwrap();
        }
        f.sql(make).await;
        let (before, former) = (f.text(AROUND).await, which(&f).await);
        apply_first(&f, &run)
            .await
            .unwrap_or_else(|e| panic!("{make}: {e}"));
        all_there(&f, &run, &users).await;
        assert_eq!(f.text(AROUND).await, before, "{make}");
        // An index is built with the others.
        let whole = make.contains("CREATE INDEX");
        assert_eq!(which(&f).await != former, whole, "{make}");
        assert_eq!(f.store.lying_aside().await.unwrap(), []);
        f.sql(unmake).await;
        f.sql("DELETE FROM changes").await;
        f.sql("DELETE FROM users").await;
    }
}

/// An administrator's own session reads, and does not end: nobody waits for it, however many are new.
async fn does_not_wait_for(reads: &'static str) -> bool {
    let f = postgres().await;
    let users: Vec<User> = (1..=20_500_u32).map(numbered).collect();
    let run = laid_aside(&f, 1, &users).await;
    let former = which(&f).await;
    let mut reader = another(&f).db.begin().await.unwrap();
    let there = on!(reader, c => sqlx::query_scalar::<_, i64>(reads).fetch_one(&mut *c).await);
    there.unwrap();
    let applied = tokio::time::timeout(Duration::from_mins(1), apply_first(&f, &run)).await;
    applied.expect("it waits for a reader").unwrap();
    assert_eq!(f.store.not_removed(&realm()).await.unwrap(), 20_500);
    assert_eq!(which(&f).await, former, "it was in the way");
    // What the reader has in its hands goes once it is done.
    let left = f.store.lying_aside().await.unwrap();
    reader.commit().await.unwrap();
    f.store.sweep_abandoned(START).await.unwrap();
    assert_eq!(f.store.lying_aside().await.unwrap(), []);
    left == [run.run]
}

#[tokio::test]
async fn a_first_load_does_not_wait_for_who_reads_users() {
    assert!(!does_not_wait_for("SELECT COUNT(*) FROM users, lines").await);
}

#[tokio::test]
async fn a_first_load_does_not_wait_for_who_reads_what_lies_aside() {
    let own = "SELECT COUNT(*) FROM first_load_01a20000000070008000000000000001";
    assert!(does_not_wait_for(own).await);
}

fn numbered(n: u32) -> User {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&n.to_be_bytes());
    let mut someone = person(&format!("u{n}"), 1);
    someone.id = crate::model::UserId(uuid::Uuid::from_u128(u128::from(n)));
    someone.directory_id = Some(DirectoryId(id));
    someone
}

/// Two realms are loaded at once: the one takes the place, the other is added, and an administrator who resumes a realm meanwhile
/// meets neither.
#[tokio::test(flavor = "multi_thread")]
async fn first_loads_at_once_do_not_stand_in_each_others_way() {
    let f = postgres().await;
    let decl = RealmDecl {
        id: RealmId::from("other"),
        name: "Other".into(),
    };
    f.store.declare_realms(&[decl], START).await.unwrap();
    let mut runs = vec![];
    for (n, name) in [(1, "example.org"), (2, "other")] {
        let users = (n * 100_000..n * 100_000 + 21_000).map(|n| {
            let mut user = numbered(n);
            user.realm = RealmId::from(name);
            user
        });
        let users: Vec<User> = users.collect();
        let mut run = laid_aside(&f, n.into(), &users).await;
        run.realm = RealmId::from(name);
        f.sql(if n == 1 {
            "UPDATE runs SET realm = 'example.org'"
        } else {
            "UPDATE runs SET realm = 'other' WHERE id = (SELECT MAX(id::TEXT)::BYTEA FROM runs)"
        })
        .await;
        runs.push(run);
    }
    let other = another(&f);
    let stop = tokio_util::sync::CancellationToken::new();
    let (busy, asked) = (another(&f), stop.clone());
    let mut resuming = tokio::task::JoinSet::new();
    resuming.spawn(async move {
        while !asked.is_cancelled() {
            for name in ["example.org", "other"] {
                let name = RealmId::from(name);
                busy.pause(&name, None, START).await?;
                busy.resume(&name, START).await?;
            }
        }
        Ok::<(), StoreError>(())
    });
    let staged = Staged {
        aside: true,
        changed: Some(0),
        made: 21_000,
    };
    let (one, two) = tokio::join!(
        apply_first(&f, &runs[0]),
        apply_as(&f, &other, &runs[1], staged)
    );
    one.unwrap();
    two.unwrap();
    stop.cancel();
    resuming.join_next().await.unwrap().unwrap().unwrap();
    for name in ["example.org", "other"] {
        let there = f.store.not_removed(&RealmId::from(name)).await.unwrap();
        assert_eq!(there, 21_000);
    }
    let indexes = "SELECT COUNT(*)::TEXT FROM pg_indexes WHERE tablename = 'users'";
    assert_eq!(f.text(indexes).await.as_deref(), Some("7"));
}

/// A database may say that each transaction sees what was there at its beginning, and may name the schema as it likes.
#[tokio::test]
async fn a_database_with_habits_of_its_own() {
    let f = postgres().await;
    f.sql("CREATE SCHEMA \"Realm Sync\"").await;
    f.sql("ALTER DATABASE lab SET search_path = \"Realm Sync\"")
        .await;
    f.sql("ALTER DATABASE lab SET default_transaction_isolation = 'serializable'")
        .await;
    f.restart();
    let f = f.anew().await;
    let before = f.text("SELECT 'users'::regclass::oid::TEXT").await;
    let users = people();
    let run = laid_aside(&f, 1, &users).await;
    assert_eq!(f.store.lying_aside().await.unwrap(), [run.run]);
    apply_first(&f, &run).await.unwrap();
    all_there(&f, &run, &users).await;
    let after = f.text("SELECT 'users'::regclass::oid::TEXT").await;
    assert_ne!(after, before);
}

/// Of two who sweep the same, the second finds nothing to do.
#[tokio::test]
async fn two_sweep_one_first_load() {
    let f = postgres().await;
    let run = laid_aside(&f, 1, &people()).await;
    f.sql("UPDATE runs SET outcome = 'failed'").await;
    let other = another(&f);
    let (one, two) = tokio::join!(f.store.sweep_abandoned(START), other.sweep_abandoned(START));
    one.unwrap();
    two.unwrap();
    f.store.forget_aside(run.run).await.unwrap();
    assert_eq!(f.store.lying_aside().await.unwrap(), []);
}
