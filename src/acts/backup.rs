//! `backup`: a consistent copy of the embedded store, while it is in use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::context::ActContext;
use super::failure::ActFailure;

/// `POST /api/v1/backup`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Where the copy goes, an absolute path; whoever does it writes it, with its own rights.
    pub to: PathBuf,
}

/// A consistent copy, marked as one. A store that was opened for reading is enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    /// Where to.
    pub request: BackupRequest,
}

impl Act for Backup {
    type Output = ();

    async fn act(self, at: &ActContext) -> Result<(), ActFailure> {
        let to = self.request.to;
        at.store().backup(&to, at.now()).await?;
        tracing::info!(by = at.by(), from = at.caller.door.as_str(), to = %to.display(), "a copy of the store was written");
        Ok(())
    }
}
