//! Second factors, as far as they are arithmetic: one-time codes, which of them counts now, recovery codes, how long guesses are
//! held back, and how secrets are kept. Pure: time and randomness are parameters, and nothing here waits.
//!
//! ```text
//!   what was typed ─▶ typed ─▶ otp + window ─▶ accepted at a step │ replayed │ clock │ wrong
//!                        └───▶ recovery                             (throttle says whether it is looked at at all)
//!   the enrolment key ─▶ keys ─▶ sealed: a secret as the store holds it
//!   a file with the seeds of hard tokens ─▶ tokens
//! ```

pub mod keys;
pub mod otp;
pub mod otpauth;
pub mod recovery;
pub mod sealed;
pub mod seeds;
pub mod throttle;
pub mod token;
pub mod typed;
pub mod verdict;
pub mod window;
