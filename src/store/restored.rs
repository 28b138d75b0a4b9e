//! A store that goes on from a copy of itself: what was used or taken back since the copy is known to nobody, so that it is not trusted.

use super::audit::{AuditNote, append};
use super::db::{Tx, on};
use super::outbox::{hold_copy, locks};
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// What may have come back with a copy.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Restored {
    /// When the store began to go on from a copy; `None`: it never did.
    pub at: Option<Timestamp>,
    /// An administrator has looked since.
    pub reviewed: bool,
    /// Names of API tokens that are good, and may have been revoked since the copy. Empty once an administrator has looked.
    pub api_tokens: Vec<String>,
}

impl Store {
    /// A database that was restored by its own means goes on as a copy: messages are on hold, and nothing that may have been used since is
    /// taken. `now`: by whichever clock is ahead, this machine's or the database's. Gives how many messages are on hold.
    pub async fn restored(&self, now: Timestamp, note: &AuditNote) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let held = take_as_copy(&mut tx, now).await?;
        let note = note.clone().is("held", held);
        append(&mut tx, &note.key, &note.entry).await?;
        tx.commit().await?;
        Ok(held)
    }

    /// How many messages went on hold when the store was opened and found to be a copy, as long as the audit does not say so.
    pub async fn untold_copy(&self) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'restored-untold'";
        let mut link = self.db.read().await?;
        let held = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read when the store was restored"))?;
        Ok(held.map(i64::unsigned_abs))
    }

    /// The audit says that the store was found to be a copy.
    pub async fn tell_copy(&self, note: &AuditNote) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM meta WHERE key = 'restored-untold'";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("note that the store was restored"))?;
        append(&mut tx, &note.key, &note.entry).await?;
        tx.commit().await
    }

    /// An administrator has looked at what may have come back.
    pub async fn restored_reviewed(
        &self,
        now: Timestamp,
        note: &AuditNote,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        put(&mut tx, "restored-reviewed", now.0).await?;
        append(&mut tx, &note.key, &note.entry).await?;
        tx.commit().await
    }

    /// When the store began to go on from a copy; recovery codes that were made before count only with a second proof.
    pub async fn restored_at(&self) -> Result<Option<Timestamp>, StoreError> {
        const SQL: &str = "SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'restored-at'";
        let mut link = self.db.read().await?;
        let at = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read when the store was restored"))?;
        Ok(at.map(Timestamp))
    }

    /// What may have come back with a copy.
    pub async fn came_back(&self) -> Result<Restored, StoreError> {
        const REVIEWED: &str = "SELECT COUNT(*) FROM meta WHERE key = 'restored-reviewed'";
        const TOKENS: &str = "SELECT name FROM api_tokens WHERE revoked_at IS NULL AND created_at <= $1 ORDER BY name";
        let failed = StoreError::from_sqlx("read what may have come back");
        let Some(at) = self.restored_at().await? else {
            return Ok(Restored::default());
        };
        let mut link = self.db.read().await?;
        let reviewed =
            on!(link, c => sqlx::query_scalar::<_, i64>(REVIEWED).fetch_one(&mut *c).await)
                .map_err(&failed)?;
        let api_tokens = if reviewed > 0 {
            vec![]
        } else {
            on!(link, c => sqlx::query_scalar::<_, String>(TOKENS).bind(at.0).fetch_all(&mut *c).await)
                .map_err(&failed)?
        };
        Ok(Restored {
            at: Some(at),
            reviewed: reviewed > 0,
            api_tokens,
        })
    }
}

async fn put(tx: &mut Tx, key: &str, value: i64) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    on!(tx, c => sqlx::query(SQL).bind(key).bind(value.to_string()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("note that the store was restored"))
}

/// The store was opened and is found to be a copy: it goes on as one, and the audit says so as soon as its key is at hand.
pub(super) async fn found_as_copy(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    let held = take_as_copy(tx, now).await?;
    put(tx, "restored-untold", held.cast_signed()).await
}

/// The store goes on from a copy. Gives how many messages are on hold for it.
///
/// A token that counts has to give two codes in a row, since its counter went back. A clock's codes are refused up to the second step from
/// now: whoever saw one that was used since the copy cannot use it again. So of tokens whose seed was given up: it may have come back with a
/// file since. Links that are open may have been used.
async fn take_as_copy(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    const COUNTING: &str = "
        UPDATE authenticators SET two_codes = $1, first_code = NULL, first_until = NULL
        WHERE kind = 'hotp' AND (secret IS NOT NULL OR key_id = 'given-up')";
    const CLOCKS: &str = "
        UPDATE authenticators SET next = $1 / period + drift + CASE kind WHEN 'app' THEN 2 ELSE 3 END
        WHERE kind IN ('app', 'totp') AND (secret IS NOT NULL OR key_id = 'given-up') AND next < $1 / period + drift + CASE kind WHEN 'app' THEN 2 ELSE 3 END";
    const LINKS: &str = "UPDATE enrolments SET state = 'void' WHERE state = 'open'";
    const ANEW: &str = "DELETE FROM meta WHERE key = 'restored-reviewed'";
    let failed = StoreError::from_sqlx("take a copy on");
    locks::links_and_authenticators(tx).await?;
    on!(tx, c => sqlx::query(LINKS).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
    on!(tx, c => sqlx::query(COUNTING).bind(true).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    on!(tx, c => sqlx::query(CLOCKS).bind(now.0.div_euclid(1000)).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    on!(tx, c => sqlx::query(ANEW).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
    put(tx, "restored-at", now.0).await?;
    hold_copy(tx, now).await
}
