//! What is done at once, beside whatever runs.

use std::fmt::Debug;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::model::RealmId;

/// Something that is done at once. It takes no realm's lock: what it writes is one transaction of the store.
pub trait Act: Debug + Send + 'static {
    /// What comes of it, for whoever asked.
    type Output: Serialize + Send;

    /// Does it.
    fn act(self, at: &ActContext) -> impl Future<Output = Result<Self::Output, ActFailure>> + Send;

    /// What a daemon does once it is done.
    fn then(&self) -> AfterAct {
        AfterAct::Nothing
    }
}

/// What a daemon does once an act is done. A command without one needs none of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AfterAct {
    /// Nothing.
    Nothing,
    /// Messages may go: the outbox is looked at now.
    Send,
    /// There is an operation to work off.
    WorkOff,
    /// The realm may run: its schedule and its messages are looked at now.
    Look(RealmId),
}

/// An [`Act`] of any type, on its way to whoever does it.
pub trait AnyAct: Debug + Send {
    /// Does it. Gives the output as JSON, and what to do then.
    fn act_boxed(
        self: Box<Self>,
        at: ActContext,
    ) -> BoxFuture<'static, Result<(Value, AfterAct), ActFailure>>;
}

impl<A: Act> AnyAct for A {
    fn act_boxed(
        self: Box<Self>,
        at: ActContext,
    ) -> BoxFuture<'static, Result<(Value, AfterAct), ActFailure>> {
        async move {
            let then = self.then();
            let output = (*self).act(&at).await?;
            let json = serde_json::to_value(output).map_err(|error| {
                let why = format!("done, but the answer cannot be written: {error}");
                ActFailure::new(FailureKind::Unfit, why)
            })?;
            Ok((json, then))
        }
        .boxed()
    }
}
