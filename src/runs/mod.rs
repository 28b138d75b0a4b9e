//! Runs, whoever makes them: begun in the realm's turn, planned, weighed by the brake, and applied or held; held plans approved,
//! rejected, or left to expire; applied ones undone.
//!
//! Knows no directory, no file and no HTTP. Its callers give it what they found as values (`Finished`). Only they can know
//! whether a directory still says what a held plan says; they look before they have it applied.

mod error;
mod frame;
pub(crate) mod held;
mod ids;
mod lines;
mod plan;
mod realm_turn;
mod reject;
mod stage;
pub(crate) mod undo;
pub(crate) mod weigh;
pub(crate) mod window;

use crate::clock::Clock;
use crate::store::Store;
pub use error::RunError;
pub(crate) use error::RunFailure;
pub(crate) use frame::{Finished, Frame, MadeWith, PlanDisposition, new_run};
pub use held::Decided;
pub(crate) use held::expire_held;
pub(crate) use ids::{Ascending, uuid_v7};
pub use lines::Lines;
pub(crate) use plan::PlanBuilder;
pub(crate) use realm_turn::RealmTurn;
pub(crate) use stage::stage;

/// The runs of a store.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    /// Fenced where this is used in a realm's turn.
    pub store: Store,
    pub clock: Clock,
}

impl Runs {
    /// The same in a realm's turn.
    fn within(&self, turn: &RealmTurn) -> Self {
        Self {
            store: turn.store.clone(),
            clock: self.clock.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
