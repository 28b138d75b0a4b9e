//! What the tests stand on: the lab's servers, whole houses, proxies and scripts, and what a house must come to.

pub mod ber_server;
pub mod cutting;
pub mod house;
pub mod lab;
pub mod marks;
pub mod outcome;
