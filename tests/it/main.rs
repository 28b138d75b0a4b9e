//! Scenarios against real servers: one binary, a module for each subject.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod house;
mod lab;
mod main_job;
mod traps;
