//! The outbox's numbers, for `/metrics` and `status`. Written by the worker, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::circuit::CircuitState;
use crate::model::RealmId;

/// Counters since the process began, and the receivers as they are now.
#[derive(Debug, Default)]
pub struct Stats {
    delivered: AtomicU64,
    refused: AtomicU64,
    again: AtomicU64,
    dead: AtomicU64,
    dropped: AtomicU64,
    unknown_end: AtomicU64,
    elapsed_ms: AtomicU64,
    attempts: AtomicU64,
    turns: AtomicU64,
    targets: Mutex<Vec<TargetView>>,
}

/// A receiver as `status` shows it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct TargetView {
    /// Scheme, host and port: a path or query may hold a secret.
    pub receiver: String,
    /// The realms that send there now.
    pub realms: Vec<RealmId>,
    /// Attempts under way.
    pub under_way: usize,
    /// The circuit.
    pub circuit: CircuitState,
    /// Why nothing can be sent at all (a secret or certificate that cannot be used); `None`: it can.
    pub broken: Option<String>,
}

/// The numbers at one instant.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Snapshot {
    /// Attempts made.
    pub attempts: u64,
    /// Messages accepted.
    pub delivered: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Attempts to be repeated.
    pub again: u64,
    /// Of these, attempts whose end is unknown.
    pub unknown_end: u64,
    /// Messages given up.
    pub dead: u64,
    /// Messages dropped when they came back.
    pub dropped: u64,
    /// Time that all attempts took together, in milliseconds.
    pub elapsed_ms: u64,
    /// The receivers.
    pub targets: Vec<TargetView>,
}

/// One counter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Delivered,
    Refused,
    Again,
    UnknownEnd,
    Dead,
    Dropped,
}

impl Stats {
    /// The numbers now.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            attempts: get(&self.attempts),
            delivered: get(&self.delivered),
            refused: get(&self.refused),
            again: get(&self.again),
            unknown_end: get(&self.unknown_end),
            dead: get(&self.dead),
            dropped: get(&self.dropped),
            elapsed_ms: get(&self.elapsed_ms),
            targets: self
                .targets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    pub(super) fn count(&self, what: Count, n: u64) {
        let counter = match what {
            Count::Delivered => &self.delivered,
            Count::Refused => &self.refused,
            Count::Again => &self.again,
            Count::UnknownEnd => &self.unknown_end,
            Count::Dead => &self.dead,
            Count::Dropped => &self.dropped,
        };
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// How often the worker has gone round: it moves as long as this rises, at least every second or so.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn attempt(&self, elapsed_ms: u64) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.elapsed_ms.fetch_add(elapsed_ms, Ordering::Relaxed);
    }

    pub(super) fn show(&self, targets: Vec<TargetView>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }
}
