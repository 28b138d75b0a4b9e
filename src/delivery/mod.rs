//! How one message leaves the house: a signed request, one attempt, and what the answer means. Keeps nothing, decides
//! nothing about when: that is the outbox's.

mod reach;
#[cfg(test)]
pub(crate) mod receiver;
mod request;
mod verdict;
mod webhook;

pub use reach::reach;
pub use request::{SigningKeys, signature};
pub use verdict::{Attempt, TransportFailure, Verdict, judge_failure, judge_status, retry_after};
pub use webhook::{DeliveryError, Webhook};
