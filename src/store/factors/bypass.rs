//! Temporary codes of a helpdesk.

use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::model::{AuditEntry, AuthenticatorId, JobReason, UserId};
use crate::store::audit::{AuditKey, append};
use crate::store::db::on;
use crate::store::{Store, StoreError};

/// A temporary code that is to be kept.
#[derive(Clone, Debug)]
pub struct NewBypass {
    /// Whose.
    pub user: UserId,
    /// Its own id.
    pub set: AuthenticatorId,
    /// HMAC of the code's letters.
    pub digest: [u8; 32],
    /// The key that it is made with.
    pub key: KeyId,
    /// How often it counts.
    pub uses: i64,
    /// Until when.
    pub expires_at: Timestamp,
    /// When it is made.
    pub now: Timestamp,
}

impl Store {
    /// Keeps a temporary code, beside those that there are.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is nobody any more.
    pub async fn add_bypass(
        &self,
        new: NewBypass,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const SQL: &str = "
            INSERT INTO recovery_codes (user_id, digest, kind, set_id, key_id, uses_left, expires_at, created_at)
            SELECT id, $2, 'bypass', $3, $4, $5, $6, $7 FROM users WHERE id = $1 AND state <> 'removed'";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(new.user.0.as_bytes().to_vec()).bind(new.digest.to_vec())
            .bind(new.set.0.as_bytes().to_vec()).bind(new.key.to_string()).bind(new.uses).bind(new.expires_at.0).bind(new.now.0)
            .execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("keep a temporary code"))?;
        if rows != 1 {
            return Err(StoreError::Conflict(1));
        }
        crate::store::notices::note(&mut tx, new.user, JobReason::BypassMade, new.now).await?;
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }
}
