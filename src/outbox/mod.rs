//! The daemon's other half: takes waiting messages from the store, hands them to delivery, settles what came of it.

mod backoff;
mod begin;
mod circuit;
mod stats;
mod targets;
#[cfg(test)]
mod tests;
mod time;
mod worker;

pub use backoff::delay_ms;
pub use circuit::{Circuit, CircuitState};
pub use stats::{Snapshot, Stats, TargetView};
pub use worker::{Delivered, OutboxRunner, deliver_waiting, run};
