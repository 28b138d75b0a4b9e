//! Whether the service can do its work.

use std::time::Duration;

use tokio::time::timeout;

use crate::store::Store;

/// A store that does not answer a small question for so long is not ready.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Why the store cannot be worked with just now; `None`: it answers.
pub async fn store_trouble(store: &Store) -> Option<String> {
    match timeout(PATIENCE, store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!(
            "the store has not answered for {} seconds",
            PATIENCE.as_secs()
        )),
    }
}
