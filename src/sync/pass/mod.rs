//! One pass: who was read is compared, decided about and staged.
//!
//! ```text
//! full  ─▶ read ──┐                              ┌─▶ absent ─▶ evidence
//! delta ─▶ told ──┼─▶ refused? same? ─▶ people ──┼─▶ contested_names
//! one   ─▶ found ─┘                              └─▶ rebuilt (adopt)
//! ```

mod absent;
mod contested_names;
mod delta;
mod elsewhere;
mod evidence;
mod full;
mod index;
mod one;
mod people;
mod read;
mod rebuilt;
mod refusals;
mod refuse;
mod shared_ids;
pub(in crate::sync) mod spread;
pub(in crate::sync) mod under_way;
