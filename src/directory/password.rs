//! The bind password, read when it is used.

use secrecy::SecretString;

use crate::config::Secret;

/// Reads the secret; the error says where it should have been, never what it is.
pub(super) async fn read(secret: &Secret) -> Result<SecretString, String> {
    match secret {
        Secret::Inline(text) => Ok(text.clone()),
        Secret::File(path) => {
            let text = tokio::fs::read_to_string(path)
                .await
                .map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).into())
        }
        Secret::Credential(_) | Secret::Env(_) => {
            Err("this kind of secret cannot be read yet".into())
        }
    }
}
