//! How a table in the shape of `users` takes its place in SQLite: what is around the table is written down as text, and made anew.

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::store::StoreError;

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
    sqlx::raw_sql(AssertSqlSafe(make))
        .execute(c)
        .await
        .map_err(failed)?;
    Ok(true)
}

/// Puts a table in the place of the empty `users`. Indexes are built here, each sorted once; views name `users`, and SQLite renames
/// nothing while one of them names nothing. The caller is the only writer, so the table is as it was when its twin was made.
pub(in crate::store) async fn take_place(
    c: &mut SqliteConnection,
    table: &str,
) -> Result<bool, sqlx::Error> {
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
