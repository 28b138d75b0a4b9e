//! A user as a plan would leave them, and how the row of one is read and written.

use sqlx::FromRow;

use super::StoreError;
use super::rows::UserRow;
use crate::model::{Intent, User};

/// A user as a plan would leave them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagedUser {
    /// Place in the plan, from 1.
    pub seq: i64,
    /// The version that was decided upon; 0: a new user.
    pub base_version: i64,
    /// The post-image.
    pub user: User,
    /// The folded DN of the entry's parent.
    pub container: Option<String>,
    /// What is to be said.
    pub intents: Vec<Intent>,
}

/// The JSON of what is to be said; nothing for nothing.
pub(super) fn intents_text(intents: &[Intent]) -> Result<Option<String>, StoreError> {
    if intents.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(intents)
        .map(Some)
        .map_err(|e| StoreError::Nonsense(e.to_string()))
}

/// A row of `staged_users`.
#[derive(FromRow)]
pub(super) struct StagedRow {
    pub(super) seq: i64,
    pub(super) base_version: i64,
    container: Option<String>,
    pub(super) intents: Option<String>,
    #[sqlx(flatten)]
    pub(super) user: UserRow,
}

impl TryFrom<StagedRow> for StagedUser {
    type Error = StoreError;

    fn try_from(row: StagedRow) -> Result<Self, StoreError> {
        let intents = row
            .intents
            .map_or(Ok(vec![]), |t| serde_json::from_str(&t))
            .map_err(|e| StoreError::Nonsense(format!("intents: {e}")))?;
        Ok(Self {
            seq: row.seq,
            base_version: row.base_version,
            user: row.user.try_into()?,
            container: row.container,
            intents,
        })
    }
}
