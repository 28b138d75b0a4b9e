//! How a table in the shape of `users` takes its place: what each engine has around a table, made anew around another one.

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use super::StoreError;
use super::answer::answered;
use super::db::{Side, Tx};

/// `users` is as the steps of the schema made it: what somebody else added (rights, views, triggers, a publication) would not come
/// along, or would be lost, so that then nothing takes its place.
const AS_MADE: &str = "
    SELECT c.relnamespace = current_schema()::regnamespace AND has_schema_privilege(c.relnamespace, 'CREATE')
        AND pg_get_userbyid(c.relowner) = current_user AND c.relacl IS NULL AND v.relacl IS NULL AND pg_get_userbyid(v.relowner) = current_user
        AND c.reloptions IS NULL AND v.reloptions IS NULL AND NOT c.relrowsecurity AND c.relreplident = 'd' AND c.reltablespace = 0
        AND NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid IN (c.oid, v.oid) AND attacl IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
        AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent))
        AND NOT EXISTS (SELECT 1 FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid IN (c.oid, v.oid))
        AND NOT EXISTS (SELECT 1 FROM pg_publication) AND NOT EXISTS (SELECT 1 FROM pg_event_trigger)
        -- Whatever else is made of it: statistics, policies, functions, other views of it or of `lines`.
        AND NOT EXISTS (SELECT 1 FROM pg_statistic_ext WHERE stxrelid = c.oid)
        AND NOT EXISTS (
            SELECT 1 FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
            WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (c.oid, v.oid) AND d.deptype = 'n'
              AND d.classid <> 'pg_constraint'::regclass AND r.ev_class IS DISTINCT FROM v.oid)
    FROM pg_class c, pg_class v WHERE c.oid = to_regclass('users') AND v.oid = to_regclass('lines')";

/// The statement that makes a table in the shape of `users`, without its indexes. `None`: it is not to be replaced.
pub(super) async fn twin(tx: &mut Tx, table: &str) -> Result<Option<String>, StoreError> {
    // A trigger of somebody's own may name `users` anywhere.
    const SQLITE: &str = "
        SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'users'
            AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger')";
    let failed = StoreError::from_sqlx("begin a first load");
    match tx.side() {
        Side::Sqlite(c) => {
            let sql = sqlx::query_scalar::<_, String>(SQLITE)
                .fetch_optional(c)
                .await
                .map_err(failed)?;
            Ok(sql.and_then(|sql| {
                let (_, columns) = sql.split_once('(')?;
                Some(format!("CREATE TABLE {table} ({columns}"))
            }))
        }
        Side::Postgres(c) => {
            let as_made = answered(sqlx::query_scalar::<_, bool>(AS_MADE).fetch_optional(c))
                .await
                .map_err(failed)?;
            // Nobody but this load looks at it, until it is `users`.
            Ok(as_made.unwrap_or(false).then(|| {
                format!(
                    "CREATE TABLE {table} (LIKE users INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY) WITH (autovacuum_enabled = false)"
                )
            }))
        }
    }
}

/// An index of PostgreSQL: its name, the constraint that it carries (`p`: the primary key, `u`: unique), and its definition.
type Index = (String, Option<String>, String);

async fn all_indexes(c: &mut PgConnection) -> Result<Vec<Index>, sqlx::Error> {
    const SQL: &str = "
        SELECT x.relname::TEXT, con.contype::TEXT, pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
        WHERE i.indrelid = to_regclass('users') ORDER BY x.relname";
    sqlx::query_as(SQL).fetch_all(c).await
}

/// The same index's name on another table, until it is `users`.
fn index_name(table: &str, place: usize) -> String {
    format!("{table}_{place}")
}

/// The statements that build on a table what indexes `users` has.
pub(super) async fn indexes(c: &mut PgConnection, table: &str) -> Result<Vec<String>, StoreError> {
    let indexes = answered(all_indexes(c))
        .await
        .map_err(StoreError::from_sqlx("index a first load"))?;
    let mut statements = vec![];
    for (place, (_, _, definition)) in indexes.iter().enumerate() {
        // CREATE [UNIQUE] INDEX name ON schema.table USING btree (…) WHERE …
        let (Some((create, _)), Some((_, using))) = (
            definition.split_once(" INDEX "),
            definition.split_once(" USING "),
        ) else {
            let what = format!("PostgreSQL describes an index as `{definition}`");
            return Err(StoreError::Nonsense(what));
        };
        let name = index_name(table, place);
        statements.push(format!("{create} INDEX {name} ON {table} USING {using}"));
    }
    Ok(statements)
}

