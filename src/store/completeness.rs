//! Whether a store is complete: one that lacks the end of its story (see `generation`) is refused when it is opened.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::db::{Db, Tx, on};
use super::generation::{Generation, GenerationFile};
use super::restored::found_as_copy;
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// Written into the file by an administrator who takes the store as it is.
const ACCEPT: &str = "accept";

impl Store {
    /// Refuses a store that lacks what it held before, and begins to count. Expects the lock of the store; `copy`: it is a copy that
    /// says so itself. Errors: [`StoreError::Incomplete`].
    pub(super) async fn check_generation(
        &mut self,
        store: &Path,
        found: &GenerationFile,
        copy: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const THERE: &str = "SELECT key, value FROM meta WHERE key IN ('generation', 'in-use')";
        const USE: &str = "
            INSERT INTO meta (key, value) VALUES ('in-use', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        const AHEAD: &str =
            "UPDATE meta SET value = $1 WHERE key = 'generation' AND CAST(value AS INTEGER) < $2";
        let failed = StoreError::from_sqlx("read the store's generation");
        let mut tx = self.db.begin().await?;
        let there =
            on!(tx, c => sqlx::query_as::<_, (String, String)>(THERE).fetch_all(&mut *c).await)
                .map_err(&failed)?;
        let of = |key: &str| {
            there
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        let generation: i64 = of("generation").and_then(|g| g.parse().ok()).unwrap_or(0);
        let in_use = of("in-use").is_some();
        let noted = found.number();
        let accepted = found.text.as_deref() == Some(ACCEPT);
        let behind = noted.is_some_and(|n| n > generation);
        let cut_off = noted.is_none() && in_use && !found.log;
        if accepted {
            found_as_copy(&mut tx, now).await?;
            tracing::warn!(
                "{} is taken as it is: its messages are on hold, since they may have been sent before",
                store.display()
            );
        } else if (behind || cut_off) && !copy && !found.new {
            return Err(StoreError::Incomplete {
                what: store.display().to_string(),
                file: found.path.display().to_string(),
            });
        } else if noted.is_none() && generation > 0 && !copy {
            tracing::warn!(
                "{} is missing or cannot be read, so that it is not known whether {} is the newest: it is taken to be",
                found.path.display(),
                store.display()
            );
        }
        // The file is there before the store says that it is in use, so that no power cut leaves the one without the other.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let counter = options.open(&found.path).and_then(|file| {
            // Anything else stays until the commit below, so that a crash before it changes nothing.
            if noted.is_none() && !accepted {
                file.set_len(0)?;
                file.write_all_at(format!("{:020}\n", 0).as_bytes(), 0)?;
            }
            file.sync_all()?;
            File::open(found.path.parent().unwrap_or(&found.path))?.sync_all()?;
            Ok(Generation::of(file))
        });
        let counter = counter.map_err(|e| StoreError::Open {
            what: found.path.display().to_string(),
            why: super::lock::advice(&found.path, &e),
        })?;
        on!(tx, c => sqlx::query(AHEAD).bind(noted.unwrap_or(0).to_string()).bind(noted.unwrap_or(0)).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
        on!(tx, c => sqlx::query(USE).bind(now.rfc3339()).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        let Db::Sqlite {
            write, generation, ..
        } = &mut self.db
        else {
            return Ok(());
        };
        *generation = Some(Arc::new(counter));
        let counted = generation.clone();
        let Tx::Sqlite(open, _) = tx else {
            return Ok(());
        };
        Tx::Sqlite(open, counted).commit().await?;
        // From here on the main file says it too; whoever reads just now may put that off.
        let folded = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&*write)
            .await;
        folded.map(|_| ()).map_err(failed)
    }

    /// The store is not in use any more, and all of it will be in its main file.
    pub(super) async fn let_go(&self) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM meta WHERE key = 'in-use'";
        let Db::Sqlite {
            generation: Some(generation),
            ..
        } = &self.db
        else {
            return Ok(());
        };
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("let go of the store"))?;
        let done = tx.commit().await;
        generation.close();
        done
    }
}
