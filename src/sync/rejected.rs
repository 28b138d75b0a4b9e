//! `reject --for`: the changes of a plan are left out for a time, while the rest of the realm goes on.

use super::pass::Pass;
use super::prepare::PassError;
use super::{Engine, EngineError};
use crate::clock::Timestamp;
use crate::model::{Outcome, RealmId, Run, User};
use crate::plan::decide::{Seen, decide};
use crate::plan::rejected::{Rejected, keys};
use crate::store::StoreError;

/// Staged users read at once.
const BATCH: i64 = 1000;

impl Engine {
    /// Rejects a held plan, and its changes until then. Expects the realm's lock.
    pub(super) async fn reject_changes(
        &self,
        run: &Run,
        by: Option<String>,
        until: Timestamp,
    ) -> Result<Run, EngineError> {
        let facts = self.store.run_facts(run.run).await?;
        if facts.undoes.is_some() || facts.first_pass {
            let what = if facts.first_pass {
                "is the realm's first, of which nothing could go on"
            } else {
                "undoes another run, and does not come again by itself"
            };
            return Err(EngineError::Refused(format!(
                "plan {:#} {what}: reject it without `--for`",
                run.run
            )));
        }
        let (mut changes, mut after) = (vec![], 0);
        loop {
            let staged = self.store.staged_to_show(run.run, after, BATCH).await?;
            let Some(last) = staged.last() else { break };
            after = last.seq;
            let ids: Vec<_> = staged.iter().map(|s| s.user.id).collect();
            let mut lines = std::collections::HashMap::<_, Vec<_>>::new();
            for line in self.store.lines_of(run.run, &ids).await? {
                lines.entry(line.user).or_default().push(line);
            }
            for staged in &staged {
                let of_user = lines.get(&staged.user.id).into_iter().flatten();
                let of_user = of_user.map(|c| (c.kind, &c.before, &c.after));
                changes.extend(keys(&staged.user, of_user, &staged.intents));
            }
        }
        // One statement may not meet the same key twice.
        changes.sort_unstable();
        changes.dedup();
        let now = self.clock.now();
        Ok(self.store.reject_for(run, by, &changes, until, now).await?)
    }

    /// Moves the end of what was rejected with a plan that is decided already.
    pub(super) async fn reject_longer(
        &self,
        run: Run,
        until: Timestamp,
    ) -> Result<Run, EngineError> {
        let changes = if run.outcome == Outcome::Rejected {
            self.store.reject_until(&run, until).await?
        } else {
            0
        };
        if changes == 0 {
            return Err(EngineError::Refused(format!(
                "plan {:#} is {}, and none of its changes are left out: there is nothing to move the end of",
                run.run, run.outcome
            )));
        }
        self.end_rejected().await?;
        Ok(run)
    }

    /// Ends what was rejected until now: its realms, as far as they are in the configuration, read
    /// everything in their next pass. Gives them.
    pub async fn end_rejected(&self) -> Result<Vec<RealmId>, StoreError> {
        let ours: Vec<RealmId> = self.config.realms.iter().map(|r| r.id.clone()).collect();
        let realms = self.store.end_rejected(&ours, self.clock.now()).await?;
        for realm in &realms {
            tracing::info!(%realm, "{realm}: what was rejected for a time is not left out any more; the next pass reads everything");
        }
        Ok(realms)
    }
}

impl Pass<'_> {
    /// Reads what plans of the realm leave out for now.
    pub(super) async fn learn_rejected(&mut self) -> Result<(), PassError> {
        if self.row.left_out_until.is_none() {
            return Ok(());
        }
        let store = &self.engine.store;
        let (changes, until) = store.rejected_changes(&self.row.id, self.now).await?;
        self.plan.rejected = Rejected {
            changes: changes.into_iter().collect(),
            until,
        };
        Ok(())
    }

    /// Whether it was rejected to suspend somebody who is absent.
    pub(super) fn leaves_out_as_gone(&self, user: &User) -> bool {
        if self.plan.rejected.changes.is_empty() {
            return false;
        }
        decide(Some(user), Seen::Gone(None), &self.context())
            .is_some_and(|decision| self.plan.rejected.leaves_out(&decision))
    }
}
