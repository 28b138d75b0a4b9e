//! Who can be reached and who cannot, counted in the store.

use sqlx::FromRow;

use super::db::on;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{Coverage, Phone, RealmId};

/// Users of a realm whose numbers begin alike: their country is one, in nearly all plans.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoverageGroup {
    /// One of the numbers; `None`: they have none.
    pub sample: Option<Phone>,
    /// The counts, without the country.
    pub counts: Coverage,
}

#[derive(FromRow)]
struct GroupRow {
    realm: String,
    sample: Option<String>,
    users: i64,
    without_method: i64,
    phone_missing: i64,
    phone_refused: i64,
    phone_waiting: i64,
    application_active: i64,
    application_sent: i64,
    application_expired: i64,
    application_not_sent: i64,
    hard_token_missing: i64,
    used: i64,
    reachable: i64,
}

impl Store {
    /// Counts the users who are active and not blocked, of a realm or of all, by realm and the first digits of their numbers.
    pub async fn coverage(
        &self,
        realm: Option<&RealmId>,
        now: Timestamp,
    ) -> Result<Vec<CoverageGroup>, StoreError> {
        const SQL: &str = "
            SELECT realm, MIN(phone) AS sample, COUNT(*) AS users,
                COUNT(CASE WHEN two_factor = '' THEN 1 END) AS without_method,
                COUNT(CASE WHEN phone IS NULL AND (sms OR app) THEN 1 END) AS phone_missing,
                COUNT(CASE WHEN phone IS NULL AND refused THEN 1 END) AS phone_refused,
                COUNT(CASE WHEN phone_pending_until IS NOT NULL THEN 1 END) AS phone_waiting,
                COUNT(CASE WHEN app AND has_app THEN 1 END) AS application_active,
                COUNT(CASE WHEN app AND NOT has_app AND enrolment = 'open' THEN 1 END) AS application_sent,
                COUNT(CASE WHEN app AND NOT has_app AND enrolment = 'expired' THEN 1 END) AS application_expired,
                COUNT(CASE WHEN app AND NOT has_app AND COALESCE(enrolment, 'used') = 'used' THEN 1 END) AS application_not_sent,
                COUNT(CASE WHEN token AND NOT has_token THEN 1 END) AS hard_token_missing,
                COUNT(CASE WHEN proved AND two_factor <> '' THEN 1 END) AS used,
                COUNT(CASE WHEN sms AND phone IS NOT NULL OR app AND has_app OR token AND has_token THEN 1 END) AS reachable
            FROM (
                SELECT realm, phone, phone_pending_until, two_factor,
                    two_factor LIKE '%sms-otp%' AS sms, two_factor LIKE '%app-%' AS app, two_factor LIKE '%hard-token%' AS token,
                    EXISTS (SELECT 1 FROM authenticators a WHERE a.user_id = users.id AND a.state = 'active' AND a.kind = 'app') AS has_app,
                    EXISTS (SELECT 1 FROM authenticators a WHERE a.user_id = users.id AND a.state = 'active' AND a.kind <> 'app') AS has_token,
                    EXISTS (SELECT 1 FROM user_factors f WHERE f.user_id = users.id AND f.proved_at IS NOT NULL) AS proved,
                    phone IS NULL AND EXISTS (
                        SELECT 1 FROM refused r WHERE r.realm = users.realm AND r.directory_id = users.directory_id AND NOT r.entry) AS refused,
                    (SELECT CASE WHEN e.state = 'used' THEN 'used' WHEN e.expires_at > $1 THEN 'open' ELSE 'expired' END
                     FROM enrolments e WHERE e.user_id = users.id AND e.state <> 'void' ORDER BY e.created_at DESC, e.id DESC LIMIT 1) AS enrolment
                FROM users WHERE state = 'active' AND NOT blocked AND ($2 IS NULL OR realm = $2)
            ) AS who
            GROUP BY realm, SUBSTR(phone, 1, 8) ORDER BY realm";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, GroupRow>(SQL).bind(now.0).bind(realm.map(|r| r.as_str().to_owned())).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("count whom methods reach"))?;
        rows.into_iter()
            .map(|row| {
                let sample = row.sample.map(Phone::try_from).transpose();
                Ok(CoverageGroup {
                    sample: sample
                        .map_err(|why| StoreError::Nonsense(format!("a user's phone: {why}")))?,
                    counts: Coverage {
                        realm: RealmId::from(row.realm),
                        country: None,
                        users: row.users,
                        reachable: row.reachable,
                        unreachable: row.users - row.reachable,
                        without_method: row.without_method,
                        phone_missing: row.phone_missing,
                        phone_refused: row.phone_refused,
                        phone_waiting: row.phone_waiting,
                        application_active: row.application_active,
                        application_sent: row.application_sent,
                        application_expired: row.application_expired,
                        application_not_sent: row.application_not_sent,
                        hard_token_missing: row.hard_token_missing,
                        used: row.used,
                    },
                })
            })
            .collect()
    }
}
