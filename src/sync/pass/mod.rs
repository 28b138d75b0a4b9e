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
pub(in crate::sync) mod delta_scope;
mod evidence;
mod full;
mod index;
mod one_person;
mod other_realms;
mod people;
mod read;
mod rebuilt;
mod refusals;
mod refuse;
mod shared_ids;
pub(in crate::sync) mod under_way;
