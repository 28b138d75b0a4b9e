//! Time as a parameter: the only place of the program that asks the machine what time it is.

pub mod zones;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp as Instant;
use serde::{Deserialize, Serialize};

/// An instant in milliseconds since 1970-01-01T00:00:00Z; the store keeps it as a 64-bit integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant, `ms` milliseconds later (earlier when negative); saturates.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; negative when `earlier` is later.
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same instant for reckoning with dates; `None` outside of the years -9999 to 9999.
    pub fn instant(self) -> Option<Instant> {
        Instant::from_millisecond(self.0).ok()
    }

    /// RFC 3339 in UTC with milliseconds, as the JSON of every command shows it.
    pub fn rfc3339(self) -> String {
        self.instant()
            .map_or_else(|| self.0.to_string(), |t| format!("{t:.3}"))
    }
}

impl From<Instant> for Timestamp {
    fn from(value: Instant) -> Self {
        Self(value.as_millisecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<Instant>()
            .map(Self::from)
            .map_err(serde::de::Error::custom)
    }
}

/// A clock that is so far from the database's judges no code and no link, in milliseconds.
const OFF: i64 = 30_000;

/// The time by which codes and links are judged, and what it says of this machine's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JudgingTime {
    /// The database's time; this machine's where the store is a file of it.
    pub at: Timestamp,
    /// How far this machine's clock is ahead of the database's, in milliseconds; behind if negative.
    pub off_ms: i64,
}

impl JudgingTime {
    /// `database`: what its clock showed; `before` and `after`: what this machine's clock showed before it was asked, and after.
    pub fn new(database: Option<Timestamp>, before: Timestamp, after: Timestamp) -> Self {
        let at = database.unwrap_or(after);
        let off_ms = match database {
            Some(at) if at < before => before.since_ms(at),
            Some(at) if at > after => after.since_ms(at),
            _ => 0,
        };
        Self { at, off_ms }
    }

    /// This machine's clock is so wrong that nothing can be judged here.
    pub fn is_off(self) -> bool {
        self.off_ms.abs() >= OFF
    }
}

/// An instant of a clock that nobody can set and that goes on while the process stands still or the machine is suspended
/// (CLOCK_BOOTTIME): for what was promised to others, such as a lease. `std::time::Instant` stands still in a suspended machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Uptime(Duration);

impl Uptime {
    /// Now.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(Duration::new(
            u64::try_from(now.tv_sec).unwrap_or(0),
            u32::try_from(now.tv_nsec).unwrap_or(0),
        ))
    }

    /// How long ago this was.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// An instant in milliseconds of a clock that nobody can set: for how long something takes in this process. It stands still in a
/// suspended machine, in which nothing can be done either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Steady(i64);

impl Steady {
    /// This instant, `ms` milliseconds later; saturates.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; negative when `earlier` is later.
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where the time comes from: the machine's clocks, or those that a test moves by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Hands>>);

/// The hands of a clock that a test moves.
#[derive(Debug)]
struct Hands(Mutex<(Timestamp, Steady)>);

impl Hands {
    fn show(&self) -> (Timestamp, Steady) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_by(&self, wall_ms: i64, steady_ms: i64) {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *hands = (hands.0.plus_ms(wall_ms), hands.1.plus_ms(steady_ms));
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `at` until [`Clock::advance_ms`] moves it.
    pub fn fixed(at: Timestamp) -> Self {
        Self(Some(Arc::new(Hands(Mutex::new((at, Steady::default()))))))
    }

    /// What time it is.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(fixed) => fixed.show().0,
            None => Instant::now().into(),
        }
    }

    /// What time it is on the clock that nobody can set.
    pub fn steady(&self) -> Steady {
        if let Some(fixed) = &self.0 {
            return fixed.show().1;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Steady(now.tv_sec.saturating_mul(1000) + now.tv_nsec / 1_000_000)
    }

    /// What both clocks show at the same instant.
    pub fn both(&self) -> (Timestamp, Steady) {
        match &self.0 {
            Some(fixed) => fixed.show(),
            None => (self.now(), self.steady()),
        }
    }

    /// Lets `ms` milliseconds pass on a fixed clock; does nothing to the machine's.
    pub fn advance_ms(&self, ms: i64) {
        if let Some(fixed) = &self.0 {
            fixed.move_by(ms, ms);
        }
    }

    /// Sets a fixed clock forward by `ms` milliseconds, or back, as an administrator or NTP does: no time passes. Does nothing to
    /// the machine's.
    pub fn set_forward_ms(&self, ms: i64) {
        if let Some(fixed) = &self.0 {
            fixed.move_by(ms, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_68_a_clock_is_off_by_what_no_way_of_the_question_explains() {
        let at = |ms: i64| Timestamp(1_000_000 + ms);
        let off = |database, before, after| JudgingTime::new(Some(database), before, after).off_ms;
        assert_eq!(off(at(5), at(0), at(10)), 0);
        // The question took its time: nothing can be said of less.
        assert_eq!(off(at(9000), at(0), at(9500)), 0);
        assert_eq!(off(at(-3_600_000), at(0), at(10)), 3_600_000, "ahead");
        assert_eq!(off(at(3_600_010), at(0), at(10)), -3_600_000, "behind");
        for (ms, is_off) in [(29_999, false), (30_000, true)] {
            let time = JudgingTime::new(Some(at(-ms)), at(0), at(10));
            assert_eq!((time.is_off(), time.at), (is_off, at(-ms)));
            assert_eq!(
                JudgingTime::new(Some(at(ms + 10)), at(0), at(10)).is_off(),
                is_off
            );
        }
        // A file of this machine has no other clock.
        let own = JudgingTime::new(None, at(0), at(10));
        assert_eq!((own.at, own.is_off()), (at(10), false));
    }
}
