//! Users who said of a changed number that this was not them.

use super::StoreError;
use super::db::{Tx, on};
use crate::model::UserId;

/// Whether a user is frozen: none of their codes is accepted, and nothing is sent to them. In the caller's transaction; locks nothing.
#[expect(dead_code, reason = "for verifications")]
pub(in crate::store) async fn is_frozen(tx: &mut Tx, user: UserId) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM freezes WHERE user_id = $1";
    let rows = on!(tx, c => sqlx::query_scalar::<_, i64>(SQL).bind(user.0.as_bytes().to_vec()).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("look whether a user is frozen"))?;
    Ok(rows > 0)
}
