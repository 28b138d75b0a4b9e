//! Messages as programs see them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{Job, JobId, JobState, JobType, RealmId, RunId, UserId};

/// A message on its way out, without what it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the design's § 5 names each field")]
pub struct MessageStory {
    pub job: JobId,
    pub r#type: JobType,
    pub realm: RealmId,
    pub user: UserId,
    pub username: String,
    pub state: JobState,
    pub attempts: i64,
    pub next_attempt_at: Timestamp,
    pub last_error: Option<String>,
    pub run: Option<RunId>,
}

impl From<&Job> for MessageStory {
    fn from(job: &Job) -> Self {
        Self {
            job: job.id,
            r#type: job.r#type,
            realm: job.realm.clone(),
            user: job.user,
            username: job.username.clone(),
            state: job.state,
            attempts: job.attempts,
            next_attempt_at: job.next_attempt_at,
            last_error: job.last_error.clone(),
            run: job.run,
        }
    }
}
