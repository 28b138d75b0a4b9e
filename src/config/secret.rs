//! A secret by reference: resolved by whoever uses it, shown by nobody.

use std::path::PathBuf;

use secrecy::SecretString;

/// Where a secret is.
#[derive(Clone, Debug)]
pub enum Secret {
    /// `X-file`.
    File(PathBuf),
    /// `X-credential`: a name under `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `X-env`.
    Env(String),
    /// `X` itself.
    Inline(SecretString),
}

/// A secret could not be read.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
pub struct SecretError(pub String);
