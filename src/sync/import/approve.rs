//! A held plan of a file is approved: no directory says otherwise, and the file is gone, so the store alone must still agree.

use super::audit::ImportFacts;
use crate::model::Run;
use crate::runs::{Decided, RealmTurn, RunError, held, window};
use crate::store::{RealmUpdate, RunFacts};
use crate::sync::engine::Engine;
use crate::sync::run_request::DecisionOptions;

impl Engine {
    /// Applies exactly what was shown.
    ///
    /// # Errors
    /// `refused` where users changed since.
    pub(in crate::sync) async fn approve_import(
        &self,
        turn: &RealmTurn,
        run: &Run,
        facts: RunFacts,
        asking: &DecisionOptions,
    ) -> Result<Decided, RunError> {
        let me = self.within(turn);
        let now = self.clock.now();
        let row = me.row(&run.realm).await?;
        let rules = me.realm_rules(&row)?;
        let messages = me
            .messages_by(rules.delivery, rules.revoke_at_once, now)
            .await?;
        let update = RealmUpdate {
            window_from: Some(window::anew(&row, now, false)),
            ..RealmUpdate::default()
        };
        let by = asking.by.as_deref();
        let entry = ImportFacts::of(facts.facts.as_deref()).entry(run, by, asking.door(), now);
        let key = me.audit_key().await?;
        let audit = Some((&entry, &key));
        let applied = held::apply(&me.store, (run, facts), by, now, update, messages, audit);
        match turn.work(Box::pin(applied)).await? {
            Some(run) => Ok(Decided::just(run)),
            None => Err(RunError::Refused(format!(
                "users changed since plan {0:#} was made, and nothing was applied: `realmsync reject {0:#}`, then import the file again",
                run.run
            ))),
        }
    }
}
