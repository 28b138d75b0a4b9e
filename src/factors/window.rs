//! Which codes count now: the window around the expected step or counter, and what is said of a code outside of it.
//!
//! ```text
//!   steps of time    … │ clock: 10 │ −w  expected  +w │ clock: 10 │ …      w: 1 for applications, 2 for hard tokens
//!   counters         … replayed │ next ─────── ten ahead │ wrong …
//! ```
//!
//! Nothing here changes anything. What was accepted must be stored by one conditional update: a code counts once, over all daemons.

use subtle::{Choice, ConstantTimeEq};

use super::otp::Generator;
use super::typed::Typed;

/// How an authenticator counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moving {
    /// By time: a mobile application. A step lasts so many seconds.
    Application {
        /// Seconds of a step.
        period: u32,
    },
    /// By time: a hard token, whose clock drifts.
    Clock {
        /// Seconds of a step.
        period: u32,
        /// Whole steps by which its clock was ahead when its last code was accepted; behind if negative.
        drift: i64,
    },
    /// By a counter.
    Counter,
}

/// What the store remembers of an authenticator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The lowest step or counter that was not used yet.
    pub next: i64,
}

/// What a code comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It is right, and was not used.
    Accepted {
        /// Its step or counter: [`Progress::next`] becomes one more.
        at: i64,
        /// The drift from now on; 0 where there is none.
        drift: i64,
    },
    /// It was right, and was used, or one after it was.
    Replayed,
    /// It would be right so many steps later, or earlier if negative: a clock is wrong.
    WrongClock(i64),
    /// It is wrong.
    Wrong,
}

/// Steps either side for an application.
const APPLICATION: i64 = 1;
/// Steps either side of the learned drift for a hard token.
const TOKEN: i64 = 2;
/// Counters ahead of the next one.
const AHEAD: i64 = 10;
/// Steps beside the window within which a code shows that a clock is wrong.
const CLOCK: i64 = 10;
/// The drift that is learned in all.
const DRIFT: i64 = 20;
/// How far two codes in a row are looked for: counters ahead, and steps either side.
const RESYNC: (i64, i64) = (1000, 30);

/// Looks for a code around where it is expected at this time (seconds since 1970). Every candidate is compared, whichever fits.
pub fn find(
    generator: &Generator,
    moving: Moving,
    progress: Progress,
    code: &Typed,
    now: i64,
) -> Found {
    let Typed::Digits { value, digits } = *code else {
        return Found::Wrong;
    };
    let fits = |at: i64| {
        let right = u64::try_from(at).map_or(0, |at| generator.code(at));
        right.ct_eq(&value) & Choice::from(u8::from(digits == generator.digits() && at >= 0))
    };
    let (expected, drift, width) = match moving {
        Moving::Application { period } => (step(now, period), 0, APPLICATION),
        Moving::Clock { period, drift } => (step(now, period) + drift, drift, TOKEN),
        Moving::Counter => return counter(progress.next, fits),
    };
    let outside = width + CLOCK;
    // The nearest one counts: two steps may have the same code.
    let mut found = Found::Wrong;
    for distance in (0..=outside).rev() {
        for offset in [distance, -distance] {
            let at = expected + offset;
            let right = bool::from(fits(at));
            let means = if at < progress.next {
                Found::Replayed
            } else if distance <= width {
                let learned = match moving {
                    // Two codes in a row may have shown more than is learned otherwise.
                    Moving::Clock { .. } => {
                        let most = DRIFT.max(drift.abs());
                        (drift + offset).clamp(-most, most)
                    }
                    _ => 0,
                };
                Found::Accepted { at, drift: learned }
            } else {
                Found::WrongClock(offset)
            };
            let better =
                matches!(means, Found::Accepted { .. }) || !matches!(found, Found::Accepted { .. });
            if right && better {
                found = means;
            }
        }
    }
    found
}

fn counter(next: i64, fits: impl Fn(i64) -> Choice) -> Found {
    let mut found = Found::Wrong;
    for at in (next - AHEAD..next).chain((next..=next + AHEAD).rev()) {
        if bool::from(fits(at)) {
            found = if at < next {
                Found::Replayed
            } else {
                Found::Accepted { at, drift: 0 }
            };
        }
    }
    found
}

/// Looks further away for two codes in a row, of which the second is used up. `None`: they are not there.
pub fn resync(
    generator: &Generator,
    moving: Moving,
    progress: Progress,
    codes: [&Typed; 2],
    now: i64,
) -> Option<(i64, i64)> {
    let [first, second] = codes.map(|code| match *code {
        Typed::Digits { value, digits } if digits == generator.digits() => Some(value),
        _ => None,
    });
    let (first, second) = (first?, second?);
    let (from, to, expected) = match moving {
        Moving::Counter => (progress.next, progress.next + RESYNC.0, 0),
        Moving::Application { period } | Moving::Clock { period, .. } => {
            let expected = step(now, period);
            (expected - RESYNC.1, expected + RESYNC.1, expected)
        }
    };
    let mut found = None;
    for at in (from.max(progress.next).max(0)..to).rev() {
        let (Ok(one), Ok(two)) = (u64::try_from(at), u64::try_from(at + 1)) else {
            continue;
        };
        let both = generator.code(one).ct_eq(&first) & generator.code(two).ct_eq(&second);
        if bool::from(both) {
            let drift = match moving {
                Moving::Clock { .. } => (at + 1 - expected).clamp(-RESYNC.1, RESYNC.1),
                _ => 0,
            };
            found = Some((at + 1, drift));
        }
    }
    found
}

