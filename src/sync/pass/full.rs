//! One full pass: read everything, look at what differs, resolve names, find evidence for who is absent.
//!
//! ```text
//! pages ─▶ unchanged? ──yes──▶ seen
//!             │ no
//!             ▼
//!         normalise ─▶ name contested? ──no──▶ decide ─▶ stage
//!                           │ yes
//!                           ▼
//!   complete ─▶ absent: look up by id ─▶ contested: resolve all at once ─▶ grace over: look up once more
//! ```

use super::under_way::Pass;
use crate::model::ErrorCode;
use crate::runs::{RunFailure, stage};
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Reads and decides everything. What is left to do is to weigh the plan.
    pub async fn full(&mut self, ask: &RunRequest) -> Result<(), RunFailure> {
        stage("read", self.read(ask)).await?;
        if self.found.seen - self.found.refused().0 <= 0 || !self.reading.empty_bases.is_empty() {
            let bases = if self.reading.empty_bases.is_empty() {
                self.reading.prepared.scope.bases.join("; ")
            } else {
                self.reading.empty_bases.join("; ")
            };
            let text = format!(
                "no usable entries under {bases} with {}; nothing was applied. Look at the filter, the access rules of the sync account, and `refused {}`",
                self.reading.prepared.scope.filter, self.setting.row.id
            );
            return Err(RunFailure::new(ErrorCode::Empty, text));
        }
        self.refuse_doubles().await?;
        self.take_back_early().await?;
        if ask.adopt {
            self.adopt().await?;
        }
        stage("absent", self.absent(ask)).await?;
        stage("names", self.resolve_names(ask)).await?;
        stage("grace", self.grace_over(ask)).await?;
        self.found.plan.flush().await?;
        Ok(())
    }
}
