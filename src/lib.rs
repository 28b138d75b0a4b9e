//! placeholder
pub mod clock;
pub mod config;
pub mod directory;
pub mod model;
pub mod store;
pub mod sync;
