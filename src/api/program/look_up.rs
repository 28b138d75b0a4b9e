//! Names that a service reports and a directory's realm does not hold yet: each is looked up in the directory at once. What was not
//! found is not looked for again for a while: nobody tries names at the directory through a service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Steady;
use crate::model::RealmId;
use crate::model::person::fold_name;

/// How long a name that was not found is not looked for, in milliseconds.
const MISSED: i64 = 60_000;

/// Names that are remembered so, over all realms.
const MISSES: usize = 10_000;

/// Names of a realm that are looked up within [`WINDOW`].
const MOST: u32 = 30;

/// See [`MOST`], in milliseconds.
const WINDOW: i64 = 60_000;

/// How long a directory that did not answer is left alone, in milliseconds.
const DOWN: i64 = 5_000;

/// What was looked up a moment ago. `Debug` shows no name: it may be a password.
#[derive(Default)]
pub(in crate::api) struct LookUps(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    misses: HashMap<(RealmId, String), Steady>,
    realms: HashMap<RealmId, OfRealm>,
}

#[derive(Default)]
struct OfRealm {
    /// One at a time.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// Since when, and how many.
    window: Option<(Steady, u32)>,
    /// Since when the directory does not answer.
    down: Option<Steady>,
}

/// Whether a name is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    /// It is.
    Yes,
    /// It was not found a moment ago.
    Missed,
    /// Too many were, and for so long.
    TooMany(Duration),
    /// The directory did not answer a moment ago: not for so long.
    Down(Duration),
}

impl std::fmt::Debug for LookUps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LookUps")
    }
}

fn left(since: Steady, whole: i64, now: Steady) -> Option<Duration> {
    let left = whole - now.since_ms(since);
    let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
    // Whole seconds, as `Retry-After` has them.
    Some(Duration::from_secs(left.div_ceil(1000)))
}

impl Memory {
    /// Counts a name that is looked up now, if it may be.
    fn allow(&mut self, realm: &RealmId, name: &str, now: Steady) -> Allowed {
        let key = (realm.clone(), fold_name(name));
        let missed = self.misses.get(&key);
        if missed.is_some_and(|at| left(*at, MISSED, now).is_some()) {
            return Allowed::Missed;
        }
        let own = self.realms.entry(realm.clone()).or_default();
        if let Some(wait) = own.down.and_then(|at| left(at, DOWN, now)) {
            return Allowed::Down(wait);
        }
        let (since, so_many) = match own.window {
            Some((since, so_many)) if left(since, WINDOW, now).is_some() => (since, so_many),
            _ => (now, 0),
        };
        if so_many >= MOST {
            let wait = left(since, WINDOW, now).unwrap_or(Duration::from_secs(1));
            return Allowed::TooMany(wait);
        }
        own.window = Some((since, so_many + 1));
        Allowed::Yes
    }

    fn missed(&mut self, realm: &RealmId, name: &str, now: Steady) {
        if self.misses.len() >= MISSES {
            self.misses.retain(|_, at| left(*at, MISSED, now).is_some());
            if self.misses.len() >= MISSES {
                self.misses.clear();
            }
        }
        self.misses.insert((realm.clone(), fold_name(name)), now);
    }
}

impl LookUps {
    fn memory<T>(&self, ask: impl FnOnce(&mut Memory) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whoever has it looks names of the realm up, one after the other.
    pub(super) fn gate(&self, realm: &RealmId) -> Arc<tokio::sync::Mutex<()>> {
        self.memory(|memory| Arc::clone(&memory.realms.entry(realm.clone()).or_default().gate))
    }

    /// Counts a name that is looked up now, if it may be.
    pub(super) fn allow(&self, realm: &RealmId, name: &str, now: Steady) -> Allowed {
        self.memory(|memory| memory.allow(realm, name, now))
    }

    /// Nobody has the name.
    pub(super) fn missed(&self, realm: &RealmId, name: &str, now: Steady) {
        self.memory(|memory| memory.missed(realm, name, now));
    }

    /// The directory did not answer.
    pub(super) fn down(&self, realm: &RealmId, now: Steady) {
        self.memory(|memory| memory.realms.entry(realm.clone()).or_default().down = Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    #[test]
    fn a_name_that_nobody_has_is_looked_up_once_and_so_many_in_a_minute() {
        let clock = Clock::fixed(Timestamp(1_800_000_000_000));
        let (realm, other) = (RealmId::from("r"), RealmId::from("s"));
        let mut memory = Memory::default();
        assert_eq!(memory.allow(&realm, "Jan", clock.steady()), Allowed::Yes);
        memory.missed(&realm, "Jan", clock.steady());
        assert_eq!(memory.allow(&realm, "jAN", clock.steady()), Allowed::Missed);
        assert_eq!(memory.allow(&other, "jan", clock.steady()), Allowed::Yes);
        for n in 1..MOST {
            let name = format!("n{n}");
            assert_eq!(memory.allow(&realm, &name, clock.steady()), Allowed::Yes);
        }
        clock.advance_ms(20_500);
        let more = memory.allow(&realm, "more", clock.steady());
        assert_eq!(more, Allowed::TooMany(Duration::from_secs(40)));
        assert_eq!(memory.allow(&other, "more", clock.steady()), Allowed::Yes);
        clock.advance_ms(39_500);
        assert_eq!(memory.allow(&realm, "jan", clock.steady()), Allowed::Yes);
        memory.realms.entry(realm.clone()).or_default().down = Some(clock.steady());
        let down = memory.allow(&realm, "eva", clock.steady());
        assert_eq!(down, Allowed::Down(Duration::from_secs(5)));
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let clock = Clock::fixed(Timestamp(1_800_000_000_000));
        let realm = RealmId::from("r");
        let mut memory = Memory::default();
        for n in 0..MISSES * 2 {
            memory.missed(&realm, &n.to_string(), clock.steady());
        }
        assert!(memory.misses.len() <= MISSES);
    }
}
