//! Answers that are given again to whoever repeats a request with the same key.

use sqlx::{AssertSqlSafe, FromRow};

use super::rows_of_many::{filled, length, values};
use super::verifying::{Verifying, numbered};
use crate::clock::Timestamp;
use crate::model::ApiTokenId;
use crate::store::db::on;
use crate::store::rows::uuid;
use crate::store::{Store, StoreError};

/// An answer is given again for so long, in milliseconds.
pub const ANSWERED_FOR: i64 = 10 * 60 * 1000;

/// An answer that may be given again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAnswer {
    /// To which program.
    pub token: ApiTokenId,
    /// By which key of its own.
    pub key: String,
    /// SHA-256 of what was asked.
    pub body: [u8; 32],
    /// The status.
    pub status: u16,
    /// The answer.
    pub answer: String,
    /// When.
    pub at: Timestamp,
}

#[derive(FromRow)]
struct AnswerRow {
    token: Vec<u8>,
    key: String,
    body: Vec<u8>,
    status: i64,
    answer: String,
    at: i64,
}

impl TryFrom<AnswerRow> for KeptAnswer {
    type Error = StoreError;

    fn try_from(row: AnswerRow) -> Result<Self, StoreError> {
        let odd = |what: &str| StoreError::Nonsense(format!("an answer: {what}"));
        Ok(Self {
            token: ApiTokenId(uuid(&row.token)?),
            key: row.key,
            body: row.body.try_into().map_err(|_| odd("no digest"))?,
            status: u16::try_from(row.status).map_err(|_| odd("no status"))?,
            answer: row.answer,
            at: Timestamp(row.at),
        })
    }
}

impl Store {
    /// The answer that was given to this key, while it counts.
    pub async fn answer_of(
        &self,
        token: ApiTokenId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        const SQL: &str = "SELECT token, key, body, status, answer, at FROM answers WHERE token = $1 AND key = $2 AND at > $3";
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, AnswerRow>(SQL).bind(token.0.as_bytes().to_vec()).bind(key.to_owned()).bind(now.0.saturating_sub(ANSWERED_FOR)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for an answer"))?;
        row.map(KeptAnswer::try_from).transpose()
    }
}

impl Verifying {
    /// The answers that were given to these keys and still count.
    pub async fn answers(
        &mut self,
        keys: &[(ApiTokenId, String)],
        now: Timestamp,
    ) -> Result<Vec<KeptAnswer>, StoreError> {
        if keys.is_empty() {
            return Ok(vec![]);
        }
        let rows = length(keys.len());
        let sql = format!(
            "SELECT token, key, body, status, answer, at FROM answers WHERE (token, key) IN (VALUES {}) AND at > ${}",
            values(rows, 2),
            rows * 2 + 1
        );
        let found = on!(self.tx, c => {
            let mut query = sqlx::query_as::<_, AnswerRow>(AssertSqlSafe(sql));
            for (token, key) in filled(keys) { query = query.bind(token.0.as_bytes().to_vec()).bind(key.clone()); }
            query.bind(now.0.saturating_sub(ANSWERED_FOR)).fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("look for an answer"))?;
        found.into_iter().map(KeptAnswer::try_from).collect()
    }

    /// Keeps answers, to be given again. `false`: somebody else answered one of these keys a moment ago, and nothing must be done twice.
    pub async fn keep_answers(&mut self, answers: &[KeptAnswer]) -> Result<bool, StoreError> {
        if answers.is_empty() {
            return Ok(true);
        }
        let sql = format!(
            "WITH v(n, token, key, body, status, answer, at) AS (VALUES {})
             INSERT INTO answers (token, key, body, status, answer, at)
             SELECT token, key, body, status, answer, at FROM v WHERE n >= 0 ORDER BY token, key
             ON CONFLICT (token, key) DO UPDATE SET body = excluded.body, status = excluded.status, answer = excluded.answer, at = excluded.at
             WHERE answers.at <= excluded.at - {ANSWERED_FOR}",
            values(length(answers.len()), 7)
        );
        let rows = on!(self.tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (n, kept) in numbered(answers) {
                query = query.bind(n).bind(kept.token.0.as_bytes().to_vec()).bind(kept.key.clone()).bind(kept.body.to_vec())
                    .bind(i64::from(kept.status)).bind(kept.answer.clone()).bind(kept.at.0);
            }
            query.execute(&mut *c).await.map(|r| r.rows_affected())
        })
        .map_err(StoreError::from_sqlx("keep answers"))?;
        Ok(rows == answers.len() as u64)
    }
}
