//! The story of a user as programs see it.

use serde::Serialize;
use serde_json::Value;

use super::explain::Explanation;
use super::messages::MessageStory;
use super::origin::OriginStory;
use super::refused::RefusedStory;
use super::users;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::model::Change;
use crate::store::{Store, StoreError};

/// An [`Explanation`] as programs see it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[expect(missing_docs, reason = "as in `Explanation`")]
pub struct ExplanationObject {
    pub user: Value,
    pub values: Vec<OriginStory>,
    pub refused: Vec<RefusedStory>,
    pub planned: Vec<Change>,
    pub messages: Vec<MessageStory>,
    pub history: Vec<Change>,
}

impl Explanation {
    /// As programs see it.
    pub async fn object(
        self,
        store: &Store,
        config: &Config,
        now: Timestamp,
    ) -> Result<ExplanationObject, StoreError> {
        let values = self.values(config);
        let user = users::objects(store, std::slice::from_ref(&self.user), now).await?;
        Ok(ExplanationObject {
            user: user.into_iter().next().unwrap_or_default(),
            values,
            refused: self.refused.into_iter().map(RefusedStory::from).collect(),
            planned: self.planned,
            messages: self.jobs.iter().map(MessageStory::from).collect(),
            history: self.history,
        })
    }
}
