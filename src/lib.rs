//! placeholder
pub mod api;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod model;
pub mod outbox;
pub mod service;
pub mod store;
pub mod sync;
