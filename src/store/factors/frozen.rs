//! Who has said that a changed number is not theirs.

use std::collections::HashSet;

use crate::model::UserId;
use crate::store::StoreError;
use crate::store::db::Tx;

/// Which of these users are frozen. Read in the transaction of a verification, without a lock.
///
/// Nothing freezes anybody yet: the statement belongs here once something does.
#[expect(clippy::unused_async, reason = "a statement of the store belongs here")]
pub(super) async fn frozen(_tx: &mut Tx, _ids: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
    Ok(HashSet::new())
}
