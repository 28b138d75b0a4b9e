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

use super::absent::{absent, grace_over};
use super::contested_names::resolve_names;
use super::people::take_back_early;
use super::read::read;
use super::reading::Reading;
use super::rebuilt::adopt;
use super::setting::Setting;
use super::shared_ids::refuse_doubles;
use super::under_way::Pass;
use crate::model::ErrorCode;
use crate::runs::{RunFailure, stage};
use crate::sync::run_request::RunRequest;

impl Pass<'_> {
    /// Reads and decides everything. What is left to do is to weigh the plan.
    pub async fn full(&mut self, ask: &RunRequest) -> Result<(), RunFailure> {
        let Self {
            setting,
            reading,
            found,
        } = self;
        stage("read", read(setting, reading, found, ask)).await?;
        if found.usable() <= 0 || !reading.empty_bases.is_empty() {
            return Err(nobody_usable(setting, reading));
        }
        refuse_doubles(setting, reading, found).await?;
        take_back_early(setting, reading, found).await?;
        if ask.adopt {
            adopt(setting, reading, found).await?;
        }
        stage("absent", absent(setting, reading, found, ask)).await?;
        stage("names", resolve_names(setting, reading, found, ask)).await?;
        stage("grace", grace_over(setting, reading, found, ask)).await?;
        found.plan.flush().await?;
        Ok(())
    }
}

/// Nobody can be used under some of the bases, or under all of them.
fn nobody_usable(setting: &Setting<'_>, reading: &Reading) -> RunFailure {
    let scope = &reading.prepared.scope;
    let bases = if reading.empty_bases.is_empty() {
        &scope.bases
    } else {
        &reading.empty_bases
    };
    let text = format!(
        "no usable entries under {} with {}; nothing was applied. Look at the filter, the access rules of the sync account, and `refused {}`",
        bases.join("; "),
        scope.filter,
        setting.id()
    );
    RunFailure::new(ErrorCode::Empty, text)
}
