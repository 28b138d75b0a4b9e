//! placeholder
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod model;
pub mod plan;
pub mod store;
//pub mod sync;
