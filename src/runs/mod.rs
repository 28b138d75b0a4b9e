//! Runs, whoever makes them: a plan that is staged, weighed, and applied or held. Knows no directory.

mod ids;
mod lines;
mod plan;
pub(crate) mod window;

pub(crate) use ids::{Ascending, uuid_v7};
pub use lines::Lines;
pub(crate) use plan::Plan;
