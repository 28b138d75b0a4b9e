//! The enrolment key as the file names it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;

use super::{EnrolmentConfig, Environment, Secret};

impl EnrolmentConfig {
    /// The configured key, read anew each time; `None`: the store's own.
    ///
    /// # Errors
    /// When it cannot be read, or is not 32 bytes in base64; names the setting, and says what to do.
    pub fn key_bytes(&self, environment: &Environment) -> Result<Option<[u8; 32]>, String> {
        bytes_of("enrolment.key", self.key.as_ref(), environment)
    }

    /// The same of the key before, or of the one to come.
    ///
    /// # Errors
    /// As [`EnrolmentConfig::key_bytes`].
    pub fn previous_key_bytes(
        &self,
        environment: &Environment,
    ) -> Result<Option<[u8; 32]>, String> {
        let secret = self.previous_key.as_ref();
        bytes_of("enrolment.previous-key", secret, environment)
    }
}

fn bytes_of(
    name: &str,
    secret: Option<&Secret>,
    environment: &Environment,
) -> Result<Option<[u8; 32]>, String> {
    let Some(secret) = secret else {
        return Ok(None);
    };
    let text = secret
        .resolve(environment)
        .map_err(|e| format!("{name}: {}; {}", e.message, e.help))?;
    let text = text.expose_secret().trim();
    let bytes = STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Some).ok_or_else(|| {
        format!("{name}: must be 32 bytes in base64 (`openssl rand -base64 32` makes one)")
    })
}
