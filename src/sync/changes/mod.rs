//! What a directory tells of changes: by which way, since when, and whether it told of all.

pub(in crate::sync) mod begin;
mod computed;
pub(in crate::sync) mod drift;
pub(in crate::sync) mod drift_by_kind;
pub(in crate::sync) mod gather;
mod moved_containers;
