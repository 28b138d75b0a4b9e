//! What the worker does beside sending: it keeps its leases, takes back what others left, gives up what can no longer be sent, and
//! counts the time in which messages could be.

use std::time::Duration;

use tokio::time::Instant;

use super::{LEASE_MS, RENEW, Worker};
use crate::clock::Timestamp;
use crate::model::RealmId;
use crate::model::words::count;
use crate::outbox::stats::Count;
use crate::outbox::targets::receiver;
use crate::store::StoreError;

/// The same while somebody has locked one of the messages.
const RENEW_LOCKED: Duration = Duration::from_secs(1);
/// How often messages of unknown types are looked for, to be noted in the log.
const UNKNOWN: Duration = Duration::from_mins(10);

impl Worker {
    /// Moves the leases on, if it is time. What ended keeps its lease until the store has taken that.
    pub(super) async fn renew(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let leased = !self.under_way.is_empty() || !self.ended.is_empty();
        if leased && Instant::now() > self.renew_at {
            let store = &self.runner.store;
            let locked = store.renew(&self.owner, now, LEASE_MS).await?;
            // What somebody has locked is renewed soon: others wait for that before they take it for left behind.
            let wait = if locked == 0 { RENEW } else { RENEW_LOCKED };
            self.renew_at = Instant::now() + wait;
        }
        Ok(())
    }

    /// Tells the store of which realms messages can be sent, so that only such time counts towards `retry-for`.
    pub(super) async fn keep_time(&mut self, sending: &[RealmId]) -> Result<(), StoreError> {
        let (now, steady) = self.runner.clock.both();
        let mut realms: Vec<(RealmId, i64)> = Vec::new();
        for target in self.targets.all.iter().filter(|t| t.webhook.is_ok()) {
            let here = self.targets.realms_of(target, sending);
            realms.extend(here.into_iter().map(|r| (r, target.config.retry_for_ms)));
        }
        let news = self.time.news(&realms, now, steady);
        if !news.is_empty() {
            let busy = self.runner.store.keep_time(&news, now).await?;
            self.time.told(&realms, &busy, now, steady);
        }
        Ok(())
    }

    /// Looks after what others left, and what can no longer be sent.
    pub(super) async fn sweep(
        &mut self,
        start: bool,
        sending: &[RealmId],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.note_unknown_types().await?;
        let store = &self.runner.store;
        let interrupted = store
            .reclaim(
                &self.owner,
                now,
                start && store.single_daemon(),
                &mut self.overdue,
            )
            .await?;
        // Whatever fails from here on: this look counts, and the next one must not follow at once.
        self.swept = Some(Instant::now());
        if interrupted > 0 {
            tracing::warn!(
                messages = interrupted,
                "a former process ended while it sent {}: sent again, with the same key",
                count(interrupted, "message")
            );
        }
        self.targets.mend(&self.runner.environment);
        for target in &self.targets.all {
            // With the circuit open nothing is tried, so nothing would ever be given up.
            let Some(since) = target.circuit.opened_at() else {
                continue;
            };
            let untried_too =
                self.runner.clock.steady().since_ms(since) >= target.config.retry_for_ms;
            let dead = store
                .give_up(&self.targets.realms_of(target, sending), untried_too, now)
                .await?;
            if dead > 0 {
                self.runner.stats.count(Count::Dead, dead);
                tracing::error!(
                    messages = dead,
                    receiver = receiver(&target.config),
                    "given up: {}, since the receiver was down for all of retry-for",
                    count(dead, "message")
                );
            }
        }
        Ok(())
    }

    /// Says once which messages are left to a newer daemon. Looks at all that wait, so not often.
    async fn note_unknown_types(&mut self) -> Result<(), StoreError> {
        if self
            .looked_for_unknown
            .is_some_and(|at| at.elapsed() < UNKNOWN)
        {
            return Ok(());
        }
        for word in self.runner.store.unknown_types().await? {
            if self.unknown_said.insert(word.clone()) {
                tracing::warn!(
                    r#type = word,
                    "messages of type `{word}` are left to a newer version, since this one does not know it; those behind them of the same user wait"
                );
            }
        }
        self.looked_for_unknown = Some(Instant::now());
        Ok(())
    }
}
