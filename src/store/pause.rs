//! Pauses. Each has an owner, an administrator or an undo run, and both may stand beside each other: an undo's end ends only its
//! own, an administrator's `resume` ends both.

use super::db::{Tx, on};
use super::outbox::reckon_standing;
use super::rows::bytes;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{RealmId, RunId};

impl Store {
    /// An administrator's pause: no passes until `until`, or until resumed. It takes the place of an earlier one of an
    /// administrator, and stands beside an undo's. Notes who asked.
    pub async fn pause(
        &self,
        realm: &RealmId,
        until: Option<Timestamp>,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "
            UPDATE realms SET paused = $4, paused_by = $3,
                paused_until = CASE WHEN paused AND paused_by_undo IS NOT NULL THEN NULL ELSE $2 END,
                paused_by_undo = CASE WHEN paused THEN paused_by_undo END,
                paused_beside = paused AND paused_by_undo IS NOT NULL, paused_beside_until = $2
            WHERE id = $1";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(until.map(|t| t.0)).bind(by.map(str::to_owned)).bind(true).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("pause a realm"))?;
        known(realm, rows)?;
        reckon_standing(&mut tx, None, now).await?;
        self.note(&mut tx).await?;
        tx.commit().await
    }

    /// Passes again: an administrator ends every pause, also an undo's. Notes who asked.
    pub async fn resume(&self, realm: &RealmId, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "
            UPDATE realms SET paused = $2, paused_until = NULL, paused_by = NULL, paused_by_undo = NULL,
                paused_beside = $2, paused_beside_until = NULL
            WHERE id = $1";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(false).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("resume a realm"))?;
        known(realm, rows)?;
        reckon_standing(&mut tx, None, now).await?;
        self.note(&mut tx).await?;
        tx.commit().await
    }

    /// Ends a pause whose time is over; `false`: another one stands by now.
    pub async fn end_pause(&self, realm: &RealmId, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "
            UPDATE realms SET paused = $3, paused_until = NULL, paused_by = NULL, paused_by_undo = NULL,
                paused_beside = $3, paused_beside_until = NULL
            WHERE id = $1 AND paused AND paused_until <= $2";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(now.0).bind(false).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("end a pause"))?;
        reckon_standing(&mut tx, None, now).await?;
        tx.commit().await?;
        Ok(rows > 0)
    }
}

/// Whether a run puts back what a file of users changed. Expects the run to be written.
pub(super) async fn undoes_import(tx: &mut Tx, undo: RunId) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM runs u JOIN runs r ON r.id = u.undoes WHERE u.id = $1 AND r.mode IN ('import', 'action')";
    on!(tx, c => sqlx::query_scalar::<_, i64>(SQL).bind(bytes(undo)).fetch_one(&mut *c).await)
        .map(|n| n > 0)
        .map_err(StoreError::from_sqlx("read a run"))
}

/// An undo's pause, from the commit of the caller's transaction on. The pause of an earlier undo that was applied stays that one's;
/// that of a plan whose place this one takes (`replaces`) is handed on. Expects the realm and what is open in it to be locked.
pub(super) async fn pause_for_undo(
    tx: &mut Tx,
    realm: &RealmId,
    undo: RunId,
    replaces: Option<RunId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const HAND_ON: &str =
        "UPDATE realms SET paused_by_undo = $2 WHERE id = $1 AND paused AND paused_by_undo = $3";
    const PAUSE: &str = "
        UPDATE realms SET paused = $4, paused_until = NULL, paused_by_undo = $2,
            paused_beside = paused AND (paused_until IS NULL OR paused_until > $3), paused_beside_until = paused_until
        WHERE id = $1 AND NOT (paused AND paused_by_undo IS NOT NULL)";
    let failed = StoreError::from_sqlx("pause a realm");
    if let Some(old) = replaces {
        on!(tx, c => sqlx::query(HAND_ON).bind(realm.as_str()).bind(bytes(undo)).bind(bytes(old)).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
    }
    on!(tx, c => sqlx::query(PAUSE).bind(realm.as_str()).bind(bytes(undo)).bind(now.0).bind(true).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    reckon_standing(tx, Some(realm), now).await
}

/// An undo came to nothing: its own pause is over, and an administrator's that stood beside it goes on. Expects its realm and what is
/// open in it to be locked.
pub(super) async fn end_pause_of_undo(
    tx: &mut Tx,
    realm: &RealmId,
    undo: RunId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE realms SET paused = paused_beside, paused_until = CASE WHEN paused_beside THEN paused_beside_until END,
            paused_by_undo = NULL, paused_beside = $2, paused_beside_until = NULL
        WHERE id = $3 AND paused AND paused_by_undo = $1";
    on!(tx, c => sqlx::query(SQL).bind(bytes(undo)).bind(false).bind(realm.as_str()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("end a pause"))?;
    reckon_standing(tx, Some(realm), now).await
}

fn known(realm: &RealmId, rows: u64) -> Result<(), StoreError> {
    if rows == 0 {
        return Err(StoreError::NotFound(format!(
            "there is no realm `{realm}`: `status` lists them"
        )));
    }
    Ok(())
}
