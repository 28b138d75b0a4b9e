//! A directory that tells of changes as they happen.

pub(in crate::sync) mod follower;
mod losses;
