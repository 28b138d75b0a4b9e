//! Who changed in what searches find them by, noted in the transaction that changes them.

use crate::store::StoreError;
use crate::store::db::{Tx, on};

/// Of more than these only that they are many is noted: all are indexed anew then.
pub(super) const MANY: i64 = 5_000;

/// Those of a stage who are to be found in another way or another place from now on, or not at all; before they are changed.
const CHANGED: &str = "
    INSERT INTO search_log (user_id)
    SELECT s.id FROM staged_users s JOIN users u ON u.id = s.id
    WHERE s.run = $1 AND s.base_version > 0
      AND (s.username <> u.username OR s.realm <> u.realm OR s.username_key IS DISTINCT FROM u.username_key
           OR s.display_name IS DISTINCT FROM u.display_name OR s.email IS DISTINCT FROM u.email OR s.phone IS DISTINCT FROM u.phone
           OR s.state <> u.state AND s.state = 'removed')
    LIMIT $2";

const MADE: &str = "INSERT INTO search_log (user_id) SELECT id FROM staged_users WHERE run = $1 AND base_version = 0";

const NOBODY_IN_PARTICULAR: &str = "INSERT INTO search_log (user_id) VALUES (NULL)";

/// Notes whom a stage changes. Goes before the change.
pub(in crate::store) async fn changed(tx: &mut Tx, stage: &[u8]) -> Result<(), StoreError> {
    let rows = on!(tx, c => sqlx::query(CHANGED).bind(stage.to_vec()).bind(MANY + 1).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("note who changes"))?;
    if rows > MANY.unsigned_abs() {
        many(tx).await?;
    }
    Ok(())
}

/// Notes whom a stage makes: so many. `aside`: they do not lie in the stage.
pub(in crate::store) async fn made(
    tx: &mut Tx,
    stage: &[u8],
    created: i64,
    aside: bool,
) -> Result<(), StoreError> {
    match created {
        ..=0 => Ok(()),
        1..=MANY if !aside => {
            on!(tx, c => sqlx::query(MADE).bind(stage.to_vec()).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("note who is made"))
        }
        _ => many(tx).await,
    }
}

/// Notes that many users are made or changed.
async fn many(tx: &mut Tx) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query(NOBODY_IN_PARTICULAR).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("note that many change"))
}
