//! `backup`: a consistent copy while the store is in use.

use std::path::Path;

use super::{CommandContext, render};
use crate::acts::{Act as _, ActFailure, Backup, BackupRequest, FailureKind, NoteBackup};

/// Reading needs no lock, so the copy is made beside the daemon, which could write hardly anywhere; it belongs to whoever asked.
pub(super) async fn backup(context: &CommandContext, file: &Path) -> Result<u8, ActFailure> {
    let path = std::path::absolute(file)
        .map_err(|e| ActFailure::new(FailureKind::Unfit, format!("{}: {e}", file.display())))?;
    if path.exists() {
        return Err(ActFailure::new(
            FailureKind::Unfit,
            format!(
                "{} is there already: name a file that is not",
                path.display()
            ),
        ));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        return Err(ActFailure::new(
            FailureKind::Unfit,
            format!(
                "there is no folder {}: make it, or name a file in another",
                folder.display()
            ),
        ));
    }
    let at = context.acting_on(context.store().await?);
    let request = BackupRequest { to: path.clone() };
    Backup {
        request: request.clone(),
    }
    .act(&at)
    .await?;
    at.store().close().await;
    if let Err(failure) = note(context, request).await {
        render::talk(&format!("the audit does not say so: {failure}"));
    }
    render::talk(&format!(
        "{} is a consistent copy; a daemon that is started on it keeps its messages on hold until `realmsync outbox release`",
        path.display()
    ));
    render::hint(if context.config.enrolment.key.is_some() {
        "keep the enrolment key too, and apart from it: without the key no authenticator and no recovery code of the copy is of use"
    } else {
        "the copy has the enrolment key in it: whoever reads it has the secrets of all authenticators"
    });
    Ok(0)
}

/// Says it in the audit, by the daemon or, where there is none, in the store itself.
async fn note(context: &CommandContext, request: BackupRequest) -> Result<(), ActFailure> {
    let operator = context.operator().await?;
    let noted = operator.act(NoteBackup { request }).await;
    operator.close().await;
    noted
}
