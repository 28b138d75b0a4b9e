//! placeholder
pub mod api;
pub mod clock;
pub mod config;
pub mod model;
pub mod service;
pub mod store;
pub mod sync;
