//! Saying no to a held plan. `reject --for`: its changes are left out for a time, while the rest of the realm goes on.

use super::{Decided, RealmTurn, RunError, Runs};
use crate::clock::Timestamp;
use crate::model::{Mode, Outcome, RealmId, Run};
use crate::plan::rejected::keys;
use crate::store::{AuditNote, StoreError};

/// Staged users read at once.
const BATCH: i64 = 1000;

impl Runs {
    /// Says no to a held plan. With `for_ms` its changes are left out for so long; of a plan that was rejected so before, it moves
    /// the end, and with 0 that is now.
    pub(crate) async fn reject(
        &self,
        typed: &str,
        by: Option<String>,
        for_ms: Option<i64>,
        note: Option<AuditNote>,
    ) -> Result<Decided, RunError> {
        let now = self.clock.now();
        let until = for_ms.map(|ms| now.plus_ms(ms));
        let noting = |me: Self, run: &Run| {
            let note = note.map(|note| {
                note.about(run.run, &run.realm)
                    .was("outcome", run.outcome.as_str())
                    .is("outcome", Outcome::Rejected.as_str())
                    .is("until", serde_json::json!(until))
            });
            Self {
                store: me.store.noting(note),
                ..me
            }
        };
        if let Some(until) = until {
            let run = self.store.run(typed).await?;
            if run.outcome != Outcome::Held {
                let turn = RealmTurn::take(&self.store, &run.realm, now).await?;
                let me = noting(self.within(&turn), &run);
                let moved = me.reject_longer(run, until).await?;
                return Ok(Decided::just(moved));
            }
        }
        let (run, _) = self.held(typed).await?;
        let turn = RealmTurn::take(&self.store, &run.realm, now).await?;
        let me = noting(self.within(&turn), &run);
        let now = self.clock.now();
        let decided = if let Some(until) = until.filter(|until| *until > now) {
            me.reject_changes(&run, by, until).await?
        } else {
            let store = &me.store;
            store
                .decide_held(run.run, Outcome::Rejected, by, None, now)
                .await?
        };
        Ok(Decided::just(decided))
    }

    /// Rejects a held plan, and its changes until then. Expects the realm's turn.
    async fn reject_changes(
        &self,
        run: &Run,
        by: Option<String>,
        until: Timestamp,
    ) -> Result<Run, RunError> {
        let facts = self.store.run_facts(run.run).await?;
        if facts.undoes.is_some() || facts.first_pass || run.mode == Mode::Import {
            let what = if run.mode == Mode::Import {
                "is an import, and does not come again by itself"
            } else if facts.first_pass {
                "is the realm's first, of which nothing could go on"
            } else {
                "undoes another run, and does not come again by itself"
            };
            return Err(RunError::Refused(format!(
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
    async fn reject_longer(&self, run: Run, until: Timestamp) -> Result<Run, RunError> {
        let changes = if run.outcome == Outcome::Rejected {
            self.store.reject_until(&run, until).await?
        } else {
            0
        };
        if changes == 0 {
            let held = self.realm(&run.realm).await?.held;
            let held = held.map_or(String::new(), |held| {
                format!("; plan {held:#} is the one that is held now")
            });
            return Err(RunError::Refused(format!(
                "plan {:#} is {}, and none of its changes are left out{held}",
                run.run, run.outcome
            )));
        }
        self.end_rejected(std::slice::from_ref(&run.realm)).await?;
        Ok(run)
    }

    /// Ends what was rejected until now in these realms: they read everything in their next pass. Gives those of which there was any.
    pub(crate) async fn end_rejected(&self, of: &[RealmId]) -> Result<Vec<RealmId>, StoreError> {
        let realms = self.store.end_rejected(of, self.clock.now()).await?;
        for realm in &realms {
            tracing::info!(%realm, "{realm}: what was rejected for a time is not left out any more; the next pass reads everything");
        }
        Ok(realms)
    }
}
