//! How a table in the shape of `users` takes its place on PostgreSQL: whatever is around a table is made anew around another one.
//! It happens only where the two are the same in every respect that the catalogue knows of, and where nothing else hangs on `users`;
//! what somebody added (a column, rights, views, triggers, a publication) would be lost. A step of the schema that comes from a newer
//! program in the middle of a first load is such an addition too.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::model::RealmId;
use crate::store::StoreError;
use crate::store::answer::answered;

/// What only `users` has: its owner, what hangs on it (the view `lines` and the references of the outbox, and nothing else), and
/// what the database would do of itself to tables that are made or dropped.
const REPLACEABLE: &str = "
    SELECT c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND v.relnamespace = c.relnamespace
        AND has_schema_privilege(c.relnamespace, 'CREATE')
        AND pg_get_userbyid(c.relowner) = current_user AND v.relowner = c.relowner
        AND NOT EXISTS (SELECT 1 FROM pg_publication) AND NOT EXISTS (SELECT 1 FROM pg_event_trigger)
        AND NOT EXISTS (SELECT 1 FROM pg_default_acl WHERE defaclrole = c.relowner)
        -- The view is nothing but its statement.
        AND COALESCE(v.relacl, acldefault('r', v.relowner))::TEXT = acldefault('r', v.relowner)::TEXT AND v.reloptions IS NULL
        AND NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = v.oid AND attacl IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = v.oid)
        AND NOT EXISTS (SELECT 1 FROM pg_rewrite WHERE ev_class = v.oid AND rulename <> '_RETURN')
        AND NOT EXISTS (SELECT 1 FROM pg_attrdef WHERE adrelid = v.oid)
        AND NOT EXISTS (SELECT 1 FROM pg_description WHERE objoid IN (v.oid, c.reltype)) AND NOT EXISTS (SELECT 1 FROM pg_seclabel WHERE objoid = v.oid)
        -- Numbers are given as the first step of the schema says, and no sequence of somebody's goes with a column.
        AND EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = c.oid AND attname = 'pk' AND attidentity = 'a')
        AND NOT EXISTS (
            SELECT 1 FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'a')
        AND EXISTS (
            SELECT 1 FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid
            WHERE s.oid = pg_get_serial_sequence('users', 'pk')::regclass AND s.relname = 'users_pk_seq' AND s.relpersistence = 'p'
              AND COALESCE(s.relacl, acldefault('s', s.relowner))::TEXT = acldefault('s', s.relowner)::TEXT
              AND q.seqincrement = 1 AND q.seqcache = 1 AND NOT q.seqcycle AND q.seqmin = 1 AND q.seqmax = 9223372036854775807
              AND NOT EXISTS (SELECT 1 FROM pg_description WHERE objoid = s.oid) AND NOT EXISTS (SELECT 1 FROM pg_seclabel WHERE objoid = s.oid))
        -- Nothing else depends on either, by itself or by the type of its rows.
        AND NOT EXISTS (
            SELECT 1 FROM pg_depend d
            WHERE d.deptype = 'n' AND (
                    d.refclassid = 'pg_class'::regclass AND d.refobjid IN (c.oid, v.oid)
                    OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (
                        SELECT t.oid FROM pg_type t WHERE t.typrelid IN (c.oid, v.oid)
                        UNION ALL SELECT t.typarray FROM pg_type t WHERE t.typrelid IN (c.oid, v.oid)))
                AND NOT EXISTS (SELECT 1 FROM pg_rewrite r WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.ev_class = v.oid)
                AND NOT EXISTS (
                    SELECT 1 FROM pg_constraint k
                    WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
                      AND (k.conrelid = c.oid OR k.contype = 'f' AND k.conrelid IN (to_regclass('jobs'), to_regclass('enrolments'))
                           AND NOT EXISTS (SELECT 1 FROM pg_description WHERE objoid = k.oid))))
    FROM pg_class c, pg_class v WHERE c.oid = to_regclass('users') AND v.oid = to_regclass('lines')";

