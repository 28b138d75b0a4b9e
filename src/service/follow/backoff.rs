//! How long to wait before a directory is tried again. Pure.

use std::time::Duration;

use crate::model::ErrorCode;

/// A server that restarts is back within seconds.
const FIRST: Duration = Duration::from_secs(1);
/// And one that is down for a night is noticed soon when it is back.
const LONGEST: Duration = Duration::from_mins(1);
/// What an administrator must mend does not mend itself, and a wrong password tried too often locks the account.
const FIRST_MEND: Duration = Duration::from_mins(1);
/// See [`FIRST_MEND`].
const LONGEST_MEND: Duration = Duration::from_mins(15);

/// Failures in a row.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It went well: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: doubled each time, within ±20 %. `chance` is in [0, 1).
    pub fn after(&mut self, code: ErrorCode, chance: f64) -> Duration {
        let (first, longest) = match code {
            ErrorCode::Auth | ErrorCode::Config => (FIRST_MEND, LONGEST_MEND),
            // TLS among them: a server that is starting, or a proxy with nobody behind it, breaks it off too, and no account is
            // locked by asking.
            _ => (FIRST, LONGEST),
        };
        let doubled = first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(longest)
            .mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_doubled_to_a_minute_and_begun_anew_after_success() {
        let mut backoff = Backoff::default();
        let mut waits = |n| {
            (0..n)
                .map(|_| {
                    backoff
                        .after(ErrorCode::Unreachable, 0.5)
                        .as_secs_f64()
                        .round()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(8), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        backoff.reset();
        assert_eq!(
            backoff.after(ErrorCode::Unreachable, 0.0),
            Duration::from_millis(800)
        );
    }

    /// A server in the middle of its start takes the connection and breaks off TLS.
    #[test]
    fn a_broken_handshake_is_tried_again_like_a_server_that_is_down() {
        let wait = |code| Backoff::default().after(code, 0.5);
        assert_eq!(wait(ErrorCode::Tls), wait(ErrorCode::Unreachable));
    }

    #[test]
    fn trap_34_a_refused_account_is_tried_seldom() {
        let mut backoff = Backoff::default();
        let tried: Duration = (0..20).map(|_| backoff.after(ErrorCode::Auth, 0.0)).sum();
        assert!(tried > Duration::from_hours(3), "{tried:?}");
    }
}
