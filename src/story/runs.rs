//! One run, with what is known of it beside its own row.

use super::status::RejectedBefore;
use crate::model::{Outcome, Run};
use crate::store::{RunFacts, Store, StoreError};

/// A run and what is known of it. Its changes are read page by page ([`Store::changes`]): there may be a million.
#[derive(Clone, Debug)]
pub struct RunStory {
    /// It.
    pub run: Run,
    /// How its plan stands.
    pub facts: RunFacts,
    /// For a held plan: the one with the same changes that was rejected before.
    pub rejected_before: Option<RejectedBefore>,
    /// How many digits tell the ids of these runs from all others.
    pub digits: usize,
}

/// What is to be told of a run.
pub async fn of(store: &Store, run: Run) -> Result<RunStory, StoreError> {
    let facts = store.run_facts(run.run).await?;
    let rejected_before = match run.outcome {
        Outcome::Held => store.rejected_before(run.run).await?.map(Into::into),
        _ => None,
    };
    let mut named = vec![run.run];
    named.extend(facts.replaced_by);
    named.extend(
        rejected_before
            .as_ref()
            .map(|before: &RejectedBefore| before.run),
    );
    let digits = store.digits_of_runs(&named).await?;
    Ok(RunStory {
        run,
        facts,
        rejected_before,
        digits,
    })
}
