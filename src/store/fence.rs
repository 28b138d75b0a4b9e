//! A transaction on PostgreSQL, which for a run begins with the fence of its lease.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::answer::answered;

/// A connection of PostgreSQL within a transaction. One that was not committed is closed, whatever state it is in, and the
/// server rolls back.
pub(super) struct FencedTransaction {
    connection: PoolConnection<Postgres>,
    committed: bool,
}

impl FencedTransaction {
    /// Begins one; with a fence, the first statement is in the same message, so that it costs no round trip. `relaxed`: its commit
    /// does not wait for the disk.
    pub(super) async fn begin(
        pool: &PgPool,
        fence: Option<i64>,
        relaxed: bool,
    ) -> Result<Self, sqlx::Error> {
        let mut open = Self {
            connection: pool.acquire().await?,
            committed: false,
        };
        // Each statement sees what others committed before it, whatever the database's default is.
        let mut sql = "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned();
        if let Some(token) = fence {
            sql.push_str(&format!("; SELECT fence({token})"));
        }
        if relaxed {
            sql.push_str("; SET LOCAL synchronous_commit = off");
        }
        answered(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *open.connection)).await?;
        Ok(open)
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        answered(sqlx::raw_sql("COMMIT").execute(&mut *self.connection)).await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for FencedTransaction {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for FencedTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for FencedTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