/// What the catalogue says of a table, a line for each thing. Names of indexes are left out, and what a table has of its own numbers.
fn shape(table: &str, indexes: bool) -> String {
    let t = format!("to_regclass('{table}')");
    let mut sql = format!(
        "SELECT string_agg(line, chr(10) ORDER BY line) FROM (
        SELECT ROW('table', relkind, relpersistence, relreplident, reltablespace, relam, relrowsecurity, relforcerowsecurity, relispartition,
                   relowner, COALESCE(relacl, acldefault('r', relowner)), reloptions, (SELECT t.reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid),
                   obj_description(oid, 'pg_class'))::TEXT AS line
        FROM pg_class c WHERE oid = {t}
        UNION ALL
        SELECT ROW('column', row_number() OVER (ORDER BY attnum), attname, format_type(atttypid, atttypmod), attnotnull, attcollation, attstorage,
                   attstattarget, attoptions, attacl, attgenerated, to_jsonb(a) ->> 'attcompression', attinhcount, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))::TEXT
        FROM pg_attribute a LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = {t} AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT ROW('constraint', conname, contype, convalidated, connoinherit, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint'))::TEXT
        FROM pg_constraint WHERE conrelid = {t} AND contype NOT IN ('p', 'u')
        UNION ALL SELECT ROW('trigger', tgname)::TEXT FROM pg_trigger WHERE tgrelid = {t} AND NOT tgisinternal
        UNION ALL SELECT ROW('rule', rulename)::TEXT FROM pg_rewrite WHERE ev_class = {t}
        UNION ALL SELECT ROW('policy', polname)::TEXT FROM pg_policy WHERE polrelid = {t}
        UNION ALL SELECT ROW('statistics', stxname)::TEXT FROM pg_statistic_ext WHERE stxrelid = {t}
        UNION ALL SELECT ROW('kin', inhrelid, inhparent)::TEXT FROM pg_inherits WHERE {t} IN (inhrelid, inhparent)
        UNION ALL SELECT ROW('label', provider, label)::TEXT FROM pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid = {t}"
    );
    if indexes {
        sql.push_str(&format!("
        UNION ALL
        SELECT ROW('index', indisunique, indisvalid, indimmediate, indisexclusion, indisclustered, indisreplident, reltablespace, reloptions,
                   {INDEX}, obj_description(x.oid, 'pg_class'),
                   (SELECT string_agg(obj_description(k.oid, 'pg_constraint'), ',') FROM pg_constraint k WHERE k.conindid = x.oid AND k.conrelid = {t}),
                   (SELECT string_agg(attstattarget::TEXT, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = x.oid))::TEXT
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = {t}"));
    }
    sql.push_str(") described");
    sql
}

/// What an index is, without its name and its table's.
const INDEX: &str = "regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', '')";

async fn replaceable(c: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let there = sqlx::query_scalar::<_, Option<bool>>(REPLACEABLE).fetch_optional(c);
    Ok(answered(there).await?.flatten() == Some(true))
}

/// Whether a table may take the place of `users`: it is the same, and nothing else is in the way.
async fn may_replace(
    c: &mut PgConnection,
    table: &str,
    indexes: bool,
) -> Result<bool, sqlx::Error> {
    if !replaceable(c).await? {
        return Ok(false);
    }
    let (own, other) = (shape("users", indexes), shape(table, indexes));
    let sql = format!("SELECT ({own}) = ({other})");
    let same = sqlx::query_scalar::<_, Option<bool>>(AssertSqlSafe(sql)).persistent(false);
    Ok(answered(same.fetch_one(c)).await? == Some(true))
}

/// Makes a table in the shape of `users`, without its indexes. `false`: `users` is not to be replaced, and nothing was made.
pub(in crate::store) async fn twin(c: &mut PgConnection, table: &str) -> Result<bool, StoreError> {
    let failed = StoreError::from_sqlx("begin a first load");
    if !replaceable(c).await.map_err(&failed)? {
        return Ok(false);
    }
    run(c, "SAVEPOINT before_twin".into())
        .await
        .map_err(&failed)?;
    match make_twin(c, table).await {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(sqlx::Error::Database(error)) => {
            tracing::info!(%error, "a first load gets no table of its own, so that it is added to the users row by row");
        }
        Err(error) => return Err(failed(error)),
    }
    run(c, "ROLLBACK TO before_twin".into())
        .await
        .map_err(&failed)?;
    Ok(false)
}

async fn make_twin(c: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    let make = format!(
        "CREATE TABLE {table} (LIKE users INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY)"
    );
    run(c, make).await?;
    if !may_replace(c, table, false).await? {
        return Ok(false);
    }
    // Nobody but this load looks at it, until it is `users`.
    let quiet = format!("ALTER TABLE {table} SET (autovacuum_enabled = false)");
    run(c, quiet).await?;
    // To leave a row out of an index costs less than to read all rows once more for it.
    for (predicate, statement) in statements(c, table).await? {
        if predicate.is_some_and(|of| OF_NOBODY_MADE.contains(&of.as_str())) {
            run(c, statement).await?;
        }
    }
    Ok(true)
}

/// Predicates of indexes in which nobody is whom a first load makes.
const OF_NOBODY_MADE: [&str; 3] = [
    "(state = 'suspended'::text)",
    "(state = 'removed'::text)",
    "(phone_pending_until IS NOT NULL)",
];

async fn run(c: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    answered(sqlx::raw_sql(AssertSqlSafe(sql)).execute(c))
        .await
        .map(|_| ())
}

/// The statements that build on a table what indexes `users` has.
pub(in crate::store) async fn indexes(
    c: &mut PgConnection,
    table: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let statements = statements(c, table).await?;
    Ok(statements.into_iter().map(|(_, sql)| sql).collect())
}

/// The same, each with the predicate of a partial index.
async fn statements(
    c: &mut PgConnection,
    table: &str,
) -> Result<Vec<(Option<String>, String)>, sqlx::Error> {
    let sql = format!(
        "SELECT indisunique, {INDEX}, pg_get_expr(indpred, indrelid) FROM pg_index i WHERE indrelid = to_regclass('users') ORDER BY indexrelid"
    );
    let there = sqlx::query_as::<_, (bool, String, Option<String>)>(AssertSqlSafe(sql));
    let there = answered(there.fetch_all(c)).await?;
    let statement =
        |(place, (unique, using, predicate)): (usize, (bool, String, Option<String>))| {
            let unique = if unique { "UNIQUE " } else { "" };
            // They may be there: from the beginning, or from a try whose transaction was lost.
            let sql = format!(
                "CREATE {unique}INDEX IF NOT EXISTS {table}_{place} ON {table} USING {using}"
            );
            (predicate, sql)
        };
    Ok(there.into_iter().enumerate().map(statement).collect())
}

/// Takes tables at once or not at all: whoever waits here could be waited for. `false`: they are not to be had, and the
/// transaction goes on as it was.
pub(in crate::store) async fn lock(
    c: &mut PgConnection,
    tables: &str,
    tries: u32,
) -> Result<bool, sqlx::Error> {
    for n in 0..tries {
        if n > 0 {
            // Who is in the way reads for some milliseconds.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        run(c, "SAVEPOINT before_lock".into()).await?;
        let sql = format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE NOWAIT");
        match run(c, sql).await {
            Ok(()) => return Ok(true),
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("55P03") => {}
            Err(error) => return Err(error),
        }
        let back = "ROLLBACK TO before_lock; RELEASE before_lock".to_owned();
        run(c, back).await?;
    }
    Ok(false)
}

/// Puts a table in the place of `users`, if nobody is there. `false`: it could not be, and the transaction goes on without a trace
/// of the try, also without its locks.
pub(in crate::store) async fn take_place(
    c: &mut PgConnection,
    table: &str,
    realm: &RealmId,
) -> Result<bool, sqlx::Error> {
    // Whoever resumes a realm locks its row before its messages; so does this.
    const REALM: &str = "SELECT 1 FROM realms WHERE id = $1 FOR NO KEY UPDATE";
    const TRIES: u32 = 100;
    let row = sqlx::query(REALM).bind(realm.as_str());
    answered(row.execute(&mut *c)).await?;
    // `lines` stands for itself and what is below it.
    let all = format!("users, jobs, enrolments, lines, {table}");
    if !lock(c, &all, TRIES).await? {
        tracing::info!(
            "others read the users without a pause, so that a first load is added to them row by row"
        );
        return Ok(false);
    }
    match swap(c, table).await {
        Ok(true) => Ok(true),
        Ok(false) => {
            run(c, "ROLLBACK TO before_lock".into()).await?;
            Ok(false)
        }
        // Something in the database that is not thought of here.
        Err(sqlx::Error::Database(error)) => {
            tracing::info!(
                %error,
                "the table of a first load cannot take the place of `users`, so that it is added row by row"
            );
            run(c, "ROLLBACK TO before_lock".into()).await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// An index of `users`, the constraint that it carries (`p`: the primary key, `u`: unique), the same index of the other table, and
/// how many such there are.
type Pair = (String, Option<String>, Option<String>, i64);

async fn swap(c: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    const NOBODY: &str = "SELECT NOT EXISTS (SELECT 1 FROM users)";
    const KEYS: &str = "
        SELECT conrelid::regclass::TEXT, quote_ident(conname), pg_get_constraintdef(oid)
        FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass('users')";
    const VIEW: &str = "SELECT pg_get_viewdef(to_regclass('lines'))";
    const AFTER: &str = "SELECT COALESCE(MAX(pk), 0) + 1 FROM users";
    let there = sqlx::query_scalar::<_, bool>(NOBODY);
    if !answered(there.fetch_one(&mut *c)).await? {
        return Ok(false);
    }
    let as_users = format!("ALTER TABLE {table} RESET (autovacuum_enabled)");
    run(c, as_users).await?;
    if !may_replace(c, table, true).await? {
        return Ok(false);
    }
    let pairs = format!(
        "SELECT quote_ident(x.relname), k.contype::TEXT, quote_ident(y.relname), COUNT(*) OVER (PARTITION BY x.oid)
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
        LEFT JOIN (SELECT {INDEX} AS is_so, i.indisunique, i.indexrelid FROM pg_index i WHERE i.indrelid = to_regclass('{table}')) j
            ON j.indisunique = i.indisunique AND j.is_so = {INDEX}
        LEFT JOIN pg_class y ON y.oid = j.indexrelid
        WHERE i.indrelid = to_regclass('users') ORDER BY x.relname"
    );
    let pairs = sqlx::query_as::<_, Pair>(AssertSqlSafe(pairs)).persistent(false);
    let pairs = answered(pairs.fetch_all(&mut *c)).await?;
    let keys = sqlx::query_as::<_, (String, String, String)>(KEYS);
    let keys = answered(keys.fetch_all(&mut *c)).await?;
    let view = sqlx::query_scalar::<_, String>(VIEW);
    let view = answered(view.fetch_one(&mut *c)).await?;
    let mut statements = vec!["DROP VIEW lines".to_owned()];
    for (child, name, _) in &keys {
        statements.push(format!("ALTER TABLE {child} DROP CONSTRAINT {name}"));
    }
    statements.extend([
        "DROP TABLE users".to_owned(),
        format!("ALTER TABLE {table} RENAME TO users"),
    ]);
    for (name, constraint, built, alike) in &pairs {
        let (Some(built), 1) = (built, alike) else {
            return Ok(false);
        };
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
    run(c, statements.join("; ")).await?;
    let after = sqlx::query_scalar::<_, i64>(AFTER);
    let after = answered(after.fetch_one(&mut *c)).await?;
    let identity = format!(
        "ALTER TABLE users ALTER COLUMN pk ADD GENERATED ALWAYS AS IDENTITY (START WITH {after})"
    );
    run(c, identity).await?;
    Ok(true)
}
