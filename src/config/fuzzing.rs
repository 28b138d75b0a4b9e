//! What of the configuration the fuzzers call (see [`crate::fuzzing`]).

use crate::clock::zones::Zones;
use std::path::Path;

use super::load::check;

/// The file: it is taken, or refused for at least one reason at a place that is in it. No file that it names is opened, and the
/// environment is empty.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read = || {
        check(
            &text,
            Path::new("realmsync.toml"),
            true,
            None,
            Zones::built_in(),
        )
    };
    let lines = text.split('\n').count();
    match read() {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                assert!(warning.line().is_none_or(|l| (1..=lines).contains(&l)));
                let _text = (warning.render(true), warning.to_string());
            }
        }
        Err(faults) => {
            assert!(faults.all().next().is_some());
            for fault in faults.all() {
                assert!(fault.line().is_none_or(|l| (1..=lines).contains(&l)));
            }
            let _text = (faults.render(true), faults.render(false));
        }
    }
}
