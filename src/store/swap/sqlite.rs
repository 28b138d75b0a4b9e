//! How a table in the shape of `users` takes its place in SQLite: what is around the table is written down as text, and made anew.

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::store::StoreError;
use crate::store::db::pragma;

/// Indexes that are kept up to date while rows are written: of places, which ascend, and those in which nobody is whom a first load
/// makes. To read all rows once more for each of them costs more.
const EARLY: [&str; 5] = [
    "users_made",
    "users_pending",
    "users_suspended",
    "users_suspended_names",
    "users_removed",
];

/// What an index of `users` is called while it is that of another table.
fn early(table: &str, name: &str) -> String {
    format!("{table}_{name}")
}

/// Makes a table in the shape of `users`, without its indexes. `false`: `users` is not to be replaced, and nothing was made.
pub(in crate::store) async fn twin(
    c: &mut SqliteConnection,
    table: &str,
) -> Result<bool, StoreError> {
    // A trigger of somebody's own may name `users` anywhere.
    const SQL: &str = "
        SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'users'
            AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger')";
    let failed = StoreError::from_sqlx("begin a first load");
    let sql = sqlx::query_scalar::<_, String>(SQL)
        .fetch_optional(&mut *c)
        .await
        .map_err(&failed)?;
    let Some((_, columns)) = sql.as_deref().and_then(|sql| sql.split_once('(')) else {
        return Ok(false);
    };
    let make = format!("CREATE TABLE {table} ({columns}");
    let mut statements = vec![make];
    for (name, sql) in indexes(c, "users").await.map_err(&failed)? {
        let on = format!("CREATE INDEX {name} ON users ");
        if let (true, Some(of)) = (EARLY.contains(&name.as_str()), sql.strip_prefix(&on)) {
            let index = early(table, &name);
            statements.push(format!("CREATE INDEX {index} ON {table} {of}"));
        }
    }
    sqlx::raw_sql(AssertSqlSafe(statements.join(";\n")))
        .execute(c)
        .await
        .map_err(failed)?;
    Ok(true)
}

/// The indexes of a table, by name, and the statements that make them.
async fn indexes(
    c: &mut SqliteConnection,
    table: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    const SQL: &str = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND type = 'index' AND tbl_name = $1 ORDER BY rowid";
    sqlx::query_as(SQL)
        .bind(table.to_owned())
        .fetch_all(c)
        .await
}

/// Puts a table in the place of the empty `users`. The other indexes are built here, each sorted once; views name `users`, and SQLite
/// renames nothing while one of them names nothing. The caller is the only writer, so the table is as it was when its twin was made.
pub(in crate::store) async fn take_place(
    c: &mut SqliteConnection,
    table: &str,
) -> Result<bool, sqlx::Error> {
    const AROUND: &str = "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('view', 'trigger') ORDER BY rowid";
    let around: Vec<(String, String, String)> = sqlx::query_as(AROUND).fetch_all(&mut *c).await?;
    if around.iter().any(|(kind, _, _)| kind == "trigger") {
        return Ok(false);
    }
    let there = indexes(c, table).await?;
    let is_there = |name: &str| there.iter().any(|(is, _)| *is == early(table, name));
    let (built, missing): (Vec<_>, Vec<_>) = indexes(c, "users")
        .await?
        .into_iter()
        .partition(|(name, _)| is_there(name));
    let mut statements = vec![];
    for (_, name, _) in &around {
        statements.push(format!("DROP VIEW \"{}\"", name.replace('"', "\"\"")));
    }
    statements.extend([
        "DROP TABLE users".to_owned(),
        format!("ALTER TABLE {table} RENAME TO users"),
    ]);
    let run = |sql: String| sqlx::raw_sql(AssertSqlSafe(sql));
    run(statements.join(";\n")).execute(&mut *c).await?;
    if !built.is_empty() {
        rename(c, table, &built).await?;
    }
    let again: Vec<String> = missing
        .into_iter()
        .map(|(_, sql)| sql)
        .chain(around.into_iter().map(|(_, _, sql)| sql))
        .collect();
    run(again.join(";\n")).execute(c).await?;
    Ok(true)
}

/// Gives indexes their names of `users`, and the statements that would make them. SQLite has no statement for it; its manual ("PRAGMA
/// writable_schema", "ALTER TABLE", § 7) lets the text of the schema be changed where nothing on the disk would be another for it.
async fn rename(
    c: &mut SqliteConnection,
    table: &str,
    built: &[(String, String)],
) -> Result<(), sqlx::Error> {
    const RENAME: &str =
        "UPDATE sqlite_schema SET name = $2, sql = $3 WHERE type = 'index' AND name = $1";
    pragma(c, "PRAGMA writable_schema = ON").await?;
    let mut renamed = Ok(());
    for (name, sql) in built {
        let query = sqlx::query(RENAME)
            .bind(early(table, name))
            .bind(name.clone())
            .bind(sql.clone());
        renamed = renamed.and(query.execute(&mut *c).await.map(|_| ()));
    }
    // Reads the schema anew; others do since the table was renamed.
    pragma(c, "PRAGMA writable_schema = RESET").await?;
    renamed
}
