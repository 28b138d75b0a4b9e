//! Why a run was not made, and why one that was made came to nothing.

use crate::model::ErrorCode;
use crate::store::{RefusedDiff, StoreError};

/// Why something was not done at all. A run that failed is no error here: it is a [`Run`](crate::model::Run) with its `error_code`.
#[derive(thiserror::Error, Debug)]
pub enum RunError {
    /// No such realm, run or user; the text says what is there.
    #[error("{0}")]
    NotFound(String),
    /// Not now, or not any more: paused, decided, replaced, another mapping. Exit code 1.
    #[error("{0}")]
    Refused(String),
    /// What was given cannot be used. Exit code 1.
    #[error("{0}")]
    Unfit(String),
    /// Stopped before the end; nothing was applied. Exit code 1.
    #[error("{0}")]
    Stopped(String),
    /// The tick that was to be made up for was, by another daemon on the same store.
    #[error("another daemon made this pass already")]
    TickDone,
    /// Anything that has an error code (exit 69 or 1).
    #[error("{message}")]
    Failed {
        /// In one word.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a run came to nothing. It becomes the run's `error_code` and `error`.
#[derive(thiserror::Error, Debug)]
#[error("{message}")]
pub(crate) struct RunFailure {
    /// In one word; `None`: cancelled, no error.
    pub code: Option<ErrorCode>,
    /// For people.
    pub message: String,
    /// Asked for somebody who is not there to be read: that says nothing of the realm, and is no run.
    pub nobody: bool,
    /// What was refused, where that is the reason.
    pub refused: Option<RefusedDiff>,
}

impl RunFailure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            message: message.into(),
            nobody: false,
            refused: None,
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self {
            code: None,
            message: "stopped before the end; nothing was applied".into(),
            nobody: false,
            refused: None,
        }
    }

    pub(crate) fn nobody(message: impl Into<String>) -> Self {
        Self {
            nobody: true,
            ..Self::new(ErrorCode::Empty, message)
        }
    }
}

impl From<StoreError> for RunFailure {
    fn from(error: StoreError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// What a run shows of an error that ended it.
impl From<&RunError> for RunFailure {
    fn from(error: &RunError) -> Self {
        let message = error.to_string();
        match error {
            RunError::Stopped(_) => Self {
                message,
                ..Self::cancelled()
            },
            RunError::Failed { code, .. } => Self::new(*code, message),
            RunError::Store(error) => Self::new(error.code(), message),
            _ => Self::new(ErrorCode::Store, message),
        }
    }
}

/// What is said of a failure where there is no run that could show it.
impl From<RunFailure> for RunError {
    fn from(failure: RunFailure) -> Self {
        Self::Failed {
            code: failure.code.unwrap_or(ErrorCode::Incomplete),
            message: failure.message,
        }
    }
}
