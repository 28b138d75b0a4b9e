//! The enrolment key as the file names it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;

use super::{EnrolmentConfig, Environment};

impl EnrolmentConfig {
    /// The configured key, read anew each time; `None`: the store's own.
    ///
    /// # Errors
    /// When it cannot be read, or is not 32 bytes in base64; names the setting, and says what to do.
    pub fn key_bytes(&self, environment: &Environment) -> Result<Option<[u8; 32]>, String> {
        let Some(secret) = &self.key else {
            return Ok(None);
        };
        let text = secret
            .resolve(environment)
            .map_err(|e| format!("enrolment.key: {}; {}", e.message, e.help))?;
        let text = text.expose_secret().trim();
        let bytes = STANDARD
            .decode(text)
            .or_else(|_| URL_SAFE_NO_PAD.decode(text))
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Some).ok_or_else(|| {
            "enrolment.key: must be 32 bytes in base64 (`openssl rand -base64 32` makes one)".into()
        })
    }
}
