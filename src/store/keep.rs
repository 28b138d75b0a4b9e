//! Housekeeping: old runs go, a consistent copy is made.

use std::path::Path;

use super::db::{Db, on};
use super::restored::found_as_copy;
use super::{Access, Store, StoreError};
use crate::clock::Timestamp;

/// Runs that changed nothing are of no interest for longer.
const UNCHANGED_FOR_MS: i64 = 2 * 86_400_000;
/// Rows in one transaction.
const BATCH: i64 = 2000;

impl Store {
    /// Forgets what is older than `keep-runs`, and runs that changed nothing after two days. Held plans, runs under way and each
    /// realm's newest pass that succeeded (see [`Store::last_success`]) stay. Operations go as their runs do. What was erased goes from the log of an SQLite file too.
    /// Gives the number of runs that went.
    pub async fn prune(&self, now: Timestamp, keep_runs_ms: i64) -> Result<u64, StoreError> {
        const RUNS: &str = "
            DELETE FROM runs WHERE id IN (
                SELECT id FROM runs r WHERE outcome NOT IN ('held', 'running')
                AND (started_at < $1 OR started_at < $2 AND outcome = 'unchanged')
                AND id NOT IN (SELECT MAX(id) FROM runs WHERE outcome IN ('applied', 'unchanged') AND mode IN ('full', 'delta', 'adopt') GROUP BY realm) LIMIT $3)";
        const RUNS_PG: &str = "
            DELETE FROM runs WHERE id IN (
                SELECT id FROM runs r WHERE outcome NOT IN ('held', 'running')
                AND (started_at < $1 OR started_at < $2 AND outcome = 'unchanged')
                AND id NOT IN (SELECT DISTINCT ON (realm) id FROM runs WHERE outcome IN ('applied', 'unchanged') AND mode IN ('full', 'delta', 'adopt') ORDER BY realm, id DESC) LIMIT $3)";
        const CHANGES: &str = "
            DELETE FROM changes WHERE (run, seq) IN (
                SELECT c.run, c.seq FROM changes c WHERE c.at < $1 AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = c.run) LIMIT $2)";
        macro_rules! jobs {
            ($lock:literal) => {
                concat!("DELETE FROM jobs WHERE seq IN (SELECT seq FROM jobs WHERE state NOT IN ('waiting', 'sending', 'held') AND settled_at < $1 LIMIT $2", $lock, ")")
            };
        }
        let old = now.plus_ms(-keep_runs_ms);
        // A message that somebody has just now goes with the next call.
        let (runs, jobs) = match self.db {
            Db::Sqlite { .. } => (RUNS, jobs!("")),
            Db::Postgres { .. } => (RUNS_PG, jobs!(" FOR UPDATE SKIP LOCKED")),
        };
        let mut gone = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let rows = on!(tx, c => sqlx::query(runs).bind(old.0).bind(now.plus_ms(-UNCHANGED_FOR_MS).0).bind(BATCH).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("forget old runs"))?;
            tx.commit().await?;
            gone += rows;
            if rows == 0 {
                break;
            }
        }
        for sql in [CHANGES, jobs] {
            loop {
                let mut tx = self.db.begin().await?;
                let rows = on!(tx, c => sqlx::query(sql).bind(old.0).bind(BATCH).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("forget old changes"))?;
                tx.commit().await?;
                if rows == 0 {
                    break;
                }
            }
        }
        self.forget_operations(old).await?;
        self.forget_adopted().await?;
        self.forget_unproved(now).await?;
        self.forget_looked_at().await?;
        self.db.fold_log().await?;
        Ok(gone)
    }

    /// Writes a consistent copy of the embedded store to a new file (mode 0600) while it is in use. The copy knows that it is one.
    pub async fn backup(&self, to: &Path, now: Timestamp) -> Result<(), StoreError> {
        if matches!(self.db, Db::Postgres { .. }) {
            return Err(StoreError::Refused("the store is a PostgreSQL database: use `pg_dump`, which copies it while it is in use".into()));
        }
        let open = |why: String| StoreError::Open {
            what: to.display().to_string(),
            why,
        };
        if to.exists() {
            return Err(open("it is there already: name a file that is not".into()));
        }
        // Under another name until it is marked: what a kill in the middle leaves must not pass for a copy, since a daemon on an
        // unmarked one would send everything again (TRAPS 24).
        let mut name = to.as_os_str().to_owned();
        name.push(".unfinished");
        let unfinished = Path::new(&name);
        if unfinished.exists() {
            return Err(open(format!(
                "{} is there, of a copy that is under way or was not finished: if none is, remove it",
                unfinished.display()
            )));
        }
        // Made first, so that nobody else can read it for a moment; VACUUM INTO takes an empty file.
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(unfinished)
            .map_err(|e| open(super::lock::advice(to, &e)))?;
        let written = self.write_copy(unfinished, now).await;
        let done = match written {
            Ok(()) => std::fs::rename(unfinished, to).map_err(|e| open(e.to_string())),
            failed => failed,
        };
        if done.is_err() {
            let _gone = std::fs::remove_file(unfinished);
        }
        done
    }

    /// Copies into an empty file, and marks the copy as one.
    async fn write_copy(&self, to: &Path, now: Timestamp) -> Result<(), StoreError> {
        let (Db::Sqlite { read, .. }, Some(text)) = (&self.db, to.to_str()) else {
            return Err(StoreError::Open {
                what: to.display().to_string(),
                why: "its name is not UTF-8".into(),
            });
        };
        // A reader of its own that goes afterwards: VACUUM INTO counts as writing, which the pool's readers may not.
        let mut reader = read
            .acquire()
            .await
            .map_err(StoreError::from_sqlx("connect"))?
            .detach();
        let copied = match sqlx::query("PRAGMA query_only = OFF")
            .execute(&mut reader)
            .await
        {
            Ok(_) => {
                sqlx::query("VACUUM INTO $1")
                    .bind(text)
                    .execute(&mut reader)
                    .await
            }
            Err(error) => Err(error),
        };
        copied.map_err(StoreError::from_sqlx("make a copy"))?;
        let copy = Db::sqlite(to, Access::Write).await?;
        let mut tx = copy.begin().await?;
        on!(tx, c => sqlx::query("INSERT INTO meta (key, value) VALUES ('copy', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value").bind(now.rfc3339()).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("mark the copy"))?;
        on!(tx, c => sqlx::query("DELETE FROM meta WHERE key = 'in-use'").execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("mark the copy"))?;
        tx.commit().await?;
        copy.close().await;
        Ok(())
    }

    /// The first opening of a copy for writing: whatever the original may have sent since stays on hold (TRAPS 24).
    pub(super) async fn take_on_copy(&self, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let marks = on!(tx, c => sqlx::query("DELETE FROM meta WHERE key = 'copy'").execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("look for a copy's mark"))?;
        if marks > 0 {
            found_as_copy(&mut tx, now).await?;
        }
        tx.commit().await?;
        Ok(marks > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::outbox_tests::sqlite;

    #[tokio::test]
    async fn a_copy_is_whole_private_and_knows_that_it_is_one() {
        let house = sqlite().await;
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("copy.db");
        house.store.backup(&to, house.now).await.unwrap();
        assert_eq!(
            std::fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing lies beside it"
        );
        let copy = Store {
            db: Db::sqlite(&to, Access::Write).await.unwrap(),
            leases: crate::store::Leases::default(),
            note: None,
        };
        assert_eq!(
            copy.realms().await.unwrap(),
            house.store.realms().await.unwrap()
        );
        assert!(
            copy.take_on_copy(house.now).await.unwrap(),
            "the first opening finds the mark"
        );
        assert!(!copy.take_on_copy(house.now).await.unwrap());
        assert!(
            matches!(
                house.store.backup(&to, house.now).await,
                Err(StoreError::Open { .. })
            ),
            "never over another file"
        );
        house.store.realms().await.expect("the original goes on");
    }
}
