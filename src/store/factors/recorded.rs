//! What became of codes and logons, as it is kept for ninety days.

use sqlx::{AssertSqlSafe, FromRow};

use crate::clock::Timestamp;
use crate::model::{AuthenticatorId, RealmId, UserId, VerificationLine};
use crate::store::db::on;
use crate::store::rows::uuid;
use crate::store::{Store, StoreError};

/// Which of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct VerificationFilter {
    /// Of this user.
    pub user: Option<UserId>,
    /// From then on.
    pub since: Option<Timestamp>,
}

#[derive(FromRow)]
struct RecordedRow {
    seq: i64,
    at: i64,
    service: String,
    realm: Option<String>,
    user_id: Option<Vec<u8>>,
    username: Option<String>,
    result: String,
    reason: Option<String>,
    method: Option<String>,
    authenticator: Option<Vec<u8>>,
}

impl TryFrom<RecordedRow> for VerificationLine {
    type Error = StoreError;

    fn try_from(row: RecordedRow) -> Result<Self, StoreError> {
        Ok(Self {
            at: Timestamp(row.at),
            service: row.service,
            realm: row.realm.map(RealmId::from),
            user: row.user_id.as_deref().map(uuid).transpose()?.map(UserId),
            username: row.username.filter(|name| !name.is_empty()),
            result: row.result,
            reason: row.reason,
            method: row.method,
            authenticator: row
                .authenticator
                .as_deref()
                .map(uuid)
                .transpose()?
                .map(AuthenticatorId),
        })
    }
}

impl Store {
    /// A page of what is kept, the oldest first, after a time and a place; with the time and place of the last one. `None`: that is all.
    pub async fn verifications(
        &self,
        filter: &VerificationFilter,
        after: (Timestamp, i64),
        limit: i64,
    ) -> Result<Option<(Vec<VerificationLine>, (Timestamp, i64))>, StoreError> {
        // No index has the place beside the time.
        let since = filter.since.map_or(i64::MIN, |at| at.0).max(after.0.0);
        // A condition is in the text only where it is asked for, so that the planner takes the index of it.
        let user = if filter.user.is_some() {
            "AND v.user_id = $5"
        } else {
            ""
        };
        let sql = format!(
            "SELECT v.seq, v.at, v.service, v.realm, v.user_id, u.username, v.result, v.reason, v.method, v.authenticator
             FROM verifications v LEFT JOIN users u ON u.id = v.user_id
             WHERE v.at >= $1 AND (v.at, v.seq) > ($2, $3) {user} ORDER BY v.at, v.seq LIMIT $4"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => {
            let query = sqlx::query_as::<_, RecordedRow>(AssertSqlSafe(sql))
                .bind(since).bind(after.0.0).bind(after.1).bind(limit);
            let query = match filter.user {
                Some(user) => query.bind(user.0.as_bytes().to_vec()),
                None => query,
            };
            query.fetch_all(&mut *c).await
        })
        .map_err(StoreError::from_sqlx("read verifications"))?;
        let Some(last) = rows.last().map(|row| (Timestamp(row.at), row.seq)) else {
            return Ok(None);
        };
        let lines: Result<Vec<VerificationLine>, StoreError> =
            rows.into_iter().map(VerificationLine::try_from).collect();
        Ok(Some((lines?, last)))
    }

    /// The names of a realm's users who were locked, or came into a delay, from a time on: the most guesses first.
    pub async fn guessed_at(
        &self,
        realm: &RealmId,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "
            SELECT u.username FROM user_factors f JOIN users u ON u.id = f.user_id
            WHERE u.realm = $1 AND u.username <> '' AND (f.locked_at > $2 OR f.in_a_row >= 5 AND f.failed_at > $2)
            ORDER BY f.in_a_row DESC, u.username LIMIT $3";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, String>(SQL).bind(realm.as_str().to_owned()).bind(since.0)
            .bind(limit).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("name who is guessed at"))
    }
}
