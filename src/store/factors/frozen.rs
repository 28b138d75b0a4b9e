//! Who has said that a changed number is not theirs.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use crate::model::UserId;
use crate::store::StoreError;
use crate::store::db::{Tx, on};
use crate::store::freezes::frozen_of;
use crate::store::rows::{places, uuid};

/// Which of these users are frozen. Read in the transaction of a verification, without a lock.
pub(super) async fn frozen(tx: &mut Tx, ids: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = frozen_of(&places(1, ids.len()));
    let rows = on!(tx, c => {
        let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql));
        for id in ids { query = query.bind(id.0.as_bytes().to_vec()); }
        query.fetch_all(&mut *c).await
    })
    .map_err(StoreError::from_sqlx("look whether users are frozen"))?;
    rows.iter().map(|id| Ok(UserId(uuid(id)?))).collect()
}
