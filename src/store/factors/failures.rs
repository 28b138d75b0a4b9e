//! How many wrong codes a user gave, over all factors, purposes and daemons, and what came of each try.

use crate::clock::Timestamp;
use crate::factors::throttle::{Failures, LONG, after_failure};
use crate::model::{AuthenticatorId, RealmId, UserId};
use crate::store::StoreError;
use crate::store::db::{Tx, on};
use crate::store::outbox::text;

/// What became of a code, as it is kept for 90 days.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Tried<'a> {
    /// When.
    pub(in crate::store) at: Timestamp,
    /// Who asked: the name of an API token, or `enrolment`.
    pub(in crate::store) service: &'a str,
    /// The user's realm.
    pub(in crate::store) realm: &'a RealmId,
    /// Whose code.
    pub(in crate::store) user: UserId,
    /// `None`: it was accepted; else why not.
    pub(in crate::store) refused: Option<&'a str>,
    /// The method.
    pub(in crate::store) method: Option<&'a str>,
    /// By which one it was right.
    pub(in crate::store) authenticator: Option<AuthenticatorId>,
}

/// The user's failures. Locks them until the end of the transaction, so that guesses are looked at one after the other.
pub(in crate::store) async fn locked(tx: &mut Tx, user: UserId) -> Result<Failures, StoreError> {
    const ROW: &str =
        "INSERT INTO user_factors (user_id) VALUES ($1) ON CONFLICT (user_id) DO NOTHING";
    const READ: &str = "SELECT in_a_row, failed_at, locked_at FROM user_factors WHERE user_id = $1";
    const READ_LOCKED: &str =
        "SELECT in_a_row, failed_at, locked_at FROM user_factors WHERE user_id = $1 FOR UPDATE";
    let failed = StoreError::from_sqlx("read a user's failures");
    let id = user.0.as_bytes().to_vec();
    on!(tx, c => sqlx::query(ROW).bind(id.clone()).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    let sql = text(tx, READ, READ_LOCKED);
    let (in_a_row, failed_at, locked_at) =
        on!(tx, c => sqlx::query_as::<_, (i64, Option<i64>, Option<i64>)>(sql).bind(id).fetch_one(&mut *c).await)
            .map_err(&failed)?;
    Ok(Failures {
        in_a_row: u32::try_from(in_a_row).unwrap_or(u32::MAX),
        last_at: failed_at.map(Timestamp),
        locked: locked_at.is_some(),
    })
}

/// Counts a wrong code. `before` is what [`locked`] gave in this transaction; the try itself is noted by [`note`].
pub(in crate::store) async fn count(
    tx: &mut Tx,
    user: UserId,
    before: Failures,
    now: Timestamp,
) -> Result<Failures, StoreError> {
    const IN_LONG: &str = "
        SELECT COUNT(*) FROM verifications
        WHERE user_id = $1 AND at > $2 AND at > COALESCE((SELECT counted_from FROM user_factors WHERE user_id = $1), 0) AND result = 'rejected' AND reason IN ('wrong_code', 'replayed', 'clock')";
    const WRITE: &str = "
        UPDATE user_factors SET in_a_row = $2, failed_at = $3, locked_at = CASE WHEN $4 THEN COALESCE(locked_at, $3) END
        WHERE user_id = $1";
    let failed = StoreError::from_sqlx("count a failure");
    let id = user.0.as_bytes().to_vec();
    let since = now.0.saturating_sub(LONG);
    let earlier = on!(tx, c => sqlx::query_scalar::<_, i64>(IN_LONG).bind(id.clone()).bind(since).fetch_one(&mut *c).await)
        .map_err(&failed)?;
    let in_long = u32::try_from(earlier.saturating_add(1)).unwrap_or(u32::MAX);
    let after = after_failure(before, in_long, now);
    on!(tx, c => sqlx::query(WRITE).bind(id).bind(i64::from(after.in_a_row)).bind(now.0).bind(after.locked).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    Ok(after)
}

/// A right code ends the failures in a row, a delay and a lock. The row is there: [`locked`] made it.
pub(in crate::store) async fn end(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE user_factors SET in_a_row = 0, failed_at = NULL, locked_at = NULL WHERE user_id = $1";
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("end a user's failures"))
}

/// The same by a recovery code: the guesses before it count no more at all.
pub(in crate::store) async fn lift(
    tx: &mut Tx,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE user_factors SET counted_from = $2 WHERE user_id = $1";
    end(tx, user).await?;
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("end a user's failures"))
}

/// Notes what came of a code.
pub(in crate::store) async fn note(tx: &mut Tx, tried: Tried<'_>) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO verifications (at, service, realm, user_id, result, reason, method, authenticator)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let result = if tried.refused.is_some() {
        "rejected"
    } else {
        "accepted"
    };
    on!(tx, c => sqlx::query(SQL)
        .bind(tried.at.0)
        .bind(tried.service.to_owned())
        .bind(tried.realm.as_str().to_owned())
        .bind(tried.user.0.as_bytes().to_vec())
        .bind(result)
        .bind(tried.refused.map(str::to_owned))
        .bind(tried.method.map(str::to_owned))
        .bind(tried.authenticator.map(|id| id.0.as_bytes().to_vec()))
        .execute(&mut *c).await.map(|_| ()))
    .map_err(StoreError::from_sqlx("note a verification"))
}
