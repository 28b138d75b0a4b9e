//! A store of its own for a plan that is only looked at.
//!
//! It is SQLite's nameless database. What does not fit its cache goes to a temporary file that is unlinked as soon as it is made.
//! Nobody else sees the file, and it is gone when the process ends, however that comes about. The real store is only read
//! meanwhile: nothing waits for the plan, and it can be made where the store cannot be written.

use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio_util::task::TaskTracker;

use super::db::Db;
use super::lease_owner::Leases;
use super::{SQLITE, Store, StoreError, migration_error};

const WHAT: &str = "a temporary store";

impl Store {
    /// An empty store that is gone with its last clone. It has one connection: whoever reads lets go of it before writing.
    pub async fn scratch() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename("")
            .journal_mode(SqliteJournalMode::Memory)
            .synchronous(SqliteSynchronous::Off)
            .foreign_keys(true)
            .page_size(16_384)
            .pragma("cache_size", "-3000");
        let only = SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(1)
            // The database is gone with its connection.
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|e| StoreError::Open {
                what: WHAT.into(),
                why: format!("{e}; see that /var/tmp, or what TMPDIR names, can be written"),
            })?;
        SQLITE
            .run(&only)
            .await
            .map_err(|e| migration_error(e, WHAT))?;
        Ok(Self {
            db: Db::Sqlite {
                write: only.clone(),
                generation: None,
                read: only,
                relaxed: Arc::default(),
                folding: TaskTracker::new(),
            },
            leases: Leases::default(),
            note: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox_tests::user;
    use super::*;
    use crate::model::{DirectoryId, RunId};
    use crate::store::StagedUser;

    #[tokio::test]
    async fn what_is_staged_in_a_temporary_store_is_there_until_it_goes() {
        let run = RunId(uuid::Uuid::from_u128(1));
        let store = Store::scratch().await.unwrap();
        let someone = |n: u16| {
            let mut user = user(&format!("u{n}"), "+421905123456");
            let [high, low] = n.to_be_bytes();
            user.directory_id = Some(DirectoryId([
                high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]));
            StagedUser {
                seq: i64::from(n),
                base_version: 0,
                user,
                container: None,
                intents: vec![],
            }
        };
        // More than the cache holds, from several tasks at once.
        let stage = |from: u16| {
            let (store, users) = (store.clone(), (from..from + 2000).map(someone).collect());
            async move { store.stage(run, users, &[]).await }
        };
        let (one, two, three, four) = tokio::join!(stage(1), stage(2001), stage(4001), stage(6001));
        for staged in [one, two, three, four] {
            staged.unwrap();
        }
        assert_eq!(store.staged_new(run, 0, 9000).await.unwrap().len(), 8000);
        let (gone, _) = store
            .unstage(run, &[someone(7).user.origin()])
            .await
            .unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(store.staged_new(run, 0, 9000).await.unwrap().len(), 7999);
        let other = Store::scratch().await.unwrap();
        assert!(other.staged_new(run, 0, 1).await.unwrap().is_empty());
    }
}
