//! `restored`: a database was restored by its own means, and goes on as a copy.

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::model::AuditAct;
use crate::model::words::count;
use crate::store::AuditNote;

/// `POST /api/v1/restored`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestoredRequest {
    /// An administrator has looked at what may have come back.
    pub reviewed: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestoredAnswer {
    /// Messages that wait for `outbox release` or `drop`.
    pub held: u64,
    /// API tokens that may have come back.
    pub api_tokens: Vec<String>,
}

/// Takes the store as a copy of itself, or notes that an administrator has looked; once is enough.
///
/// # Errors
/// `refused` where there is nothing to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restore {
    /// Which.
    pub request: RestoredRequest,
}

impl Act for Restore {
    type Output = RestoredAnswer;

    async fn act(self, at: &ActContext) -> Result<RestoredAnswer, ActFailure> {
        let act = if self.request.reviewed {
            AuditAct::RestoredReviewed
        } else {
            AuditAct::Restored
        };
        let key = at.engine.audit_key().await?;
        let note = AuditNote {
            entry: at.entry(act),
            key,
        };
        let store = at.store();
        if self.request.reviewed {
            let came_back = store.came_back().await?;
            if came_back.at.is_none() {
                let why = "this store never went on from a copy: there is nothing to look at";
                return Err(ActFailure::new(FailureKind::Refused, why));
            }
            if !came_back.reviewed {
                store.restored_reviewed(at.now(), &note).await?;
                tracing::info!(
                    by = at.by(),
                    from = at.caller.door.as_str(),
                    "what came back with a copy was looked at"
                );
            }
            return Ok(RestoredAnswer {
                held: 0,
                api_tokens: vec![],
            });
        }
        // Codes are judged by the database's clock, and links have the time of the daemon that made them.
        let now = at.now().max(at.engine.judging_time().await?.at);
        let held = store.restored(now, &note).await?;
        tracing::warn!(
            by = at.by(),
            from = at.caller.door.as_str(),
            held,
            "the store goes on as a copy: {} on hold",
            count(i64::try_from(held).unwrap_or(i64::MAX), "message")
        );
        Ok(RestoredAnswer {
            held,
            api_tokens: store.came_back().await?.api_tokens,
        })
    }
}
