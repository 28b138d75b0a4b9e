//! Whether the daemon's parts move: the watchdog is fed only while all of them do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The signs of life of every part. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct Life(Arc<Mutex<Pulses>>);

#[derive(Default, Debug)]
struct Pulses {
    next: u64,
    parts: BTreeMap<u64, LastPulse>,
}

#[derive(Debug)]
struct LastPulse {
    name: String,
    last: Instant,
    allowed: Duration,
}

/// One part's pulse; dropping it takes the part off the list.
#[derive(Debug)]
pub struct Pulse {
    life: Life,
    key: u64,
}

impl Life {
    /// A part that must show life at least this often from now on.
    pub fn part(&self, name: impl Into<String>, allowed: Duration) -> Pulse {
        let mut parts = self.lock();
        let key = parts.next;
        parts.next += 1;
        parts.parts.insert(
            key,
            LastPulse {
                name: name.into(),
                last: Instant::now(),
                allowed,
            },
        );
        drop(parts);
        Pulse {
            life: self.clone(),
            key,
        }
    }

    /// The part that has been silent too long, and how long; `None`: all move.
    pub fn silent(&self) -> Option<(String, Duration)> {
        let parts = self.lock();
        parts
            .parts
            .values()
            .find(|part| part.last.elapsed() > part.allowed)
            .map(|part| (part.name.clone(), part.last.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, Pulses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// The part moves.
    pub fn beat(&self) {
        if let Some(part) = self.life.lock().parts.get_mut(&self.key) {
            part.last = Instant::now();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.life.lock().parts.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_part_is_named_until_it_moves_or_goes() {
        let life = Life::default();
        let quick = life.part("loop", Duration::from_secs(5));
        let slow = life.part("pass", Duration::from_mins(1));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(life.silent().map(|(name, _)| name).as_deref(), Some("loop"));
        quick.beat();
        assert_eq!(life.silent(), None);
        tokio::time::advance(Duration::from_secs(55)).await;
        quick.beat();
        assert_eq!(life.silent().map(|(name, _)| name).as_deref(), Some("pass"));
        drop(slow);
        assert_eq!(life.silent(), None);
    }
}
