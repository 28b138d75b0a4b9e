//! What a run would do, as pure functions: one person's decision, who gets a contested name, and the brake over the whole.

pub mod action;
pub mod approval;
pub mod brake;
pub mod by_hand;
pub mod decide;
pub mod freeze;
pub mod imported;
pub mod names;
pub mod notices;
pub mod phone;
pub mod rejected;
pub mod stranger;
pub mod tokens;
pub mod undo;

#[cfg(test)]
mod tests;