/// The nearest step or counter at which a code is right, as far away as two codes in a row are looked for, and that was not used.
pub fn far(
    generator: &Generator,
    moving: Moving,
    progress: Progress,
    code: &Typed,
    now: i64,
) -> Option<i64> {
    let Typed::Digits { value, digits } = *code else {
        return None;
    };
    if digits != generator.digits() {
        return None;
    }
    let fits = |at: i64| {
        at >= progress.next
            && u64::try_from(at).is_ok_and(|at| bool::from(generator.code(at).ct_eq(&value)))
    };
    match moving {
        Moving::Counter => {
            (progress.next..progress.next.saturating_add(RESYNC.0)).find(|at| fits(*at))
        }
        Moving::Application { period } | Moving::Clock { period, .. } => {
            let expected = step(now, period);
            (0..=RESYNC.1)
                .flat_map(|distance| [expected + distance, expected - distance])
                .find(|at| fits(*at))
        }
    }
}

/// Whether a code is the one after a first one, which [`far`] found: its step or counter, and the drift from now on.
pub fn follows(
    generator: &Generator,
    moving: Moving,
    progress: Progress,
    first: i64,
    code: &Typed,
    now: i64,
) -> Option<(i64, i64)> {
    let Typed::Digits { value, digits } = *code else {
        return None;
    };
    let at = first.checked_add(1)?;
    let right = generator.code(u64::try_from(at).ok()?).ct_eq(&value);
    if digits != generator.digits() || at < progress.next || !bool::from(right) {
        return None;
    }
    match moving {
        Moving::Counter => Some((at, 0)),
        Moving::Application { period } => {
            ((at - step(now, period)).abs() <= APPLICATION).then_some((at, 0))
        }
        Moving::Clock { period, .. } => {
            let drift = at - step(now, period);
            (drift.abs() <= RESYNC.1 + 1).then_some((at, drift.clamp(-RESYNC.1, RESYNC.1)))
        }
    }
}

/// The step at which a clock's code is expected at this time (seconds since 1970), with its drift; 0 of a counter.
pub fn expected(moving: Moving, now: i64) -> i64 {
    match moving {
        Moving::Application { period } => step(now, period),
        Moving::Clock { period, drift } => step(now, period) + drift,
        Moving::Counter => 0,
    }
}

