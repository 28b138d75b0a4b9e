//! The signature of Standard Webhooks (<https://www.standardwebhooks.com>): HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Standard Webhooks wants 24 to 64 bytes; shorter secrets can be guessed, longer ones are taken as they are.
const SHORTEST: usize = 24;

/// The keys that sign: the secret, and the previous one while it is rotated. `Debug` hides them.
#[derive(Clone)]
pub struct SigningKeys(Vec<Hmac<Sha256>>);

impl SigningKeys {
    /// Reads `whsec_…` secrets (base64 after the prefix, white space around it ignored).
    ///
    /// # Errors
    /// A fragment that says what is wrong with which secret, without the secret.
    pub fn new(secret: &str, previous: Option<&str>) -> Result<Self, String> {
        let mut keys = vec![key("secret", secret)?];
        if let Some(previous) = previous {
            keys.push(key("previous-secret", previous)?);
        }
        Ok(Self(keys))
    }

    /// The value of `webhook-signature`: one `v1,…` for each key, separated by spaces.
    pub fn header(&self, id: &str, timestamp: i64, body: &str) -> String {
        let one = |key: &Hmac<Sha256>| {
            format!(
                "v1,{}",
                STANDARD.encode(sign(key.clone(), id, timestamp, body))
            )
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} keys)", self.0.len())
    }
}

/// The signature of one message under one `whsec_…` secret, as receivers compute it: `v1,` and base64. `timestamp` in seconds.
///
/// # Errors
/// As [`SigningKeys::new`].
pub fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> Result<String, String> {
    SigningKeys::new(secret, None).map(|keys| keys.header(id, timestamp, body))
}

fn key(name: &str, secret: &str) -> Result<Hmac<Sha256>, String> {
    let text = secret.trim().strip_prefix("whsec_").ok_or_else(|| {
        format!(
            "the webhook's {name} does not begin with `whsec_`: take it as the receiver shows it"
        )
    })?;
    let bytes = STANDARD.decode(text).map_err(|_| {
        format!(
            "the webhook's {name} is not base64 after `whsec_`: take it as the receiver shows it"
        )
    })?;
    if bytes.len() < SHORTEST {
        return Err(format!(
            "the webhook's {name} has {} bytes: make one of at least {SHORTEST}",
            bytes.len()
        ));
    }
    Hmac::new_from_slice(&bytes)
        .map_err(|_| format!("the webhook's {name} cannot be used as a key"))
}

fn sign(mut mac: Hmac<Sha256>, id: &str, timestamp: i64, body: &str) -> [u8; 32] {
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries (`whsec_MfKQ…`, `msg_p5jX…`).
    #[test]
    fn the_known_answer_of_the_standard() {
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        )
        .unwrap();
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_while_one_is_rotated() {
        let new = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let old = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = SigningKeys::new(&format!(" {new}\n"), Some(old))
            .unwrap()
            .header("id", 1, "{}");
        assert_eq!(
            both,
            [
                signature(new, "id", 1, "{}").unwrap(),
                signature(old, "id", 1, "{}").unwrap()
            ]
            .join(" ")
        );
    }

    #[test]
    fn a_bad_secret_is_refused_and_not_shown() {
        for bad in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_!!!!canary!!!!",
        ] {
            let why = SigningKeys::new(bad, None).unwrap_err();
            assert!(!why.contains("canary") && !why.contains("MfKQ"), "{why}");
        }
    }
}
