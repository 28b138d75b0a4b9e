//! `backup`: a consistent copy while the store is in use.

use std::path::Path;

use super::operator::store_failure;
use super::{Context, render};
use crate::api::types::Failure;

/// Reading needs no lock, so the copy is made beside the daemon, which could write hardly anywhere; it belongs to whoever asked.
pub(super) async fn backup(context: &Context, file: &Path) -> Result<u8, Failure> {
    let path = std::path::absolute(file)
        .map_err(|e| Failure::new("invalid", 1, format!("{}: {e}", file.display())))?;
    if path.exists() {
        return Err(Failure::new(
            "invalid",
            1,
            format!(
                "{} is there already: name a file that is not",
                path.display()
            ),
        ));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        return Err(Failure::new(
            "invalid",
            1,
            format!(
                "there is no folder {}: make it, or name a file in another",
                folder.display()
            ),
        ));
    }
    let store = context.store().await?;
    store
        .backup(&path, context.clock.now())
        .await
        .map_err(|e| store_failure(&e))?;
    store.close().await;
    render::talk(&format!(
        "{} is a consistent copy; a daemon that is started on it keeps its messages on hold until `realmsync outbox release`",
        path.display()
    ));
    Ok(0)
}