/// The step of a time. A period is at least one second.
fn step(now: i64, period: u32) -> i64 {
    now.div_euclid(i64::from(period.max(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;
    use crate::model::OtpHash;

    const APP: Moving = Moving::Application { period: 30 };
    const NOW: i64 = 1_800_000_000;

    fn generator(seed: u8) -> Generator {
        Generator::new(Zeroizing::new(vec![seed; 20]), OtpHash::Sha1, 6)
    }

    fn typed(generator: &Generator, at: i64) -> Typed {
        Typed::Digits {
            value: generator.code(at.try_into().expect("not before 1970")),
            digits: 6,
        }
    }

    fn fresh() -> Progress {
        Progress { next: 0 }
    }

    #[test]
    fn trap_67_an_application_has_one_step_either_side() {
        let g = generator(1);
        let expected = NOW / 30;
        for offset in -13..=13_i64 {
            let found = find(&g, APP, fresh(), &typed(&g, expected + offset), NOW);
            let wanted = match offset.abs() {
                0 | 1 => Found::Accepted {
                    at: expected + offset,
                    drift: 0,
                },
                2..=11 => Found::WrongClock(offset),
                _ => Found::Wrong,
            };
            assert_eq!(found, wanted, "{offset}");
        }
    }

    #[test]
    fn trap_67_a_token_has_two_steps_around_its_drift_and_learns() {
        let g = generator(2);
        for drift in [-20, -3, 0, 5, 20] {
            let moving = Moving::Clock { period: 60, drift };
            let expected = NOW / 60 + drift;
            for offset in -2..=2_i64 {
                let found = find(&g, moving, fresh(), &typed(&g, expected + offset), NOW);
                let drift = (drift + offset).clamp(-20, 20);
                let at = expected + offset;
                assert_eq!(found, Found::Accepted { at, drift }, "{offset}");
            }
            let found = find(&g, moving, fresh(), &typed(&g, expected + 3), NOW);
            assert_eq!(found, Found::WrongClock(3));
        }
    }

    #[test]
    fn a_used_step_and_all_before_it_are_used() {
        let g = generator(3);
        let expected = NOW / 30;
        let used = Progress { next: expected + 1 };
        for offset in -11..=0 {
            let found = find(&g, APP, used, &typed(&g, expected + offset), NOW);
            assert_eq!(found, Found::Replayed, "{offset}");
        }
        let found = find(&g, APP, used, &typed(&g, expected + 1), NOW);
        assert_eq!(
            found,
            Found::Accepted {
                at: expected + 1,
                drift: 0
            }
        );
    }

    #[test]
    fn a_counter_looks_ten_ahead_and_no_further() {
        let g = generator(4);
        let at = Progress { next: 100 };
        for counter in 90..=112 {
            let found = find(&g, Moving::Counter, at, &typed(&g, counter), NOW);
            let wanted = match counter {
                90..100 => Found::Replayed,
                100..=110 => Found::Accepted {
                    at: counter,
                    drift: 0,
                },
                _ => Found::Wrong,
            };
            assert_eq!(found, wanted, "{counter}");
        }
    }

    #[test]
    fn two_codes_in_a_row_are_found_far_away_and_one_is_not() {
        let g = generator(5);
        let at = Progress { next: 10 };
        let (one, two, three) = (typed(&g, 900), typed(&g, 901), typed(&g, 902));
        let resync = |codes: [&Typed; 2]| resync(&g, Moving::Counter, at, codes, NOW);
        assert_eq!(resync([&one, &two]), Some((901, 0)));
        assert_eq!(resync([&one, &three]), None);
        assert_eq!(resync([&two, &one]), None);
        assert_eq!(resync([&typed(&g, 1010), &typed(&g, 1011)]), None);
        assert_eq!(resync([&typed(&g, 8), &typed(&g, 9)]), None, "used");

        let clock = Moving::Clock {
            period: 30,
            drift: 0,
        };
        let now = NOW / 30;
        let far = [&typed(&g, now + 24), &typed(&g, now + 25)];
        assert_eq!(super::resync(&g, clock, at, far, NOW), Some((now + 25, 25)));
    }

    #[test]
    fn a_code_of_another_length_is_wrong() {
        let g = generator(6);
        let Typed::Digits { value, .. } = typed(&g, NOW / 30) else {
            unreachable!("digits");
        };
        for digits in [7, 8] {
            let code = Typed::Digits { value, digits };
            assert_eq!(find(&g, APP, fresh(), &code, NOW), Found::Wrong);
        }
        for code in [Typed::Unreadable, Typed::Letters("ABCD".into())] {
            assert_eq!(find(&g, APP, fresh(), &code, NOW), Found::Wrong);
        }
    }

    #[test]
    fn a_token_that_was_far_away_goes_on_working_after_two_codes() {
        let g = generator(8);
        let expected = NOW / 30;
        for away in [-29, -23, 21, 25, 29] {
            let fresh_clock = Moving::Clock {
                period: 30,
                drift: 0,
            };
            let codes = [&typed(&g, expected + away), &typed(&g, expected + away + 1)];
            let (at, drift) = resync(&g, fresh_clock, fresh(), codes, NOW).expect("two in a row");
            let (mut next, mut drift) = (at + 1, drift);
            for later in 1..20 {
                let code = typed(&g, expected + away + 1 + later);
                let moving = Moving::Clock { period: 30, drift };
                let found = find(&g, moving, Progress { next }, &code, NOW + later * 30);
                let Found::Accepted { at, drift: learned } = found else {
                    panic!("{away}, {later} steps later: {found:?}");
                };
                (next, drift) = (at + 1, learned);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the drift and the period, a code is accepted once.
        #[test]
        fn trap_63_any_drift_and_any_period_accept_a_code_once(
            seed in any::<u8>(), drift in -20..=20_i64, period in prop::sample::select(vec![30_u32, 60]), off in -2..=2_i64, later in 0..40_i64,
        ) {
            let g = generator(seed);
            let moving = Moving::Clock { period, drift };
            let code = typed(&g, NOW / i64::from(period) + drift + off);
            let Found::Accepted { at, drift: learned } = find(&g, moving, fresh(), &code, NOW) else {
                return Err(TestCaseError::fail("not accepted"));
            };
            prop_assert!((learned - drift).abs() <= 2 && learned.abs() <= 20);
            let moving = Moving::Clock { period, drift: learned };
            let again = find(&g, moving, Progress { next: at + 1 }, &code, NOW + later);
            // By chance a later step may have the same six digits.
            if let Found::Accepted { at: other, .. } = again {
                prop_assert!(other > at && typed(&g, other) == code);
            }
        }
    }

    #[test]
    fn times_before_1970_and_far_away_are_no_trouble() {
        let g = generator(7);
        let code = Typed::Digits {
            value: 1,
            digits: 6,
        };
        for now in [i64::MIN / 4, -1, 0, 1, i64::MAX / 4] {
            let _no_panic = find(&g, APP, fresh(), &code, now);
        }
    }
}
