//! What is asked of a PostgreSQL server before it is used, so that what stands in the way is told at once and by its name.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::answer::answered_within;
use super::{Access, StoreError};

/// How long the server or a pooler may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Connections to PostgreSQL that one process holds at most, apart from those of its leases.
pub(super) const POOL: u32 = 8;
/// Connections that a daemon needs: those of the pool, of two realms' leases at once, and one for a command beside it.
const NEEDED: i64 = POOL as i64 + 3;

/// Looks whether the database can be the store. For writing it also looks whether a session stays the same one, and whether the role
/// may have enough of them.
pub(super) async fn probe(
    options: &PgConnectOptions,
    shown: &str,
    access: Access,
) -> Result<(), StoreError> {
    let refused = |why: String| StoreError::Open {
        what: shown.to_owned(),
        why,
    };
    let failed = |e: sqlx::Error| told(e, shown);
    let mut first = connect(options).await.map_err(failed)?;
    let encoding: String = one(&mut first, "SHOW server_encoding")
        .await
        .map_err(failed)?;
    if encoding != "UTF8" {
        return Err(refused(format!(
            "the database is in {encoding}, which cannot hold every name; make one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0` and name it in `store.url`"
        )));
    }
    if access == Access::Write {
        const LIMIT: &str = "
            SELECT COALESCE(MIN(n), -1)::TEXT FROM (
                SELECT rolconnlimit AS n FROM pg_roles WHERE rolname = current_user AND NOT rolsuper
                UNION ALL SELECT datconnlimit FROM pg_database WHERE datname = current_database()) limits WHERE n >= 0";
        let limit: String = one(&mut first, LIMIT).await.map_err(failed)?;
        if limit.parse::<i64>().is_ok_and(|n| (0..NEEDED).contains(&n)) {
            return Err(StoreError::Limited(format!(
                "the role or the database of {shown} may have {limit} connections, and each daemon needs {NEEDED}; raise its CONNECTION LIMIT (`ALTER ROLE` or `ALTER DATABASE`)"
            )));
        }
        if pooled(options, &mut first).await.map_err(failed)? {
            return Err(refused(
                "a pooler stands before the database that gives each transaction another session (PgBouncer with `pool_mode = transaction`), and leases need sessions that stay; set `pool_mode = session` for this database, or name the database itself".into(),
            ));
        }
    }
    let _closed = first.close().await;
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = answered_within(ANSWER, PgConnection::connect_with(options)).await?;
    let unlimited = sqlx::raw_sql("SET statement_timeout = 0").execute(&mut connection);
    answered_within(ANSWER, unlimited).await?;
    Ok(connection)
}

/// Without a prepared statement, which some poolers do not know.
async fn one(connection: &mut PgConnection, sql: &'static str) -> Result<String, sqlx::Error> {
    let row = answered_within(ANSWER, sqlx::raw_sql(sql).fetch_one(connection)).await?;
    row.try_get(0)
}

/// Whether sessions change hands between transactions: a second connection then meets the process of the first one, or the first one
/// meets another while the second has its own.
async fn pooled(options: &PgConnectOptions, first: &mut PgConnection) -> Result<bool, sqlx::Error> {
    const PROCESS: &str = "SELECT pg_backend_pid()::TEXT";
    let mut second = connect(options).await?;
    let before = one(first, PROCESS).await?;
    match answered_within(ANSWER, sqlx::raw_sql("BEGIN").execute(&mut second)).await {
        // PgBouncer's own word on transactions of several statements.
        Err(sqlx::Error::Database(e)) if e.message().contains("pooling mode") => return Ok(true),
        begun => begun.map(|_| ())?,
    }
    let other = one(&mut second, PROCESS).await?;
    let after = one(first, PROCESS).await?;
    let _rolled_back = second.close().await;
    Ok(other == before || after != before)
}

/// An error of the first contact, in words that say what to do.
fn told(error: sqlx::Error, shown: &str) -> StoreError {
    let refused = |why: String| StoreError::Open {
        what: shown.to_owned(),
        why,
    };
    if let sqlx::Error::Database(database) = &error
        && let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>()
        && postgres.message().contains("unsupported startup parameter")
    {
        return refused(format!(
            "PgBouncer stands before the database and says: {}; set `ignore_startup_parameters = extra_float_digits` and `pool_mode = session` in its configuration",
            postgres.message()
        ));
    }
    match StoreError::from_sqlx("connect")(error) {
        StoreError::Database { source, .. } => refused(super::reach::told(&source)),
        limited @ StoreError::Limited(_) => limited,
        other => refused(other.to_string()),
    }
}
