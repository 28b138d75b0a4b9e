//! `backup`: a consistent copy of the embedded store, while it is in use.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::context::{ActContext, Door};
use super::failure::ActFailure;
use crate::model::AuditAct;

/// `POST /api/v1/backup`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Where the copy goes, an absolute path; whoever does it writes it, with its own rights.
    pub to: PathBuf,
}

/// A consistent copy, marked as one. A command needs the store for reading only, and says [`NoteBackup`] afterwards.
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
        if at.caller.door == Door::Socket {
            note(at, &to).await?;
        }
        tracing::info!(by = at.by(), from = at.caller.door.as_str(), to = %to.display(), "a copy of the store was written");
        Ok(())
    }
}

/// Says in the audit that a copy was written, by a command that could only read the store: `POST /api/v1/backup/note`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteBackup {
    /// Where the copy went.
    pub request: BackupRequest,
}

impl Act for NoteBackup {
    type Output = ();

    async fn act(self, at: &ActContext) -> Result<(), ActFailure> {
        note(at, &self.request.to).await
    }
}

async fn note(at: &ActContext, to: &Path) -> Result<(), ActFailure> {
    let entry = at.entry(AuditAct::Backup);
    let entry = entry.is("to", to.display().to_string());
    if let Some(note) = at.engine.note(Some(entry)).await? {
        at.store().write_note(&note).await?;
    }
    Ok(())
}
