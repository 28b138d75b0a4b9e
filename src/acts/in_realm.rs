//! What needs a realm for itself: one at a time in each realm, and after what is under way.

use std::fmt::Debug;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::ActContext;
use super::failure::ActFailure;
use crate::model::RealmId;
use crate::sync::Progress;

/// A turn in a realm: nothing else of this process runs in it. The run takes the realm's lock itself, against other processes.
#[derive(Clone, Debug)]
pub struct AgendaTurn {
    /// Stops what was begun: it commits or rolls back.
    pub cancel: CancellationToken,
    /// Where progress is told.
    pub progress: watch::Sender<Progress>,
}

impl Default for AgendaTurn {
    fn default() -> Self {
        Self {
            cancel: CancellationToken::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }
}

/// Something that needs a realm for itself. It may be tried more than once, until the realm is free.
pub trait InRealm: Clone + Debug + Send + Sync + 'static {
    /// What comes of it.
    type Output: Send;

    /// Finds its realm. From then on it names things by their full ids: a part of one may be ambiguous by the time it is its turn.
    fn place(
        self,
        at: &ActContext,
    ) -> impl Future<Output = Result<(RealmId, Self), ActFailure>> + Send;

    /// Does it, in its turn. A run that failed is an output, not an error.
    fn act(
        &self,
        at: &ActContext,
        turn: &AgendaTurn,
    ) -> impl Future<Output = Result<Self::Output, ActFailure>> + Send;
}
