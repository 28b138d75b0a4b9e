//! API tokens. The store holds the SHA-256 of each alone: 32 bytes of chance need no slow hash.

use sqlx::FromRow;

use super::audit::{AuditKey, append};
use super::db::on;
use super::rows::{readable, uuid, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{ApiToken, ApiTokenId, AuditEntry, RealmId, Scope};

/// The last use is written at most this often, in milliseconds.
const USED: i64 = 60_000;

const COLUMNS: &str =
    "id, name, scopes, realm, by_whom, created_at, expires_at, last_used_at, revoked_at";

/// A token as either engine gives it.
#[derive(FromRow)]
struct ApiTokenRow {
    id: Vec<u8>,
    name: String,
    scopes: String,
    realm: Option<String>,
    by_whom: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl TryFrom<ApiTokenRow> for ApiToken {
    type Error = StoreError;

    fn try_from(row: ApiTokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ApiTokenId(uuid(&row.id)?),
            name: row.name,
            scopes: row
                .scopes
                .split(',')
                .map(word::<Scope>)
                .collect::<Result<_, _>>()?,
            realm: row.realm.map(RealmId::from),
            by: row.by_whom,
            created_at: Timestamp(row.created_at),
            expires_at: row.expires_at.map(Timestamp),
            last_used_at: row.last_used_at.map(Timestamp),
            revoked_at: row.revoked_at.map(Timestamp),
        })
    }
}

impl Store {
    /// Keeps a new token.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there is one of the name that is not revoked.
    pub async fn make_api_token(
        &self,
        token: &ApiToken,
        sha256: [u8; 32],
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const SQL: &str = "
            INSERT INTO api_tokens (id, name, sha256, scopes, realm, by_whom, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let realm = token.realm.as_ref().map(|realm| realm.as_str().to_owned());
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(token.id.0.as_bytes().to_vec()).bind(&token.name).bind(sha256.to_vec())
            .bind(scopes.join(",")).bind(realm).bind(token.by.clone()).bind(token.created_at.0)
            .bind(token.expires_at.map(|t| t.0)).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("keep a token"))?;
        if rows != 1 {
            return Err(StoreError::Refused(format!(
                "there is a token `{}` already: revoke it first, or choose another name",
                token.name
            )));
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// All tokens, also those that were revoked, the oldest first.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_tokens ORDER BY created_at, id");
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, ApiTokenRow>(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read tokens"))?;
        Ok(readable(rows))
    }

    /// The token with this hash, whether or not it still counts.
    pub async fn api_token_of(&self, sha256: [u8; 32]) -> Result<Option<ApiToken>, StoreError> {
        const SQL: &str = "SELECT id, name, scopes, realm, by_whom, created_at, expires_at, last_used_at, revoked_at FROM api_tokens WHERE sha256 = $1";
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, ApiTokenRow>(SQL).bind(sha256.to_vec()).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a token"))?;
        row.map(ApiToken::try_from).transpose()
    }

    /// Revokes a token. `false`: it was revoked already.
    pub async fn revoke_api_token(
        &self,
        token: ApiTokenId,
        now: Timestamp,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(token.0.as_bytes().to_vec()).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("revoke a token"))?;
        if rows == 0 {
            return Ok(false);
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes that a token was used, unless that was noted within the last minute.
    pub async fn api_token_used(
        &self,
        token: ApiTokenId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "
            UPDATE api_tokens SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(token.0.as_bytes().to_vec()).bind(now.0).bind(now.0 - USED).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("note a token's use"))?;
        if rows == 0 {
            return Ok(());
        }
        tx.commit().await
    }
}
