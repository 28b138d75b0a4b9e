//! One pass: who was read is compared, decided about and staged.
//!
//! ```text
//! full  ─▶ read ──┐                              ┌─▶ absent ─▶ evidence
//! delta ─▶ told ──┼─▶ refused? same? ─▶ people ──┼─▶ contested_names
//! one   ─▶ found ─┘                              └─▶ rebuilt (adopt)
//! ```
//!
//! Each stage names which of three values it takes: the `Setting` (what is known before), the `Reading` (what is being read, and
//! remembered until all is read) and what was `Found` (plan, refusals, counts). Only the three flows hold all of them, as a `Pass`,
//! and give a `PassOutcome` to the frame of the run.

mod absent;
mod contested_names;
mod delta;
mod delta_scope;
mod evidence;
mod found;
mod full;
mod given_entries;
mod index;
mod losses;
mod one_person;
mod other_realms;
pub(in crate::sync) mod outcome;
mod people;
mod read;
mod reading;
mod rebuilt;
mod refusals;
mod refuse;
mod same_person;
pub(in crate::sync) mod setting;
mod shared_ids;
pub(in crate::sync) mod under_way;
