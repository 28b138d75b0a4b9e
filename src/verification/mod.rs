//! Codes that protected services have verified: many at once in one transaction, each decided once over all daemons.
//!
//! ```text
//!   service ─▶ api ─▶ queue ─▶ who is it? ─▶ a transaction: locked ─▶ judged ─▶ written ─▶ committed ─▶ answered
//!                      ▲                                                                        │
//!                      └──────────── whoever asks meanwhile shares the next one ◀──────────────┘
//! ```
//!
//! A transaction has each user once, in the order of their ids, so that two daemons wait for each other and never in a circle.
//! It reads `users` and never locks it. What cannot be decided (no store, no key, a clock that is wrong) is no verdict: nothing is
//! written, and nothing counts.

mod names;
mod queue;
mod refusals;
mod round;
mod setting;
#[cfg(test)]
mod tests;

pub use names::{Named, who_is};
pub use queue::{Answered, AskKey, Health, NotVerified, Verifier, VerifyAsk, VerifyQueue, run};
