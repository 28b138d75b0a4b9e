//! What of time stamps the fuzzers call (see [`crate::fuzzing`]).

use super::instant::{parse, show};

/// A time stamp: what is read is shown, and read as the same second.
pub fn stamp(raw: &[u8]) {
    if let Some(seconds) = parse(raw)
        && let Some(shown) = show(seconds)
    {
        assert_eq!(parse(shown.as_bytes()), Some(seconds));
    }
}
