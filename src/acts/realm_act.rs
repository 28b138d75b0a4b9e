//! Every act that needs a realm for itself, as one value: what waits on a daemon's agenda.

use super::context::ActContext;
use super::decide::Decide;
use super::failure::ActFailure;
use super::import::Import;
use super::in_realm::InRealm;
use super::plan::Plan;
use super::sync::Sync;
use crate::model::{RealmId, Trigger};

/// An act that needs a realm for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RealmAct {
    /// One run now; answers with [`crate::model::Run`].
    Sync(Sync),
    /// A dry run, or one whose plan is kept; answers with the run, its changes and `null`.
    Plan(Plan),
    /// A decision on a run; answers with [`crate::runs::Decided`].
    Decide(Decide),
    /// A file of users; answers with the run, the lines that were refused, what a dry one would change, and an
    /// [`ImportReport`](super::ImportReport).
    Import(Import),
}

impl RealmAct {
    /// See [`InRealm::place`].
    pub async fn place(self, at: &ActContext) -> Result<(RealmId, Self), ActFailure> {
        Ok(match self {
            Self::Sync(act) => {
                let (realm, act) = act.place(at).await?;
                (realm, Self::Sync(act))
            }
            Self::Plan(act) => {
                let (realm, act) = act.place(at).await?;
                (realm, Self::Plan(act))
            }
            Self::Decide(act) => {
                let (realm, act) = act.place(at).await?;
                (realm, Self::Decide(act))
            }
            Self::Import(act) => {
                let (realm, act) = act.place(at).await?;
                (realm, Self::Import(act))
            }
        })
    }

    /// Whether what comes of it depends on what the configuration says: it must be the one that whoever asks has before them.
    pub fn goes_by_the_file(&self) -> bool {
        matches!(self, Self::Sync(_) | Self::Plan(_) | Self::Import(_))
    }

    /// Whether nothing is written at all.
    pub fn is_dry(&self) -> bool {
        match self {
            Self::Plan(act) => !act.request.hold,
            Self::Import(act) => act.request.plan,
            Self::Sync(_) | Self::Decide(_) => false,
        }
    }

    /// Whether the rest of a realm, from which something is left out now, goes on at once.
    pub fn lets_the_rest_go_on(&self) -> bool {
        matches!(self, Self::Decide(act) if act.request.for_ms.is_some_and(|ms| ms > 0))
    }

    /// Whether the interval between deltas asks for it.
    pub fn is_poll(&self) -> bool {
        matches!(self, Self::Sync(act) if act.trigger == Trigger::Poll)
    }

    /// Whether one run answers both. What makes it (a command, a signal, the interval) does not matter.
    pub fn joins(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Sync(ours), Self::Sync(theirs)) if ours.realm == theirs.realm && ours.request == theirs.request)
    }
}
