//! Scenarios against real servers: one binary, a module for each subject.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod cli;
mod daemon;
mod days;
mod deltas;
mod directory;
mod enrol;
mod hands;
mod outbox;
mod programs;
mod rules;
mod seed;
mod support;
