//! A directory's realm before anything of it is read, and between its runs: a session, the mapping, what is remembered of the
//! directory, and the realms beside it.

pub(in crate::sync) mod by_hand;
mod declare;
pub(in crate::sync) mod due;
pub(in crate::sync) mod following;
mod holds;
pub(in crate::sync) mod keys;
pub(in crate::sync) mod lagging_server;
pub(in crate::sync) mod lost_key;
pub(in crate::sync) mod messages;
mod operations;
pub(in crate::sync) mod prepare;
mod refusal;
pub(in crate::sync) mod sending;
pub(in crate::sync) mod session;
pub(in crate::sync) mod siblings;
mod telling;
