//! Why something was not done: for people, for programs, and as an exit code.

use serde::{Deserialize, Serialize};

use crate::factors::sealed::SealError;
use crate::model::ErrorCode;
use crate::runs::RunError;
use crate::store::StoreError;

/// Kinds of failures. Each has one word for programs and one exit code, and both are said here alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// No such realm, run, user or message.
    NotFound,
    /// Not now, or not any more: paused, decided, ambiguous, nothing configured for it.
    Refused,
    /// What is to be changed is another by now than whoever asks has seen.
    Outdated,
    /// The request itself is wrong: a command line, or the body of a call.
    Usage,
    /// The request is understood and cannot be used: a file that is there already, an answer that cannot be read.
    Unfit,
    /// Whoever asks may not.
    Forbidden,
    /// The daemon stops, or stopped before it was done.
    Stopping,
    /// The daemon went away; the same again finds out whether it is back.
    Gone,
    /// There is no store yet, or none that can be reached.
    NoStore,
    /// The configuration is sound, but this machine does not let it be put in force: a port that is taken, a socket that cannot be made.
    NotInForce,
    /// A secret cannot be decrypted. It is there, and nobody knows what it says.
    Sealed,
    /// What a run fails with.
    Run(ErrorCode),
}

impl FailureKind {
    /// The word for programs; an error code of a run, or one of `not-found refused outdated invalid forbidden stopping`.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Refused => "refused",
            Self::Outdated => "outdated",
            Self::Usage | Self::Unfit => "invalid",
            Self::Forbidden => "forbidden",
            Self::Stopping | Self::Gone => "stopping",
            Self::NoStore => ErrorCode::Store.as_str(),
            Self::NotInForce => ErrorCode::Config.as_str(),
            Self::Sealed => "key",
            Self::Run(code) => code.as_str(),
        }
    }

    /// The exit code of a command (design, § 5).
    pub fn exit(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::NoStore | Self::Run(ErrorCode::Unreachable) => 69,
            Self::Gone | Self::Run(ErrorCode::Busy) => 75,
            Self::Run(ErrorCode::Config) => 78,
            Self::NotFound
            | Self::Refused
            | Self::Outdated
            | Self::Unfit
            | Self::Forbidden
            | Self::Stopping
            | Self::NotInForce
            | Self::Sealed
            | Self::Run(
                ErrorCode::Auth
                | ErrorCode::Tls
                | ErrorCode::Incomplete
                | ErrorCode::Empty
                | ErrorCode::Stale
                | ErrorCode::Sentinel
                | ErrorCode::Store,
            ) => 1,
        }
    }
}

/// Why something was not done, for people and programs, as it goes over the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActFailure {
    /// [`FailureKind::word`].
    pub code: String,
    /// What happened and what to do next.
    pub message: String,
    /// [`FailureKind::exit`].
    pub exit: u8,
}

impl std::fmt::Display for ActFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ActFailure {}

impl ActFailure {
    /// A failure of a kind, with what happened and what to do next.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            code: kind.word().to_owned(),
            message: message.into(),
            exit: kind.exit(),
        }
    }

    /// A failure with a run's error code.
    pub fn coded(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Run(code), message)
    }

    /// Whether the realm or the store is another's just now, so that the same may be done a moment later.
    pub fn is_busy(&self) -> bool {
        self.code == ErrorCode::Busy.as_str()
    }
}

impl From<SealError> for ActFailure {
    fn from(error: SealError) -> Self {
        Self::new(
            FailureKind::Sealed,
            format!(
                "a secret cannot be decrypted: {error}; look at the enrolment key in `realmsync status`"
            ),
        )
    }
}

impl From<&RunError> for ActFailure {
    fn from(error: &RunError) -> Self {
        match error {
            RunError::NotFound(message) => Self::new(FailureKind::NotFound, message),
            RunError::Refused(message) => Self::new(FailureKind::Refused, message),
            RunError::Unfit(message) => Self::new(FailureKind::Unfit, message),
            RunError::Stopped(message) => Self::new(FailureKind::Stopping, message),
            RunError::TickDone => Self::new(FailureKind::Refused, error.to_string()),
            RunError::Failed { code, message } => Self::coded(*code, message),
            RunError::Store(error) => Self::from(error),
        }
    }
}

impl From<&StoreError> for ActFailure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound(message) => Self::new(FailureKind::NotFound, message),
            StoreError::Refused(message) => Self::new(FailureKind::Refused, message),
            StoreError::Sealed(_) => Self::new(FailureKind::Sealed, error.to_string()),
            _ => Self::coded(error.code(), error.to_string()),
        }
    }
}

impl From<RunError> for ActFailure {
    fn from(error: RunError) -> Self {
        Self::from(&error)
    }
}

impl From<StoreError> for ActFailure {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_design() {
        use FailureKind::{
            Forbidden, Gone, NoStore, NotFound, NotInForce, Outdated, Refused, Run, Sealed,
            Stopping, Unfit, Usage,
        };
        for (kind, word, exit) in [
            (NotFound, "not-found", 1),
            (Refused, "refused", 1),
            (Outdated, "outdated", 1),
            (Usage, "invalid", 64),
            (Unfit, "invalid", 1),
            (Forbidden, "forbidden", 1),
            (Stopping, "stopping", 1),
            (Gone, "stopping", 75),
            (NoStore, "store", 69),
            (NotInForce, "config", 1),
            (Sealed, "key", 1),
            (Run(ErrorCode::Unreachable), "unreachable", 69),
            (Run(ErrorCode::Busy), "busy", 75),
            (Run(ErrorCode::Config), "config", 78),
            (Run(ErrorCode::Stale), "stale", 1),
            (Run(ErrorCode::Store), "store", 1),
        ] {
            let failure = ActFailure::new(kind, "m");
            assert_eq!((failure.code.as_str(), failure.exit), (word, exit));
        }
        assert!(ActFailure::coded(ErrorCode::Busy, "m").is_busy());
        assert!(!ActFailure::new(Gone, "m").is_busy());
    }
}
