//! The lines of a long answer. What is asked stands in `acts`, what is told in `story`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::acts::{ActFailure, ImportReport};
use crate::model::{Change, RefusedLine, Run};
use crate::sync::Progress;

/// One line of a long answer: any number of `progress`, then one `result` or `error`; before the `result` of a plan or a file come its `run`,
/// of a file the `operation`, and any number of `refused` and `changes`. Until there is something to tell, a line comes at least every two seconds, so that a silent daemon
/// is known to be stuck.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerLine {
    /// How far the work has come.
    Progress(ProgressLine),
    /// What the run of a plan would be.
    Run(Box<Run>),
    /// Some of what it would do, in its order.
    Changes(Vec<Change>),
    /// What came of a file.
    Operation(Box<ImportReport>),
    /// Of a file, some of the lines that cannot be used.
    Refused(Vec<RefusedLine>),
    /// What came of it.
    Result(Value),
    /// It was not done.
    Error(ActFailure),
}

/// [`Progress`] on the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProgressLine {
    /// Entries read so far.
    pub seen: u64,
    /// Users of the realm before the pass, as an estimate of the whole; 0: unknown.
    pub expected: u64,
    /// The request waits for a run that is under way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
}

impl From<Progress> for ProgressLine {
    fn from(progress: Progress) -> Self {
        Self {
            seen: progress.seen,
            expected: progress.expected,
            waiting: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorCode;

    #[test]
    fn lines_are_read_as_the_design_writes_them() {
        let progress = serde_json::to_string(&AnswerLine::Progress(
            Progress {
                seen: 3,
                expected: 10,
            }
            .into(),
        ))
        .expect("json");
        assert_eq!(progress, r#"{"progress":{"seen":3,"expected":10}}"#);
        let error: AnswerLine =
            serde_json::from_str(r#"{"error":{"code":"busy","message":"m","exit":75}}"#)
                .expect("json");
        assert_eq!(
            error,
            AnswerLine::Error(ActFailure::coded(ErrorCode::Busy, "m"))
        );
    }
}
