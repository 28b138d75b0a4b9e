//! When to try again (design § 6). Pure: chance is a parameter.

/// The first wait.
const FIRST_MS: i64 = 1_000;
/// Doubled up to this.
const LONGEST_MS: i64 = 15 * 60 * 1_000;

/// Milliseconds from the end of attempt number `attempts` (from 1) to the next: one second, doubled up to 15 minutes,
/// give or take 20 %, so that what failed together does not come back together. `chance` is from 0 to 1.
/// What the receiver asked for by `Retry-After` goes first, but never less than the first wait.
pub fn delay_ms(attempts: i64, chance: f64, retry_after_ms: Option<i64>) -> i64 {
    if let Some(asked) = retry_after_ms {
        return asked.max(FIRST_MS);
    }
    let doublings = attempts.clamp(1, 11) - 1;
    let base = (FIRST_MS << doublings).min(LONGEST_MS);
    // A fifth of the base is whole milliseconds; up to twice that is added by chance.
    let fifth = base / 5;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "at most 6 minutes in milliseconds"
    )]
    let added = (chance.clamp(0.0, 1.0) * (2 * fifth) as f64) as i64;
    base - fifth + added
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubled_up_to_a_quarter_of_an_hour() {
        let middle: Vec<i64> = (1..=13).map(|n| delay_ms(n, 0.5, None) / 1000).collect();
        assert_eq!(
            middle,
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
        );
        assert_eq!(
            (delay_ms(1, 0.0, None), delay_ms(1, 1.0, None)),
            (800, 1200)
        );
        assert_eq!(delay_ms(i64::MAX, 1.0, None), 1_080_000);
        assert_eq!(delay_ms(5, 0.3, Some(120_000)), 120_000);
        assert_eq!(delay_ms(5, 0.3, Some(0)), 1_000);
    }

    proptest! {
        #[test]
        fn never_below_the_first_nor_beyond_the_longest(attempts in any::<i64>(), chance in any::<f64>()) {
            let delay = delay_ms(attempts, chance, None);
            prop_assert!((800..=1_080_000).contains(&delay));
        }
    }
}