/// Takes everything that the swap needs at once, or nothing: whoever waits here could be waited for. `false`: it is not to be had.
pub(super) async fn lock(c: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // `lines` stands for itself and what is below it.
    const LOCK: &str = "LOCK TABLE users, jobs, enrolments, lines IN ACCESS EXCLUSIVE MODE NOWAIT";
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        answered(sqlx::raw_sql("SAVEPOINT before_lock").execute(&mut *c)).await?;
        match answered(sqlx::raw_sql(LOCK).execute(&mut *c)).await {
            Ok(_) => return Ok(true),
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("55P03") => {}
            Err(error) => return Err(error),
        }
        answered(sqlx::raw_sql("ROLLBACK TO before_lock").execute(&mut *c)).await?;
        // Who is in the way reads for some milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(false)
}

/// Within [`lock`], after [`indexes`] were built.
pub(super) async fn postgres(c: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    const KEYS: &str = "
        SELECT conrelid::regclass::TEXT, quote_ident(conname), pg_get_constraintdef(oid)
        FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass('users')";
    const VIEW: &str = "SELECT pg_get_viewdef(to_regclass('lines'))";
    const AFTER: &str = "SELECT COALESCE(MAX(pk), 0) + 1 FROM users";
    if !sqlx::query_scalar::<_, bool>(AS_MADE)
        .fetch_one(&mut *c)
        .await?
    {
        return Ok(false);
    }
    let indexes = all_indexes(c).await?;
    let keys: Vec<(String, String, String)> = sqlx::query_as(KEYS).fetch_all(&mut *c).await?;
    let view: String = sqlx::query_scalar(VIEW).fetch_one(&mut *c).await?;
    let mut statements = vec!["DROP VIEW lines".to_owned()];
    for (child, name, _) in &keys {
        statements.push(format!("ALTER TABLE {child} DROP CONSTRAINT {name}"));
    }
    statements.extend([
        "DROP TABLE users".to_owned(),
        format!("ALTER TABLE {table} RESET (autovacuum_enabled)"),
        format!("ALTER TABLE {table} RENAME TO users"),
    ]);
    for (place, (name, constraint, _)) in indexes.iter().enumerate() {
        let built = index_name(table, place);
        statements.push(match constraint.as_deref() {
            Some("p") => {
                format!("ALTER TABLE users ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {built}")
            }
            Some("u") => {
                format!("ALTER TABLE users ADD CONSTRAINT {name} UNIQUE USING INDEX {built}")
            }
            _ => format!("ALTER INDEX {built} RENAME TO {name}"),
        });
    }
    for (child, name, definition) in &keys {
        statements.push(format!(
            "ALTER TABLE {child} ADD CONSTRAINT {name} {definition}"
        ));
    }
    statements.push(format!("CREATE VIEW lines AS {view}"));
    sqlx::raw_sql(AssertSqlSafe(statements.join("; ")))
        .execute(&mut *c)
        .await?;
    let after: i64 = sqlx::query_scalar(AFTER).fetch_one(&mut *c).await?;
    let identity = format!(
        "ALTER TABLE users ALTER COLUMN pk ADD GENERATED ALWAYS AS IDENTITY (START WITH {after})"
    );
    sqlx::raw_sql(AssertSqlSafe(identity)).execute(c).await?;
    Ok(true)
}

/// Indexes are built here, each sorted once; views name `users`, and SQLite renames nothing while one of them names nothing.
pub(super) async fn sqlite(c: &mut SqliteConnection, table: &str) -> Result<bool, sqlx::Error> {
    const AROUND: &str = "
        SELECT type, name, sql FROM sqlite_schema
        WHERE sql IS NOT NULL AND (type IN ('view', 'trigger') OR type = 'index' AND tbl_name = 'users') ORDER BY rowid";
    let around: Vec<(String, String, String)> = sqlx::query_as(AROUND).fetch_all(&mut *c).await?;
    if around.iter().any(|(kind, _, _)| kind == "trigger") {
        return Ok(false);
    }
    let mut statements = vec![];
    for (_, name, _) in around.iter().filter(|(kind, _, _)| kind == "view") {
        statements.push(format!("DROP VIEW \"{}\"", name.replace('"', "\"\"")));
    }
    statements.extend([
        "DROP TABLE users".to_owned(),
        format!("ALTER TABLE {table} RENAME TO users"),
    ]);
    statements.extend(around.into_iter().map(|(_, _, sql)| sql));
    sqlx::raw_sql(AssertSqlSafe(statements.join(";\n")))
        .execute(c)
        .await?;
    Ok(true)
}
