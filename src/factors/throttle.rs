//! How long guesses are held back: delays that double and end by themselves, so that a stranger can neither guess nor lock anybody
//! out for long.

use crate::clock::Timestamp;

/// Failures in a row from which on a delay follows each.
pub const DELAYED_FROM: u32 = 5;

/// The longest delay, in milliseconds.
const LONGEST: i64 = 15 * 60 * 1000;

/// What the clocks of two daemons may differ by, in milliseconds; beyond it a clock was set back.
const CLOCKS: i64 = 30_000;

/// So many failures in a row lock the user until an administrator unlocks them (NIST SP 800-63B-4 § 3.2.2).
pub const LOCKS_IN_A_ROW: u32 = 100;

/// So many failures within [`LONG`] lock them too: a success in between does not reset these.
pub const LOCKS_IN_LONG: u32 = 300;

/// What [`LOCKS_IN_LONG`] looks back at, in milliseconds: 30 days.
pub const LONG: i64 = 30 * 24 * 3600 * 1000;

/// What the store knows of a user's failures, over all factors and daemons.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Failures {
    /// Since the last success.
    pub in_a_row: u32,
    /// The last of them.
    pub last_at: Option<Timestamp>,
    /// Locked until an administrator says otherwise.
    pub locked: bool,
}

/// Whether a guess is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// It is.
    Open,
    /// Not for so many milliseconds; a guess until then is not counted.
    Delayed(i64),
    /// Not until an administrator unlocks the user.
    Locked,
}

/// Whether a guess is looked at now.
pub fn gate(failures: Failures, now: Timestamp) -> Gate {
    if failures.locked {
        return Gate::Locked;
    }
    let Some(last) = failures.last_at else {
        return Gate::Open;
    };
    let delay = delay_ms(failures.in_a_row);
    // A failure of the future: the clock was set back since, and must not hold anybody up until it is there again.
    let passed = now.0.saturating_sub(last.0);
    if passed < -CLOCKS {
        return Gate::Open;
    }
    match delay - passed.max(0) {
        left if left > 0 => Gate::Delayed(left),
        _ => Gate::Open,
    }
}

/// The delay after so many failures in a row, in milliseconds: none before the fifth, one second after it, then twice as long each time.
pub fn delay_ms(in_a_row: u32) -> i64 {
    match in_a_row.checked_sub(DELAYED_FROM) {
        None => 0,
        Some(doublings) => 1000_i64
            .checked_shl(doublings.min(20))
            .map_or(LONGEST, |ms| ms.min(LONGEST)),
    }
}

/// The failures after one more. `in_long` counts those within [`LONG`], this one among them.
pub fn after_failure(failures: Failures, in_long: u32, now: Timestamp) -> Failures {
    let in_a_row = failures.in_a_row.saturating_add(1);
    Failures {
        in_a_row,
        last_at: Some(now),
        locked: failures.locked || in_a_row >= LOCKS_IN_A_ROW || in_long >= LOCKS_IN_LONG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_a_second_to_a_quarter_of_an_hour() {
        let delays: Vec<i64> = (0..20).map(|n| delay_ms(n) / 1000).collect();
        assert_eq!(
            delays,
            [
                0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900, 900
            ]
        );
        assert_eq!(delay_ms(u32::MAX), LONGEST);
    }

    /// What is refused during a delay costs nothing, and the right code passes once it is over (privacyIDEA and others lock people out).
    #[test]
    fn trap_65_a_delay_ends_by_itself() {
        let mut failures = Failures::default();
        let mut now = Timestamp(1_000_000);
        for _ in 0..10 {
            while let Gate::Delayed(ms) = gate(failures, now) {
                now = now.plus_ms(ms);
            }
            failures = after_failure(failures, 0, now);
        }
        assert_eq!(gate(failures, now), Gate::Delayed(32_000));
        assert_eq!(gate(failures, now.plus_ms(31_999)), Gate::Delayed(1));
        assert_eq!(gate(failures, now.plus_ms(32_000)), Gate::Open);
    }

    #[test]
    fn the_hundredth_failure_in_a_row_locks() {
        let mut failures = Failures::default();
        for n in 1..=100 {
            assert!(!failures.locked, "{n}");
            failures = after_failure(failures, 0, Timestamp(0));
        }
        assert_eq!(gate(failures, Timestamp(i64::MAX)), Gate::Locked);
    }

    /// Whoever guesses slowly, and lets the right codes of the user reset the short count, is stopped by the long one.
    #[test]
    fn trap_66_slow_guesses_are_counted_over_thirty_days() {
        let some = Failures {
            in_a_row: 2,
            ..Failures::default()
        };
        assert!(!after_failure(some, 299, Timestamp(0)).locked);
        assert!(after_failure(some, 300, Timestamp(0)).locked);
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nobody_up_for_longer_than_the_delay() {
        let last = Timestamp(100_000_000);
        let failures = Failures {
            in_a_row: 5,
            last_at: Some(last),
            locked: false,
        };
        // Two daemons whose clocks differ a little: the delay holds on both.
        assert_eq!(gate(failures, last.plus_ms(-20_000)), Gate::Delayed(1000));
        assert_eq!(gate(failures, last.plus_ms(-86_400_000)), Gate::Open);
        // The next failure counts by the clock as it is now.
        let now = last.plus_ms(-86_400_000);
        let next = after_failure(failures, 0, now);
        assert_eq!(gate(next, now), Gate::Delayed(2000));
        assert_eq!(gate(next, now.plus_ms(2000)), Gate::Open);
    }
}
