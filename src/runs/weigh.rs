//! The brake with the store's help: how many users a realm has, and what was applied to it lately.

use super::{PlanBuilder, window};
use crate::clock::Timestamp;
use crate::config::BrakeConfig;
use crate::model::{HeldBy, RealmRow};
use crate::plan::brake::{Counts, Weighing, enough, weigh};
use crate::store::{Store, StoreError};

/// The realm's users that are not removed, before the plan: what its limits are percentages of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Users {
    /// Counted already.
    Known(i64),
    /// To be counted.
    Counted,
    /// To be counted as far as it matters: a change of one person must not count a million others.
    AsNeeded,
}

/// Why a plan is held beside the limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reason {
    /// Its word in `held_by`.
    pub word: &'static str,
    /// How many it concerns.
    pub count: i64,
    /// How many would have passed.
    pub allowed: i64,
}

impl Reason {
    /// Messages that no counted change explains, or in a first plan any at all, where they are more than the brake's floor.
    pub fn messages(plan: &PlanBuilder, brake: &BrakeConfig, delivers: bool) -> Option<Self> {
        let count = if plan.first() {
            plan.messages
        } else {
            plan.uncounted
        };
        (delivers && count > brake.floor).then_some(Self {
            word: "messages",
            count,
            allowed: brake.floor,
        })
    }

    /// An administrator decides about every plan of the realm.
    pub fn approve(plan: &PlanBuilder) -> Self {
        Self {
            word: "approve",
            count: plan.decisions(),
            allowed: 0,
        }
    }

    /// Somebody asked for it.
    pub fn asked(plan: &PlanBuilder) -> Self {
        Self {
            word: "asked",
            ..Self::approve(plan)
        }
    }

    pub(super) fn held_by(self, of: i64) -> HeldBy {
        HeldBy {
            limit: self.word.into(),
            count: self.count,
            of,
            allowed: self.allowed,
        }
    }
}

/// The limits that so many changes of a realm trip, and the number of users that they were measured by.
pub(crate) async fn limits(
    store: &Store,
    row: &RealmRow,
    brake: &BrakeConfig,
    users: Users,
    counts: &Counts,
    now: Timestamp,
) -> Result<(Vec<HeldBy>, i64), StoreError> {
    let window = window::applied(store, row, now).await?;
    let some = match users {
        Users::Known(_) | Users::Counted => None,
        Users::AsNeeded => enough(brake, counts, &window),
    };
    let of = match (users, some) {
        (Users::Known(of), _) => of,
        (_, Some(enough)) => {
            let some = store
                .not_removed_up_to(&row.id, enough.saturating_add(1))
                .await?;
            if some > enough {
                some
            } else {
                store.not_removed(&row.id).await?
            }
        }
        (_, None) => store.not_removed(&row.id).await?,
    };
    let held = weigh(&Weighing {
        config: brake,
        counts,
        window: &window,
        of,
        first_pass: row.first_applied_at.is_none(),
    });
    Ok((held, of))
}
