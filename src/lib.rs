//! placeholder
pub mod clock;
pub mod config;
pub mod model;
pub mod normalise;
pub mod store;
pub mod sync;
