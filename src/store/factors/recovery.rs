//! Recovery codes, and the temporary codes of a helpdesk.

use uuid::Uuid;

use super::authenticators::end;
use crate::clock::Timestamp;
use crate::factors::keys::RootKey;
use crate::factors::recovery::digest;
use crate::model::{AuditEntry, AuthenticatorId, UserId};
use crate::store::audit::append;
use crate::store::db::{Tx, on};
use crate::store::outbox::locks;
use crate::store::{AuditKey, Store, StoreError};

/// Uses a code up, by what is kept of it: true for one transaction only.
pub(in crate::store) async fn take_digest(
    tx: &mut Tx,
    user: UserId,
    digest: &[u8],
    now: Timestamp,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE recovery_codes SET uses_left = uses_left - 1, used_at = $3
        WHERE user_id = $1 AND digest = $2 AND uses_left > 0 AND (expires_at IS NULL OR expires_at > $3)";
    let rows = on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).bind(digest.to_vec()).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("use a recovery code"))?;
    Ok(rows == 1)
}

/// Keeps a new set of codes in place of those before. `letters` is what [`crate::factors::typed::read`] gives; `set`: what they are known by together.
pub(in crate::store) async fn replace(
    tx: &mut Tx,
    key: &RootKey,
    user: UserId,
    set: Uuid,
    letters: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    const CLEAR: &str = "DELETE FROM recovery_codes WHERE user_id = $1 AND kind = 'recovery'";
    const ADD: &str = "
        INSERT INTO recovery_codes (user_id, digest, kind, set_id, key_id, uses_left, created_at)
        VALUES ($1, $2, 'recovery', $3, $4, 1, $5)";
    let failed = StoreError::from_sqlx("keep recovery codes");
    let id = user.0.as_bytes().to_vec();
    on!(tx, c => sqlx::query(CLEAR).bind(id.clone()).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    for code in letters {
        on!(tx, c => sqlx::query(ADD).bind(id.clone()).bind(digest(key, user, code).to_vec()).bind(set.as_bytes().to_vec())
            .bind(key.id().to_string()).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    }
    Ok(())
}

/// How many recovery codes of a user are left.
pub(in crate::store) async fn left(tx: &mut Tx, user: UserId) -> Result<i64, StoreError> {
    on!(tx, c => sqlx::query_scalar::<_, i64>(LEFT).bind(user.0.as_bytes().to_vec()).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("count recovery codes"))
}

const LEFT: &str = "SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1 AND kind = 'recovery' AND uses_left > 0";

impl Store {
    /// How many recovery codes of a user are left.
    pub async fn recovery_codes_left(&self, user: UserId) -> Result<i64, StoreError> {
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, i64>(LEFT).bind(user.0.as_bytes().to_vec()).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("count recovery codes"))
    }

    /// Ends applications of a user, and these sets of recovery codes; a set may have the id of an application, which then stays apart.
    pub async fn revoke_authenticators(
        &self,
        user: UserId,
        applications: &[AuthenticatorId],
        sets: &[AuthenticatorId],
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const CODES: &str =
            "DELETE FROM recovery_codes WHERE user_id = $1 AND set_id = $2 AND kind = 'recovery'";
        let mut tx = self.db.begin().await?;
        locks::user(&mut tx, user).await?;
        end(&mut tx, applications, audit.0.at).await?;
        for id in sets {
            on!(tx, c => sqlx::query(CODES).bind(user.0.as_bytes().to_vec()).bind(id.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("void recovery codes"))?;
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }
}
