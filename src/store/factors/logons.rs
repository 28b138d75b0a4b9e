//! Logons that services report, and how many users their tokens make.

use crate::clock::Timestamp;
use crate::model::{ApiTokenId, RealmId, UserId};
use crate::store::answer::answered;
use crate::store::db::{EngineConnection, on};
use crate::store::rows::uuid;
use crate::store::{KeptAnswer, Store, StoreError};

/// What a token may make is counted over so many minutes.
const MINUTES: i64 = 60;

/// A logon that a service reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogonRow {
    /// When it was.
    pub at: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Which service reports it: the name of its token.
    pub service: String,
    /// Where.
    pub realm: RealmId,
    /// Whose.
    pub user: UserId,
    /// With a second factor, whoever verified it.
    pub second_factor: bool,
}

impl Store {
    /// Notes that a token makes one more user. `false`: it has made as many within the last hour as it may.
    pub async fn may_make(
        &self,
        token: ApiTokenId,
        now: Timestamp,
        most: i64,
    ) -> Result<bool, StoreError> {
        const ALONE: &str = "SELECT id FROM api_tokens WHERE id = $1 FOR UPDATE";
        const MADE: &str = "SELECT CAST(COALESCE(SUM(made), 0) AS BIGINT) FROM made_by_tokens WHERE token = $1 AND minute > $2";
        const ONE: &str = "
            INSERT INTO made_by_tokens (token, minute, made) VALUES ($1, $2, 1)
            ON CONFLICT (token, minute) DO UPDATE SET made = made_by_tokens.made + 1";
        let failed = StoreError::from_sqlx("count what a token makes");
        let id = token.0.as_bytes().to_vec();
        let minute = now.0.div_euclid(60_000);
        let mut tx = self.db.begin().await?;
        if let EngineConnection::Postgres(c) = tx.side() {
            answered(sqlx::query(ALONE).bind(id.clone()).execute(c))
                .await
                .map_err(&failed)?;
        }
        let made = on!(tx, c => sqlx::query_scalar::<_, i64>(MADE).bind(id.clone()).bind(minute - MINUTES).fetch_one(&mut *c).await)
            .map_err(&failed)?;
        if made < most {
            on!(tx, c => sqlx::query(ONE).bind(id).bind(minute).execute(&mut *c).await.map(|_| ()))
                .map_err(&failed)?;
        }
        tx.commit().await?;
        Ok(made < most)
    }

    /// Gives one back that [`Store::may_make`] noted at this time: the user could not be made, or another request made them.
    pub async fn not_made(&self, token: ApiTokenId, noted: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "
            UPDATE made_by_tokens SET made = made - 1 WHERE token = $1 AND minute = $2 AND made > 0";
        let minute = noted.0.div_euclid(60_000);
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(token.0.as_bytes().to_vec()).bind(minute).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("count what a token makes"))?;
        tx.commit().await
    }

    /// The tokens that have made as many users within the last hour as they may.
    pub async fn tokens_at_their_limit(
        &self,
        now: Timestamp,
        most: i64,
    ) -> Result<Vec<ApiTokenId>, StoreError> {
        const SQL: &str = "SELECT token FROM made_by_tokens WHERE minute > $1 GROUP BY token HAVING SUM(made) >= $2";
        let minute = now.0.div_euclid(60_000) - MINUTES;
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(SQL).bind(minute).bind(most).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("count what tokens make"))?;
        rows.iter().map(|id| Ok(ApiTokenId(uuid(id)?))).collect()
    }

    /// Notes a logon, and keeps the answer to it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the same request was answered a moment ago.
    pub async fn note_logon(
        &self,
        logon: &LogonRow,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), StoreError> {
        const SEEN: &str = "
            INSERT INTO user_factors (user_id, last_used_at, proved_at) SELECT id, $2, $3 FROM users WHERE id = $1 AND state <> 'removed'
            ON CONFLICT (user_id) DO UPDATE SET
                last_used_at = CASE WHEN user_factors.last_used_at > excluded.last_used_at THEN user_factors.last_used_at ELSE excluded.last_used_at END,
                proved_at = CASE WHEN excluded.proved_at IS NULL OR user_factors.proved_at > excluded.proved_at THEN user_factors.proved_at ELSE excluded.proved_at END";
        const ROW: &str = "INSERT INTO verifications (at, service, realm, user_id, result) VALUES ($1, $2, $3, $4, 'reported')";
        let failed = StoreError::from_sqlx("note a logon");
        let user = logon.user.0.as_bytes().to_vec();
        let proved = logon.second_factor.then_some(logon.at.0);
        let mut tx = self.verifying().await?;
        on!(tx.tx, c => sqlx::query(SEEN).bind(user.clone()).bind(logon.at.0).bind(proved).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        on!(tx.tx, c => sqlx::query(ROW).bind(logon.now.0).bind(logon.service.clone()).bind(logon.realm.as_str().to_owned()).bind(user).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        if let Some(answer) = answer
            && !tx.keep_answers(std::slice::from_ref(answer)).await?
        {
            return Err(StoreError::Conflict(1));
        }
        tx.commit().await
    }
}
