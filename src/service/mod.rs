//! The daemon.
pub mod crontab;
pub mod schedule;
