//! Why a file cannot be read at all.

use std::io;

/// Why nothing of a file is taken: what is wrong, where, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{message}", at(*.line))]
pub struct ImportFault {
    /// The physical line, from 1; `None`: the file as a whole.
    pub line: Option<u64>,
    /// For people.
    pub message: String,
    /// The file could not be read, which says nothing of what is in it.
    pub unreadable: bool,
}

fn at(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

impl ImportFault {
    /// About the file as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            line: None,
            message: message.into(),
            unreadable: false,
        }
    }

    /// About a line.
    pub fn at(line: u64, message: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::whole(message)
        }
    }

    /// The file could not be read on from this line.
    pub(super) fn read(line: u64, error: &io::Error) -> Self {
        Self {
            unreadable: error.kind() != io::ErrorKind::InvalidData,
            ..Self::at(line, error.to_string())
        }
    }
}
